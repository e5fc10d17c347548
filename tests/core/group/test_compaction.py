"""The state of a group stays small: each field has a bound, the oldest entries are forgotten."""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.fingerprints import token_digest
from tchat.core.group import compaction, membership
from tchat.core.group.compaction import (
    CLIENTS,
    CLIENTS_EACH,
    DENIALS,
    EDITS_SPAN,
    KEYS,
    KEYS_OF_A_BAN,
    KICKS,
    PERIOD,
    last_forgotten_edit,
)
from tchat.core.group.feature import HIGHEST_LIMITS
from tchat.core.group.files import Share
from tchat.core.group.membership import Ban, Invite, Join, Kick, Leave
from tchat.core.group.messages import MOST_EDITS, Edit, Pin, Post
from tchat.core.group.settings import TOPIC_LIMIT, SetPolicy
from tchat.core.group.snapshots import (
    SNAPSHOT_LIMIT,
    STATE_BUDGET,
    freeze,
    freeze_whole,
    thaw,
    thaw_whole,
)
from tchat.core.group.state import (
    WINDOW,
    Author,
    Denial,
    File,
    Group,
    Invitation,
    JoinRequest,
    MessageEdits,
)
from tchat.core.text import FILE_NAME_LIMIT, NAME_LIMIT, fold
from tchat.errors import Code, Refused
from tests.core.histories import Step, histories, run_history
from tests.core.script import Script, as_members_get_it, key_of, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.core.group.feature import Command

LARGEST = 2**63 - 1

# ------------------------------------------------------------------ the largest state

_FOLDED_BYTES = 5
"""Most bytes of UTF-8 that a character of a name has when it is folded."""


def name_of(number: int) -> str:
    """Return one of many names that are as long as a name can be."""
    digits = "".join(chr(0x10400 + 0x28 + int(digit)) for digit in f"{number:06}")
    return digits.ljust(NAME_LIMIT, "\U00010428")


def folded(number: int) -> str:
    """Return one of many texts that are as long as a folded name can be."""
    return f"{number:06}".ljust(_FOLDED_BYTES * NAME_LIMIT, "x")


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def worst_edits() -> dict[int, MessageEdits]:
    """Return the edits that need most space.

    An entry is forgotten `EDITS_SPAN` and at most `PERIOD` events after its last edit, and until
    then has the edits of as many events before that. A pinned message keeps all it has.
    """
    entries, seqs = EDITS_SPAN + PERIOD, 2 * EDITS_SPAN + PERIOD + MOST_EDITS
    first = (LARGEST,) * (seqs - entries)  # it does not matter which entries have more than one
    edits = {n: MessageEdits(LARGEST, (LARGEST,)) for n in range(1, entries + 1)}
    return {0: MessageEdits(LARGEST, first), **edits}


