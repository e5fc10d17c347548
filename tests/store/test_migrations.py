"""Migration of databases that earlier versions wrote."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.feature import Body, Event
from tchat.core.group.features import encode_event
from tchat.core.group.files import FileShared
from tchat.core.group.membership import (
    Approved,
    Created,
    Denied,
    Kicked,
    Left,
    Requested,
    Withdrawn,
)
from tchat.core.group.messages import Erased, Posted
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import fold
from tchat.errors import TchatError
from tchat.store.base import AccountKey, FileEntry, SideEffects, StateSnapshot
from tchat.store.open import open_store
from tchat.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tchat.store.words import terms_of
from tests.core.script import NOON
from tests.helpers import THOROUGH, log_of, running_server, session_at
from tests.server.killed import killed_at
from tests.store.batches import last_seq
from tests.store.logs import files_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KILLED_AT = 200 if THOROUGH else 12
KEY, OTHER = bytes([1]) * 32, bytes([2]) * 32
Story = list[tuple[str, Body]]

OPS: Story = [
    ("Alice", Created()),
    ("bob", Requested()),
    ("Alice", Approved("bob")),
    ("carol", Requested()),
    ("dave", Requested()),
    ("Alice", Denied("dave")),
    ("bob", Posted("hello")),
    ("erin", Requested()),
    ("erin", Withdrawn()),
]
DEV: Story = [
    ("bob", Created()),
    ("carol", Requested()),
    ("bob", Approved("carol")),
    ("bob", Kicked("carol")),
]
CLOSED: Story = [("Alice", Created()), ("bob", Requested()), ("Alice", Left())]

SONG, FILM, LOST, MIXTAPE = (
    hashlib.sha256(name).digest() for name in (b"song", b"film", b"lost", b"mixtape")
)
SHELF: Story = [
    ("Alice", Created()),
    ("Alice", FileShared(1, "song.ogg", PIECE_SIZE, SONG)),
    ("Alice", FileShared(2, "film.mkv", PIECE_SIZE + 1, FILM)),
    ("Alice", FileShared(3, "again.ogg", PIECE_SIZE, SONG)),
]
OTHER_SHELF: Story = [
    ("Zoë", Created()),
    ("Zoë", FileShared(1, "mine.ogg", PIECE_SIZE, SONG)),
    ("Zoë", Posted("a song")),
]
REFOUNDED: Story = [
    ("Alice", Created()),
    ("Alice", FileShared(1, "lost", 5, LOST)),
    ("Alice", Left()),
    ("Bob", Created()),
    ("Bob", FileShared(1, "mixtape", 7, MIXTAPE)),
]
CLOSED_SHELF: Story = [
    ("Alice", Created()),
    ("Alice", FileShared(1, "lost", 5, LOST)),
    ("Alice", Left()),
]


def packed(group: str, story: Story) -> list[bytes]:
    """Return a log as version 1 wrote it: events without keys."""
    numbers = count(1)
    return [
        encode_event(Event(group, seq, NOON, actor, b"12345678", seq, body))
        for seq, (actor, body) in zip(numbers, story, strict=False)
    ]


def write_version_1(directory: Path, **logs: Story) -> None:
    """Make a data directory as version 1 left it, each log in two segments."""
    directory.mkdir(exist_ok=True)
    with closing(sqlite3.connect(directory / "tchat.db", isolation_level=None)) as connection:
        connection.executescript(MIGRATIONS[0][0])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        for number, (group, story) in enumerate(logs.items(), start=1):
            write_log(connection, number, group, packed(group, story))
        names = {actor for story in logs.values() for actor, _ in story}
        people = [(fold(name), name, NOON) for name in names]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", people)


def write_version_2(directory: Path, **logs: Story) -> None:
    """Make a data directory as version 2 left it: with standings and uploads."""
    write_version_1(directory, **logs)
    with closing(sqlite3.connect(directory / "tchat.db", isolation_level=None)) as connection:
        statements, fill = MIGRATIONS[1]
        assert fill is not None
        connection.executescript(statements)
        fill(connection)
        shared = {
            (fold(actor), body.sha256, body.size)
            for story in logs.values()
            for actor, body in story
            if isinstance(body, FileShared)
        }
        never_shared = ("alice", bytes(32), 9)
        connection.executemany("INSERT INTO uploads VALUES (?, ?, ?)", {*shared, never_shared})
        connection.execute("PRAGMA user_version = 2")


def write_log(connection: sqlite3.Connection, number: int, group: str, frames: list[bytes]) -> None:
    connection.execute("INSERT INTO groups VALUES (?, ?, ?)", (number, group, len(frames)))
    for first, last in ((1, 2), (3, len(frames))):
        data = b"".join(frames[first - 1 : last])
        connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", (number, last, first, data))


async def test_standings_are_derived_from_the_logs(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS, dev=DEV, closed=CLOSED)
    async with open_store(tmp_path) as store:
        assert await store.groups_of("alice") == {"ops": "member"}
        assert await store.groups_of("bob") == {"ops": "member", "dev": "member"}
        assert await store.groups_of("carol") == {"ops": "waiting"}
        assert await store.groups_of("dave") == {}
        assert await store.groups_of("erin") == {}


async def test_migrations_leave_the_logs_alone(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS, dev=DEV)
    async with open_store(tmp_path) as store:
        assert [(event.actor, event.body) for event in await log_of(store, "ops")] == OPS
        assert await last_seq(store, "dev") == len(DEV)


async def test_old_names_belong_to_their_first_key(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS)
    async with open_store(tmp_path) as store:
        assert await store.accounts.keys("alice") == []
        assert await store.accounts.claim("alice", "ALICE", KEY, NOON + 1) == "Alice"
        assert await store.accounts.claim("alice", "Alice", OTHER, NOON + 2) is None
        assert await store.accounts.keys("alice") == [AccountKey(KEY, NOON + 1)]


async def test_old_names_may_look_alike(tmp_path: Path) -> None:
    """Whoever has one keeps it; from now on, nobody gets another."""
    write_version_1(
        tmp_path, ops=[("alice", Created()), ("a1ice", Requested()), ("a1ice", Withdrawn())]
    )
    async with open_store(tmp_path) as store:
        assert await store.accounts.claim("alice", "alice", KEY, NOON) == "alice"
        assert await store.accounts.claim("a1ice", "a1ice", OTHER, NOON) == "a1ice"
        assert await store.accounts.claim("aiice", "aIice", OTHER, NOON) is None


async def test_appearances_follow_the_unicode_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        await store.accounts.claim("alice", "alice", KEY, NOON)
    with closing(sqlite3.connect(tmp_path / "tchat.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM appearances")
    async with open_store(tmp_path) as store:  # the same version: nothing is computed
        assert await store.accounts.lookalike("a1ice", "a1ice") is None
    monkeypatch.setattr("tchat.store.sqlite.appearances.APPEARANCES", "another version")
    async with open_store(tmp_path) as store:
        assert await store.accounts.lookalike("a1ice", "a1ice") == "alice"


async def test_a_migration_is_applied_once(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS)
    async with open_store(tmp_path) as store:
        await store.append(
            "ops", len(OPS), 1, packed("ops", OPS)[-1], SideEffects({"bob": "outsider"})
        )
    async with open_store(tmp_path) as store:
        assert await store.groups_of("bob") == {}
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_members_stay_members_after_migration(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        session_at(server.address, "ALICE") as alice,
    ):
        ops = await alice.enter("ops")
        assert (alice.user, ops.standing) == ("Alice", "member")


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS)
    with closing(sqlite3.connect(tmp_path / "tchat.db", isolation_level=None)) as connection:
        connection.execute("UPDATE segments SET frames = x'00000001ff' WHERE first = 3")
    with pytest.raises(TchatError):
        async with open_store(tmp_path):
            raise AssertionError("a log that cannot be read was passed over")
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "keys" not in tables


def test_a_killed_migration_is_completed(tmp_path: Path) -> None:
    """Killed before some of the SQL statements of the first start on data of version 1."""
    old, place = tmp_path / "old", tmp_path / "data"
    old.mkdir()
    write_version_1(old, ops=OPS, dev=DEV)
    imports = f"""
