"""The journal of unsent messages survives crashes, damage and full disks."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from tchat.client import journal as journal_module
from tchat.client.client_id import acquire_client_id
from tchat.client.journal import Journal
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tchat.client.journal import JournalEntry

CLIENT = b"12345678"
SERVER = "sha256:abc"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.outbox"


def journal_at(path: Path, client: bytes = CLIENT) -> Journal:
    """Return the journal as a process opens it when it starts."""
    journal = Journal(client, path)
    journal.compact()
    return journal


def typed(
    journal: Journal, *words: str, server: str = SERVER, user: str = "Alice"
) -> list[JournalEntry]:
    return [journal.add(user, server, "ops", text, None, 1000) for text in words]


def kept(path: Path, *servers: str, user: str = "alice") -> list[tuple[str, int | None]]:
    """Return text and number of the unrefused entries, as the next process reads them."""
    entries = Journal(CLIENT, path).entries(user, servers or (SERVER,))
    return [(entry.text, entry.number) for entry in entries if entry.failure is None]


def texts(entries: Iterable[JournalEntry]) -> list[str]:
    return [entry.text for entry in entries]


def test_next_process_reads_entries_in_order(path: Path) -> None:
    typed(journal_at(path), "one", "two\nlines", "¿three? \u2603")
    assert kept(path) == [("one", None), ("two\nlines", None), ("¿three? \u2603", None)]


def test_message_is_held_until_numbered_or_refused(path: Path) -> None:
    def held() -> list[bool]:
        return [entry.held for entry in Journal(CLIENT, path).entries("alice", [SERVER])]

    journal = journal_at(path)
    for text in ("one", "two", "three"):
        journal.add("alice", SERVER, "ops", text, None, 1000, held=True)
    assert held() == [True, True, True]
    one, two, _ = journal.entries("alice", [SERVER])
    journal.record_numbers([(one, 1)])
    journal.record_refusal(two, Refused(Code.NOT_MEMBER, "You are not a member."))
    assert [entry.held for entry in (one, two)] == [False, False]
    assert held() == [False, False, True]
    assert [entry.held for entry in journal_at(path).entries("alice", [SERVER])] == held()


def test_every_field_of_an_entry_is_saved(path: Path) -> None:
    entry = journal_at(path).add("Alice", SERVER, "@alice,bob", "yes", 7, 123)
    assert Journal(CLIENT, path).entries("ALICE", [SERVER]) == [entry]
    assert (entry.user, entry.group, entry.reply, entry.at) == ("alice", "@alice,bob", 7, 123)


def test_numbers_and_removals_are_saved(path: Path) -> None:
    journal = journal_at(path)
    one, two, three = typed(journal, "one", "two", "three")
    journal.record_numbers([(one, 5), (two, 6)])
    journal.remove(one)
    assert kept(path) == [("two", 6), ("three", None)]
    journal.remove(two)
    journal.remove(three)
    assert path.read_bytes() == b""


def test_refused_entry_stays_until_removed_or_resubmitted(path: Path) -> None:
    journal = journal_at(path)
    one, two = typed(journal, "one", "two")
    journal.record_numbers([(one, 5)])
    journal.record_refusal(one, Refused(Code.NOT_MEMBER, "You are not a member."))
    (found, _) = Journal(CLIENT, path).entries("alice", [SERVER])
    assert found.failure is not None
    assert (found.failure.code, found.failure.sentence) == ("not_member", "You are not a member.")
    journal.resubmit(one)
    assert kept(path) == [("two", None), ("one", None)]
    journal.remove(two)
    assert kept(path) == [("one", None)]


def test_entries_are_per_person_and_server(path: Path) -> None:
    journal = journal_at(path)
    typed(journal, "mine")
    typed(journal, "elsewhere", server="localhost:1 without TLS")
    typed(journal, "his", user="bob")
    assert kept(path) == [("mine", None)]
    assert kept(path, user="bob") == [("his", None)]
    assert kept(path, "localhost:1 without TLS", SERVER) == [("mine", None), ("elsewhere", None)]


def test_journal_without_a_file_is_in_memory() -> None:
    journal = Journal(CLIENT)
    one, two = typed(journal, "one", "two")
    journal.record_numbers([(one, 1)])
    journal.remove(one)
    assert journal.entries("alice", [SERVER]) == [two]


def test_journal_file_is_private(path: Path) -> None:
    journal = journal_at(path)
    one, _ = typed(journal, "one", "two")
    assert path.stat().st_mode & 0o077 == 0
    journal.remove(one)
    journal.compact()
    assert path.stat().st_mode & 0o077 == 0


# ------------------------------------------------------------------ compaction


def test_file_is_compacted_while_entries_remain(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMPACTION_LINES", 10)
    journal = journal_at(path)
    (stays,) = typed(journal, "stays")
    journal.record_numbers([(stays, 1)])
    sizes = []
    for number in range(2, 100):
        (entry,) = typed(journal, f"text {number}")
        journal.record_numbers([(entry, number)])
        journal.remove(entry)
        sizes.append(path.stat().st_size)
    assert max(sizes) < 5000
    assert kept(path) == [("stays", 1)]
    typed(journal, "behind")
    assert kept(path) == [("stays", 1), ("behind", None)]


def test_resubmitted_entry_does_not_grow_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that approved a person and refused their message, in turns, filled the disk."""
    monkeypatch.setattr(journal_module, "COMPACTION_LINES", 10)
    journal = journal_at(path)
    entry, last = typed(journal, "hello" * 100, "last")
    for _ in range(100):
        journal.record_refusal(entry, Refused(Code.NOT_APPROVED, "Not yet."))
        entry = journal.resubmit(entry)
    assert path.stat().st_size < 20_000
    assert kept(path) == [("last", None), ("hello" * 100, None)]
    assert journal.entries("alice", [SERVER]) == [last, entry]


