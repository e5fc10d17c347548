"""Command line: the subcommands, their options and --help, and the wiring of all packages."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

import platformdirs
import trio

from tchat import __version__
from tchat.client.config.options import (
    AddressParser,
    add_address,
    add_create,
    add_server_options,
    apply_settings,
    invite_token,
    path_argument,
    session_for,
)
from tchat.client.config.paths import (
    download_directory,
    last_names_file,
    preferences_file,
    searched_file,
    state_directory,
)
from tchat.client.config.settings import config_file, load_config
from tchat.client.last_names import read_last_names, save_last_names
from tchat.client.preferences import Preferences
from tchat.client.searched import Searched
from tchat.core.text import check_name, fold
from tchat.errors import (
    Code,
    OutputError,
    Refused,
    StartupError,
    TchatError,
    UsageError,
    root_of,
)
from tchat.net.address import Address
from tchat.server.app import ServerConfig, run_server
from tchat.server.control import release_name
from tchat.server.limits import add_limits, limits_from
from tchat.server.log import Log
from tchat.streams import complain, open_standard_streams, print_line, run_reporting
from tchat.ui.chat.chat import Start
from tchat.ui.plain.formats import error_object
from tchat.ui.plain.frontend import HISTORY, PlainOptions, run_plain
from tchat.ui.plain.oneshot import get_files, run_interruptible, send_files
from tchat.ui.plain.typed import TypedLines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tchat.client.config.settings import Settings
    from tchat.client.session import Session

RECENT = 200
"""The number of messages of a group that are loaded first; scrolling up loads earlier ones."""

_COUNT_DIGITS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run tchat with the given command line and return its exit status."""
    open_standard_streams()  # before anything else is opened
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        complain(_WELCOME)
        return 2
    status = 0

    def run() -> None:
        nonlocal status
        given = parser().parse_args(words)
        status = given.run(given)

    return run_reporting(run) or status


def _serve(given: argparse.Namespace) -> int:
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


def _release_name(given: argparse.Namespace) -> int:
    trio.run(release_name, given.data, given.name)
    print(
        f"{given.name} is released. The next key that claims the name owns it and its memberships;"
        " the former keys cannot claim it again."
    )
    return 0


def _join(given: argparse.Namespace) -> int:
    try:
        return _enter_chat(given)
    except BaseException as error:
        root = root_of(error)
        if given.json and isinstance(root, TchatError) and not isinstance(root, OutputError):
            print_line(error_object(root))
        raise


def _enter_chat(given: argparse.Namespace) -> int:
    typed, settings = TypedLines(), load_config(config_file())
    groups = apply_settings(given, settings)
    given.plain = _is_plain(given.plain or given.json or settings.plain)
    last = read_last_names(last_names_file(), Address(given.host, given.port))
    user = _name(given.user, "username", "--user", typed, last.user)
    if user is None:
        return 1
    group = given.group or next(iter(groups), None)
    group = _name(group, "group name", "--group", typed, last.group)
    if group is None:
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
    typing = sys.stdin.isatty()  # otherwise the input is a pipe or a file: text of any origin
    async with session_for(given, user, max(RECENT, given.history or 0)) as session:
        names = session.connector.names()
        preferences = Preferences(
            preferences_file(), names, user, ignore=settings.ignore, mute=settings.mute
        )
        start = Start(
            session,
            groups,
            given.downloads or settings.downloads or download_directory(),
            invite_token(given),
            preferences,
            Searched(searched_file(), names, user, preferences.ignored),
            founds=typing or given.create,
            assume_yes=given.yes,
            drafts=state_directory() / "drafts",
            on_entered=partial(
                save_last_names, last_names_file(), session.connector.address, user, groups[0]
            ),
        )
        if given.plain:
            options = PlainOptions(
                typing or given.commands, given.json, given.history, terminal=typing
            )
            return await run_plain(start, typed, options)
        from tchat.ui.tui.app import run_curses  # here, since curses is not available everywhere

        return await run_curses(start, settings)
    raise AssertionError("unreachable")


def _is_plain(chosen: bool) -> bool:
    """Return whether to print lines; if the terminal cannot do anything else, say so."""
    if chosen or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return True
    try:
        from tchat.ui.tui.screen import check_terminal  # curses is not available everywhere

        check_terminal()
    except (StartupError, ImportError) as error:
        complain(f"tchat: {error} tchat prints lines of text instead; --plain does so silently.")
        return True
    return False


def _demo(given: argparse.Namespace) -> int:
    user = check_name(given.user, "username")
    if fold(user) in ("ada", "bob"):
        raise StartupError(
            Code.CANNOT_START, f"{user} is one of the demo's bots; choose another --user."
        )
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise StartupError(Code.CANNOT_START, "The demo needs a terminal.")
    from tchat.demo import run_demo  # here, since it imports client and server

    if _is_plain(given.plain):
        typed, options = TypedLines(), PlainOptions(terminal=True)
        return trio.run(run_demo, user, RECENT, lambda start: run_plain(start, typed, options))
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
    """Run `work` in a session, without a chat window."""
    typed = TypedLines()
    apply_settings(given, load_config(config_file()))
    last = read_last_names(last_names_file(), Address(given.host, given.port))
    user = _name(given.user, "username", "--user", typed, last.user)
    group = check_name(given.group, "group name")
    if user is None:
        return 1

    async def run() -> int:
        async with session_for(given, user) as session:
            return await work(session, group)
        raise AssertionError("unreachable")

    return trio.run(run_interruptible, run)