WORST: dict[str, Callable[[], object]] = {
    "name": lambda: name_of(0),
    "seq": lambda: LARGEST,
    "at": lambda: LARGEST,
    "floor": lambda: LARGEST,
    "admin": lambda: folded(0),
    "topic": lambda: "\U00010428" * TOPIC_LIMIT,
    "policy": lambda: "approval",
    "pinned": lambda: LARGEST,
    "members": lambda: {folded(n): name_of(n) for n in range(HIGHEST_LIMITS.members)},
    "requests": lambda: {
        folded(n): JoinRequest(name_of(n), digest(n)) for n in range(HIGHEST_LIMITS.requests)
    },
    "kicked": lambda: {folded(n): LARGEST for n in range(HIGHEST_LIMITS.bans + KICKS + PERIOD)},
    "banned": lambda: {folded(n): name_of(n) for n in range(HIGHEST_LIMITS.bans)},
    "edits": worst_edits,
    "keys": lambda: {
        digest(n): name_of(n) for n in range(max(KEYS, HIGHEST_LIMITS.members) + PERIOD)
    },
    "invites": lambda: {
        digest(n): Invitation(digest(n), LARGEST, folded(n), LARGEST, folded(n))
        for n in range(HIGHEST_LIMITS.invites)
    },
    "files": lambda: {
        n: File(LARGEST, "x" * FILE_NAME_LIMIT, LARGEST, digest(n), name_of(n), LARGEST)
        for n in range(HIGHEST_LIMITS.files)
    },
    "numbered": lambda: LARGEST,
    "joined": lambda: {folded(n): LARGEST for n in range(HIGHEST_LIMITS.members)},
    "held": lambda: {folded(n): digest(n) for n in range(HIGHEST_LIMITS.members)},
    "banned_keys": lambda: {
        folded(n): (digest(n),) * KEYS_OF_A_BAN for n in range(HIGHEST_LIMITS.bans)
    },
    "denied": lambda: {folded(n): Denial(LARGEST, digest(n), LARGEST) for n in range(DENIALS)},
    "counts": lambda: {
        (folded(n), bytes(8)): (LARGEST, (1 << WINDOW) - 1) for n in range(CLIENTS + PERIOD)
    },
    "forgotten": lambda: LARGEST,
}
"""The value of each field that needs most space within the bounds."""


def test_every_field_has_a_bound() -> None:
    """A new field needs a bound in `compaction` or in the rules, and its largest value here.

    Fields that are not compared are indexes of others.
    """
    assert WORST.keys() == {field.name for field in fields(Group) if field.compare}


def test_largest_state_fits_a_snapshot() -> None:
    shared = WORST.keys() - {"counts"}
    largest = Group(**{name: WORST[name]() for name in shared})  # type: ignore[arg-type]
    assert len(freeze(largest)) < STATE_BUDGET < SNAPSHOT_LIMIT


def test_no_folded_character_is_longer() -> None:
    names = (chr(n) for n in range(sys.maxunicode) if not 0xD800 <= n < 0xE000)
    longer = (c for c in names if len(unicodedata.normalize("NFKC", c)) == 1 and c.casefold() != c)
    assert max(len(fold(c).encode()) for c in longer) <= _FOLDED_BYTES


# ------------------------------------------------------------------ any history

SMALL: dict[str, Any] = {
    "PERIOD": 8,
    "EDITS_SPAN": 12,
    "KEYS": 3,
    "KICKS": 1,
    "CLIENTS": 6,
    "CLIENTS_EACH": 2,
}
TINY: dict[str, Any] = {
    "PERIOD": 2,
    "EDITS_SPAN": 4,
    "KEYS": 1,
    "KICKS": 0,
    "CLIENTS": 3,
    "CLIENTS_EACH": 1,
}


@contextmanager
def small_bounds(bounds: dict[str, Any] = TINY) -> Iterator[None]:
    """Let groups forget early."""
    with (
        patch.multiple(compaction, **bounds),
        patch.multiple(membership, DENIALS=1, KEYS_OF_A_BAN=2),
    ):
        yield


