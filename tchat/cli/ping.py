"""`tchat ping`: check that a server accepts connections and speaks the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.cli.arguments import add_port, add_server, explain, positive_duration
from tchat.client.config.options import add_server_checks
from tchat.errors import Code, UsageError
from tchat.streams import print_line

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Check that a server is well: it accepts a connection, with TLS, and challenges a
client. No name and no key is needed, and nobody sees it.

The exit status is 0 if it is, 69 if it cannot be reached or is no tchat server, 75
if it is too busy or does not answer in time, 77 if its key is not the one in
--pin, or of its nickname in config.toml, or only one side uses TLS, and 70 for
anything else.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat ping`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat ping localhost 7777", "prints the time that it took"),
        ("tchat ping work --timeout 2", "a nickname, for an impatient script"),
    )
    add_server(parser)
    add_port(parser)
    parser.add_argument(
        "--timeout",
        type=positive_duration,
        default=5.0,
        metavar="TIME",
        help="how long to wait for the answer (default: 5s)",
    )
    add_server_checks(parser)
    parser.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="for a server that takes this machine for its proxy (serve --proxy-protocol)",
    )
    parser.set_defaults(run=_ping)


def _ping(given: argparse.Namespace) -> int:
    import trio

    from tchat.cli.place import server_of
    from tchat.client.config.opening import expected_pin
    from tchat.client.ping import ping
    from tchat.net.address import Address

    server = server_of(given)
    if given.words:
        raise UsageError(Code.MISSING_ARGUMENT, f"{given.words[0]} is one argument too many.")
    address = Address(server.host, server.port)
    no_tls = given.no_tls or server.no_tls
    pin = expected_pin(given.pin or server.pin, None, no_tls=no_tls)
    took = trio.run(ping, address, pin, not no_tls, given.timeout, given.proxy_protocol)
    print_line(f"{address} answered in {took * 1000:.0f} ms")
    return 0
