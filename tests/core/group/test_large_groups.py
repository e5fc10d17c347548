"""Commands in a large group: none takes time in proportion to its members, keys, bans or files."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tchat.core.group.compaction import KEYS, compact
from tchat.core.group.feature import DEFAULT_LIMITS, Command, Event, TargetedCommand
from tchat.core.group.features import COMMANDS
from tchat.core.group.membership import Join
from tchat.core.group.messages import Posted
from tchat.core.group.rules import apply, decide
from tchat.core.group.snapshots import freeze, freeze_whole, thaw, thaw_whole
from tchat.core.group.state import (
    Author,
    Denial,
    File,
    Group,
    Invitation,
    JoinRequest,
    MessageEdits,
)
from tchat.errors import Refused
from tests.core.histories import Step, histories, run_history
from tests.core.script import Script, key_of
from tests.frame_samples import DIGEST, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGE = 500
_FEW = 3  # entries that a command may look at, such as the first

ADMIN = Author("alice", bytes(8), b"alice".ljust(32))


class Large(dict[Any, Any]):
    """A dict of which only the first entries may be looked at."""

    def _first(self, entries: Iterator[Any]) -> Iterator[Any]:
        for number, entry in enumerate(entries):
            assert number < _FEW, "a command looks at all entries"
            yield entry

    def __iter__(self) -> Iterator[Any]:
        return self._first(super().__iter__())

    def items(self) -> Iterator[Any]:  # type: ignore[override]  # no view
        return self._first(iter(super().items()))

    def keys(self) -> Iterator[Any]:  # type: ignore[override]  # no view
        return self._first(iter(super().keys()))

    def values(self) -> Iterator[Any]:  # type: ignore[override]  # no view
        return self._first(iter(super().values()))


BOUNDED_BY_LIMITS = {"requests", "invites"}
"""Collections with low limits of their own: `GroupLimits.requests` and `invites`."""


def large_group() -> Group:
    """Return a group with many of everything, in which the samples of all commands are allowed."""
    people = [f"person{number}" for number in range(LARGE)]
    former = [f"former{number}" for number in range(LARGE)]
    group = Group("ops", seq=LARGE, admin="alice", numbered=LARGE)
    for seq, name in enumerate(("alice", "bob", *people), start=1):
        group.members[name], group.joined[name] = name, seq
        group.counts[name, bytes(8)] = (0, 0)
        group.add_key(name.encode().ljust(32), name)
        group.files[seq] = File(seq, "a.txt", 1, DIGEST, "alice", 0)
        group.edits[seq] = MessageEdits(seq, (seq,))
    for seq, name in enumerate(former):
        group.kicked[name] = seq
        group.add_key(name.encode().ljust(32), name)
        group.ban(name, (name.encode().ljust(32),))
        group.deny(f"denied-{name}", Denial(0, name.encode().ljust(32)))
    group.ban("erin", (b"erin".ljust(32),))
    group.requests["carol"] = JoinRequest("carol", b"carol".ljust(32))
    group.invites[DIGEST] = Invitation(DIGEST, 1, "alice", 1 << 50)
    group.pinned = 1
    for field in fields(Group):
        value = getattr(group, field.name)
        if isinstance(value, dict) and field.name not in BOUNDED_BY_LIMITS:
            setattr(group, field.name, Large(value))
    return group


def execute(group: Group, author: Author, command: Command) -> list[Event]:
    posted = Event("ops", 2, 0, author.name, bytes(8), 1, Posted("a message"))
    target = posted if isinstance(command, TargetedCommand) else None
    events = decide(group, author, command, 1 << 40, DEFAULT_LIMITS, target)
    for event in events:
        apply(group, event)
    return events


@pytest.mark.parametrize("word", [command.type for command in COMMANDS])
def test_no_command_looks_at_a_whole_group(word: str) -> None:
    command = sample(word, 1, target=2)
    assert isinstance(command, Command)
    author = Author("dave", bytes(8), b"dave".ljust(32)) if word == "join" else ADMIN
    assert execute(large_group(), author, command)


@pytest.mark.parametrize(
    ("name", "key", "allowed"),
    [
        ("former7", "former7", False),
        ("mallory", "former9", False),
        ("mallory", "mallory", True),
        ("denied-former7", "mallory", True),
    ],
)
def test_no_join_looks_at_all_bans_and_denials(name: str, key: str, *, allowed: bool) -> None:
    group, author = large_group(), Author(name, bytes(8), key.encode().ljust(32))
    if allowed:
        assert execute(group, author, Join(1, 1, "ops"))
    else:
        with pytest.raises(Refused, match="banned"):
            execute(group, author, Join(1, 1, "ops"))


def test_people_are_known_without_a_search() -> None:
    group = large_group()
    assert [group.is_known_to(name) for name in ("former7", "carol", "bob", "nobody")] == [
        *(True, True, True),
        False,
    ]


def test_large_dict_notices_a_search() -> None:
    with pytest.raises(AssertionError, match="looks at all entries"):
        sorted(Large.fromkeys(range(10)))


class SharedKeys(Script):
    """A script in which people use several keys, and each other's."""

    def asked(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> tuple[Author, Command]:
        author, command = super().asked(who, what, *about, device=device)
        return replace(author, key=key_of(str((len(who) + command.n) % 4))), command


@given(histories)
def test_indexes_follow_from_the_state(history: list[Step]) -> None:
    """However a state was made: by events, from a snapshot, or from both."""
    script = SharedKeys()
    for _ in run_history(history, script):
        group = script.group
        others = (group.copy(), thaw_whole(freeze_whole(group), group.seq))
        for other in others:
            assert indexes_of(other) == indexes_of(group)
        other.reindex()
        assert indexes_of(other) == indexes_of(group)
        member = thaw(freeze(group), group.seq)
        assert member.keys_by_person == group.keys_by_person


class Written(dict[Any, tuple[Any, ...]]):
    """An index that counts the values that are written into it."""

    count = 0

    def __setitem__(self, key: Any, value: tuple[Any, ...]) -> None:  # noqa: ANN401  # any index
        self.count += len(value)
        super().__setitem__(key, value)


def test_index_of_one_persons_keys_is_linear() -> None:
    """A malicious server can give all keys in a snapshot to one person."""
    group = Group("ops", keys={bytes([number]) * 32: "eve" for number in range(200)})
    group.keys_by_person = written = Written()
    group.reindex()
    assert group.keys_by_person == {"eve": tuple(group.keys)}
    assert written.count == len(group.keys)


def test_many_keys_of_one_person_are_forgotten() -> None:
    keys = [number.to_bytes(32, "big") for number in range(38_000)]
    group = Group("ops", members={"eve": "eve"}, keys=dict.fromkeys(keys, "eve"))
    group.reindex()
    compact(group)
    assert [*group.keys_by_person["eve"]] == [*group.keys] == keys[-KEYS:]
    group.drop_keys(keys)
    assert not group.keys
    assert not group.keys_by_person


def indexes_of(group: Group) -> list[dict[Any, Any]]:
    return [getattr(group, field.name) for field in fields(Group) if not field.compare]


def test_index_has_the_bans_of_a_shared_key(ops: Script) -> None:
    """Lifting one of two bans that hold for a key leaves the other."""
    key = b"shared".ljust(32)
    group = ops.group
    group.ban("bob", (key,))
    group.ban("carol", (key, b"other".ljust(32)))
    assert group.ban_on("dave", key) == "bob"
    group.unban("bob")
    assert group.ban_on("dave", key) == "carol"
    group.unban("carol")
    assert group.ban_on("dave", key) is None
    assert group.bans_by_key == {}
