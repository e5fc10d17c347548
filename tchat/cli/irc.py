"""`tchat irc`: use the chat from an IRC client on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.cli.arguments import explain

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Use the chat from an IRC client on this machine, such as irssi or WeeChat: your
groups are channels, and people are nicknames.

It listens on this machine only, and asks for a password, since all users of the
machine could connect. The first start makes the password and prints it. It stays
connected until you press Ctrl-C; IRC clients may come and go.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat irc`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat irc work", "a server from the configuration file"),
        ("tchat irc chat.example.org:7777 --user alice --listen 127.0.0.1:6697", "another port"),
    )
    parser.add_argument(
        "server", metavar="SERVER", help="HOST:PORT, or the nickname of a server in config.toml"
    )
    parser.add_argument("--user", metavar="NAME", help="your username")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:6667",
        metavar="HOST:PORT",
        help="the loopback address for IRC clients (default: %(default)s)",
    )
    parser.add_argument(
        "--pin", metavar="PIN", help="the pin that the server's key has to match: sha256:..."
    )
    parser.add_argument(
        "--no-tls", action="store_true", help="no encryption; for a local server without TLS"
    )
    parser.set_defaults(run=_irc)


def _irc(given: argparse.Namespace) -> int:
    from functools import partial

    import trio

    from tchat.cli.place import run_interruptible

    return trio.run(run_interruptible, partial(_run, given))


async def _run(given: argparse.Namespace) -> int:
    import trio

    from tchat.api.client import connect
    from tchat.client.config.paths import download_directory, state_directory
    from tchat.irc.listener import loopback_address, serve_irc
    from tchat.irc.password import load_or_make
    from tchat.net.address import Address
    from tchat.net.tcp import listen, port_of
    from tchat.streams import print_line

    address = loopback_address(given.listen)
    path = state_directory() / "irc-password"
    async with (
        connect(given.server, user=given.user, pin=given.pin, tls=not given.no_tls) as client,
        trio.open_nursery() as nursery,
    ):
        listeners = await listen(address)
        bound = Address(address.host, port_of(listeners[0]))
        # A start that fails earlier leaves no password, which would never have been printed.
        password, is_new = load_or_make(path)
        nursery.start_soon(serve_irc, client, listeners, password, download_directory())
        print_line(f"listening for IRC clients of {client.user} on {bound}")
        if is_new:
            print_line(f"password: {password}")
        print_line(f"the password is in {path}")
        for line in _instructions(bound.host, bound.port, password if is_new else "PASSWORD"):
            print_line(line)
    return 0


def _instructions(host: str, port: int, password: str) -> list[str]:
    """Return the lines to be pasted into IRC clients."""
    return [
        "in irssi:",
        f"  /connect {host} {port} {password}",
        "in WeeChat:",
        f"  /server add tchat {host}/{port} -notls -password={password}",
        "  /connect tchat",
    ]
