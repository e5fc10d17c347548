"""The running digest of a log: one value for one history, whatever is erased and how it is cut."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tchat.core.group.feature import Event
from tchat.core.group.features import decode_event, encode_event, erase_event
from tchat.core.group.log_digest import DIGEST_SIZE, EMPTY, UNKNOWN, extend
from tchat.core.group.messages import Posted
from tchat.core.protocol.framing import PREFIX

NUMBERS = st.integers(0, 2**63 - 1)
HEADERS = st.tuples(
    NUMBERS, st.sampled_from(["alice", "bob", "Ünal"]), st.binary(min_size=8, max_size=8)
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Draw a log: the seqs count, all else is anything."""
    headers = draw(st.lists(st.tuples(NUMBERS, HEADERS), min_size=1, max_size=12))
    return [
        Event("ops", seq, at, actor, client, n, Posted("hello"))
        for seq, (at, (n, actor, client)) in enumerate(headers, start=1)
    ]


@given(logs(), st.data())
def test_digest_does_not_depend_on_segments(log: list[Event], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(log)))
    assert extend(extend(EMPTY, log[:cut]), log[cut:]) == extend(EMPTY, log)


@given(logs())
def test_erasing_texts_keeps_the_digest(log: list[Event]) -> None:
    erased = [decode_event(erase_event(encode_event(event)[PREFIX:])[PREFIX:]) for event in log]
    assert erased != log
    assert extend(EMPTY, erased) == extend(EMPTY, log)


@given(logs(), st.data())
def test_any_other_header_changes_later_digests(log: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(log) - 1))
    number, (n, actor, client) = data.draw(NUMBERS), data.draw(HEADERS)
    other = replace(log[place], at=number, n=n, actor=actor, client=client)
    changed = [*log[:place], other, *log[place + 1 :]]
    for end in range(place + 1, len(log) + 1):
        is_same = extend(EMPTY, changed[:end]) == extend(EMPTY, log[:end])
        assert is_same == (other == log[place])


def test_digest_is_the_documented_hash() -> None:
    """As PROTOCOL.md describes it, for programs in other languages."""
    event = Event("ops", 1, 1795341720000, "alice", bytes(range(8)), 7, Posted("hello"))
    numbers = b"".join(number.to_bytes(8, "big") for number in (1, 1795341720000, 7))
    header = bytes(16) + numbers + bytes(range(8)) + b"alice"
    assert extend(EMPTY, [event]) == hashlib.blake2b(header).digest()[:DIGEST_SIZE]


def test_unknown_digest_stays_unknown() -> None:
    event = Event("ops", 1, 1795341720000, "alice", bytes(8), 7, Posted("hello"))
    assert extend(UNKNOWN, [event]) == UNKNOWN
