"""Whatever happens in groups, `tchat admin verify` finds no fault; a changed value is found.

Texts are erased from a log after a state was stored, words were indexed, or a file was shared: by
deletions, by expiry, with a person, and when a group is closed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tchat.core.group.files import Share
from tchat.core.group.messages import Delete, Edit, Pin, Post, Unpin
from tchat.core.group.operation import Close
from tchat.core.group.settings import SetPolicy
from tchat.core.group.snapshots import MADE_WITH, freeze_whole, thaw_whole
from tchat.core.group.state import Denial, File, Group, Invitation, JoinRequest, MessageEdits
from tchat.core.text import fold
from tchat.errors import Refused
from tchat.machine_clocks import DAY_MS
from tchat.server.clock import ServerClock
from tchat.server.context import make_context
from tchat.server.limits import Limits
from tchat.server.log import Log
from tchat.server.operations.erasure import erase_person
from tchat.server.operations.expiry import expire
from tchat.server.operations.group_commands import Commander, execute
from tchat.server.retention import sweep
from tchat.store.base import StateSnapshot
from tchat.store.blobs import blob_path
from tchat.store.open import open_store
from tchat.store.sqlite.verify import verify_data
from tchat.store.words import terms_of
from tests.core.histories import ADMIN, AUTHOR, CREW, Message, Step, any_step
from tests.core.script import NOON, Script, key_of, replay
from tests.helpers import THOROUGH
from tests.server.file_transfers import sha
from tests.store.batches import packed, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tchat.core.group.feature import Command
    from tchat.core.group.state import Author
    from tchat.server.context import ServerContext

FILE = b"a file"
DIRECT = "@alice,bob"
LIMITS = replace(Limits(), keep_messages=2 * DAY_MS, keep_files=3 * DAY_MS).without_rates()

Deed = Literal["store the state", "index", "close", "release", "expire", "sweep"] | tuple[str, str]
"""What the server or its operator does; ("erase", NAME) erases a person."""


@dataclass(frozen=True)
class Said:
    """A step in the direct conversation."""

    step: Step


_BEGINNING = [*CREW, Step("alice", "phone", (SetPolicy, ("open",)), 0)]
_WRITERS = ["alice", "alice", "Alice", "bob", "carol", AUTHOR]

_pins = st.builds(
    Step,
    who=st.just(ADMIN),
    device=st.just("phone"),
    deed=st.builds(lambda back: (Pin, (Message(back),)), st.integers(0, 3)) | st.just((Unpin, ())),
    later=st.just(0),
)
_texts = st.builds(
    Step,
    who=st.sampled_from(_WRITERS),
    device=st.just("phone"),
    deed=st.just((Post, ("hello",))),
    later=st.integers(0, 1000),
)
_changes = st.builds(
    Step,
    who=st.sampled_from([AUTHOR, AUTHOR, AUTHOR, ADMIN]),
    device=st.just("desk"),
    deed=st.one_of(
        st.builds(lambda back: (Edit, (Message(back), "hello again")), st.integers(0, 2)),
        st.builds(lambda back: (Delete, (Message(back),)), st.integers(0, 2)),
    ),
    later=st.integers(0, 1000),
)
_deeds = st.one_of(
    *[st.just("store the state")] * 6,
    *[st.just("index")] * 3,
    *[st.just("expire")] * 2,
    st.just("sweep"),
    st.just("close"),
    st.tuples(st.just("erase"), st.sampled_from(["bob", "carol"])),
)
lives = st.lists(
    st.one_of(
        any_step,
        _pins,
        *[_texts, _changes] * 2,
        *[_texts.map(Said), _changes.map(Said)],
        *[_deeds] * 2,
    ),
    min_size=20,
    max_size=60,
)


class _Mirror(Script):
    """A group of the store, for the placeholders in steps; it is read again after each of them."""

    async def read_from(self, context: ServerContext) -> None:
        """Read the log as it is now."""
        self.log = [packed(body) for body in await read_all(context.store, fold(self.name))]
        self.written = self.log  # so that a `Message` is one that is not erased
        self.group = replay(self.name, self.log)


@dataclass
class _Clock:
    now: int = NOON

    def __call__(self) -> int:
        return self.now


class Life:
    """A server without connections, whose clock stands until the next step."""

    def __init__(self, data: Path, context: ServerContext, clock: _Clock) -> None:
        self._clock = clock
        self._data = data
        self._context = context
        self._groups = {name: _Mirror(name) for name in ("ops", DIRECT)}

    async def live(self, steps: Sequence[Step | Said | Deed]) -> None:
        """Take the steps; what the server refuses changes nothing."""
        for step in steps:
            with suppress(Refused):
                match step:
                    case Step():
                        await self._take(self._groups["ops"], step)
                    case Said(said):
                        await self._take(self._groups[DIRECT], said)
                    case _:
                        await self._do(step)
            for mirror in self._groups.values():
                await mirror.read_from(self._context)

    async def _take(self, mirror: _Mirror, step: Step) -> None:
        self._clock.now = max(NOON, self._clock.now + step.later)
        author, command = step.taken(mirror)
        key = key_of(author.name)
        accounts = self._context.store.accounts
        if await accounts.claim(fold(author.name), author.name, key, self._clock.now) is not None:
            await execute(self._context, author, await self._possible(author, command))

    async def _possible(self, author: Author, command: Command) -> Command:
        """Return the command; if it shares a file, upload it first."""
        if not isinstance(command, Share):
            return command
        files = self._context.store.files
        await files.add(fold(author.name), sha(FILE), len(FILE), sha(FILE), self._clock.now)
        path = blob_path(self._data / "files", sha(FILE))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(FILE)
        return replace(command, size=len(FILE), sha256=sha(FILE))

    async def _do(self, deed: Deed) -> None:
        context = self._context
        match deed:
            case "store the state":
                for mirror in self._groups.values():
                    await store_state(context, mirror.group)
            case "index":
                await context.store.search([*self._groups], terms_of("hello"), 0, 9)
            case "close":
                await Commander(context).give(Close(0, 0, "ops"))
                await self._groups["ops"].read_from(context)
                await self.live(_BEGINNING)
            case "expire":
                self._clock.now += DAY_MS
                await expire(context)
            case "sweep":
                await sweep(context.store, context.log, LIMITS.keep_files, self._clock.now)
            case (_, name):
                await erase_person(context, name)


async def store_state(context: ServerContext, group: Group) -> None:
    """Store a state, as the group's actor does after many events."""
    snapshot = StateSnapshot(group.seq, MADE_WITH, freeze_whole(group))
    await context.store.save_snapshot(fold(group.name), snapshot)


