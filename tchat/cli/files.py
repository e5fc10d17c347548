"""`tchat send` and `tchat get`: transfer files of a group without a chat."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, explain
from tchat.errors import Code, Refused, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.client.session import Session

INPUT = "-"
"""What stands for standard input among the paths to send."""

_SEND = """\
Send files to a group, in the order given; directories are sent as .tar archives,
and - sends standard input, as a file that is called --name. That is first saved,
whole, beside your key (in ~/.local/state/tchat or TCHAT_HOME), and removed
afterwards.

You have to be a member of the group, or to have an invite. Nothing is printed on
success; errors and progress go to standard error. A file that is refused does
not stop the others; the exit status is that of the first refusal. If the command
is interrupted, run it again within a day, and it resumes; with -, if the input is
the same again, byte for byte.
"""
_GET = """\
Download files of a group; /files in the chat lists their numbers.

You have to be a member of the group, or to have an invite. The path of each file
is printed when it is complete, one per line; errors and progress go to standard
error. Existing files are never overwritten, and a file that is there already is
not downloaded again. The exit status is that of the first refusal. If the
command is interrupted, run it again, and it resumes.
"""
_INTERRUPTED = "tchat: interrupted; run the same command again to resume."
_INPUT_INTERRUPTED = "tchat: interrupted; to resume, run the command again with the same input."
_MOST_INPUT = 1 << 30  # what a server without --max-file accepts


def describe_send(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat send`."""
    explain(
        parser,
        _SEND,
        (
            "tchat send localhost 7777 --user ci --group ops report.pdf photos/",
            "a file and a directory",
        ),
        ("pg_dump app | tchat send work - --name app.sql", "what a program prints"),
    )
    files = "a file or a directory, or - for standard input"
    add_place(parser, "PATH", files, required=True, private=False)
    parser.add_argument("--name", metavar="NAME", help="the name of the file in the group")
    parser.add_argument(
        "--max-input",
        type=_size,
        default=_MOST_INPUT,
        metavar="SIZE",
        help="refuse a standard input that is longer (500M, 2G; default: 1G)",
    )
    parser.set_defaults(run=_send)


def describe_get(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat get`."""
    explain(
        parser,
        _GET,
        ("tchat get localhost 7777 --user ci --group ops 1 2", "files 1 and 2 into this directory"),
        ("tchat get work 1 --to report.pdf", "save file 1 under another name"),
    )
    add_place(parser, "N", "the number of a file, as in /files", required=True, private=False)
    parser.add_argument(
        "--to",
        default=".",
        metavar="PATH",
        help="a directory (with a slash at the end if it does not exist yet), or the new name of a"
        " single file (default: the current directory)",
    )
    parser.set_defaults(run=_get)


def _send(given: argparse.Namespace) -> int:
    from tchat.client.config.options import invite_token
    from tchat.ui.plain.oneshot import send_files

    _resolve_group(given)
    sources = [_source(word) for word in given.words]
    _check_sources(sources, given.name)

    async def send(session: Session) -> int:
        invite = invite_token(given)
        return await send_files(session, given.group, sources, invite, given.name, given.max_input)

    return _run(given, send, _INPUT_INTERRUPTED if None in sources else _INTERRUPTED)


def _size(text: str) -> int:
    """Return a size in bytes; for argparse."""
    from tchat.server.limits import parse_size  # here, since describing needs no server

    return parse_size(text)


def _source(word: str) -> Path | None:
    """Return the path to send; None for standard input. Raises `UsageError`."""
    import argparse

    from tchat.client.config.options import path_argument

    if word == INPUT:
        return None
    try:
        return path_argument(word)
    except argparse.ArgumentTypeError as error:
        raise UsageError(Code.MISSING_ARGUMENT, f"{error}.") from error


def _check_sources(sources: list[Path | None], name: str | None) -> None:
    """Raise `UsageError` if there is nothing to send, or the names are not clear."""
    wrong = ""
    if not sources:
        wrong = "The path of the file is missing."
    elif name is not None and len(sources) > 1:
        wrong = "--name is for a single file."
    elif name is not None and not name.strip():
        wrong = "--name needs a name."
    elif None in sources and name is None:
        wrong = "Standard input has no name: add --name NAME."
    if wrong:
        raise UsageError(Code.MISSING_ARGUMENT, wrong)


def _resolve_group(given: argparse.Namespace) -> None:
    """Complete the server, the group and the user. Raises `Refused` (direct), or as `resolve`."""
    from tchat.cli.place import resolve

    resolve(given)
    if given.group.startswith("@"):
        raise Refused(Code.DIRECT, "Private conversations have no files; use a group.")


def _get(given: argparse.Namespace) -> int:
    from tchat.client.config.options import invite_token
    from tchat.ui.plain.oneshot import get_files

    _resolve_group(given)
    if not given.words:
        raise UsageError(Code.MISSING_ARGUMENT, "The number of the file is missing.")

    async def get(session: Session) -> int:
        return await get_files(session, given.group, given.words, given.to, invite_token(given))

    return _run(given, get, _INTERRUPTED)


def _run(
    given: argparse.Namespace, work: Callable[[Session], Awaitable[int]], interrupted: str
) -> int:
    """Run `work` in a session, without a chat window; say `interrupted` if it was."""
    import trio

    from tchat.cli.place import patient_session, run_interruptible, status_with_unsent

    async def run() -> int:
        async with patient_session(given) as session:
            return await work(session)
        raise AssertionError("unreachable")

    return status_with_unsent(given, trio.run(partial(run_interruptible, run, interrupted)))
