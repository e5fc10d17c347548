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
from tchat.client.config.options import (
    add_address,
    add_server_options,
    invite_token,
    session_for,
    settle,
)
from tchat.client.config.paths import download_directory
from tchat.client.config.settings import config_file, load_config
from tchat.core.text import check_name, fold
from tchat.errors import Code, Refused, StartupError, complain, run_reporting
from tchat.net.address import Address
from tchat.server.app import ServerConfig, run_server
from tchat.server.control import release_name
from tchat.server.limits import add_limits, limits_from
from tchat.server.log import Log
from tchat.ui.chat.chat import Start
from tchat.ui.plain.frontend import TypedLines, run_plain
from tchat.ui.plain.oneshot import get_files, run_interruptible, send_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tchat.client.config.settings import Settings
    from tchat.client.session import Session

RECENT = 200
"""How many messages of each group are there at once; those before come as one scrolls up."""


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
    if (given.cert is None) != (given.key is None):
        raise StartupError(Code.CANNOT_START, "--cert and --key belong together.")
    if given.cert is not None and given.no_tls:
        raise StartupError(Code.CANNOT_START, "--cert has no use with --no-tls.")
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


def _release_name(given: argparse.Namespace) -> int:
    trio.run(release_name, given.data, given.name)
    print(
        f"{given.name} is released. The next key to claim the name owns it, and is in its groups;"
        " the former keys cannot claim it again."
    )
    return 0


def _join(given: argparse.Namespace) -> int:
    typed, settings = TypedLines(), load_config(config_file())
    groups = settle(given, settings)
    user = _name(given.user, "username", typed)
    group = _name(given.group or next(iter(groups), None), "group name", typed)
    if user is None or group is None:
        return 1
    others = () if given.group else groups[1:]
    return trio.run(partial(_chat, given, settings, user, (group, *others), typed))


async def _chat(
    given: argparse.Namespace,
    settings: Settings,
    user: str,
    groups: tuple[str, ...],
    typed: TypedLines,
) -> int:
    plain = given.plain or settings.plain or not (sys.stdout.isatty() and sys.stdin.isatty())
    async with session_for(given, user, 0 if plain else RECENT) as session:
        start = Start(
            session,
            groups,
            given.downloads or settings.downloads or download_directory(),
            invite_token(given),
            frozenset(settings.mute),
            frozenset(settings.ignore),
        )
        if plain:
            return await run_plain(start, typed)
        from tchat.ui.tui.app import run_curses  # curses, and only for those who see it

        return await run_curses(start, settings)
    raise AssertionError("unreachable")


def _demo(given: argparse.Namespace) -> int:
    user = check_name(given.user, "username")
    if fold(user) in ("ada", "bob"):
        raise StartupError(Code.CANNOT_START, f"{user} is one of the bots; choose another --user.")
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise StartupError(Code.CANNOT_START, "The demo wants a terminal to show itself in.")
    from tchat.demo import run_demo  # all there is, and only for those who want to see it
    from tchat.ui.tui.app import run_curses

    return trio.run(run_demo, user, RECENT, run_curses)


def _send(given: argparse.Namespace) -> int:
    async def send(session: Session, group: str) -> int:
        return await send_files(session, group, given.paths, invite_token(given))

    return _for_files(given, send)


def _get(given: argparse.Namespace) -> int:
    async def get(session: Session, group: str) -> int:
        return await get_files(session, group, given.numbers, given.to, invite_token(given))

    return _for_files(given, get)


def _for_files(given: argparse.Namespace, work: Callable[[Session, str], Awaitable[int]]) -> int:
    """Do some work as a member of a group, without a chat."""
    typed = TypedLines()
    settle(given, load_config(config_file()))
    user, group = _name(given.user, "username", typed), check_name(given.group, "group name")
    if user is None:
        return 1

    async def run() -> int:
        async with session_for(given, user) as session:
            return await work(session, group)
        raise AssertionError("unreachable")

    return trio.run(run_interruptible, run)


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
            complain(str(refusal))


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    top = argparse.ArgumentParser(prog="tchat", description="Group chat for the terminal.")
    top.add_argument("--version", action="version", version=f"tchat {__version__}")
    actions = top.add_subparsers(required=True, metavar="demo | serve | join | send | get | admin")
    demo = actions.add_parser("demo", help="show everything, in one command that leaves no trace")
    demo.add_argument("--user", default="guest", metavar="NAME", help="your name (default: guest)")
    demo.set_defaults(run=_demo)
    _describe_serve(actions.add_parser("serve", help="start a server"))
    _describe_join(
        actions.add_parser("join", help="chat in a group; founds it if it does not exist")
    )
    _describe_send(actions.add_parser("send", help="send files to a group", description=_SEND))
    _describe_get(actions.add_parser("get", help="save files of a group", description=_GET))
    _describe_admin(actions.add_parser("admin", help="what only a server's operator may do"))
    return top


