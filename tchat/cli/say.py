"""`tchat say`: post a message, or what comes through a pipe."""

from __future__ import annotations

import re
import sys
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, count, explain, key
from tchat.errors import Code, OutputError, Refused, TchatError, UsageError
from tchat.exits import PERMISSION, exit_status
from tchat.streams import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from tchat.api.client import Client
    from tchat.api.groups import Group

MOST_BYTES = 1 << 20
"""The longest input that is posted as messages."""

_ACTION = "/me "
# Escape sequences that set colours, and that erase the rest of a line, as compilers print them.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
_AT_ONCE = 256  # unanswered messages with --lines, so that a fast pipe does not fill the memory
_DESCRIPTION = """\
Post a message, and return when the server has it on disk. Without TEXT, the
whole standard input is the message; one longer than 16 KiB becomes several
messages, cut between lines, and 1 MiB is the most. With --lines, each line is a
message, posted as it comes; a line that is refused is reported, and does not stop
the others, unless no other could be posted either. The exit status is that of the
first refusal.

You have to be a member of the group, or to have an invite. Input is text, also
if it begins with /; only TEXT may be "/me waves". The colours of a log are left
out, and other control characters become visible. Nothing is printed on success.
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
    texts = list(messages_of(text, code=given.code, action=not piped))
    return run_in_group(given, partial(_post, given, texts))


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
    text = b"".join(parts).decode(errors="replace")
    if not text.strip():
        raise Refused(Code.EMPTY_TEXT, "The input is empty; nothing was posted.")
    return text


def _copy(data: bytes) -> None:
    """Copy input to standard output at once. Raises `OutputError`."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(error) from error


def messages_of(text: str, *, code: bool = False, action: bool = False) -> Iterator[str]:
    """Yield a text in parts that each fit into a message, cut between lines where possible.

    The text is sanitized first, since that can make it longer. With `action`, it may begin with
    "/me "; any other part that does is shown as it is written.
    """
    from tchat.core.text import TEXT_LIMIT, clean_text

    text = clean_text(_COLOURS.sub("", text)).strip("\n")
    if code:
        text = "\n".join(f"    {line.expandtabs(8)}".rstrip() for line in text.split("\n"))
    if action and text.startswith(_ACTION):
        first, text = _cut(text)
        yield from _unless_blank([first])
    part: list[str] = []
    size = 0
    for line in text.split("\n"):
        length = len(line.encode()) + 1
        if not part or size + length > TEXT_LIMIT + 1:
            yield from _unless_blank(part)
            *full, line = _literal_parts(line)
            for one in full:
                yield from _unless_blank([one])
            part, size, length = [], 0, len(line.encode()) + 1
        part.append(line)
        size += length
    yield from _unless_blank(part)


def _literal_parts(line: str) -> Iterator[str]:
    """Yield a line in parts that each fit into a message, and none of which is an action."""
    while True:
        part, line = _cut(f" {line}" if line.startswith(_ACTION) else line)
        yield part
        if not line:
            return


def _cut(text: str) -> tuple[str, str]:
    """Return as much of a text as fits into a message, and the rest."""
    from tchat.ui.plain.typed import first_part

    part = first_part(text)
    return part, text[len(part) :]


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
    reading = trio.CancelScope()
    stopped: dict[int, Refused] = {}
    failure: TchatError | None = None
    status, number, is_new = 0, 0, True

    async def post(text: str, number: int, task_status: trio.TaskStatus[None]) -> None:
        nonlocal status
        task_status.started()  # what follows is in the queue before the next line is read
        try:
            await group.say(text, reply_to=given.reply)
        except Refused as refusal:
            if exit_status(refusal) == PERMISSION:  # no other line could be posted either
                stopped.setdefault(number, refusal)
                reading.cancel()
            else:
                status = status or exit_status(refusal)
                complain(f"tchat: line {number}: {refusal}")
        finally:
            free.release()

    # Only the reading is ended: a line that has been read is posted or refused, never dropped.
    async with trio.open_nursery() as nursery:
        try:
            with reading:
                while (line := await typed.receive()) is not None:
                    number += is_new
                    is_new = not line.more
                    for text in messages_of(line.text, code=given.code):
                        await free.acquire()
                        # Otherwise, a line that begins when the reading ends would be cancelled.
                        with trio.CancelScope(shield=True):
                            await nursery.start(post, text, number)
        except TchatError as error:  # of the input, or of its copy
            failure = error
    if stopped:
        first = min(stopped)
        complain(f"tchat: line {first}: {stopped[first]} No line was posted after it.")
        return status or PERMISSION
    if failure is not None:
        raise failure
    return status