import shutil, sqlite3, trio
from tchat.store.open import open_store
from tchat.store.sqlite.verify import verify_data
old, place = Path({str(old)!r}), Path({str(place)!r})
connect = sqlite3.connect

def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(lambda _: os.listdir(old))  # an audit event
    return connection

sqlite3.connect = traced

def prepare():
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(old, place)

async def open_once():
    async with open_store(place):
        pass

def migrate():
    trio.run(open_once)

def again():
    migrate()
    found = verify_data(place)
    return [found.events, [one.sentence for one in found.faults if one.where != "keys"]]
"""
    found = killed_at(KILLED_AT, imports, "prepare", "migrate", "again")
    assert found == [[len(OPS) + len(DEV), []]] * KILLED_AT


@pytest.mark.parametrize("write", [write_version_1, write_version_2])
async def test_group_files_are_derived_from_the_logs(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path, ops=SHELF, dev=OTHER_SHELF, quiet=OPS)
    async with open_store(tmp_path) as store:
        assert await store.files.page("ops", 100, 10, 10) == [
            FileEntry(3, SONG, PIECE_SIZE, "alice", NOON),
            FileEntry(2, FILM, PIECE_SIZE + 1, "alice", NOON),
            FileEntry(1, SONG, PIECE_SIZE, "alice", NOON),
        ]
        assert await store.files.find("dev", 1) == FileEntry(1, SONG, PIECE_SIZE, "zoë", NOON)
        assert await store.files.page("quiet", 100, 10, 10) == []
        assert await store.files.usage("alice") == 2 * PIECE_SIZE + 1
        assert await store.files.usage("zoë") == PIECE_SIZE


async def test_files_of_closed_groups_are_dropped(tmp_path: Path) -> None:
    write_version_2(tmp_path, again=REFOUNDED, closed=CLOSED_SHELF)
    async with open_store(tmp_path) as store:
        mixtape = FileEntry(1, MIXTAPE, 7, "bob", NOON)
        assert await store.files.page("again", 100, 10, 10) == [mixtape]
        assert await store.files.page("closed", 100, 10, 10) == []
        assert await store.files.usage("alice") == 0
        assert await store.files.digests() == {MIXTAPE}


async def test_unshared_uploads_are_dropped(tmp_path: Path) -> None:
    write_version_2(tmp_path, ops=SHELF)
    async with open_store(tmp_path) as store:
        assert await store.files.digests() == {SONG, FILM}
        assert await store.files.size_of(bytes(32)) is None
        assert await store.files.expire(NOON, NOON) == await store.files.sweep() == []
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "uploads" not in tables


async def test_the_head_is_learned_with_a_new_upload(tmp_path: Path) -> None:
    write_version_2(tmp_path, ops=SHELF)
    head = hashlib.sha256(b"its first piece").digest()
    async with open_store(tmp_path) as store:
        shelves = store.files
        assert await shelves.has_similar("alice", PIECE_SIZE, SONG), "the only piece is all of it"
        assert not await shelves.has_similar("alice", PIECE_SIZE + 1, FILM)
        assert not await shelves.has_similar("alice", PIECE_SIZE + 1, head)
        await shelves.add("carol", FILM, PIECE_SIZE + 1, head, NOON)
        assert await shelves.has_similar("alice", PIECE_SIZE + 1, head)


async def test_display_names_are_derived_from_the_logs(tmp_path: Path) -> None:
    write_version_2(tmp_path, ops=OPS)
    with closing(sqlite3.connect(tmp_path / "tchat.db", isolation_level=None)) as connection:
        write_log(connection, 2, "straße", packed("Straße", OPS))
        connection.execute("UPDATE groups SET name = 'strasse' WHERE id = 2")
        connection.execute("INSERT INTO standings VALUES ('alice', 2, 'member')")
    async with open_store(tmp_path) as store:
        names = {place.group: place.name for place in await store.memberships_of("alice")}
        assert names == {"ops": "ops", "strasse": "Straße"}


async def test_old_messages_are_searchable(tmp_path: Path) -> None:
    write_version_1(tmp_path, ops=OPS)
    async with open_store(tmp_path) as store:
        (hit,) = await store.search(["ops"], terms_of("hello"), 0, 9)
        assert (hit.seq, hit.actor, hit.text) == (7, "bob", "hello")


async def test_old_groups_have_no_snapshot_at_first(
    tmp_path: Path,
) -> None:
    write_version_2(tmp_path, ops=OPS)
    async with open_store(tmp_path) as store:
        opening = await store.load("ops")
        assert opening.snapshot is None
        assert opening.page == await store.read("ops", 0)
        await store.save_snapshot("ops", StateSnapshot(9, "rules", b"state"))
    async with open_store(tmp_path) as store:
        assert (await store.load("ops")).snapshot == StateSnapshot(9, "rules", b"state")


@pytest.mark.parametrize("founded_anew", [True, False])
async def test_closed_groups_are_erased_by_the_migration(
    tmp_path: Path, founded_anew: bool
) -> None:
    mark = "marzipan4711"
    story: Story = [("Alice", Created()), ("Alice", Posted(mark)), ("Alice", Left())]
    write_version_1(tmp_path, ops=story + [("bob", Created())] * founded_anew, dev=DEV)
    async with open_store(tmp_path) as store:
        assert files_with(mark, tmp_path) == []
        assert [type(event.body) for event in await log_of(store, "ops")] == [
            Created,
            Erased,
            Left,
            *[Created] * founded_anew,
        ]
        assert (await store.groups_of("bob")).keys() == {"dev", *["ops"] * founded_anew}


async def test_old_memberships_get_places_in_order_of_founding(tmp_path: Path) -> None:
    write_version_2(tmp_path, ops=OPS, dev=DEV)
    async with open_store(tmp_path) as store:
        places = {one.group: one.place for one in await store.memberships_of("bob")}
        assert places == {"ops": 1, "dev": 2}
        assert [one.place for one in await store.memberships_of("alice")] == [1]
