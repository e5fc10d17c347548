"""`tchat ping`: check that a server accepts connections and speaks the protocol."""

from __future__ import annotations

import argparse

from tchat.cli.arguments import explain
from tchat.client.config.options import add_address, argument_type
from tchat.core.fingerprints import read_pin
from tchat.streams import print_line

_DESCRIPTION = """\
Check that a server is well: it accepts a connection, with TLS, and challenges a
client. No name and no key is needed, and nobody sees it.

The exit status is 0 if it is, 69 if it cannot be reached, 75 if it is too busy or
does not answer in time, and 77 if its key is not the one in --pin.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat ping`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat ping localhost 7777", "prints the time that it took"),
        ("tchat ping localhost 7777 --timeout 2", "for an impatient script"),
    )
    add_address(parser, "the server's name or address", "its TCP port")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for the answer (default: 5)",
    )
    parser.add_argument(
        "--pin",
        type=argument_type(read_pin),
        metavar="PIN",
        help="the pin that the server's key has to match: sha256:...",
    )
    parser.add_argument("--no-tls", action="store_true", help="for a server without TLS")
    parser.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="for a server that takes this machine for its proxy (serve --proxy-protocol)",
    )
    parser.set_defaults(run=_ping)


def _ping(given: argparse.Namespace) -> int:
    import trio

    from tchat.client.ping import ping
    from tchat.net.address import Address

    address = Address(given.host, given.port)
    took = trio.run(ping, address, given.pin, not given.no_tls, given.timeout, given.proxy_protocol)
    print_line(f"{address} answered in {took * 1000:.0f} ms")
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 3600")
    return seconds
