"""`tchat serve`: run a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.cli.arguments import add_data, explain
from tchat.client.config.options import add_address, path_argument
from tchat.errors import Code, StartupError
from tchat.net.address import Address
from tchat.server.limits import add_limits, limits_from

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Start a server. It prints its address and its key when it listens.

On localhost, only this machine can connect. To serve other machines, listen on
0.0.0.0 (or an address of this machine), open the port in the firewall, and send
people the command that /invite prints in a group. All messages are on disk
before anybody sees them.

Ctrl-C, SIGTERM and SIGHUP stop the server gracefully: clients are notified, and
reconnect when it runs again. Closing its terminal sends SIGHUP; to keep the
server running, start it with nohup or as a service.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat serve`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat serve localhost 7777", "for this machine only"),
        ("tchat serve 0.0.0.0 7777 --data /srv/tchat", "for other machines, too"),
        (
            "tchat serve 0.0.0.0 7777 --cert fullchain.pem --key privkey.pem",
            "with a certificate of a certificate authority",
        ),
    )
    add_address(parser, "the name or address to listen on", "the TCP port; 0 chooses a free one")
    add_data(parser)
    parser.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="the format of the log (default: text)",
    )
    security = parser.add_argument_group("security")
    security.add_argument(
        "--cert",
        type=path_argument,
        metavar="FILE",
        help="a certificate (PEM) to use instead of a self-signed one",
    )
    security.add_argument(
        "--key", type=path_argument, metavar="FILE", help="the private key of --cert (PEM)"
    )
    security.add_argument(
        "--no-tls", action="store_true", help="no encryption; only for addresses of this machine"
    )
    security.add_argument("--insecure", action="store_true", help="allow --no-tls on any address")
    add_limits(parser.add_argument_group("limits"))
    parser.set_defaults(run=_serve)


def _serve(given: argparse.Namespace) -> int:
    import trio

    from tchat.server.app import ServerConfig, run_server
    from tchat.server.log import Log

    if (given.cert is None) != (given.key is None):
        raise StartupError(Code.CANNOT_START, "--cert and --key have to be given together.")
    if given.cert is not None and given.no_tls:
        raise StartupError(Code.CANNOT_START, "--cert cannot be combined with --no-tls.")
    log = Log(given.log_format)
    config = ServerConfig(
        Address(given.host, given.port),
        given.data,
        limits_from(given),
        given.cert,
        given.key,
        given.no_tls,
        given.insecure,
    )
    try:
        trio.run(run_server, config, log)
    finally:
        log.close()
    return 0