class ManyKeys(Script):
    """A group whose members have another key on each device."""

    def asked(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> tuple[Author, Command]:
        """Return a command, with the key of the device, and the number up to which all is old."""
        author, command = super().asked(who, what, *about, device=device)
        return replace(author, key=key_of(f"{who} {device}"), upcoming=command.n), command


any_history = given(history=histories)


@any_history
def test_every_collection_keeps_its_bound(history: list[Step]) -> None:
    with small_bounds():
        script = ManyKeys()
        for _ in run_history(history, script):
            group = script.group
            assert len(group.keys) <= max(TINY["KEYS"], len(group.members)) + TINY["PERIOD"]
            kicks = group.kicked.keys() - group.banned.keys()
            assert len(kicks) <= TINY["KICKS"] + TINY["PERIOD"]
            assert len(group.denied) <= 1
            assert all(len(keys) <= 2 for keys in group.banned_keys.values())
            assert group.banned_keys.keys() == group.banned.keys()
            indexed = group.copy()
            indexed.reindex()
            assert indexed.keys_by_person == group.keys_by_person
            assert indexed.bans_by_key == group.bans_by_key
            assert group.held.keys() <= group.members.keys() == group.joined.keys()
            check_edits(group)
            check_clients(group)


def check_edits(group: Group) -> None:
    lasts = [edits.seqs[-1] for message, edits in group.edits.items() if message != group.pinned]
    assert lasts == sorted(lasts)
    assert all(last > group.seq - TINY["EDITS_SPAN"] - TINY["PERIOD"] for last in lasts)
    for edits in group.edits.values():
        assert edits.seqs[0] > edits.seqs[-1] - TINY["EDITS_SPAN"]


def check_clients(group: Group) -> None:
    assert len(group.counts) <= TINY["CLIENTS"] + TINY["PERIOD"]
    each = Counter(person for person, _ in group.counts)
    assert all(n <= TINY["CLIENTS_EACH"] + TINY["PERIOD"] for n in each.values())


@given(history=histories, data=st.data())
def test_server_restarted_server_and_member_agree(history: list[Step], data: st.DataObject) -> None:
    with small_bounds():
        script = ManyKeys()
        kept = [(0, b"", freeze(script.group))]
        for _ in run_history(history, script):
            whole, shared = freeze_whole(script.group), freeze(script.group)
            kept.append((script.group.seq, whole, shared))
        assert script.replayed() == script.group
        seq, whole, shared = data.draw(st.sampled_from(kept))
        if whole:
            assert replay(script.name, script.written[seq:], thaw_whole(whole, seq)) == script.group
        member = replay(script.name, script.written[seq:], thaw(shared, seq))
        assert as_members_get_it(member) == as_members_get_it(script.group)
        assert freeze(member) == freeze(script.group), "another order"


@any_history
def test_forgotten_command_is_never_executed_again(history: list[Step]) -> None:
    """A client that reconnects says from which number on its commands are new."""
    with small_bounds():
        script = ManyKeys()
        done = [outcome for outcome in run_history(history, script) if outcome.events]
        for earlier in done:
            again = replace(earlier.author, upcoming=earlier.command.n + 1)
            assert outcome_of(script, again, earlier.command) in ([], Code.OUTCOME_UNKNOWN)


def outcome_of(script: Script, author: Author, command: Command) -> object:
    """Return the events that a command would add, or the code of its refusal."""
    try:
        return script.decided(author, command)
    except Refused as refusal:
        return refusal.code


# ------------------------------------------------------------------ what is forgotten


@pytest.fixture
def small(ops: Script) -> Iterator[Script]:
    """Return a group with early compaction, and with an open door."""
    with small_bounds(SMALL):
        ops.joined("alice", "bob")
        ops.run("alice", SetPolicy, "open")
        yield ops


def fill(script: Script, events: int) -> None:
    """Post messages, so that a compaction comes."""
    for _ in range(events):
        script.run("alice", Post, "hello")


def test_keys_of_former_members_are_forgotten(small: Script) -> None:
    for number in range(6):
        small.run(f"guest{number}", Join)
        small.run(f"guest{number}", Leave)
    fill(small, 8)
    assert list(small.group.keys.values()) == ["alice", "bob", "guest5"]


def test_forgotten_kick_revives_no_invite(small: Script) -> None:
    token, digest_ = bytes(16), token_digest(bytes(16))
    small.run("alice", Invite, digest_, 9_999_999)
    small.run("alice", Invite, digest(1), 9_999_999, "dave")
    for name in ("bob", "carol", "dave"):
        if name != "bob":
            small.run(name, Join)
        small.run("alice", Kick, name)
    fill(small, 8)
    assert list(small.group.kicked) == ["dave"]
    small.run("alice", SetPolicy, "approval")
    assert small.refused("bob", Join, token) == Code.BAD_INVITE
    assert list(small.group.invites) == [digest(1)]


def test_old_edits_are_forgotten_unless_pinned(small: Script) -> None:
    edited = []
    for text in ("one", "two"):
        [message] = small.events("bob", Post, text)
        small.run("bob", Edit, message.seq, text.upper())
        edited.append(message.seq)
    small.run("alice", Pin, edited[0])
    assert list(small.group.edits) == edited
    fill(small, 24)
    assert list(small.group.edits) == edited[:1]
    with patch.multiple(compaction, **SMALL):
        assert edited[1] <= last_forgotten_edit(small.group) < small.group.seq


def test_unknown_client_may_send_what_is_new(small: Script) -> None:
    [first] = small.events("bob", Post, "from the laptop", device="laptop")
    for number in range(6):
        small.run("bob", Post, "from a container", device=f"run {number}")
    fill(small, 8)
    assert small.group.forgotten
    laptop = Author("bob", first.client, key_of("bob"), upcoming=first.n + 1)
    assert not small.group.counted(laptop)
    with pytest.raises(Refused) as caught:
        small.give(laptop, Post(1, first.n, "ops", "from the laptop"))
    assert caught.value.code == Code.OUTCOME_UNKNOWN
    assert small.give(laptop, Post(1, first.n + 1, "ops", "something new")) != []
    with pytest.raises(Refused):
        small.give(laptop, Post(1, first.n, "ops", "from the laptop"))
    new = Author("bob", b"new one.", key_of("bob"), upcoming=1)
    assert small.give(new, Post(1, 1, "ops", "from a new container")) != []


def test_name_of_a_file_has_a_limit(ops: Script) -> None:
    ops.joined("alice")
    assert ops.refused("alice", Share, "x" * (FILE_NAME_LIMIT + 1), 1, bytes(32)) == Code.BAD_FILE


def test_clients_of_one_person_displace_no_others() -> None:
    group = Group(seq=PERIOD)
    group.count("alice", b"alice...", 1)
    for number in range(CLIENTS_EACH + 10):
        group.count("bob", number.to_bytes(8, "big"), 1)
    compaction.compact(group)
    assert group.counts.keys() >= {("alice", b"alice...")}
    assert (len(group.counts), group.forgotten) == (CLIENTS_EACH + 1, 10)
    assert ("bob", (CLIENTS_EACH + 9).to_bytes(8, "big")) in group.counts


def test_client_in_use_is_not_forgotten() -> None:
    group = Group(seq=PERIOD)
    for number in range(CLIENTS_EACH):
        group.count("bob", number.to_bytes(8, "big"), 1)
    group.count("bob", bytes(8), 2)
    group.count("bob", b"another.", 1)
    compaction.compact(group)
    assert ("bob", bytes(8)) in group.counts
    assert ("bob", (1).to_bytes(8, "big")) not in group.counts


def test_edits_and_kicks_are_in_order_of_time(crew: Script) -> None:
    seqs = [crew.events("bob", Post, text)[0].seq for text in ("one", "two")]
    for target in (*seqs, seqs[0]):
        crew.run("bob", Edit, target, "edited")
    assert list(crew.group.edits) == [seqs[1], seqs[0]]
    for name in ("bob", "carol"):
        crew.run("alice", Kick, name)
    crew.run("alice", Ban, "bob")
    assert list(crew.group.kicked) == ["carol", "bob"]


def test_old_edits_of_a_message_are_forgotten(small: Script) -> None:
    [message] = small.events("bob", Post, "one")
    small.run("alice", Pin, message.seq)
    small.run("bob", Edit, message.seq, "two")
    fill(small, SMALL["EDITS_SPAN"])
    [last] = small.events("bob", Edit, message.seq, "three")
    assert small.group.edits_of(message.seq) == (last.seq,)
