"""Bounds of what a client accepts: honest frames pass, and others cost no more than their length.

Costs are counted in calls of functions, not in seconds: twice the input may cost twice as much.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tchat.client.bounds import MOST_LISTED, NAME_LENGTH, NUMBER_LIMIT, check_bounds, read_state
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Posted
from tchat.core.group.snapshots import freeze
from tchat.core.group.state import File, Group, JoinRequest, MessageEdits
from tchat.core.protocol.frames import Attached, Goodbye, GroupList, GroupSummary
from tchat.core.text import TEXT_LIMIT, fold
from tchat.errors import ProtocolError
from tests.core.examples import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tchat.core.protocol.schema import Frame, Shape


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions a piece of work calls, those written in C included."""
    calls: Counter[str] = Counter()

    def count(_: FrameType, kind: str, __: object) -> None:
        calls[kind] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls["call"] + calls["c_call"]


def large_state(size: int) -> Group:
    """Return a state with `size` entries in each of its lists."""
    names = [f"name{number}" for number in range(size)]
    people = {name: name for name in names}
    return Group(
        "ops",
        size,
        admin=names[0],
        members=people,
        requests={name: JoinRequest(name) for name in names},
        kicked=dict.fromkeys(names, 1),
        banned=dict(people),
        edits={n: MessageEdits(n, (1, 2)) for n in range(size)},
        keys={n.to_bytes(32, "big"): "name1" for n in range(size)},
        files={n: File(n, "plan", 1, bytes(32), "name1", 1) for n in range(size)},
    )


def test_reading_a_snapshot_takes_linear_time() -> None:
    fold.cache_clear()
    one, two = (freeze(large_state(size)) for size in (300, 600))
    ratio = calls_of(lambda: read_state(two, 600)) / calls_of(lambda: read_state(one, 300))
    assert ratio < 2.2


@pytest.mark.parametrize("frame", ANSWERS, ids=lambda frame: frame.type)
def test_honest_frames_are_within_the_bounds(frame: Frame) -> None:
    check_bounds(frame)


LONG = "x" * (NAME_LENGTH + 1)


@pytest.mark.parametrize(
    "shape",
    [
        Attached(1, "ops", "member", seq=NUMBER_LIMIT),
        Attached(1, LONG, "member"),
        Posted("x" * (TEXT_LIMIT + 1)),
        Goodbye(LONG, ""),
        GroupList(1, (GroupSummary(LONG, "member", 1, 1, 1),)),
        Group("ops", topic=LONG),
        Group("ops", members={LONG: LONG}),
        Group("ops", kicked={"bob": NUMBER_LIMIT}),
        Group("ops", edits={1: MessageEdits(1, (NUMBER_LIMIT,))}),
    ],
    ids=lambda shape: type(shape).__name__,
)
def test_values_beyond_the_bounds_are_refused(shape: Shape) -> None:
    with pytest.raises(ProtocolError):
        check_bounds(shape)


def test_snapshot_with_too_many_entries_is_refused() -> None:
    """It is refused before a dict is made of it, which crafted numbers make quadratic."""
    state = Group("ops", 1, keys={n.to_bytes(4, "big"): "" for n in range(MOST_LISTED + 1)})
    with pytest.raises(ProtocolError, match="too many entries"):
        read_state(freeze(state), 1)


def test_marks_in_a_long_text_are_not_sorted() -> None:
    """NFKC sorts each run of marks in quadratic time: a text of 16 KiB took a tenth of a second."""
    text = "a" + "\u0301" * 4000 + "\u0316" * 4000
    assert not is_mention(text, "alice")
    assert is_mention(f"{text} alice", "alice")


def test_names_are_folded_up_to_a_bound() -> None:
    assert fold("A" * 100) == "a" * 100
    assert len(fold("a" + "\u0301\u0316" * 5000)) < 600
