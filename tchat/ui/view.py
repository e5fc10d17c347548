"""From a model and a size to rows of styled text. Pure: the same model gives the same rows.

    title                                   the group, its admin, who is online, the connection
    messages                     │ people   the newest at the bottom; people only where it is wide
    status                                  what waits: requests, unsent messages, lines below;
                                            at its right, how far a file is on its way
    prompt and input                        always the last row

A row is a list of spans, a span some text and the name of a style; `screen` knows what styles
look like. Every row is exactly as wide as the screen, in cells.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from tchat.core.text import clean_line, fold, size_text
from tchat.ui.cells import cells, clip, graphemes, left, right, wrap
from tchat.ui.lines import time_text

if TYPE_CHECKING:
    from tchat.client.transfers import Progress
    from tchat.ui.lines import Line
    from tchat.ui.model import Model

Span = tuple[str, str]
Row = list[Span]

NAME_COLOURS = 8
SMALLEST = (20, 4)
_WIDE = 64
_PEOPLE_WIDTH = 18
_ARROWS = {"up": "⇡", "down": "⇣"}
_BAR = 10
_LEAST_NAME = 8
_LEAST_PART = 6
_MOST_NAME = 30


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows to paint, top to bottom, and where the cursor is: row and column in cells.

    `scroll` is the model's, or less if there are not that many rows above.
    """

    rows: list[Row]
    cursor: tuple[int, int]
    scroll: int = 0


