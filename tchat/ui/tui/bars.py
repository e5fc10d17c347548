"""Header (title bar) and status bar: topic, presence, unread windows, requests, file progress.

On a narrow screen, both drop their least important parts first. The title drops the topic, then
the admin, then the number of members online; it always keeps the name and the state of the
connection. The status bar shortens its sentences, then leaves out windows without
activity. A transfer's progress shrinks from bar, rate and time left to a percentage.
"""

from __future__ import annotations

import re
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.text import TEXT_LIMIT, fold, size_text
from tchat.ui.chat.lines import count_text, time_text
from tchat.ui.text.cells import cells, clip
from tchat.ui.tui.rows import Row, Span, fill_row, row_width

if TYPE_CHECKING:
    from tchat.client.files.queue import Progress
    from tchat.ui.tui.model import Model, Tab

MOST_MISSED = 999
"""The highest number of unread messages above the pane that is shown exactly."""

_MIN_TOPIC_WIDTH = 10
_MAX_FACT_WIDTH = 20
_MAX_TAB_WIDTH = 16
_MAX_NAME_WIDTH = 20
_MAX_SHORT_NAME_WIDTH = 10
_TAB_GAP = "  "
_LAST_CLAUSE = re.compile(r"[,;:.] [^,;:.]*\.?$")
_PART_EDGE = 4
"""Cells around a part of the status bar: the line before it and the spaces."""
_TITLED_WIDTH = 50
"""From this width on the current window's tab has its title too, not only its number."""

_STANDINGS: MappingProxyType[str, list[str]] = MappingProxyType(
    {
        "waiting": ["waiting for approval"],
        "outsider": ["not a member"],
        "banned": ["banned"],
    }
)
_ARROWS = MappingProxyType({"up": "⇡", "down": "⇣"})
_PROGRESS_BAR_WIDTH = 10
_MIN_FILE_NAME_WIDTH = 4
"""Cells to which a file name is cut before the rate and the time left are given up."""
_BESIDE_BAR_WIDTH = 8
"""Cells to which a file name is cut before the bar is given up."""
_TRANSFER_WIDTH = 28
"""Cells for a transfer with its rate and time left, and a short name."""
_MAX_FILE_NAME_WIDTH = 30


# ---------------------------------------------------------------------- the header


def header_rows(model: Model, width: int) -> list[Row]:
    """Return the rows above the messages: the title and, if there is one, the pinned message.

    `layout` cuts off the rows for which a low screen has no room.
    """
    rows = [_title_row(model, width)]
    if model.pinned and not model.bare:
        rows.append(fill_row([(" pinned ", "highlight"), (f" {model.pinned}", "text")], width))
    return rows