def test_start_compacts_the_file(path: Path) -> None:
    journal = journal_at(path)
    entries = typed(journal, *map(str, range(10)))
    for entry in entries[:9]:
        journal.remove(entry)
    journal_at(path)
    assert len(path.read_bytes().splitlines()) == 1
    assert kept(path) == [("9", None)]


# ------------------------------------------------------------------ damage


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("half", [1, 20, -1])
def test_torn_last_line_is_dropped_and_reported(path: Path, half: int) -> None:
    typed(journal_at(path), "one", "two")
    *lines, last = lines_of(path)
    path.write_bytes(b"".join(lines) + last[:half])
    journal = journal_at(path)
    assert journal.damage is not None
    assert str(path) in journal.damage
    assert texts(journal.entries("alice", [SERVER])) == ["one"]
    typed(journal, "three")
    again = journal_at(path)
    assert again.damage is None  # it was reported once and truncated
    assert texts(again.entries("alice", [SERVER])) == ["one", "three"]


def test_torn_only_line_is_reported_once(path: Path) -> None:
    path.write_bytes(b'{"key": 1, "us')
    assert journal_at(path).damage is not None
    assert journal_at(path).damage is None


def test_torn_line_is_truncated_despite_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(journal_at(path), "one")
    path.write_bytes(path.read_bytes() + b'{"key": 2, "us')
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_room)
        journal = journal_at(path)
    typed(journal, "three")
    assert kept(path) == [("one", None), ("three", None)]
    assert Journal(CLIENT, path).damage is None


def no_room(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"key": "one", "gone": true}',
        b'{"key": -1, "gone": true}',
        b'{"key": 1}',
        b'{"key": 1, "number": 1.5, "client": ""}',
    ],
)
def test_meaningless_line_is_reported_without_loss(path: Path, damage: bytes) -> None:
    typed(journal_at(path), "one")
    path.write_bytes(path.read_bytes() + damage + b"\n")
    journal = journal_at(path)
    assert journal.damage is not None
    assert texts(journal.entries("alice", [SERVER])) == ["one"]


@pytest.mark.parametrize(
    "change",
    [
        {"text": ""},
        {"text": 7},
        {"text": "\ud800"},
        {"text": 20_000 * "x"},
        {"group": "not a group"},
        {"group": None},
        {"reply": "one"},
        {"at": -1},
        {"user": []},
    ],
    ids=str,
)
def test_invalid_entry_is_dropped_without_the_others(path: Path, change: dict[str, object]) -> None:
    typed(journal_at(path), "one", "two", "three")
    one, two, three = lines_of(path)
    path.write_bytes(one + json.dumps({**json.loads(two), **change}).encode() + b"\n" + three)
    journal = journal_at(path)
    assert journal.damage is not None
    assert kept(path) == [("one", None), ("three", None)]


def test_lost_number_holds_the_message_back(path: Path) -> None:
    journal = journal_at(path)
    journal.record_numbers([(entry, 4) for entry in typed(journal, "perhaps sent")])
    text, number = lines_of(path)
    path.write_bytes(text + number[10:])
    typed(journal_at(path), "surely not sent")
    (held, free) = Journal(CLIENT, path).entries("alice", [SERVER])
    assert held.failure is not None
    assert "may have been sent already" in held.failure.sentence
    assert (free.text, free.failure) == ("surely not sent", None)