def _describe_serve(serve: argparse.ArgumentParser) -> None:
    add_address(serve, "the name or address to listen on", "the TCP port; 0 picks a free one")
    _add_data(serve)
    serve.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="default: text"
    )
    security = serve.add_argument_group("security")
    security.add_argument(
        "--cert", type=Path, metavar="FILE", help="a certificate (PEM) instead of a self-made one"
    )
    security.add_argument("--key", type=Path, metavar="FILE", help="its private key (PEM)")
    security.add_argument(
        "--no-tls", action="store_true", help="no encryption; only on this machine's own address"
    )
    security.add_argument("--insecure", action="store_true", help="--no-tls on any address")
    add_limits(serve.add_argument_group("limits"))
    serve.set_defaults(run=_serve)


def _describe_join(join: argparse.ArgumentParser) -> None:
    add_server_options(join, nicknames=True)
    join.add_argument("--user", metavar="NAME", help="your username (asked for if not given)")
    join.add_argument("--group", metavar="NAME", help="the group (asked for if not given)")
    join.add_argument("--plain", action="store_true", help="lines of text instead of a full screen")
    join.add_argument(
        "--downloads", type=Path, metavar="DIR", help="where received files are saved"
    )
    join.set_defaults(run=_join)


_SEND = """\
Send files to a group.

You have to be a member of the group, or to have an invite. The files are sent in the order given,
directories as .tar archives. Nothing is printed unless something is refused, which ends nothing
else; how far it is goes to standard error. The exit status is 1 if anything was refused. After
Ctrl-C, or whatever else ends it, the same command goes on where this one stopped, within a day.
"""
_GET = """\
Save files of a group.

You have to be a member of the group, or to have an invite. /files in the chat shows the numbers.
Each file's path is printed when it is saved, a line each; no file is ever replaced, and one that is
there already is not fetched again. How far it is goes to standard error. The exit status is 1 if
anything was refused. After Ctrl-C, or whatever else ends it, the same command goes on where this
one stopped.
"""


def _describe_send(send: argparse.ArgumentParser) -> None:
    _add_member(send)
    send.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="a file or a directory")
    send.set_defaults(run=_send)


def _path(text: str) -> Path:
    if not text:  # which would be this directory, with all that is in it
        raise argparse.ArgumentTypeError("a path cannot be empty")
    return Path(text)


def _describe_get(get: argparse.ArgumentParser) -> None:
    _add_member(get)
    get.add_argument("numbers", nargs="+", metavar="N", help="the number of a file")
    get.add_argument(
        "--to",
        default=".",
        metavar="PATH",
        help="a directory, which ends in a slash if it is not there yet, or for a single file its"
        " new name (default: the current directory)",
    )
    get.set_defaults(run=_get)


def _add_member(parser: argparse.ArgumentParser) -> None:
    add_server_options(parser)  # no nicknames: "get work 1" would not say whether 1 is a port
    parser.add_argument("--user", metavar="NAME", help="your username (asked for if not given)")
    parser.add_argument("--group", metavar="NAME", required=True, help="the group")


def _describe_admin(admin: argparse.ArgumentParser) -> None:
    actions = admin.add_subparsers(required=True, metavar="release-name")
    release = actions.add_parser(
        "release-name", help="free a name of its keys, for somebody who has lost them"
    )
    release.add_argument("name", metavar="NAME", help="the username")
    _add_data(release)
    release.set_defaults(run=_release_name)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=platformdirs.user_data_path("tchat", appauthor=False) / "server",
        metavar="DIR",
        help="where everything is kept (default: %(default)s)",
    )