def _name(
    given: str | None, what: str, option: str, typed: TypedLines, default: str | None
) -> str | None:
    """Return a name from the command line, or prompt for it; None at the end of input.

    Enter alone takes the default, if there is one.

    Raises `UsageError` if there is no terminal to ask on: a line of a pipe is not an answer.
    """
    if given is not None:
        return check_name(given, what)
    if not (sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())):
        raise UsageError(
            Code.MISSING_ARGUMENT,
            f"The {what} is missing, and there is no terminal to ask for it: add {option} NAME.",
        )
    while True:
        # With stdout redirected, the prompt goes to stderr: the pipe gets only the conversation.
        prompt = f"{what} [{default}]: " if default else f"{what}: "
        print(prompt, end="", flush=True, file=sys.stdout if sys.stdout.isatty() else sys.stderr)
        answer = typed.read()
        if answer is None:
            return None
        try:
            return check_name(answer.text.strip() or default or "", what)
        except Refused as refusal:
            complain(str(refusal))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="tchat",
        description="Group chat for the terminal.",
        epilog=_examples(
            ("tchat demo", "try everything on this machine"),
            ("tchat serve localhost 7777", "start a server"),
            ("tchat join localhost 7777 --user alice --group ops", "join a group on it"),
        )
        + "\n\ntchat COMMAND --help shows the options and examples of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tchat {__version__}")
    actions = top.add_subparsers(
        required=True,
        parser_class=AddressParser,
        metavar="demo | serve | join | send | get | admin",
    )
    add = partial(_add_command, actions)
    _describe_demo(add("demo", "try tchat: a temporary server, two bots and you", _DEMO))
    _describe_serve(add("serve", "start a server", _SERVE))
    _describe_join(add("join", "join a group and chat; founds the group if it is new", _JOIN))
    _describe_send(add("send", "send files to a group", _SEND))
    _describe_get(add("get", "download files of a group", _GET))
    _describe_admin(add("admin", "maintenance for the operator of a server", _ADMIN))
    return top


