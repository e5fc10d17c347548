"""`tchat admin salvage`: whatever is garbled, the rest goes on, and members see what is lost."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.features import decode_event
from tchat.core.group.operation import Missing
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, Refused, StartupError
from tchat.file_lock import try_lock
from tchat.server.operations.salvage import SalvageReport, salvage
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.sqlite.directory import read_record
from tchat.testing import open_server
from tests.server.killed import killed_at
from tests.server.operated import FILES, MESSAGES, make_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.core.group.feature import Event

KILLED_AT = int(os.environ.get("TCHAT_KILLS", "5"))
GARBLED = int(os.environ.get("TCHAT_GARBLED", "20"))
"""How many databases the test with garbled ones salvages."""

PAGE = 4096


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data directory, to be copied, with the homes of its people beside it."""
    return make_data(tmp_path_factory.mktemp("original"))


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path / "server")


def copied(original: Path, place: Path) -> Path:
    shutil.copytree(original, place, ignore=shutil.ignore_patterns("control"))
    return place


def garble(data: Path, *pages: int, seed: int = 0) -> None:
    """Overwrite pages of the database, from 1 on, with noise."""
    with (data / "tchat.db").open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(random.Random(seed + page).randbytes(PAGE))


def change(data: Path, sql: str) -> None:
    """Change the database by SQL; at least one row has to be affected."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection, connection:
        assert connection.execute(sql).rowcount > 0


def pages_of(data: Path, table: str, kind: str = "leaf") -> list[int]:
    """Return the pages of a table that are leaves of its tree."""
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY pageno"
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        return [page for (page,) in connection.execute(sql, (table, kind))]


def events_of(data: Path, group: str) -> list[Event]:
    """Return the whole log of a group."""
    sql = (
        "SELECT frames FROM segments JOIN groups ON id = group_id WHERE name = ?"
        " ORDER BY segments.last"
    )
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        rows = connection.execute(sql, (group,)).fetchall()
    return [decode_event(body) for (frames,) in rows for body in split_frames(frames)]


def missing_of(report: SalvageReport) -> dict[str, int]:
    """Return how many events of each group are lost."""
    assert report.salvaged is not None
    return {group.name: group.missing for group in report.salvaged.groups if group.lost}


def test_whole_data_loses_nothing(data: Path) -> None:
    """Everything is the same then, also what only tables have."""
    tables = ("people", "keys", "standings", "shelf", "blobs", "cursors", "fetches", "segments")

    def contents() -> list[list[object]]:
        with closing(sqlite3.connect(data / "tchat.db")) as connection:
            return [
                sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608
                for table in tables
            ]

    before = contents()
    report = salvage(data)
    assert (missing_of(report), contents()) == ({}, before)
    assert report.salvaged is not None
    assert (report.salvaged.people, report.salvaged.missing_files) == ([], [])
    assert verify_server(data).faults == []


def garbled(original: Path, place: Path) -> Iterator[tuple[str, Path]]:
    """Yield damaged copies: one page, several, flipped bits, and the end is missing."""
    pages = (original / "tchat.db").stat().st_size // PAGE
    for number in range(GARBLED):
        chance = random.Random(number)
        data = copied(original, place / str(number))
        content = bytearray((data / "tchat.db").read_bytes())
        kind = ("page", "pages", "bits", "end")[number % 4]
        if kind in ("page", "pages"):
            for page in chance.sample(range(pages), 1 if kind == "page" else 8):
                noise = chance.choice([bytes(PAGE), chance.randbytes(PAGE)])
                content[page * PAGE : (page + 1) * PAGE] = noise
        elif kind == "bits":
            for _ in range(20):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            del content[chance.randrange(len(content)) :]
        (data / "tchat.db").write_bytes(content)
        yield f"{kind} {number}", data


def test_garbled_databases_are_whole_afterwards(original: Path, tmp_path: Path) -> None:
    """Wherever the damage is, `verify` finds none after it, and no log has a gap."""
    for name, data in garbled(original, tmp_path):
        report = salvage(data)
        found = verify_server(data)
        assert (found.faults, name) == ([], name)
        if report.salvaged is not None:
            assert found.groups == len(report.salvaged.groups)
        shutil.rmtree(data)


async def test_members_see_what_is_missing_and_go_on(original: Path, tmp_path: Path) -> None:
    """The rest of the group is there, members and files too, and posting goes on."""
    shutil.copytree(original.parent / "homes", tmp_path / "homes")
    data = copied(original, tmp_path / "server")
    change(data, "DELETE FROM states")
    pages = pages_of(data, "segments")
    garble(data, *pages[1:3])
    lost = missing_of(await trio.to_thread.run_sync(salvage, data))
    assert list(lost) == ["ops"]
    assert 20 < lost["ops"] < 60
    assert verify_server(data).faults == []
    async with open_server(tmp_path) as server, server.connect("alice") as alice:
        ops = await alice.open("ops")
        assert {ops.admin, *(str(name) for name in ops.members)} == {"alice", "bob"}
        assert len(ops.files) == FILES
        events = await ops.history(limit=1000)
        sentences = [event.sentence for event in events if "missing" in event.sentence]
        assert sentences == [
            f"{lost['ops']} messages are missing here: the server's data was damaged"
        ]
        said = [event.text for event in events if hasattr(event, "text")]
        assert MESSAGES - lost["ops"] <= sum("hello from alice" in text for text in said) < MESSAGES
        message = await ops.say("and on it goes")
        assert message.seq == events[-1].seq + 1
        async with server.connect("bob") as bob:
            await (await bob.open("ops")).say("for me as well")
    assert [e.body.text for e in events_of(data, "ops")[-2:] if hasattr(e.body, "text")] == [
        "and on it goes",
        "for me as well",
    ]
    assert verify_server(data).faults == []


def test_seqs_have_no_gaps_and_none_is_reused(data: Path) -> None:
    """Each lost event has a placeholder, and the first of a run says how many there are."""
    before = events_of(data, "ops")
    garble(data, pages_of(data, "segments")[1])
    lost = missing_of(salvage(data))["ops"]
    after = events_of(data, "ops")
    assert [event.seq for event in after] == list(range(1, len(before) + 1))
    missing = [event for event in after if isinstance(event.body, Missing)]
    assert [event.body for event in missing] == [Missing(lost), *[Missing()] * (lost - 1)]
    rest = [event for event in after if not isinstance(event.body, Missing)]
    assert rest == [event for event in before if event in rest]


def test_committed_numbers_stay_committed(data: Path) -> None:
    """A stored state after the gap knows them, and so do the placeholders."""
    before = {(e.actor, e.client, e.n) for e in events_of(data, "ops")}
    page = pages_of(data, "segments")[1]
    garble(data, page)
    salvage(data)
    assert before <= {(e.actor, e.client, e.n) for e in events_of(data, "ops")}


def test_a_group_that_lost_everything_keeps_its_people(data: Path) -> None:
    """The table of standings has its members; the name and the admin are as well as known."""
    change(data, "DELETE FROM states")
    change(data, "DELETE FROM segments WHERE group_id = 1")
    report = salvage(data)
    assert report.salvaged is not None
    (ops,) = [group for group in report.salvaged.groups if group.name == "ops"]
    assert (ops.missing, ops.guessed_admin in ("alice", "bob")) == (ops.events, True)
    assert verify_server(data).faults == []
    sql = "SELECT person FROM standings WHERE group_id = 1 AND standing = 'member' ORDER BY person"
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        assert connection.execute(sql).fetchall() == [("alice",), ("bob",)]


def test_lost_keys_are_those_in_the_groups(data: Path) -> None:
    """Nobody else can claim a name whose account was lost."""
    sql = "SELECT person, key, until FROM keys ORDER BY person"
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        before = connection.execute(sql).fetchall()
    garble(data, *pages_of(data, "keys"), *pages_of(data, "people"))
    report = salvage(data)
    assert report.salvaged is not None
    assert sorted(report.salvaged.people) == ["alice", "bob"]
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        assert connection.execute(sql).fetchall() == before


def test_files_of_no_group_are_kept_aside(data: Path) -> None:
    """A server would remove them at its start."""
    unknown = data / "files" / "ab" / ("ab" * 32)
    unknown.parent.mkdir()
    unknown.write_text("left over")
    report = salvage(data)
    (moved,) = data.glob(f"damaged-*/files/ab/{unknown.name}")
    assert (report.unknown_files, moved.read_text()) == (1, "left over")
    assert not unknown.exists()


def test_data_in_use_is_refused(data: Path, tmp_path: Path) -> None:
    lock = try_lock(data / "lock")
    assert lock is not None
    with lock, pytest.raises(Refused, match="stop it first") as caught:
        salvage(data)
    assert caught.value.code == Code.BUSY
    with pytest.raises(StartupError, match="no server data"):
        salvage(tmp_path / "nothing")


async def start(data: Path) -> None:
    """Open the data as `serve` does."""
    async with open_store(data):
        pass


def test_a_server_starts_on_fewer_commits(data: Path) -> None:
    """`lock` says of how many the damaged database was, and files lie beside it."""
    trio.run(start, data)
    before = read_record(data)
    change(data, "DELETE FROM segments WHERE rowid > (SELECT max(rowid) - 3 FROM segments)")
    (data / "files" / "ab").mkdir(exist_ok=True)
    (data / "files" / "ab" / ("ab" * 32)).write_bytes(b"of a lost event")
    with pytest.raises(StartupError, match="is older than the files beside it"):
        trio.run(start, data)
    salvage(data)
    assert read_record(data).commits < before.commits
    (data / "files" / "cd").mkdir(exist_ok=True)
    (data / "files" / "cd" / ("cd" * 32)).write_bytes(b"of an upload that a crash ended")
    trio.run(start, data)


def test_no_server_starts_on_an_interrupted_salvage(data: Path) -> None:
    (data / "salvaged").mkdir()
    (data / "tchat.db").rename(data / "salvaged" / "tchat.db")
    with pytest.raises(StartupError, match="Run salvage again") as caught:
        trio.run(start, data)
    assert f"tchat admin salvage --data {data}" in caught.value.sentence
    salvage(data)
    trio.run(start, data)


IMPORTS = """
import io, shutil
from tchat.server.operations.salvage import salvage
from tchat.server.operations.verification import verify_server
broken, place = Path({broken!r}), Path({place!r})
sys.stderr = io.StringIO()
def prepare():
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(broken, place)
def again():
    salvage(place)
    old = [path for path in place.glob("damaged-*/tchat.db")]
    damaged = (broken / "tchat.db").read_bytes()
    kept = sum(path.read_bytes() == damaged for path in old)
    return [verify_server(place).count, kept, (place / "salvaged").exists()]
"""


def test_a_salvage_killed_anywhere_can_be_finished(data: Path, tmp_path: Path) -> None:
    """The damaged database is kept, whole, in every case."""
    garble(data, pages_of(data, "segments")[1])
    imports = IMPORTS.format(broken=str(data), place=str(tmp_path / "place"))
    found = killed_at(KILLED_AT, imports, "prepare", "lambda: salvage(place)", "again")
    assert found == [[0, 1, False]] * KILLED_AT
