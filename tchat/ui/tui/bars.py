"""The two bars: what this window is, and what else goes on.

On a narrow screen they say less, and the most important to the last. The title gives up the topic
first, then the admin, then who is online, and never its name and the state of the connection. The
status shortens its sentences, then leaves out windows in which nothing happens.

How far files are on their way, in as few cells as there are.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from tchat.core.text import fold, size_text
from tchat.ui.chat.lines import time_text
from tchat.ui.text.cells import cells, clip
from tchat.ui.tui.rows import Row, Span, cells_of

if TYPE_CHECKING:
    from tchat.client.files.queue import Progress
    from tchat.ui.tui.model import Model, Tab

_ARROWS = MappingProxyType({"up": "⇡", "down": "⇣"})
_BAR = 10
_LEAST_NAME = 8
_MOST_NAME = 30


def transfers_text(transfers: list[Progress], room: int) -> str:
    """Return, in at most `room` cells, how far the transfer is that will be done first."""
    if not transfers:
        return ""
    first = max(transfers, key=lambda progress: (progress.phase == "moving", progress.percent))
    others = len(transfers) - 1
    more = f" +{others}" if others else ""
    head = f" {_ARROWS[first.way]} "
    number = f"{first.number} " if others else ""
    for facts in _progress_facts(first):
        space = room - cells(head) - cells(number) - cells(facts) - cells(more) - 2
        if space >= min(cells(first.name), _LEAST_NAME):
            name = clip(first.name, min(space, _MOST_NAME))
            return f"{head}{number}{name} {facts}{more} "
    short = f"{head}{_progress_facts(first)[-1]} "
    return short if cells(short) <= room else ""


def _progress_facts(progress: Progress) -> list[str]:
    """Return what can be said of a transfer behind its name, from the longest to the shortest."""
    if progress.phase in ("queued", "sharing"):
        return [progress.phase]
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


_LEAST_TOPIC = 10
_MOST_NAME = 20
_MOST_TAB = 16
_GAP = "  "
_EDGE = 4
_TITLED = 50


# ---------------------------------------------------------------------- the title


def title_row(model: Model, width: int) -> Row:
    """Return the title: the window and its topic at the left, who is there at the right."""
    state = model.connection or model.security
    safe = not model.connection and model.security.startswith("TLS")
    name = clip(f" {model.title} ", width - min(cells(state), width // 2) - 2)
    room = width - cells(name)
    facts = _facts(model)
    while facts and cells(_joined(facts)) + cells(state) + 2 > room:
        facts = facts[1:]
    right = f" {clip(state, room - cells(_joined(facts)) - 2)} "
    room -= cells(_joined(facts)) + cells(right)
    topic = f" {clip(model.topic, room - 2)}" if model.topic and room >= _LEAST_TOPIC else ""
    left = topic + " " * (room - cells(topic))
    return [
        (name, "title.name"),
        (left + _joined(facts), "title"),
        (right, "title" if safe else "alert"),
    ]


def _joined(facts: list[str]) -> str:
    return "".join(f" {fact} ·" for fact in facts)


def _facts(model: Model) -> list[str]:
    """Return what is to be known about who is there, the least important first."""
    if model.direct:
        return _other(model)
    facts = []
    if model.admin:
        facts.append(f"admin {clip(model.admin, _MOST_NAME)}")
    if model.people:
        facts.append(f"{model.online} of {len(model.people)} online")
    if model.standing == "waiting":
        facts.append("waiting for approval")
    return facts


def _other(model: Model) -> list[str]:
    """Return how the other one of two is."""
    others = [person for person in model.people if fold(person.name) != fold(model.user)]
    if len(others) != 1:
        return []
    if not others[0].online:
        return ["offline"]
    away = others[0].away
    return [f"away: {clip(away, _MOST_NAME)}" if away else "online"]


# ---------------------------------------------------------------------- the status


def status_row(model: Model, width: int, *, reading: bool) -> Row:
    """Return the status; `reading` says that one reads above the newest lines."""
    tabs = _shown_tabs(model, width)
    share = width // 4 if model.transfers else 0
    least = _least(tabs)
    wanted = min(cells_of(_tab_row(tabs, width)) + _EDGE, max(width * 2 // 5, least))
    facts = _facts_that_fit(model, width - wanted - share, width - least, reading=reading)
    room = width - _taken(facts)
    parts = [[fact] for fact in facts]
    if 0 < least <= room:
        parts.insert(0, _tab_row(tabs, max(room - share, least) - _EDGE))
    row: Row = []
    for part in parts:
        row += [("── " if row else "─ ", "rule"), *part, (" ", "rule")]
    moving = transfers_text(model.transfers, width - cells_of(row) - 2)
    rest = width - cells_of(row) - cells(moving)
    if not moving:
        return [*row, ("─" * rest, "rule")]
    return [*row, ("─" * (rest - 1), "rule"), (moving, "highlight"), ("─", "rule")]


def _facts_that_fit(model: Model, room: int, most: int, *, reading: bool) -> list[Span]:
    """Return what waits for the person, in fewer words where it takes more than `room` cells.

    If that is not enough, the least important are left out until it takes no more than `most`.
    """
    facts: list[Span] = []
    for brevity in range(3):
        facts = _waiting(model, brevity, reading=reading)
        if _taken(facts) <= room:
            return facts
    while len(facts) > 1 and _taken(facts) > most:
        facts.pop()
    return facts


def _least(tabs: list[tuple[Tab, Row]]) -> int:
    """Return how many cells the current window and the number of the others take."""
    current = max((cells_of(row) for tab, row in tabs if tab.current), default=0)
    return current + len(f"{_GAP}+{len(tabs)}!") + _EDGE if tabs else 0


def _taken(facts: list[Span]) -> int:
    return sum(cells(text) + _EDGE for text, _ in facts)


def _waiting(model: Model, brevity: int, *, reading: bool) -> list[Span]:
    """Return what waits for the person, the most important first, more briefly from 0 to 2."""
    facts: list[Span] = []
    if reading:
        new = f"{model.below} new" if model.below else "more"
        below = (f"↓ {new}: End", f"↓ {new}: End", f"↓{model.below or ''} End")[brevity]
        facts.append((below, "highlight"))
    if model.requests:
        ask = "asks" if model.requests == 1 else "ask"
        where = (" to join: F9 or /1", " to join: F9", ": F9")[brevity]
        facts.append((f"{model.requests} {ask}{where}", "highlight"))
    if model.unanswered:
        facts.append((f"{model.unanswered} on the way", "status"))
    return facts


def _shown_tabs(model: Model, width: int) -> list[tuple[Tab, Row]]:
    """Return the windows and what is shown of them; nothing if there is only one."""
    if len(model.tabs) < 2:
        return []
    return [(tab, _tab(tab, titled=width >= _TITLED or not tab.current)) for tab in model.tabs]


def _tab_row(tabs: list[tuple[Tab, Row]], room: int) -> Row:
    """Return the list of windows in at most `room` cells; empty if not one fits.

    The current one stays longest, then those where somebody is meant, then those with news; the
    others are counted.
    """
    chosen = _fitting(tabs, room)
    row: Row = []
    for index in sorted(chosen):
        row += [(_GAP, "rule")] * bool(row) + tabs[index][1]
    hidden = [tab for index, (tab, _) in enumerate(tabs) if index not in chosen]
    if hidden and row:
        called = any(tab.mentions for tab in hidden)
        style = "activity.mention" if called else "status"
        row += [(_GAP, "rule"), (f"+{len(hidden)}{'!' * called}", style)]
    return row


def _fitting(tabs: list[tuple[Tab, Row]], room: int) -> set[int]:
    """Return the indices of those windows that there is room for."""
    sizes = [cells_of(row) + len(_GAP) for _, row in tabs]
    if sum(sizes) - len(_GAP) <= room:
        return set(range(len(tabs)))
    room -= len(f"+{len(tabs)}!")
    chosen: set[int] = set()
    for index in sorted(range(len(tabs)), key=lambda index: _urgency(tabs[index][0])):
        if sizes[index] <= room:
            chosen.add(index)
            room -= sizes[index]
    return chosen


def _urgency(tab: Tab) -> tuple[bool, bool, bool, int]:
    return not tab.current, not tab.mentions, not tab.unread, tab.number


def _tab(tab: Tab, *, titled: bool) -> Row:
    text = f"{tab.number} {clip(tab.title, _MOST_TAB)}" if titled else f"{tab.number}"
    if tab.current:
        return [(f"[{text}]", "activity.current")]
    if tab.mentions:
        return [(f"{text} {tab.mentions}!", "activity.mention")]
    return [(f"{text} {tab.unread}", "activity")] if tab.unread else [(text, "status")]