def _add_command(
    actions: argparse._SubParsersAction[AddressParser],
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    """Add a subcommand whose description is shown as it is written, followed by its examples."""
    return actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=_examples(*_EXAMPLES[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _examples(*rows: tuple[str, str]) -> str:
    """Return the examples of a --help: each command line below its description."""
    lines = [f"  # {meaning}\n  {command}" for command, meaning in rows]
    return "\n".join(["examples:", *lines])


def _describe_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--user", default="guest", metavar="NAME", help="your name (default: guest)")
    demo.add_argument("--plain", action="store_true", help="lines of text instead of full screen")
    demo.set_defaults(run=_demo)


def _describe_serve(serve: argparse.ArgumentParser) -> None:
    add_address(serve, "the name or address to listen on", "the TCP port; 0 chooses a free one")
    _add_data(serve)
    serve.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="the format of the log (default: text)",
    )
    security = serve.add_argument_group("security")
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
    add_limits(serve.add_argument_group("limits"))
    serve.set_defaults(run=_serve)


def _describe_join(join: argparse.ArgumentParser) -> None:
    add_server_options(join, nicknames=True)
    join.add_argument("--user", metavar="NAME", help="your username (default: prompt for it)")
    join.add_argument("--group", metavar="NAME", help="the group (default: prompt for it)")
    join.add_argument("--plain", action="store_true", help="lines of text instead of full screen")
    join.add_argument(
        "--downloads", type=path_argument, metavar="DIR", help="where downloaded files are saved"
    )
    lines = join.add_argument_group("plain mode")
    lines.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    lines.add_argument(
        "--history",
        type=_count,
        metavar="N",
        help="print the N latest messages of a group at the start, also those that you have seen"
        f" (default: all that you missed; {HISTORY} of a group that is new to you)",
    )
    lines.add_argument(
        "--commands",
        action="store_true",
        help="take lines of a pipe that begin with / as commands, not as messages",
    )
    add_create(lines)
    join.add_argument(
        "--yes", action="store_true", help="do not ask before /leave, /kick and the like"
    )
    join.set_defaults(run=_join)


_WELCOME = """\
tchat: group chat for the terminal

Start a server on this machine:
  tchat serve localhost 7777

Join a group on it, or found the group:
  tchat join localhost 7777 --user alice --group ops

Look around first, with two bots:
  tchat demo

tchat --help lists the commands; tchat COMMAND --help explains one."""
_DEMO = """\
Try tchat on this machine: starts a temporary server and two bots, and lets you
chat with them. Everything is deleted when you quit.
"""
_SERVE = """\
Start a server. It prints its address and its key when it listens.

On localhost, only this machine can connect. To serve other machines, listen on
0.0.0.0 (or an address of this machine), open the port in the firewall, and send
people the command that /invite prints in a group. All messages are on disk
before anybody sees them.

Ctrl-C, SIGTERM and SIGHUP stop the server gracefully: clients are notified, and
reconnect when it runs again. Closing its terminal sends SIGHUP; to keep the
server running, start it with nohup or as a service.
"""
_JOIN = """\
Join a group and chat. A group that does not exist is founded, with you as its
admin; otherwise its admin has to approve you, unless you have an invite. On the
first connection the server's key is saved, and checked from then on.

If the input is not a terminal, each of its lines is a message, even one that
begins with /; a group is founded only with --create. With --commands, lines that
begin with / are commands, for programs that drive tchat through a pipe.
"""
_SEND = """\
Send files to a group, in the order given; directories are sent as .tar archives.

You have to be a member of the group, or to have an invite. Nothing is printed on
success; errors and progress go to standard error. A file that is refused does
not stop the others; the exit status is then 1. If the command is interrupted,
run it again within a day, and it resumes.
"""
_GET = """\
Download files of a group; /files in the chat lists their numbers.

You have to be a member of the group, or to have an invite. The path of each file
is printed when it is complete, one per line; errors and progress go to standard
error. Existing files are never overwritten, and a file that is there already is
not downloaded again. The exit status is 1 if anything was refused. If the
command is interrupted, run it again, and it resumes.
"""
_ADMIN = """\
Maintenance for the operator of a server. Run it on the server's machine; the
server may keep running.
"""
_RELEASE_NAME = """\
Free a username from its keys, for a person who has lost all of them. The next
key that claims the name owns it and its memberships.
"""
_EXAMPLES = {
    "demo": (
        ("tchat demo", "chat with two bots"),
        ("tchat demo --user alice", "choose your name"),
    ),
    "serve": (
        ("tchat serve localhost 7777", "for this machine only"),
        ("tchat serve 0.0.0.0 7777 --data /srv/tchat", "for other machines, too"),
        (
            "tchat serve 0.0.0.0 7777 --cert fullchain.pem --key privkey.pem",
            "with a certificate of a certificate authority",
        ),
    ),
    "join": (
        ("tchat join localhost 7777 --user alice --group ops", "join or found #ops"),
        ("tchat join chat.example.org 7777 --invite INVITE", "use an invite"),
        ("tchat join work", "join a server from the configuration file"),
        (
            "tail -F app.log | tchat join localhost 7777 --user logs --group ops --plain",
            "post the lines of a program",
        ),
    ),
    "send": (
        ("tchat send localhost 7777 --group ops report.pdf photos/", "a file and a directory"),
    ),
    "get": (
        ("tchat get localhost 7777 --group ops 1 2", "files 1 and 2 into this directory"),
        (
            "tchat get localhost 7777 --group ops 1 --to report.pdf",
            "save file 1 under another name",
        ),
    ),
    "admin": (("tchat admin release-name alice --data /srv/tchat", "alice has lost her keys"),),
    "release-name": (
        ("tchat admin release-name alice", "in the default data directory"),
        ("tchat admin release-name alice --data /srv/tchat", "in another directory"),
    ),
}


def _describe_send(send: argparse.ArgumentParser) -> None:
    _add_member(send)
    send.add_argument(
        "paths", nargs="+", type=path_argument, metavar="PATH", help="a file or a directory"
    )
    send.set_defaults(run=_send)


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS else -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999")
    return count


def _describe_get(get: argparse.ArgumentParser) -> None:
    _add_member(get)
    get.add_argument("numbers", nargs="+", metavar="N", help="the number of a file, as in /files")
    get.add_argument(
        "--to",
        default=".",
        metavar="PATH",
        help="a directory (with a slash at the end if it does not exist yet), or the new name of a"
        " single file (default: the current directory)",
    )
    get.set_defaults(run=_get)


def _add_member(parser: argparse.ArgumentParser) -> None:
    add_server_options(parser)  # no nicknames: in "get work 1", 1 could be a port
    parser.add_argument("--user", metavar="NAME", help="your username (default: prompt for it)")
    parser.add_argument("--group", metavar="NAME", required=True, help="the group")


def _describe_admin(admin: argparse.ArgumentParser) -> None:
    actions = admin.add_subparsers(
        required=True, parser_class=AddressParser, metavar="release-name"
    )
    release = _add_command(
        actions,
        "release-name",
        "free a username from its keys, after they were lost",
        _RELEASE_NAME,
    )
    release.add_argument("name", metavar="NAME", help="the username")
    _add_data(release)
    release.set_defaults(run=_release_name)


def _add_data(parser: argparse.ArgumentParser) -> None:
    try:
        default = platformdirs.user_data_path("tchat", appauthor=False) / "server"
    except RuntimeError:  # the home directory is unknown, as in some containers and services
        default = None
    parser.add_argument(
        "--data",
        type=path_argument,
        default=default,
        required=default is None,
        metavar="DIR",
        help="the data directory" + (" (default: %(default)s)" if default else ""),
    )
