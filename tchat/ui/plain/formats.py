"""Output formats of the plain front end: lines of text for people, JSON Lines for programs.

`TextFormat` is described at the top of `frontend`, `JsonFormat` in the class. Programs rely on
both; a change is noted in CHANGELOG.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from tchat.core.group.files import FileShared
from tchat.core.group.messages import Deleted, Edited, Posted
from tchat.core.text import clean_line, clean_text
from tchat.machine_clocks import now_ms
from tchat.ui.chat.lines import Line, clock_text, date_text, day_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.core.group.feature import Event
    from tchat.errors import TchatError
    from tchat.ui.chat.window import Window


class Format(Protocol):
    """How lines of the chat are printed."""

    def lines(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield the output for a line and, if there is one, the event that it was made from."""

    def found(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield the output for a message around a search result."""

    def switched(self, window: Window) -> Iterator[str]:
        """Yield the output for the change to another window."""


class TextFormat:
    """Lines of text, with a line for the date whenever the date changes.

    The lines of all windows but the first one have the window's title in front. A notice follows a
    message that mentions the person, and is in front of the first line of a direct conversation.
    """

    def __init__(self) -> None:
        self._first: Window | None = None
        self._private: WeakSet[Window] = WeakSet()
        self._day: tuple[int, int] | None = None

    def lines(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield a line, after the date and the quotation that belong in front of it."""
        prefix = self._prefix(window)
        if window.direct and window not in self._private:
            self._private.add(window)
            who = clean_line(window.partner)
            note = (
                f"Lines that begin with {window.title} are private; /msg {who} TEXT answers them."
            )
            yield from self._lines(window, f"{window.title} ", Line(line.at, "notice", note))
        yield from self._lines(window, prefix, line)
        if line.mention and not window.direct:
            mention = Line(line.at, "notice", f"{line.who} mentioned you")
            yield from self._lines(window, prefix, mention)

    def found(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield the line after the title of its window, also for the first window."""
        return self._lines(window, f"{window.title} ", line)

    def switched(self, window: Window) -> Iterator[str]:
        """Yield a notice that says where the next line goes."""
        text = f"What you type now goes to {window.title}."
        own_line = Line(window.session.clock(), "notice", text)
        return self._lines(window, self._prefix(window), own_line)

    def _prefix(self, window: Window) -> str:
        self._first = self._first or window  # permanently, even if this window is closed
        return "" if window is self._first else f"{window.title} "

    def _lines(self, window: Window, prefix: str, line: Line) -> Iterator[str]:
        self._day = self._day or day_of(window.session.clock())
        if day_of(line.at) != self._day:
            self._day = day_of(line.at)
            yield f"{prefix}[{clock_text(line.at)}] -- {date_text(line.at)}"
        if line.reply:
            yield f"{prefix}[{clock_text(line.at)}] > in reply to {line.reply}"
        yield prefix + format_line(line)


def format_line(line: Line) -> str:
    """Return a line as text."""
    text = line.text.replace("\n", "↵")
    match line.sort:
        case "message":
            text = f"<{line.who}> {text}"
        case "action":
            text = f"* {line.who} {text}"
        case "notice":
            text = f"-- {text}"
        case "error":
            text = f"! {text}"
    return f"[{clock_text(line.at)}] {text}"


class JsonFormat:
    """JSON Lines in ASCII: one object for each event, notice and error.

    Every object has `type`, and `time` in ms since the Unix epoch; all but the errors of the
    program itself have `group`: a group's name, or "@bob" for the conversation with bob. An object
    for an event of the group's log has `seq`, the event's number, and `from`, the person who caused
    it; if the person has read it before, it also has `seen`, true. By type:

    - `message`, `action` ("/me"): `text`, which may have several lines; `reply_to`, the seq of the
      message that it replies to, and `quote`, a quotation of that message; `mention`, true, if it
      names the person.
    - `edited`: `target`, the seq of the message, and its new `text`.
    - `deleted`: `target`, the seq of the message.
    - `event`: any other event of the log. `event` is its kind in the protocol, such as `joined` or
      `topic_set`, `text` a sentence about it. `file_shared` also has `number`, `name` and `size`.
    - `notice`: `text`, a message of the program.
    - `error`: `code`, stable, and `text`, a sentence.
    - `window`: the next line of input goes to `group`.

    The messages around a search result (`/jump`) come again, with `found`, true.

    A key without a value is absent. More keys and types may be added.
    """

    def lines(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield the object for a line."""
        facts = _own_facts(line) if event is None else _event_facts(line, event)
        yield encode(line.at, group=_group(window), **facts)

    def found(self, window: Window, line: Line, event: Event | None) -> Iterator[str]:
        """Yield the object for the message."""
        facts = _own_facts(line) if event is None else _event_facts(line, event)
        yield encode(line.at, group=_group(window), found=True, **facts)

    def switched(self, window: Window) -> Iterator[str]:
        """Yield the object for the window."""
        yield encode(window.session.clock(), type="window", group=_group(window))


def error_object(error: TchatError) -> str:
    """Return the JSON object for an error that ends the program."""
    return encode(now_ms(), type="error", code=str(error.code), text=error.sentence)


def _group(window: Window) -> str:
    return f"@{window.partner}" if window.direct else window.replica.name


def _own_facts(line: Line) -> dict[str, object]:
    """Return the facts of a line without an event."""
    return {"type": line.sort, "from": line.who, "code": line.code, "text": line.text}


def _event_facts(line: Line, event: Event) -> dict[str, object]:
    facts: dict[str, object] = {"seq": event.seq, "from": event.actor, "seen": line.history}
    match event.body:
        case Posted(_, reply):
            text = {"type": line.sort, "text": line.text, "mention": line.mention}
            return facts | text | {"reply_to": reply, "quote": line.reply}
        case Edited(target, text):
            return facts | {"type": "edited", "target": target, "text": clean_text(text)}
        case Deleted(target):
            return facts | {"type": "deleted", "target": target}
        case FileShared(number, name, size):
            facts |= {"number": number, "name": name, "size": size}
    return facts | {"type": "event", "event": event.body.kind, "text": line.text}


def encode(at: int, **facts: object) -> str:
    """Return one line of JSON, in ASCII, without the facts that have no value."""
    known = {key: value for key, value in facts.items() if not _is_absent(value)}
    return json.dumps({"type": known.pop("type"), "time": at, **known})


def _is_absent(value: object) -> bool:
    return value is None or value is False or value == ""
