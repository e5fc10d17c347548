"""The command line, and the only place where everything is put together."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import trio

from tchat import __version__
from tchat.client.home import download_directory, state_directory
from tchat.client.session import open_session
from tchat.client.slot import take_slot
from tchat.core.text import check_name
from tchat.errors import Refused, run_reporting
from tchat.net.address import Address
from tchat.server.app import Config, run_server
from tchat.server.host import Limits
from tchat.server.log import Log
from tchat.ui.plain import run_plain
from tchat.ui.typed import TypedLines

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run tchat with the given command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal of another encoding is no reason to die
            stream.reconfigure(errors="replace")
    given = parser().parse_args(arguments)
    status = 0

    def run() -> None:
        nonlocal status
        status = given.run(given)

    return run_reporting(run) or status


def _serve(given: argparse.Namespace) -> int:
    log = Log(given.log_format)
    config = Config(Address(given.host, given.port), given.data, Limits(file=given.max_file))
    try:
        trio.run(run_server, config, log)
    finally:
        log.close()
    return 0


def _join(given: argparse.Namespace) -> int:
    typed = TypedLines()
    user = _name(given.user, "username", typed)
    group = _name(given.group, "group name", typed)
    if user is None or group is None:
        return 1
    return trio.run(partial(_chat, given, user, group, typed))


async def _chat(given: argparse.Namespace, user: str, group: str, typed: TypedLines) -> int:
    address = Address(given.host, given.port)
    downloads = given.downloads or download_directory()
    with take_slot(state_directory()) as slot:
        async with open_session(address, user, slot) as session:
            if given.plain or not (sys.stdout.isatty() and sys.stdin.isatty()):
                return await run_plain(session, group, downloads, typed)
            from tchat.ui.app import run_curses  # curses, and only for those who see it

            return await run_curses(session, group, downloads)
    raise AssertionError("unreachable")


def _name(given: str | None, what: str, typed: TypedLines) -> str | None:
    """Return a name from the command line or, failing that, ask; None if nobody answers."""
    if given is not None:
        return check_name(given, what)
    while True:
        # A question is no part of the conversation: pipes get only that.
        print(
            f"{what}: ", end="", flush=True, file=sys.stdout if sys.stdout.isatty() else sys.stderr
        )
        answer = typed.read()
        if answer is None:
            return None
        try:
            return check_name(answer.strip(), what)
        except Refused as refusal:
            print(refusal, file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    top = argparse.ArgumentParser(prog="tchat", description="Group chat for the terminal.")
    top.add_argument("--version", action="version", version=f"tchat {__version__}")
    actions = top.add_subparsers(required=True, metavar="serve | join")
    serve = actions.add_parser("serve", help="start a server")
    _add_address(serve, "the name or address to listen on", "the TCP port; 0 picks a free one")
    serve.add_argument(
        "--data",
        type=Path,
        default=platformdirs.user_data_path("tchat", appauthor=False) / "server",
        metavar="DIR",
        help="where everything is kept (default: %(default)s)",
    )
    serve.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="default: text"
    )
    serve.add_argument(
        "--max-file",
        type=_size,
        default="1G",
        metavar="SIZE",
        help="largest file, e.g. 500M or 2G (default: %(default)s)",
    )
    serve.set_defaults(run=_serve)
    join = actions.add_parser("join", help="chat in a group; founds it if it does not exist")
    _add_address(join, "the server's name or address", "its TCP port")
    join.add_argument("--user", metavar="NAME", help="your username (asked for if not given)")
    join.add_argument("--group", metavar="NAME", help="the group (asked for if not given)")
    join.add_argument("--plain", action="store_true", help="lines of text instead of a full screen")
    join.add_argument(
        "--downloads", type=Path, metavar="DIR", help="where received files are saved"
    )
    join.set_defaults(run=_join)
    return top


def _add_address(parser: argparse.ArgumentParser, host: str, port: str) -> None:
    parser.add_argument("host", metavar="HOST", help=host)
    parser.add_argument("port", metavar="PORT", type=_port, help=port)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return port


def _size(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    if unit.isdigit():
        number, unit = text, ""
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: a number, perhaps with K, M, G")
    return int(number) * _UNITS[unit]
