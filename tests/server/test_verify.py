"""`tchat admin verify`: whole data has no fault, and every kind of damage is found."""

from __future__ import annotations

import base64
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import extend
from tchat.core.group.membership import Join, Leave
from tchat.core.group.messages import Edit
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, StartupError
from tchat.machine_clocks import DAY_MS
from tchat.server.control import perform
from tchat.server.limits import Limits
from tchat.server.operations import expiry
from tchat.server.operations.verification import next_steps, verify_server
from tchat.store.open import open_store
from tchat.store.words import terms_of
from tests.helpers import GROUP, members, running_server
from tests.server.file_transfers import DATA, clock, share, sweep
from tests.server.operated import FILES, MESSAGES, make_data

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.file_transfers import ShiftedClock

__all__ = ["clock"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data directory, to be copied."""
    return make_data(tmp_path_factory.mktemp("original"))


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """Copy the data directory, to damage the copy."""
    shutil.copytree(original, tmp_path / "data", ignore=shutil.ignore_patterns("control"))
    return tmp_path / "data"


def faults(data: Path) -> list[tuple[str, str]]:
    """Return where faults are found, and of which group or file."""
    return [(fault.where, fault.subject) for fault in verify_server(data).faults]


def change(data: Path, sql: str, *values: object) -> None:
    """Change the database by SQL; at least one row has to be affected."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection, connection:
        assert connection.execute(sql, values).rowcount > 0


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << random.Random(offset).randrange(8)
    path.write_bytes(content)


def test_whole_data_has_no_fault(data: Path) -> None:
    found = verify_server(data)
    assert found.faults == []
    assert (found.groups, found.files) == (4, FILES)
    assert found.events > MESSAGES


def test_verifying_changes_nothing(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    verify_server(data)
    assert all(path.read_bytes() == content for path, content in before.items())


def places_of(path: Path, text: bytes) -> list[int]:
    """Return where in a file a text begins."""
    content, places, at = path.read_bytes(), [], -1
    while (at := content.find(text, at + 1)) >= 0:
        places.append(at)
    return places


def test_a_flipped_byte_of_a_message_is_found(data: Path) -> None:
    """In the texts and in the headers: each byte of one event, and of many others a random one."""
    path = data / "tchat.db"
    content = path.read_bytes()
    starts = places_of(path, b"hello from alice, number ")
    assert len(starts) >= MESSAGES
    # An event's map is about 90 bytes of header, and then the text.
    offsets = [starts[7] + step for step in range(-80, 40)]
    offsets += [start + random.Random(start).randrange(-80, 40) for start in starts]
    missed = []
    for offset in offsets:
        flip(path, offset)
        if not verify_server(data).count:
            missed.append(offset)
        path.write_bytes(content)
    assert missed == []


@pytest.mark.parametrize("last", [5, 30])
def test_a_wrong_running_digest_is_found(data: Path, last: int) -> None:
    change(
        data,
        "UPDATE segments SET digest = randomblob(16)"
        " WHERE last = ? AND group_id = (SELECT id FROM groups WHERE name = ?)",
        *(last, GROUP),
    )
    (fault,) = verify_server(data).faults
    assert (fault.where, fault.subject, fault.last) == ("log", GROUP, last)
    assert "running digest" in fault.sentence


def test_digests_after_a_wrong_one_are_sound(data: Path) -> None:
    """The server has gone on from it."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection, connection:
        rows = connection.execute(
            "SELECT segments.rowid, frames FROM segments JOIN groups ON id = group_id"
            " WHERE name = ? AND segments.last >= 10 ORDER BY segments.last",
            (GROUP,),
        ).fetchall()
        digest = b"a wrong digest.."
        for number, (rowid, frames) in enumerate(rows):
            digest = extend(digest, map(decode_event, split_frames(frames))) if number else digest
            connection.execute("UPDATE segments SET digest = ? WHERE rowid = ?", (digest, rowid))
    assert verify_server(data).count == 1


@pytest.mark.parametrize("pattern", ["??/*[0-9a-f]", "??/*.sums"])
def test_a_flipped_byte_of_a_file_is_found(data: Path, pattern: str) -> None:
    for path in (data / "files").glob(pattern):
        content = path.read_bytes()
        ends = (0, len(content) - 1)
        for offset in (*ends, *(random.Random(n).randrange(len(content)) for n in range(5))):
            flip(path, offset)
            assert [where for where, _ in faults(data)] == ["files"], (path, offset)
            path.write_bytes(content)


@pytest.mark.parametrize("name", ["server-key.pem", "server-cert.pem"])
def test_a_damaged_key_is_found(data: Path, name: str) -> None:
    path = data / name
    content = path.read_bytes()
    for offset in range(30, len(content) - 30, 11):
        flip(path, offset)
        if decoded(path.read_bytes()) != decoded(content):  # not in an unused bit, or a newline
            assert [where for where, _ in faults(data)] == ["keys"], offset
        path.write_bytes(content)


def decoded(pem: bytes) -> bytes | None:
    """Return what the lines of a PEM file encode."""
    try:
        return base64.b64decode(b"".join(pem.splitlines()[1:-1]), validate=True)
    except ValueError:
        return None


def test_a_missing_file_is_found(data: Path) -> None:
    gone = next((data / "files").glob("??/*[0-9a-f]"))
    gone.unlink()
    assert faults(data) == [("files", gone.name)]


def test_a_file_of_another_length_is_found(data: Path) -> None:
    path = next((data / "files").glob("??/*[0-9a-f]"))
    path.write_bytes(path.read_bytes() + b"x")
    (fault,) = verify_server(data).faults
    assert "bytes instead of" in fault.sentence


def test_an_unknown_file_is_no_fault(data: Path) -> None:
    (data / "files" / "ab").mkdir()
    (data / "files" / "ab" / ("ab" * 32)).write_text("left over")
    found = verify_server(data)
    assert (found.count, found.unknown_files) == (0, 1)


OPS = "group_id = (SELECT id FROM groups WHERE name = 'ops')"
LAST = "(SELECT last FROM groups WHERE name = 'ops')"
FORGED = "UPDATE states SET data = CAST(substr(data, 1, 9) || x'00' || substr(data, 11) AS BLOB)"


@pytest.mark.parametrize(
    ("where", "subject", "sql"),
    [
        ("log", "ops", "DELETE FROM segments WHERE OPS AND first = 9"),
        ("log", "ops", "DELETE FROM segments WHERE OPS AND last = LAST"),
        ("log", "ops", "UPDATE segments SET frames = x'00' WHERE OPS AND first = 9"),
        ("log", "ops", "UPDATE segments SET first = 8 WHERE OPS AND first = 9"),
        ("log", "ops", "UPDATE groups SET last = last + 1 WHERE name = 'ops'"),
        ("log", "lab", "UPDATE groups SET name = 'lap' WHERE name = 'lab'"),
        ("state", "ops", FORGED),
        ("members", "ops", "DELETE FROM standings WHERE person = 'bob' AND group_id = 1"),
        ("members", "ops", "INSERT INTO standings VALUES ('eve', 1, 'member', 1)"),
        ("files", "ops", "UPDATE shelf SET at = at + 1 WHERE number = 1"),
        ("files", "ops", "DELETE FROM blobs WHERE size < 100"),
        ("search", "ops", "INSERT INTO said (rowid, words) VALUES (99, '1·planted')"),
        ("accounts", "bob", "UPDATE people SET name = 'Bobby' WHERE key = 'bob'"),
        ("accounts", "bob", "UPDATE keys SET key = x'00' WHERE person = 'bob'"),
        ("accounts", "alice", "DELETE FROM keys WHERE person = 'alice'"),
        ("files", "ops", "DELETE FROM shelf WHERE group_id = 1 AND number = 1"),
        ("files", "ops", "UPDATE group_usage SET bytes = bytes + 1 WHERE OPS"),
        ("files", "alice", "UPDATE person_usage SET bytes = bytes + 1 WHERE person = 'alice'"),
        ("state", "ops", "UPDATE states SET seq = seq + 100000"),
        ("state", "ops", "UPDATE states SET seq = seq + 100000, made_with = 'rules 1'"),
        ("state", "ops", "UPDATE groups SET shown = 'elsewhere' WHERE name = 'ops'"),
        ("state", "ops", "UPDATE groups SET shown = 'oPs' WHERE name = 'ops'"),
        ("state", "ops", "UPDATE groups SET shown = NULL WHERE name = 'ops'"),
        ("state", "ops", "DELETE FROM group_appearances WHERE group_id = 1"),
        ("state", "ops", "INSERT INTO group_appearances VALUES ('x', 1)"),
        ("state", "ops", "UPDATE groups SET erase_to = last WHERE name = 'ops'"),
        ("log", "ops", "UPDATE groups SET erased = 9, erase_to = 9 WHERE name = 'ops'"),
        ("state", "@alice,bob", "UPDATE groups SET erase_to = 1 WHERE name = '@alice,bob'"),
        ("state", "ops", "UPDATE groups SET expire_to = 9 WHERE name = 'ops'"),
        ("log", "ops", "UPDATE groups SET expired = 9, expire_to = 9 WHERE name = 'ops'"),
        ("members", "ops", "INSERT OR REPLACE INTO cursors VALUES (1, 'bob', 99999)"),
        ("search", "ops", "DELETE FROM reworded"),
        ("search", "ops", "UPDATE searchable SET upto = 99999"),
        ("search", "ops", "UPDATE searchable SET upto = upto - 9 WHERE OPS"),
        ("search", "ops", "UPDATE searchable SET floor = 7 WHERE OPS"),
    ],
)
def test_a_changed_table_is_found(data: Path, where: str, subject: str, sql: str) -> None:
    change(data, sql.replace("OPS", OPS).replace("LAST", LAST))
    found = faults(data)
    assert (where, subject if "lap" not in sql else "lap") in found


def test_an_unreadable_database_is_a_fault(data: Path) -> None:
    path = data / "tchat.db"
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    assert faults(data)[0] == ("database", "tchat.db")
    assert {fault.remedy for fault in verify_server(data).faults} == {"salvage"}


PAGE = 4096


def test_every_garbled_page_is_found_without_an_end(data: Path) -> None:
    """Noise in any page, and the loss of any part of the end, is reported as far as it goes."""
    path = data / "tchat.db"
    content = path.read_bytes()
    pages = len(content) // PAGE
    for number in range(20):
        chance = random.Random(number)
        damaged = bytearray(content)
        if number % 4:
            start = chance.randrange(pages) * PAGE
            damaged[start : start + PAGE] = chance.randbytes(PAGE)
        else:
            del damaged[chance.randrange(PAGE, len(damaged)) :]
        path.write_bytes(damaged)
        found = verify_server(data)
        assert found.faults, number
        assert found.files == FILES, number  # they are checked nevertheless
        assert all("Error(" not in fault.sentence for fault in found.faults), found.faults
        assert next_steps(found, data), number


def test_lost_events_are_named_in_every_group(data: Path) -> None:
    """Also behind the first damaged page; with where in the file it is."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        sql = "SELECT pageno FROM dbstat WHERE name = 'segments' AND pagetype = 'leaf'"
        pages = [page for (page,) in connection.execute(sql)]
    content = bytearray((data / "tchat.db").read_bytes())
    for page in (pages[0], pages[2]):
        content[(page - 1) * PAGE : page * PAGE] = bytes(PAGE)
    (data / "tchat.db").write_bytes(content)
    faults = verify_server(data).faults
    lost = [(one.first, one.last) for one in faults if one.subject == "ops" and one.first]
    assert len(lost) == 2
    assert lost[0][0] == 1
    offsets = {one.offset for one in faults}
    assert {(pages[0] - 1) * PAGE, (pages[2] - 1) * PAGE} <= offsets


def test_damage_that_heals_is_called_harmless(data: Path) -> None:
    """A server does not use a stored state whose digest is wrong; it replays the log."""
    change(data, FORGED)
    found = verify_server(data)
    assert [fault.remedy for fault in found.faults] == ["harmless"]
    assert next_steps(found, data) == ["What is left is harmless: the server repairs it by itself."]


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError) as caught:
        verify_server(tmp_path)
    assert caught.value.code == Code.CANNOT_START
    (tmp_path / "tchat.db").touch()
    with pytest.raises(StartupError, match=r"tchat\.db is empty"):
        verify_server(tmp_path)


# ------------------------------------------------------------------ no faults without damage


async def test_expiry_and_closing_leave_no_fault(
    tmp_path: Path, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens in the life of a group is in its log, or in what is derived from it."""
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.01)
    keep = replace(Limits(), keep_messages=2 * DAY_MS, keep_files=3 * DAY_MS).without_rates()
    async with (
        open_store(tmp_path) as store,
        running_server(store, keep, clock=clock, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        old = await alice.post("old")
        await alice.command(Edit, old, "edited")
        await store.search([GROUP], terms_of("edited"), 0, 9)
        assert verify_server(tmp_path).faults == []
        clock.later += 4 * DAY_MS
        await server.logged("removed the messages")
        await sweep(server)
        await share(server, alice, DATA[1:])
        await alice.post("new")
        found = verify_server(tmp_path)
        assert (found.faults, found.files) == ([], 1)
        await perform(tmp_path, "remove-group", group=GROUP)
        assert verify_server(tmp_path).faults == []
        await bob.command(Join)
        last = await bob.post("a new beginning")
        await bob.command(Edit, last, "a better beginning")
        await store.search([GROUP], terms_of("beginning"), 0, 9)
        assert verify_server(tmp_path).faults == []
        await bob.command(Leave)
        await store.accounts.take_over("alice", bytes(32), 1)
        assert verify_server(tmp_path).faults == []
    assert verify_server(tmp_path).faults == []
