"""Events of a group as lines of text, JSON Lines, and Markdown."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from io import SEEK_END
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from tchat.api.groups import (
    Deleted,
    Edited,
    Event,
    FileRemoved,
    FileShared,
    Message,
    ms_of,
)
from tchat.core.text import clean_line, clean_text
from tchat.ui.chat.lines import Line, date_text, day_of, quotation
from tchat.ui.plain.formats import encode, format_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from typing import IO

    from tchat.ui.chat.lines import Sort

SAID = (Message, Edited, Deleted, FileShared, FileRemoved)
"""The events that say something; all others are about the group and its members."""

_QUOTABLE = 512
_CODE = " " * 4
_BACKTICKS = re.compile("`+")
_LINE_START = re.compile(r"^([0-9]{0,9})([-+=.):])")


class TextRenderer:
    """Lines as in plain mode: a line for the date when that changes, `[10:02] <alice> hello`.

    `now` is the server's time: a first line of that day has no date in front.
    """

    def __init__(self, now: datetime) -> None:
        self._day = day_of(ms_of(now))
        self._messages: OrderedDict[int, Message] = OrderedDict()

    def lines(self, event: Event) -> Iterator[str]:
        """Yield the lines of an event."""
        line = _line(event)
        if day_of(line.at) != self._day:
            self._day = day_of(line.at)
            yield format_line(Line(line.at, "notice", date_text(line.at)))
        if isinstance(event, Message):
            quoted = self._messages.get(event.reply_to or 0)
            if quoted is not None:
                quote = quotation(quoted.who, quoted.text)
                yield format_line(line).partition("]")[0] + f"] > {quote}"
            self._messages[event.seq] = event
            if len(self._messages) > _QUOTABLE:
                self._messages.popitem(last=False)
        yield format_line(line)


def _line(event: Event) -> Line:
    at = time_of(event)
    if not isinstance(event, Message):
        return Line(at, "notice", event.sentence or f"{clean_line(event.who)}: {event.kind}")
    sort: Sort = "action" if event.action else "message"
    return Line(at, sort, clean_text(event.text), clean_line(event.who))


class JsonRenderer:
    """JSON Lines as `join --json` prints them; events up to `seen` have been read before."""

    def __init__(self, seen: int = 0) -> None:
        self._seen = seen

    def lines(self, event: Event) -> Iterator[str]:
        """Yield the object of an event."""
        group = f"@{event.group.name}" if event.group.direct else event.group.name
        head = {"group": group, "seq": event.seq, "from": event.who}
        facts = head | {"seen": event.seq <= self._seen} | _facts(event)
        yield encode(time_of(event), **facts)


def _facts(event: Event) -> dict[str, object]:
    match event:
        case Message():
            return {
                "type": "action" if event.action else "message",
                "text": clean_text(event.text),
                "mention": event.mentions_me,
                "reply_to": event.reply_to,
            }
        case Edited(message=message, text=text):
            return {"type": "edited", "target": message, "text": clean_text(text)}
        case Deleted(message=message):
            return {"type": "deleted", "target": message}
    facts: dict[str, object] = {"type": "event", "event": event.kind, "text": event.sentence}
    if isinstance(event, FileShared):
        facts |= {"number": event.file.number, "name": event.file.name, "size": event.file.size}
    return facts


class LatestTexts(Mapping[int, str]):
    """The latest text of each edited message, by its seq, in `file`.

    A log may have more edits than fit into memory: any member can edit 4,000 messages of 16 KiB at
    once, and as many every few hours.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[int, tuple[int, int]] = {}

    def add(self, message: int, text: str) -> None:
        """Add the text of a later edit."""
        data = text.encode(errors="replace")
        self._places[message] = self._file.seek(0, SEEK_END), len(data)
        self._file.write(data)

    def __getitem__(self, message: int) -> str:
        """Return the text of a message."""
        start, size = self._places[message]
        self._file.seek(start)
        return self._file.read(size).decode()

    def __iter__(self) -> Iterator[int]:
        """Iterate over the messages."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._places)


class MarkdownRenderer:
    """Markdown for people: a heading for each day, quoted texts, each as it was edited last.

    `edits` has the present texts of edited messages, by their seqs.
    """

    def __init__(self, edits: Mapping[int, str]) -> None:
        self._edits = edits
        self._day: tuple[int, int] | None = None

    def title(self, name: str) -> str:
        """Return the heading of a group or conversation."""
        return f"# {_escaped(name)}\n"

    def lines(self, event: Event) -> Iterator[str]:
        """Yield the lines of an event; none for an edit or a deletion, whose effect is shown."""
        if isinstance(event, Edited | Deleted):
            return
        line = _line(event)
        if day_of(line.at) != self._day:
            self._day = day_of(line.at)
            yield f"## {date_text(line.at)}\n"
        clock = format_line(line)[1:6]
        if not isinstance(event, Message):
            yield f"*{clock} {_escaped(line.text)}*\n"
            return
        text = clean_text(self._edits.get(event.seq, line.text))
        edited = ", edited" if event.seq in self._edits else ""
        yield f"**{_escaped(line.who)}** {clock}{edited}"
        yield from (f"> {part}" if part.strip() else ">" for part in _quoted(event, text))
        yield ""


def _quoted(event: Message, text: str) -> Iterator[str]:
    """Yield the lines to quote; what is indented is code, and keeps its columns."""
    if event.action:
        yield f"*{_escaped(clean_line(text).strip())}*"
        return
    for is_code, lines in _blocks(text.expandtabs(8).split("\n")):
        if not is_code:
            # Two spaces at the end keep the line break.
            yield from (f"{_escaped_line(line)}  " for line in lines)
            continue
        # Fenced: after a line of text, an indented line would not be code, but more of the text.
        yield _fence(text)
        yield from (line.removeprefix(_CODE) for line in lines)
        yield _fence(text)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Yield runs of lines, and whether they are code; a blank line between two of code is, too."""
    kinds = [bool(line.strip()) and line.startswith(_CODE) for line in lines]
    filled = [place for place, line in enumerate(lines) if line.strip()]
    for place, following in pairwise(filled):
        if kinds[place] and kinds[following]:
            kinds[place:following] = [True] * (following - place)
    for is_code, block in groupby(zip(kinds, lines, strict=True), lambda pair: pair[0]):
        yield is_code, [line for _, line in block]


def _fence(text: str) -> str:
    """Return a code fence that no line of a text can close."""
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    return "`" * max(3, longest + 1)


def _escaped_line(line: str) -> str:
    """Return a line of a paragraph in which nothing is markup."""
    escaped = _escaped(line.strip())
    # A list, a ruler, the line under a heading; others, such as * # > ~ |, are escaped everywhere.
    return _LINE_START.sub(r"\1\\\2", escaped)


def _escaped(text: str) -> str:
    """Return a text in which nothing is markup, except at the start of a line."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|~&$" else c for c in text)


def time_of(event: Event) -> int:
    """Return the time of an event, in ms since the Unix epoch."""
    return round(event.at.timestamp() * 1000)