def draw(model: Model, width: int, height: int) -> Picture:
    """Return the whole screen of `width` by `height` cells."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        rows: list[Row] = [
            [(left("too small" if y == 0 else "", width), "notice")] for y in range(height)
        ]
        return Picture(rows, (0, 0))
    prompt, column = _input(model, width)
    middle, scroll = _middle(model, width, height - 3)
    rows = [_title(model, width), *middle, _status(model, width), prompt]
    return Picture(rows, (height - 1, column), scroll)


# ---------------------------------------------------------------- the bars


def _title(model: Model, width: int) -> Row:
    facts = []
    if model.admin:
        facts.append(f"admin {model.admin}")
    if model.people:
        facts.append(f"{model.online} of {len(model.people)} online")
    if model.standing == "waiting":
        facts.append("waiting for approval")
    state = model.connection or model.security
    name = f" {model.group} "
    if cells(name) + sum(cells(fact) + 3 for fact in facts) + cells(state) + 1 > width:
        facts = facts[1:] if width < 50 else facts
    rest = " · ".join([*facts, state]) + " "
    room = max(width - cells(name), 0)
    style = "alert" if model.connection else "title"
    return [(left(name, width - room), "title.name"), (right(rest, room), style)]


def _status(model: Model, width: int) -> Row:
    parts: Row = []
    if model.waiting:
        asks = "asks" if model.waiting == 1 else "ask"
        parts.append((f"{model.waiting} {asks} to join: /1", "highlight"))
    if model.unanswered:
        parts.append((f"{model.unanswered} on the way", "dim"))
    if model.scroll:
        new = f"{model.below} new below" if model.below else "older messages"
        parts.append((f"↓ {new}: End", "highlight"))
    row: Row = []
    used = 0
    for text, style in parts:
        if width - used < _LEAST_PART:
            break
        shown = clip(f" {text} ", width - used - 2)
        row += [("──", "rule"), (shown, style)]
        used += 2 + cells(shown)
    moving = _transfers(model.transfers, width - used - 2)
    rule = "─" * (width - used - cells(moving))
    if not moving:
        return [*row, (rule, "rule")]
    return [*row, (rule[:-1], "rule"), (moving, "highlight"), ("─", "rule")]


def _transfers(transfers: list[Progress], room: int) -> str:
    """Return, in at most `room` cells, how far the transfer is that will be done first."""
    if not transfers:
        return ""
    first = max(transfers, key=lambda progress: (progress.phase == "moving", progress.percent))
    others = len(transfers) - 1
    more = f" +{others}" if others else ""
    head = f" {_ARROWS[first.way]} "
    number = f"{first.number} " if others else ""
    for facts in _facts(first):
        space = room - cells(head) - cells(number) - cells(facts) - cells(more) - 2
        if space >= min(cells(first.name), _LEAST_NAME):
            name = clip(first.name, min(space, _MOST_NAME))
            return f"{head}{number}{name} {facts}{more} "
    short = f"{head}{_facts(first)[-1]} "
    return short if cells(short) <= room else ""


def _facts(progress: Progress) -> list[str]:
    """Return what can be said of a transfer behind its name, from the longest to the shortest."""
    if progress.phase == "queued":
        return ["queued"]
    percent = f"{progress.percent}%"
    if progress.phase == "checking":
        return [f"checking {percent}" if progress.done else "checking", percent]
    filled = progress.percent * _BAR // 100
    bar = "▰" * filled + "▱" * (_BAR - filled)
    rate = f"{percent} {size_text(round(progress.rate))}/s" if progress.rate else percent
    if progress.left is None:
        return [f"{bar} {rate}", rate, percent]
    time_left = time_text(progress.left)
    return [f"{bar} {rate} {time_left}", f"{rate} {time_left}", f"{percent} {time_left}", percent]


def _input(model: Model, width: int) -> tuple[Row, int]:
    """Return the input row, scrolled so that the cursor is in it, and the cursor's column."""
    prompt = clip(f"{model.question or model.user} ▸ ", width // 2)
    room = width - cells(prompt) - 1
    before = [clean_line(grapheme) for grapheme in model.edit.before]
    while before and sum(map(cells, before)) > room:
        del before[: max(1, len(before) // 4)]
    text = "".join(before)
    column = cells(prompt) + cells(text)
    text += "".join(map(clean_line, model.edit.after))
    style = "question" if model.question else "prompt"
    return [(prompt, style), (_cut(text, width - cells(prompt)), "input")], column


def _cut(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, what does not fit simply missing."""
    kept, used = [], 0
    for grapheme in graphemes(text):
        if used + cells(grapheme) > width:
            break
        kept.append(grapheme)
        used += cells(grapheme)
    return "".join(kept) + " " * (width - used)


# ---------------------------------------------------------------- the panes


def _middle(model: Model, width: int, height: int) -> tuple[list[Row], int]:
    room = _message_width(model, width)
    messages, scroll = message_rows(model, room, height)
    if room == width:
        return messages, scroll
    people = _people(model, _PEOPLE_WIDTH, height)
    rows = [
        [*message, ("│", "rule"), *person] for message, person in zip(messages, people, strict=True)
    ]
    return rows, scroll


def _people(model: Model, width: int, height: int) -> list[Row]:
    rows: list[Row] = []
    for person in model.people[:height]:
        mark = "★" if person.admin else "●" if person.online else "○"
        style = name_style(person.name) if person.online else "dim"
        rows.append([(f" {mark} ", style), (left(person.name, width - 3), style)])
    hidden = len(model.people) - len(rows)
    if hidden:
        rows[-1] = [(left(f"   and {hidden + 1} more", width), "dim")]
    return rows + [[(" " * width, "text")]] * (height - len(rows))


def height_of_last(model: Model, width: int) -> int:
    """Return how many rows the newest line takes on a screen of `width` cells."""
    line, earlier = model.lines[-1], model.lines[-2] if len(model.lines) > 1 else None
    room = _message_width(model, width)
    return len(_line_rows(line, room)) + len(_separators(line, earlier, room))


def _message_width(model: Model, width: int) -> int:
    return width - _PEOPLE_WIDTH - 1 if width >= _WIDE and model.people else width


def message_rows(model: Model, width: int, height: int) -> tuple[list[Row], int]:
    """Return the message pane, whose last row is `model.scroll` rows above the newest.

    With it comes how far it is scrolled in truth, which is no further than the oldest message.
    """
    wanted = height + model.scroll
    rows: list[Row] = []  # from the bottom up
    for index in range(len(model.lines) - 1, -1, -1):
        line = model.lines[index]
        earlier = model.lines[index - 1] if index else None
        rows += reversed(_line_rows(line, width))
        rows += _separators(line, earlier, width)
        if len(rows) >= wanted:
            break
    scroll = max(min(model.scroll, len(rows) - height), 0)
    visible = rows[scroll : scroll + height]
    empty: Row = [(" " * width, "text")]
    return [empty] * (height - len(visible)) + visible[::-1], scroll


def _separators(line: Line, earlier: Line | None, width: int) -> list[Row]:
    """Return what stands above a line, from the bottom up: a new day, where unread begins."""
    rows: list[Row] = []
    if earlier is not None and earlier.history and line.missed:
        rows.append([(_rule("new", width), "new")])
    if earlier is None or _day(earlier) != _day(line):
        rows.append([(_rule(time.strftime("%A %d %B %Y", _day(line)), width), "rule")])
    return rows


def _day(line: Line) -> time.struct_time:
    moment = time.localtime(line.at / 1000)
    return time.strptime(time.strftime("%Y-%m-%d", moment), "%Y-%m-%d")


def _rule(text: str, width: int) -> str:
    shown = clip(f"── {text} ", width)
    return shown + "─" * (width - cells(shown))


def _line_rows(line: Line, width: int) -> list[Row]:
    """Return a line's rows: a message behind its author, anything else behind a mark."""
    stamp = time.strftime(" %H:%M ", time.localtime(line.at / 1000)) if width >= 30 else " "
    if line.sort == "message":
        name_width = 10 if width >= 60 else 8 if width >= 40 else 6
        head: Row = [(right(line.who, name_width), name_style(line.who)), (" │ ", "rule")]
        indent: Row = [(" " * (cells(stamp) + name_width), "text"), (" │ ", "rule")]
        style = "text"
    else:
        style = "notice" if line.sort == "notice" else "error"
        head = [("* " if style == "notice" else "! ", style)]
        indent = [(" " * (cells(stamp) + 2), style)]
    room = width - sum(cells(text) for text, _ in indent)
    first, *more = [(left(text, room), style) for text in wrap(line.text, room)]
    return [[(stamp, "dim"), *head, first], *([*indent, row] for row in more)]


def name_style(name: str) -> str:
    """Return the style of a person's name: the same wherever and whenever it is shown."""
    return f"name{crc32(fold(name).encode()) % NAME_COLOURS}"