@asynccontextmanager
async def living(data: Path) -> AsyncIterator[Life]:
    """Open the store of a server."""
    clock = _Clock()
    with closing(Log(stream=StringIO())) as log:
        async with open_store(data) as store, trio.open_nursery() as groups:
            context = make_context(store, log, groups, LIMITS, clock=ServerClock(clock, clock))
            yield Life(data, context, clock)
            context.registry.close()


async def run_life(data: Path, steps: Sequence[Step | Said | Deed]) -> list[str]:
    """Take the steps; return the faults that are found while the server still has the data open."""
    async with living(data) as life:
        await life.live([*_BEGINNING, *steps])
        return [fault.sentence for fault in verify_data(data).faults]


_SPELLED = [
    Said(Step("Alice", "phone", (Post, ("hello",)), 0)),
    "store the state",
    *["expire"] * 4,
]
"""A message expires that changed the spelling of a name."""


@settings(max_examples=500 if THOROUGH else 25)
@given(steps=lives)
@example(steps=_SPELLED)
def test_no_life_of_a_group_is_damage(steps: list[Step | Said | Deed]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert trio.run(run_life, Path(directory), steps) == []
        assert [fault.sentence for fault in verify_data(Path(directory)).faults] == []


# ------------------------------------------------------------------ one change


def _change(group: Group, name: str) -> None:
    """Change one field of the state to another value of its type."""
    value = getattr(group, name)
    other: object
    if isinstance(value, dict):
        other = dict([*value.items()][1:]) if value else dict(_ENTRIES[name])
    elif isinstance(value, int):
        other = value + 1
    elif name == "policy":
        other = "approval" if value == "open" else "open"
    else:
        other = {"admin": "eve", "topic": "eve's", "pinned": 1, "name": "eve"}[name]
    setattr(group, name, other)


_ENTRIES: dict[str, dict[object, object]] = {
    "requests": {"eve": JoinRequest("eve")},
    "kicked": {"eve": 3},
    "banned": {"eve": "eve"},
    "edits": {5: MessageEdits(5, (6,))},
    "invites": {bytes(32): Invitation(bytes(32), 3, "alice", NOON)},
    "files": {1: File(1, "eve.txt", 3, bytes(32), "eve", NOON)},
    "held": {"eve": bytes(32)},
    "banned_keys": {"eve": (bytes(32),)},
    "denied": {"eve": Denial(NOON)},
}
_FIELDS = [field.name for field in fields(Group) if field.name != "seq" and field.compare]
"""Those of a snapshot; the others are indexes of these."""


def _change_state(data: Path, name: str) -> None:
    """Change one field of a stored state, whose digest then fits."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection, connection:
        number, seq, frozen = connection.execute(
            "SELECT group_id, seq, data FROM states JOIN groups ON id = group_id WHERE name = 'ops'"
        ).fetchone()
        group = thaw_whole(frozen, seq)
        _change(group, name)
        sql = "UPDATE states SET data = ? WHERE group_id = ?"
        connection.execute(sql, (freeze_whole(group), number))


def _change_rows(data: Path, sql: str, chosen: int) -> bool:
    """Change rows by SQL, with one segment of the log for ONE; return whether it could."""
    with (
        suppress(sqlite3.IntegrityError),
        closing(sqlite3.connect(data / "tchat.db")) as connection,
        connection,
    ):
        segments = connection.execute("SELECT rowid FROM segments").fetchall()
        (row,) = segments[chosen % len(segments)]
        return connection.execute(sql.replace("ONE", f"rowid = {row}")).rowcount > 0
    return False


async def _remembers_key_of(data: Path, person: str) -> bool:
    """Return whether the group knows a key of a person: otherwise, nothing misses it."""
    async with open_store(data) as store:
        group = replay("ops", [packed(body) for body in await read_all(store, "ops")])
    return person in map(fold, group.keys.values())


_CHANGES = [
    "DELETE FROM segments WHERE ONE",
    "UPDATE segments SET last = last + 1 WHERE ONE",
    "UPDATE segments SET crc = x'00000000' WHERE ONE",
    "UPDATE segments SET frames = frames || x'00' WHERE ONE",
    "UPDATE groups SET last = last + 1",
    "UPDATE blobs SET size = size + 1",
    "DELETE FROM shelf",
    "UPDATE shelf SET size = size + 1",
    "UPDATE shelf SET at = at + 1",
    "DELETE FROM standings WHERE person = 'alice'",
    "DELETE FROM keys WHERE person = 'alice'",
    "DELETE FROM reworded",
    "UPDATE searchable SET upto = upto + 1000",
]


@settings(max_examples=15)
@given(steps=lives, name=st.sampled_from(_FIELDS))
def test_a_changed_state_is_found(steps: list[Step | Said | Deed], name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert trio.run(run_life, Path(directory), [*steps, "store the state"]) == []
        _change_state(Path(directory), name)
        (fault,) = verify_data(Path(directory)).faults
        assert (fault.where, fault.subject) == ("state", "ops")
        assert name in fault.sentence


@settings(max_examples=15)
@given(steps=lives, sql=st.sampled_from(_CHANGES), chosen=st.integers(0, 99))
def test_a_changed_row_is_found(steps: list[Step | Said | Deed], sql: str, chosen: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert trio.run(run_life, Path(directory), steps) == []
        assume("FROM keys" not in sql or trio.run(_remembers_key_of, Path(directory), "alice"))
        assume(_change_rows(Path(directory), sql, chosen))
        assert verify_data(Path(directory)).faults != []
