"""`tchat serve`: run a server; options from the command line and from a settings file."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_data, explain
from tchat.client.config.options import (
    AddressParser,
    add_address,
    argument_type,
    path_argument,
)
from tchat.errors import Code, StartupError, TchatError, UsageError, root_of
from tchat.net.address import Address, full_address, read_networks
from tchat.server.limits import add_limits, limits_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.server.app import Reloadable, ServerConfig
    from tchat.server.log import Log


_DESCRIPTION = """\
Start a server. It prints its address and its key when it listens.

On localhost, only this machine can connect. To serve other machines, listen on
0.0.0.0 (or an address of this machine), open the port in the firewall, and send
people the command that /invite prints in a group. All messages are on disk
before anybody sees them.

A fault that ends the server is in its log, with what to do, and clients are
notified. The exit status is 74 if its data cannot be read or written, 70 for any
other fault, and 1 if it cannot start.

Ctrl-C, SIGTERM and SIGHUP stop the server gracefully: clients are notified, and
reconnect when it runs again. Closing its terminal sends SIGHUP; to keep the
server running, start it with nohup or as a service. With --config or --cert,
SIGHUP instead reads the file and the certificate again, and applies the limits and
the certificate; other changes in the file need a restart.
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
        ("tchat serve --config /etc/tchat.toml", "with all options in a file"),
    )
    _add_options(parser)
    parser.set_defaults(run=lambda given: _serve(given, given.typed[1:]))


def _add_options(serve: argparse.ArgumentParser) -> None:
    add_address(serve, "the name or address to listen on", "the TCP port; 0 chooses a free one")
    for action in serve._get_positional_actions():  # noqa: SLF001  # optional beside --config
        action.nargs = "?"
        action.required = False
    serve.add_argument(
        "--config",
        type=path_argument,
        metavar="FILE",
        help="a settings file (TOML) with any of the options",
    )
    add_data(serve, required=False)  # it may be in the settings file
    _add_log(serve)
    _add_security(serve.add_argument_group("security"))
    serve.add_argument(
        "--metrics",
        type=argument_type(full_address),
        metavar="HOST:PORT",
        help="serve metrics for Prometheus there, over HTTP (needs tchat[metrics])",
    )
    add_limits(serve.add_argument_group("limits"))


def _add_log(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--log-format",
        choices=["text", "json", "journal"],
        default="text",
        help="the format of the log (default: text); journal is for systemd, with priorities",
    )
    serve.add_argument(
        "--log-level",
        choices=["error", "warning", "notice", "info"],
        default="info",
        help="the least important lines to log (default: info, which is everything)",
    )


def _add_security(security: argparse._ArgumentGroup) -> None:
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
    security.add_argument(
        "--tls",
        action="store_false",
        dest="no_tls",
        help="encryption (default); overrides no_tls in the settings file",
    )
    security.add_argument(
        "--insecure",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="allow --no-tls on any address",
    )
    security.add_argument(
        "--proxy-protocol",
        type=argument_type(read_networks),
        default=(),
        metavar="NETWORKS",
        help="addresses or networks, with commas, of proxies (HAProxy) whose connections begin with"
        " a PROXY protocol header; 'off' for none (default)",
    )


def _serve(given: argparse.Namespace, words: Sequence[str]) -> int:
    """Run a server until it is stopped. `words` are the arguments after `serve`."""
    import trio

    from tchat.exits import OUTPUT, SOFTWARE
    from tchat.server.app import run_server
    from tchat.server.faults import advice_for, is_storage, log_fatal, sentence_of
    from tchat.server.log import Log
    from tchat.streams import complain

    reloads = given.config is not None or given.cert is not None
    given = _with_file(given, words)
    config = _config_of(given)
    log = Log(given.log_format, level=given.log_level)
    status = 0
    try:
        trio.run(run_server, config, log, partial(_reload, given, words) if reloads else None)
    except Exception as error:  # noqa: BLE001  # told in the log and on standard error
        root = root_of(error)
        if isinstance(root, TchatError) and not is_storage(error):
            raise root from None  # it cannot start
        log_fatal(log, "the server", error, config.data)
        complain(f"tchat: {sentence_of(error)} {advice_for(error, config.data)}")
        status = OUTPUT if is_storage(error) else SOFTWARE
    finally:
        _close(log)
    return status


def _close(log: Log) -> None:
    """Write the rest of the log. That it cannot be written is told, and is no failure."""
    from tchat.streams import complain, discard_output

    log.close()
    if log.lost_count:
        complain(f"tchat: Up to {log.lost_count} lines of the log are lost: {log.lost_reason}.")
        discard_output()


def _reload(given: argparse.Namespace, words: Sequence[str]) -> Reloadable:
    """Return what a reload applies. Raises `StartupError` if anything else has changed."""
    from tchat.server.app import Reloadable
    from tchat.server.settings import fixed_keys

    again = _with_file(given, words)
    config = _config_of(again)
    if changed := [key for key in fixed_keys() if getattr(given, key) != getattr(again, key)]:
        raise StartupError(
            Code.BAD_CONFIG,
            f"{given.config}: {', '.join(changed)} cannot change without a restart.",
        )
    return Reloadable(config.limits, config.certificate, config.key)


def _with_file(given: argparse.Namespace, words: Sequence[str]) -> argparse.Namespace:
    """Return the options of the settings file, if there is one, and above them `words`."""
    if given.config is None:
        return given
    from tchat.server.settings import read_serve_file

    parser = AddressParser(prog="tchat serve")
    _add_options(parser)
    parser.set_defaults(**read_serve_file(given.config))
    return parser.parse_args(words)


def _config_of(given: argparse.Namespace) -> ServerConfig:
    from tchat.server.app import ServerConfig

    if given.host is None or given.port is None:
        raise UsageError(
            Code.MISSING_ARGUMENT,
            "HOST and PORT are missing: tchat serve localhost 7777, or host and port in --config"
            " FILE.",
        )
    if given.data is None:
        raise UsageError(Code.MISSING_ARGUMENT, "The following arguments are required: --data DIR.")
    if (given.cert is None) != (given.key is None):
        raise StartupError(Code.CANNOT_START, "--cert and --key have to be given together.")
    if given.cert is not None and given.no_tls:
        raise StartupError(Code.CANNOT_START, "--cert cannot be combined with --no-tls.")
    return ServerConfig(
        Address(given.host, given.port),
        given.data,
        limits_from(given),
        given.cert,
        given.key,
        given.no_tls,
        given.insecure,
        given.proxy_protocol,
        given.metrics,
    )
