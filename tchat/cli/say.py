"""`tchat say`: post a message, or what comes through a pipe."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, count, explain, key
from tchat.errors import Code, OutputError, Refused, UsageError
from tchat.exits import PERMISSION, exit_status
from tchat.streams import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from tchat.api.client import Client
    from tchat.api.groups import Group

MOST_BYTES = 1 << 20
"""The longest input that is posted as messages."""

_AT_ONCE = 256  # unanswered messages with --lines, so that a fast pipe does not fill the memory
_DESCRIPTION = """\
Post a message, and return when the server has it on disk. Without TEXT, the
whole standard input is the message; one longer than 16 KiB becomes several
messages, cut between lines, and 1 MiB is the most. With --lines, each line is a
message, posted as it comes; a line that is refused is reported, and does not stop
the others, unless no other could be posted either. The exit status is that of the
first refusal.

You have to be a member of the group, or to have an invite. Input is text, also
if it begins with /; only TEXT may be "/me waves". Nothing is printed on success.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat say`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat say localhost:7777 --user ci --group ops 'build 7 failed'", "a message"),
        ("make 2>&1 | tail -n 20 | tchat say work --code", "the end of a log; work is a nickname"),
        ("tail -F app.log | tchat say work --lines --tee", "each line as it comes"),
        ('tchat say work --key "backup $(date +%F)" "backed up"', "once a day, however often run"),
    )
    add_place(parser, "TEXT", "the message; - or none: standard input")
    parser.add_argument(
        "--code", action="store_true", help="keep the columns of the text: indent it as code"
    )
    parser.add_argument(
        "--lines", action="store_true", help="post each line of the input, as it comes"
    )
    parser.add_argument("--tee", action="store_true", help="copy the input to standard output")
    parser.add_argument(
        "--reply", type=count, metavar="SEQ", help="show it as a reply to the message with this seq"
    )
    parser.add_argument(
        "--key",
        type=key,
        metavar="KEY",
        help="post nothing if this user posted a message with this key in the group in the last 30"
        " days, from this machine and TCHAT_HOME",
    )
    parser.set_defaults(run=_say)


def _say(given: argparse.Namespace) -> int:
    from tchat.cli.place import resolve, run_in_group

    resolve(given)
    piped = given.words in ([], ["-"])
    _check(given, piped=piped)
    if given.lines:
        return run_in_group(given, partial(_post_lines, given))
    text = _read_input(given) if piped else " ".join(given.words)
    return run_in_group(given, partial(_post, given, list(messages_of(text, code=given.code))))


def _check(given: argparse.Namespace, *, piped: bool) -> None:
    """Raise `UsageError` for options that do not fit together."""
    wrong = ""
    if not piped and (given.lines or given.tee):
        wrong = "--lines and --tee are for standard input: leave TEXT out."
    elif given.lines and given.key is not None:
        wrong = "--key is for one message: leave --lines out."
    elif not given.words and sys.stdin.isatty():
        wrong = "TEXT is missing; - reads it from the terminal, until Ctrl-D."
    if wrong:
        raise UsageError(Code.MISSING_ARGUMENT, wrong)


def _read_input(given: argparse.Namespace) -> str:
    """Return the whole input, as text. Raises `Refused`."""
    from tchat.invocation import command_line
    from tchat.ui.plain.typed import TypedLines

    typed = TypedLines(copy=_copy) if given.tee else TypedLines()
    parts: list[bytes] = []
    size = 0
    while data := typed.read_some():
        size += len(data)
        if size <= MOST_BYTES:
            parts.append(data)
        elif not given.tee:
            break
    if size > MOST_BYTES:
        raise Refused(
            Code.TEXT_TOO_LONG,
            "The input is longer than 1 MiB; send it as a file: "
            + command_line("send", given.server, "-", "--name", "NAME"),
        )
    text = b"".join(parts).decode(errors="replace").replace("\r\n", "\n").strip("\n")
    if not text.strip():
        raise Refused(Code.EMPTY_TEXT, "The input is empty; nothing was posted.")
    return literal(text)


def _copy(data: bytes) -> None:
    """Copy input to standard output at once. Raises `OutputError`."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(error) from error


def literal(text: str) -> str:
    """Return the text of a message that shows `text`, even if that begins with "/me"."""
    return f" {text}" if text.startswith("/me ") else text


def messages_of(text: str, *, code: bool = False) -> Iterator[str]:
    """Yield a text in parts that each fit into a message, cut between lines where possible."""
    from tchat.core.text import TEXT_LIMIT
    from tchat.ui.plain.typed import split_text

    if code:
        text = "\n".join(f"    {line.expandtabs(8)}".rstrip() for line in text.split("\n"))
    part: list[str] = []
    size = 0
    for line in text.split("\n"):
        for piece in split_text(line):
            length = len(piece.encode()) + 1
            if size + length > TEXT_LIMIT + 1:
                yield from _unless_blank(part)
                part, size = [], 0
            part.append(piece)
            size += length
    yield from _unless_blank(part)


def _unless_blank(lines: Sequence[str]) -> Iterator[str]:
    from tchat.core.text import check_text

    text = "\n".join(lines)
    try:
        check_text(text)
    except Refused:
        return
    yield text


async def _post(given: argparse.Namespace, texts: Sequence[str], _: Client, group: Group) -> int:
    if not texts:
        raise Refused(Code.EMPTY_TEXT, "A message needs at least one visible character.")
    for number, text in enumerate(texts, start=1):
        once = given.key if given.key is None or number == 1 else f"{given.key} {number}"
        await group.say(text, reply_to=given.reply, key=once)
    return 0


async def _post_lines(given: argparse.Namespace, _: Client, group: Group) -> int:
    import trio

    from tchat.ui.plain.typed import TypedLines

    typed = TypedLines(copy=_copy) if given.tee else TypedLines()
    free = trio.Semaphore(_AT_ONCE)
    status, number, is_new = 0, 0, True

    async def post(text: str, number: int, task_status: trio.TaskStatus[None]) -> None:
        nonlocal status
        task_status.started()  # what follows is in the queue before the next line is read
        try:
            await group.say(text, reply_to=given.reply)
        except Refused as refusal:
            if exit_status(refusal) == PERMISSION:  # no other line could be posted either
                raise
            status = status or exit_status(refusal)
            complain(f"tchat: line {number}: {refusal}")
        finally:
            free.release()

    async with trio.open_nursery() as nursery:
        while (line := await typed.receive()) is not None:
            number += is_new
            is_new = not line.more
            for text in messages_of(literal(line.text), code=given.code):
                await free.acquire()
                await nursery.start(post, text, number)
    return status
