"""Bounds of what a client accepts: honest frames pass, and others cost no more than their length.

Costs are counted in calls of functions, not in seconds: twice the input may cost twice as much.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tchat.client.authenticate import closing_error
from tchat.client.bounds import (
    BYTES_LENGTH,
    MOST_ENTRIES,
    MOST_ITEMS,
    MOST_LISTED,
    NAME_LENGTH,
    NUMBER_LIMIT,
    SENTENCE_LENGTH,
    check_bounds,
    check_event,
    check_state,
    read_state,
)
from tchat.client.replica import Replica, size_of
from tchat.core.group import compaction, snapshots
from tchat.core.group.compaction import KICKS, compact
from tchat.core.group.feature import Event
from tchat.core.group.files import FileShared
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Deleted, Edited, Pinned, Posted
from tchat.core.group.snapshots import SNAPSHOT_LIMIT, freeze
from tchat.core.group.state import File, Group, Invitation, JoinRequest, MessageEdits
from tchat.core.protocol.frames import Attached, Goodbye, GroupList, GroupSummary, KeyAdded
from tchat.core.text import TEXT_LIMIT, fold
from tchat.errors import ProtocolError
from tests.core.examples import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tchat.core.group.feature import Body
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
MANY = bytes(BYTES_LENGTH + 1)


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
        Group("ops", keys={MANY: "bob"}),
        KeyAdded(MANY, 1),
        FileShared(1, "plan", 1, MANY),
        Event("ops", 1, 1, "bob", MANY, 1, Posted("x")),
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


@pytest.mark.parametrize("item", [b"\x80", b"\xa0", b"\x81" * 10 + b"\xa0", b"\xa1\x60\x80"])
def test_snapshot_with_many_empty_lists_is_not_decoded(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MiB of them took 1.5 GB, and stopped the screen for seven seconds."""
    monkeypatch.setattr(snapshots, "unpack", pytest.fail)
    count = (SNAPSHOT_LIMIT - 100) // len(item)
    data = b"\xa1\x61x\x9a" + count.to_bytes(4, "big") + item * count
    with pytest.raises(ProtocolError, match="more than 1500000 items"):
        read_state(data, 1)


def test_largest_states_have_fewer_items_than_the_bound() -> None:
    entries = {"requests": 4, "kicked": 2, "keys": 2, "invites": 11, "files": 13, "edits": 5}
    items = sum(entries.get(name, 1) * most for name, most in MOST_ENTRIES.items())
    assert items + 2 * compaction.EDITS_SPAN < MOST_ITEMS


@pytest.mark.parametrize("name", MOST_ENTRIES)
def test_each_list_of_a_state_has_a_bound(name: str) -> None:
    state, most = Group("ops"), MOST_ENTRIES[name]
    getattr(state, name).update(dict.fromkeys(range(most)))
    check_state(state)
    getattr(state, name)[most] = None
    with pytest.raises(ProtocolError):
        check_state(state)


@pytest.mark.parametrize("body", [Edited(7, "x"), Deleted(7), Pinned(8)], ids=lambda one: one.kind)
def test_event_about_a_later_message_is_refused(body: Body) -> None:
    """Otherwise, texts of messages that never come would be kept for ever."""
    check_event(Event("ops", 9, 1, "bob", bytes(8), 9, body))
    with pytest.raises(ProtocolError):
        check_event(Event("ops", 7, 1, "bob", bytes(8), 7, body))


def test_size_of_an_event_counts_all_texts() -> None:
    short = Event("ops", 1, 1, "b", bytes(8), 1, FileShared(1, "x", 1, bytes(32)))
    long = Event("ops", 1, 1, "b" * 200, bytes(8), 1, FileShared(1, "x" * 200, 1, bytes(32)))
    assert size_of(long) - size_of(short) >= 398


def kicked_group(size: int) -> Group:
    """Return a state that has to forget `size` kicks, with as many invites."""
    invites = [Invitation(b"%d" % n, 1, "bob", 9, f"name{n}") for n in range(size)]
    kicked = {f"name{n}": 1 for n in range(KICKS + size)}
    return Group("ops", 1024, kicked=kicked, invites={one.digest: one for one in invites})


def test_forgetting_kicks_takes_linear_time() -> None:
    """With 100,000 of each, a client that compacted a state stood still for an hour."""
    one, two = kicked_group(1000), kicked_group(2000)
    assert calls_of(lambda: compact(two)) < 2.2 * calls_of(lambda: compact(one))


def test_deletion_does_not_search_the_log() -> None:
    def calls_of_deletion(size: int) -> int:
        replica = Replica("ops", 0)
        for seq in range(1, size):
            replica.apply_event(Event("ops", seq, 1, "bob", bytes(8), seq, Posted("x")))
        last = Event("ops", size, 1, "bob", bytes(8), size, Deleted(1))
        return calls_of(lambda: replica.apply_event(last))

    assert calls_of_deletion(2000) < calls_of_deletion(1000) + 10


def test_marks_in_a_long_text_are_not_sorted() -> None:
    """NFKC sorts each run of marks in quadratic time: a text of 16 KiB took a tenth of a second."""
    text = "a" + "\u0301" * 4000 + "\u0316" * 4000
    assert not is_mention(text, "alice")
    assert is_mention(f"{text} alice", "alice")


def test_names_are_folded_up_to_a_bound() -> None:
    assert fold("A" * 100) == "a" * 100
    assert len(fold("a" + "\u0301\u0316" * 5000)) < 600


def test_long_sentence_of_a_refusal_is_cut() -> None:
    error = closing_error(Goodbye("busy", "x" * TEXT_LIMIT))
    assert str(error) == "x" * SENTENCE_LENGTH