def _title_row(model: Model, width: int) -> Row:
    """Return the title: window and topic at the left, presence and connection at the right."""
    state = model.connection or model.security
    safe = not model.connection and model.security.startswith("TLS")
    name = clip(f" {model.title} ", width - min(cells(state), width // 2) - 2)
    room = width - cells(name)
    facts = _title_facts(model)
    while facts and cells(_join_facts(facts)) + cells(state) + 2 > room:
        facts = facts[1:]
    joined = _join_facts(facts)
    right = f" {clip(state, room - cells(joined) - 2)} "
    room -= cells(joined) + cells(right)
    topic = f" {clip(model.topic, room - 2)}" if model.topic and room >= _MIN_TOPIC_WIDTH else ""
    left = topic + " " * (room - cells(topic))
    return [(name, "title.name"), (left + joined, "title"), (right, "title" if safe else "alert")]


def _join_facts(facts: list[str]) -> str:
    return "".join(f" {fact} ·" for fact in facts)


def _title_facts(model: Model) -> list[str]:
    """Return admin, presence and standing, the least important first."""
    if model.direct:
        return _peer_presence(model)
    facts = []
    if model.admin:
        facts.append(f"admin {clip(model.admin, _MAX_FACT_WIDTH)}")
    if model.people:
        facts.append(_members_fact(len(model.people), model.online))
    facts += _STANDINGS.get(model.standing, [])
    return facts


def _members_fact(members: int, online: int | None) -> str:
    """Return how many members there are and, if it is known, how many of them are online."""
    return count_text(members, "member") if online is None else f"{online} of {members} online"


def _peer_presence(model: Model) -> list[str]:
    """Return the presence of the other person of a direct conversation, if it is known."""
    others = [person for person in model.people if fold(person.name) != fold(model.user)]
    if len(others) != 1 or others[0].online is None:
        return []
    if not others[0].online:
        return ["offline"]
    away = others[0].away
    return [f"away: {clip(away, _MAX_FACT_WIDTH)}" if away else "online"]


# ---------------------------------------------------------------------- the status bar


class Sight(NamedTuple):
    """What is out of sight: whether newer lines are below, how many unread messages above."""

    scrolled: bool
    missed: int


def status_row(model: Model, width: int, *, scrolled: bool, missed: int = 0) -> Row:
    """Return the status bar: windows, what needs attention, the transfer that finishes first.

    `scrolled` says that newer lines than the lowest visible one exist; `missed` counts unread
    messages above the pane.
    """
    if model.hint:
        hint = f" {_shortened(model.hint, width - 4)} "
        return [("─", "rule"), (hint, "highlight"), ("─" * (width - 1 - cells(hint)), "rule")]
    sight = Sight(scrolled, missed)
    tabs = _labelled_tabs(model, width)
    least = _least_tabs_width(tabs)
    share = _transfer_share(model, tabs, width)
    wanted = min(row_width(_tab_row(tabs, width)) + _PART_EDGE, max(width * 2 // 5, least))
    facts = _facts_that_fit(model, width - wanted - share, width - least, sight)
    room = width - _facts_width(facts)
    parts = [[fact] for fact in facts]
    if 0 < least <= room:
        parts.insert(0, _tab_row(tabs, max(room - share, least) - _PART_EDGE))
    row: Row = []
    for part in parts:
        row += [("── " if row else "─ ", "rule"), *part, (" ", "rule")]
    moving = transfers_text(model.transfers, width - row_width(row) - 2)
    rest = width - row_width(row) - cells(moving)
    if not moving:
        return [*row, ("─" * rest, "rule")]
    return [*row, ("─" * (rest - 1), "rule"), (moving, "highlight"), ("─", "rule")]


def _shortened(sentence: str, room: int) -> str:
    """Return a sentence, or as many of its first clauses as fit into `room` cells."""
    shortened = sentence
    while cells(shortened) > room and (found := _LAST_CLAUSE.search(shortened)):
        shortened = shortened[: found.start()]
    return clip(shortened, room)


def _transfer_share(model: Model, tabs: list[tuple[Tab, Row]], width: int) -> int:
    """Return the cells that are kept for transfers: enough for one, but none of active windows."""
    if not model.transfers:
        return 0
    active = [(tab, row) for tab, row in tabs if tab.current or tab.mentions or tab.unread]
    taken = sum(row_width(row) + len(_TAB_GAP) for _, row in active)
    return max(width // 4, min(_TRANSFER_WIDTH, width - taken - 2 * _PART_EDGE))


def _facts_that_fit(model: Model, room: int, limit: int, sight: Sight) -> list[Span]:
    """Return the facts that need attention, abbreviated if they take more than `room` cells.

    If even the shortest form does not fit, drop the least important ones until it takes no more
    than `limit`.
    """
    facts: list[Span] = []
    for brevity in range(3):
        facts = _attention_facts(model, brevity, sight)
        if _facts_width(facts) <= room:
            return facts
    while len(facts) > 1 and _facts_width(facts) > limit:
        facts.pop()
    return facts


def _facts_width(facts: list[Span]) -> int:
    return sum(cells(text) + _PART_EDGE for text, _ in facts)


def _attention_facts(model: Model, brevity: int, sight: Sight) -> list[Span]:
    """Return the facts by importance: input, new messages, requests to join, what waits, is missed.

    `brevity` is from 0, for whole sentences, to 2, for the fewest words.
    """
    facts: list[Span] = []
    if (size := model.edit.size) > TEXT_LIMIT:
        most = f"{TEXT_LIMIT // 1024} KiB"
        too_long = (f"too long: {ceil(size / 1024)} of at most {most}", f"over {most}", "too long")
        facts.append((too_long[brevity], "alert"))
    elif (lines := model.edit.line_count) > 1:
        facts.append((f"{lines} lines" + (": Enter sends", "", "")[brevity], "highlight"))
    if waiting := model.edit.waiting:
        more = count_text(waiting, "more unsent text")
        comes = f"{more}: Enter or Ctrl-C shows {'it' if waiting == 1 else 'the next'}"
        facts.append(((comes, more, f"+{waiting} unsent")[brevity], "highlight"))
    if sight.scrolled:
        new = f"{model.below} new" if model.below else "more"
        below = (f"↓ {new}: End", f"↓ {new}: End", f"↓{model.below or ''} End")[brevity]
        facts.append((below, "highlight"))
    if model.requests:
        facts.append((_request_fact(model.requests, brevity), "highlight"))
    if any(model.waiting):
        facts.append((_waiting_fact(*model.waiting, brevity), "highlight"))
    if sight.missed:
        missed = f"{MOST_MISSED}+" if sight.missed > MOST_MISSED else f"{sight.missed}"
        above = f"↑{missed} Alt-U" if brevity == 2 else f"↑ {missed} new: Alt-U"
        facts.append((above, "highlight"))
    if model.unanswered:
        facts.append((f"sending {model.unanswered}", "status"))
    return facts


def _waiting_fact(conversations: int, groups: int, brevity: int) -> str:
    """Return how many conversations and groups with something new have no window."""
    wait = f"{conversations + groups} unopened" if groups else f"{conversations} direct"
    return wait + (": Alt-A", ": Alt-A", "")[brevity]


def _request_fact(requests: list[str], brevity: int) -> str:
    """Return who asks to join; the first, whom F9 approves, by name."""
    first, others = requests[0], len(requests) - 1
    name = clip(first, _MAX_SHORT_NAME_WIDTH if brevity == 2 else _MAX_NAME_WIDTH)
    more = (f" and {others} more" if brevity == 0 else f" +{others}") if others else ""
    ask = "ask" if others else "asks"
    return name + more + (f" {ask} to join: F9 or /1", f" {ask} to join: F9", ": F9")[brevity]


# ---------------------------------------------------------------------- the list of windows


def _labelled_tabs(model: Model, width: int) -> list[tuple[Tab, Row]]:
    """Return the windows, each with its label; nothing if there is only one."""
    if len(model.tabs) < 2:
        return []
    return [
        (tab, _label(tab, titled=width >= _TITLED_WIDTH or not tab.current)) for tab in model.tabs
    ]


def _label(tab: Tab, *, titled: bool) -> Row:
    text = f"{tab.number} {clip(tab.title, _MAX_TAB_WIDTH)}" if titled else f"{tab.number}"
    if tab.current:
        return [(f"[{text}]", "activity.current")]
    if tab.mentions:
        return [(f"{text} {tab.unread}!", "activity.mention")]
    return [(f"{text} {tab.unread}", "activity")] if tab.unread else [(text, "status")]


def _least_tabs_width(tabs: list[tuple[Tab, Row]]) -> int:
    """Return the cells that the current window's label and the number of the others take."""
    current = max((row_width(row) for tab, row in tabs if tab.current), default=0)
    return current + len(f"{_TAB_GAP}+{len(tabs)}!") + _PART_EDGE if tabs else 0


def _tab_row(tabs: list[tuple[Tab, Row]], room: int) -> Row:
    """Return the list of windows in at most `room` cells; empty if none fits.

    The current window stays longest, then those with mentions, then those with unread messages;
    the others are only counted.
    """
    chosen = _choose_tabs(tabs, room)
    row: Row = []
    for index in sorted(chosen):
        row += [(_TAB_GAP, "rule")] * bool(row) + tabs[index][1]
    hidden = [tab for index, (tab, _) in enumerate(tabs) if index not in chosen]
    if hidden and row:
        mentioned = any(tab.mentions for tab in hidden)
        style = "activity.mention" if mentioned else "status"
        row += [(_TAB_GAP, "rule"), (f"+{len(hidden)}{'!' * mentioned}", style)]
    return row


def _choose_tabs(tabs: list[tuple[Tab, Row]], room: int) -> set[int]:
    """Return the indices of the most urgent windows that fit into `room` cells."""
    sizes = [row_width(row) + len(_TAB_GAP) for _, row in tabs]
    if sum(sizes) - len(_TAB_GAP) <= room:
        return set(range(len(tabs)))
    room -= len(f"+{len(tabs)}!")
    chosen: set[int] = set()
    for index in sorted(range(len(tabs)), key=lambda index: _urgency(tabs[index][0])):
        if sizes[index] <= room:
            chosen.add(index)
            room -= sizes[index]
    return chosen


def _urgency(tab: Tab) -> tuple[bool, bool, bool, int]:
    """Return a sort key, the most urgent window first."""
    return not tab.current, not tab.mentions, not tab.unread, tab.number


# ---------------------------------------------------------------------- file transfers


def transfers_text(transfers: list[Progress], room: int) -> str:
    """Return, in at most `room` cells, the progress of the transfer that will finish first."""
    if not transfers:
        return ""
    first = max(transfers, key=_soon_finished)
    others = len(transfers) - 1
    more = f" +{others}" if others else ""
    head = f" {_ARROWS[first.way]} "
    number = f"{first.number} " if others else ""
    for facts in _progress_facts(first):
        space = room - cells(head) - cells(number) - cells(facts) - cells(more) - 2
        least = _BESIDE_BAR_WIDTH if facts[0] in "▰▱" else _MIN_FILE_NAME_WIDTH
        if space >= min(cells(first.name), least):
            name = clip(first.name, min(space, _MAX_FILE_NAME_WIDTH))
            return f"{head}{number}{name} {facts}{more} "
    short = f"{head}{_progress_facts(first)[-1]} "
    return short if cells(short) <= room else ""


def _soon_finished(progress: Progress) -> tuple[bool, bool, int]:
    """Return a sort key: the highest for the transfer that will finish first."""
    return progress.phase == "moving", progress.stalled is None, progress.percent


def _stalled_facts(progress: Progress) -> list[str]:
    stalled = f"stalled {time_text(progress.stalled or 0)}"
    place = f"{progress.percent}%" if progress.phase == "moving" else progress.phase
    return [f"{place} {stalled}", stalled, "stalled"]


def _progress_facts(progress: Progress) -> list[str]:
    """Return descriptions of a transfer's progress, from the longest to the shortest."""
    if progress.stalled is not None:
        return _stalled_facts(progress)
    if progress.phase in ("queued", "sharing"):
        return [progress.phase]
    percent = f"{progress.percent}%"
    if progress.phase == "checking":
        return [f"checking {percent}" if progress.done else "checking", percent]
    filled = progress.percent * _PROGRESS_BAR_WIDTH // 100
    bar = "▰" * filled + "▱" * (_PROGRESS_BAR_WIDTH - filled)
    rate = f"{percent} {size_text(round(progress.rate))}/s" if progress.rate else percent
    if progress.left is None:
        return [f"{bar} {rate}", rate, percent]
    time_left = time_text(progress.left)
    return [f"{bar} {rate} {time_left}", f"{rate} {time_left}", f"{percent} {time_left}", percent]
