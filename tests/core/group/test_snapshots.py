"""Snapshots: a state survives freezing and thawing; damaged or foreign bytes are refused.

`freeze` and `thaw` make the shared form, those with `_whole` the form that a server keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tchat.core.group.files import Share
from tchat.core.group.membership import Ban, Invite, Join, Kick, Leave
from tchat.core.group.messages import Edit, Pin, Post
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.group.snapshots import (
    MADE_WITH,
    PIECE_LIMIT,
    freeze,
    freeze_whole,
    thaw,
    thaw_whole,
)
from tchat.core.group.state import RULES, WINDOW, Author, Group, JoinRequest
from tchat.core.protocol.frames import Snapshot, decode, encode
from tchat.core.protocol.framing import PREFIX
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, ProtocolError
from tests.cddl import ProtocolViolation, keys_of, validate
from tests.core.histories import Step, histories, run_history
from tests.core.script import Script, as_members_get_it, replay

any_history = given(history=histories)

LARGEST = 2**63 - 1


def script_of(history: list[Step], name: str = "ops") -> Script:
    """Return the script of a group after a history."""
    script = Script(name)
    for _ in run_history(history, script):
        pass
    return script


def full() -> Script:
    """Return a group whose snapshot has a value in every field."""
    script = Script("Ops")
    script.joined("Alice", "bob", "Straße", "dave")
    script.run("alice", Kick, "strasse")
    script.run("alice", Ban, "dave")
    script.run("alice", SetTopic, "What runs?")
    script.run("alice", Invite, hashlib.sha256(bytes(16)).digest(), 1000, "ERIN")
    script.run("alice", Invite, hashlib.sha256(bytes(17)).digest(), 9000)
    script.run("bob", Share, "a.txt", 7, bytes(32))
    for text in ("one", "two"):
        [posted] = script.events("bob", Post, text)
        script.run("bob", Edit, posted.seq, f"{text}?")
        script.run("bob", Edit, posted.seq, f"{text}!")
    script.run("alice", Pin, posted.seq)
    script.run("zoe", Join)
    script.run("Mia", Join)
    return script


FULL = full()
FROZEN: dict[str, Any] = cbor2.loads(freeze(FULL.group))


def thawed(item: object) -> Group:
    return thaw(cbor2.dumps(item), FULL.group.seq)


# ------------------------------------------------------------------ round trip


def test_full_group_survives_a_snapshot() -> None:
    assert thaw(freeze(FULL.group), FULL.group.seq) == as_members_get_it(FULL.group)


def test_request_without_a_key_survives() -> None:
    script = full()
    script.give(Author("old", b"12345678"), Join(1, 1, "Ops"))
    back = thaw(freeze(script.group), script.group.seq)
    assert back.requests["old"] == JoinRequest("old", None)


@any_history
def test_any_state_survives_without_client_numbers(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        group = script.group
        assert thaw(freeze(group), group.seq) == as_members_get_it(group)


@any_history
def test_direct_conversation_survives_a_snapshot(history: list[Step]) -> None:
    group = script_of(history, "@alice,bob").group
    assert thaw(freeze(group), group.seq) == as_members_get_it(group)


@any_history
def test_snapshot_keeps_the_order_of_collections(history: list[Step]) -> None:
    group = script_of(history).group
    back = thaw(freeze(group), group.seq)
    for was, now in (
        (group.members, back.members),
        (group.requests, back.requests),
        (group.banned, back.banned),
        (group.invites, back.invites),
        (group.files, back.files),
        (group.edits, back.edits),
    ):
        assert list(was) == list(now)


@given(history=histories, data=st.data())
def test_snapshot_and_later_events_equal_full_replay(
    history: list[Step], data: st.DataObject
) -> None:
    script = script_of(history)
    at = data.draw(st.integers(0, len(script.log)))
    before = replay(script.name, script.log[:at])
    later = replay(script.name, script.log[at:], thaw(freeze(before), before.seq))
    assert as_members_get_it(later) == as_members_get_it(script.group)


def test_empty_group_survives_a_snapshot() -> None:
    assert thaw(freeze(Group()), 0) == Group()


def test_freeze_changes_nothing() -> None:
    before = FULL.group.copy()
    back = thaw(freeze(FULL.group), FULL.group.seq)
    back.members.clear()
    assert before == FULL.group


# ------------------------------------------------------------------ protocol.cddl


@any_history
def test_snapshot_matches_the_cddl(history: list[Step]) -> None:
    validate("state", freeze(script_of(history).group))
    validate("state", freeze(script_of(history, "@alice,bob").group))


def test_cddl_lists_the_keys_of_the_state() -> None:
    assert keys_of("state") == FROZEN.keys()


def test_example_fills_every_field() -> None:
    assert all(FROZEN[key] for key in FROZEN)
    validate("state", cbor2.dumps(FROZEN))


def test_shared_snapshot_reveals_no_clients() -> None:
    frozen = freeze(FULL.group)
    assert FULL.group.counts
    assert not any(client in frozen for _, client in FULL.group.counts)


@pytest.mark.parametrize("key", FROZEN)
def test_every_key_is_required_but_admin(key: str) -> None:
    shorter = {k: v for k, v in FROZEN.items() if k != key}
    if key in ("admin", "pinned"):
        validate("state", cbor2.dumps(shorter))
        assert getattr(thawed(shorter), key) is None
        return
    with pytest.raises(ProtocolViolation):
        validate("state", cbor2.dumps(shorter))
    with pytest.raises(ProtocolError) as caught:
        thawed(shorter)
    assert caught.value.code == Code.MALFORMED


def test_unknown_snapshot_keys_are_ignored() -> None:
    newer = FROZEN | {"mood": {"colour": "blue"}}
    validate("state", cbor2.dumps(newer), may_grow=True)
    assert thawed(newer) == as_members_get_it(FULL.group)


def test_largest_snapshot_piece_fits_a_frame() -> None:
    frame = Snapshot("@" + "漢" * 65, LARGEST, bytes(PIECE_LIMIT), more=True)
    assert decode(encode(frame)[PREFIX:], TO_CLIENT) == frame


# ------------------------------------------------------------------ untrusted snapshots

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=5,
)
plausible = (
    st.lists(st.text(max_size=3), max_size=4)
    | st.lists(st.integers(0, LARGEST), max_size=4)
    | st.lists(st.binary(max_size=3), max_size=4)
)


RECORDS = ("requests", "invites", "files", "edits")


@pytest.mark.parametrize("key", RECORDS)
def test_nested_record_without_a_key_is_refused(key: str) -> None:
    first, *rest = FROZEN[key]
    for name in first:
        shorter = {k: v for k, v in first.items() if k != name}
        if (key, name) in (("requests", "key"), ("invites", "name")):
            thawed(FROZEN | {key: [shorter, *rest]})
            continue
        with pytest.raises(ProtocolError) as caught:
            thawed(FROZEN | {key: [shorter, *rest]})
        assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("key", [*RECORDS, "members", "banned", "kicked", "keys"])
@pytest.mark.parametrize(
    "wrong", [None, 1, "x", b"x", [1], [None], [[1]], {"x": None}, {b"x": 1.5}]
)
def test_mistyped_collection_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        thawed(FROZEN | {key: wrong})
    assert caught.value.code == Code.MALFORMED


@given(st.dictionaries(st.sampled_from(list(FROZEN)), anything | plausible, min_size=1))
def test_any_map_is_a_group_or_refused(changes: dict[str, object]) -> None:
    try:
        group = thawed(FROZEN | changes)
    except ProtocolError:
        return
    validate_thawed(group)


def validate_thawed(group: Group) -> None:
    """Read everything that is shown of a thawed group, and give it a command."""
    assert isinstance(group.admin_name, str)
    assert group.standing("alice") in ("member", "waiting", "outsider")
    assert group.copy() == group
    assert thaw(freeze(group), group.seq) == group
    replay("Ops", full().log, group)


@given(st.integers(0), st.integers(0, 255))
def test_flipped_byte_is_a_group_or_refused(at: int, byte: int) -> None:
    broken = bytearray(cbor2.dumps(FROZEN))
    broken[at % len(broken)] = byte
    assume(bytes(broken) != cbor2.dumps(FROZEN))
    try:
        group = thaw(bytes(broken), 1)
    except ProtocolError:
        return
    assert isinstance(group, Group)


@given(st.binary() | st.integers(1, 999).map(lambda missing: cbor2.dumps(FROZEN)[:-missing]))
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        thaw(data, 1)


@pytest.mark.parametrize("name", ["", "\x1b[2J", "@", "@a,b", "a" * 9_999, "\u202e"])
def test_invalid_names_in_a_snapshot_are_kept(name: str) -> None:
    group = thawed(FROZEN | {"members": [name], "admin": name, "banned": [name], "name": name})
    validate_thawed(group)


@pytest.mark.parametrize("policy", ["", "closed", "OPEN", 1, None])
def test_unknown_policy_is_refused(policy: object) -> None:
    with pytest.raises(ProtocolError):
        thawed(FROZEN | {"policy": policy})


def test_snapshot_has_policy_and_leaving() -> None:
    script = full()
    script.run("alice", SetPolicy, "open")
    for name in list(script.members):
        script.run(name, Leave)
    back = thaw(freeze(script.group), script.group.seq)
    assert (back.members, back.requests, back.admin) == ({}, {}, None)


# ------------------------------------------------------------------ whole snapshots

DIGEST = hashlib.sha256().digest_size
KEPT = freeze_whole(FULL.group)


def sealed(item: object, seq: int = FULL.group.seq) -> bytes:
    """Return an item encoded and sealed like the snapshot that a server stores."""
    frozen = cbor2.dumps(item)
    return hashlib.sha256(seq.to_bytes(8, "big") + frozen).digest() + frozen


def in_order(group: Group) -> list[object]:
    """Return all fields of a group; maps as lists, so that their order counts."""
    values = (getattr(group, field.name) for field in fields(Group))
    return [list(value.items()) if isinstance(value, dict) else value for value in values]


def assert_comes_back(group: Group) -> None:
    assert in_order(thaw_whole(freeze_whole(group), group.seq)) == in_order(group)


@any_history
def test_whole_snapshot_keeps_everything_in_order(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        assert_comes_back(script.group)
    assert_comes_back(script_of(history, "@alice,bob").group)


@given(history=histories, data=st.data())
def test_whole_snapshot_and_later_events_equal_replay(
    history: list[Step], data: st.DataObject
) -> None:
    script = Script()
    kept = [(0, freeze_whole(script.group))]
    kept += [(script.group.seq, freeze_whole(script.group)) for _ in run_history(history, script)]
    # The log has erased what was deleted later; at the time of the snapshot it had not.
    seq, state = data.draw(st.sampled_from(kept))
    assert replay(script.name, script.log[seq:], thaw_whole(state, seq)) == script.group


def test_full_deduplication_window_survives() -> None:
    group = Group(
        counts={("alice", b"phone..."): (LARGEST, (1 << WINDOW) - 1), ("bob", b""): (0, 0)}
    )
    assert_comes_back(group)


def test_snapshots_contain_no_message_text() -> None:
    script = full()
    [posted] = script.events("bob", Post, "marzipan4711")
    script.run("bob", Edit, posted.seq, "marzipan4712")
    assert b"marzipan" not in freeze_whole(script.group)


@given(st.integers(0), st.integers(1, 255))
def test_whole_snapshot_with_flipped_bit_is_refused(at: int, flipped: int) -> None:
    broken = bytearray(KEPT)
    broken[at % len(broken)] ^= flipped
    with pytest.raises(ProtocolError):
        thaw_whole(bytes(broken), FULL.group.seq)


@given(st.binary() | st.integers(0, len(KEPT) - 1).map(lambda length: KEPT[:length]))
def test_bytes_that_are_no_whole_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        thaw_whole(data, FULL.group.seq)


def test_whole_snapshot_of_another_seq_is_refused() -> None:
    with pytest.raises(ProtocolError):
        thaw_whole(KEPT, FULL.group.seq + 1)


@pytest.mark.parametrize("key", ["person", "client", "highest", "done"])
def test_client_numbers_without_a_key_are_refused(key: str) -> None:
    whole: dict[str, Any] = cbor2.loads(KEPT[DIGEST:])
    assert thaw_whole(sealed(whole), FULL.group.seq) == FULL.group
    first, *rest = whole["clients"]
    shorter = {k: v for k, v in first.items() if k != key}
    with pytest.raises(ProtocolError):
        thaw_whole(sealed(whole | {"clients": [shorter, *rest]}), FULL.group.seq)


def test_changed_snapshot_requires_new_rules_version() -> None:
    """A different digest means that stored states no longer match the rules.

    Raise `RULES`, and record the new digest of `full`.
    """
    assert (RULES, hashlib.sha256(KEPT).hexdigest()[:16]) == (8, "f57959cd7efcd6cf")
    assert MADE_WITH.startswith(f"rules {RULES}, unicode ")