def test_number_of_another_client_is_not_used(path: Path) -> None:
    journal = journal_at(path)
    journal.record_numbers([(entry, 4) for entry in typed(journal, "perhaps sent")])
    (held,) = journal_at(path, b"87654321").entries("alice", [SERVER])
    assert (held.number, held.failure is None) == (None, False)


# ------------------------------------------------------------------ full disks


class FullDisk:
    """Disk with space for `room` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, file: int, data: bytes) -> int:
        written = self._write(file, data[: self.room])
        self.room -= written
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written


@pytest.mark.parametrize("room", [0, 1, 40])
def test_failed_write_is_rolled_back(
    path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_at(path)
    typed(journal, "one")
    with monkeypatch.context() as patch:
        FullDisk(patch, room)
        with pytest.raises(Refused, match=r"No space left on device\. Nothing was sent\."):
            typed(journal, "two")
    assert kept(path) == [("one", None)]
    typed(journal, "three")
    assert kept(path) == [("one", None), ("three", None)]
    assert Journal(CLIENT, path).damage is None


@pytest.mark.parametrize("room", [0, 60])
def test_numbers_are_saved_all_or_none(
    path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_at(path)
    one, two = typed(journal, "one", "two")
    with monkeypatch.context() as patch:
        FullDisk(patch, room)
        with pytest.raises(Refused):
            journal.record_numbers([(one, 1), (two, 2)])
    assert kept(path) == [("one", None), ("two", None)]


def test_removal_works_with_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_at(path)
    one, two, _ = typed(journal, "one", "two", "three")
    journal.record_numbers([(one, 1)])
    with monkeypatch.context() as patch:
        FullDisk(patch, 0)
        journal.remove(one)
    assert kept(path)[0] == ("one", 1)  # it will be resent, and deduplicated by the server
    journal.remove(two)
    assert kept(path) == [("three", None)]


# ------------------------------------------------------------------ client ids and their journals


def test_id_with_unsent_messages_is_acquired_first(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path), acquire_client_id(tmp_path) as second:
        typed(second.journal, "left")
        second.next_number()  # saves the client id
    with acquire_client_id(tmp_path, "alice", [SERVER]) as client_id:
        assert client_id.client == second.client
        assert texts(client_id.journal.entries("alice", [SERVER])) == ["left"]
        with acquire_client_id(tmp_path, "alice", [SERVER]) as other:
            assert other.journal.entries("alice", [SERVER]) == []
    for user, server in (("bob", SERVER), ("alice", "elsewhere")):
        with acquire_client_id(tmp_path, user, [server]) as client_id:
            assert client_id.client != second.client


def test_looking_for_unsent_messages_changes_nothing(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        typed(client_id.journal, "one")
        before = (tmp_path / "slots" / "0.outbox").read_bytes()
        with acquire_client_id(tmp_path, "alice", [SERVER]):
            assert (tmp_path / "slots" / "0.outbox").read_bytes() == before


@pytest.mark.parametrize("file", [b"{", None, b'{"client": "0011223344556677", "next": 5}'])
def test_id_of_numbered_messages_is_kept(file: bytes | None, tmp_path: Path) -> None:
    """With another id, nobody could tell whether such a message was sent."""
    with acquire_client_id(tmp_path) as client_id:
        before = client_id.client
        client_id.journal.record_numbers(
            [(entry, client_id.next_number()) for entry in typed(client_id.journal, "perhaps")]
        )
        typed(client_id.journal, "surely not")
    id_file = tmp_path / "slots" / "0.json"
    if file is None:
        id_file.unlink()
    else:
        id_file.write_bytes(file)
    with acquire_client_id(tmp_path, "alice", [SERVER]) as client_id:
        perhaps, surely_not = client_id.journal.entries("alice", [SERVER])
        is_other = file is not None and b"0011" in file
        assert (perhaps.failure is not None) == is_other
        assert (client_id.client == before) == (not is_other)
        assert is_other or (perhaps.number == 1 and client_id.next_number() > 1)
        assert surely_not.failure is None


def test_unreadable_journal_is_reported(tmp_path: Path) -> None:
    (tmp_path / "slots" / "0.outbox").mkdir(parents=True)
    with (
        pytest.raises(Exception, match="cannot be used: Is a directory"),
        acquire_client_id(tmp_path),
    ):
        raise AssertionError("unreachable")
