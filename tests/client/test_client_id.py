"""Client ids: few, locked per process, and no number is ever used twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tchat.client.client_id import ClientId, acquire_client_id, is_in_a_journal
from tchat.errors import StartupError
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from pathlib import Path
from tchat.client.client_id import acquire_client_id

with acquire_client_id(Path({state!r})) as slot:
    print(slot.client.hex(), slot.next_number(), flush=True)
    input()
"""


def numbers(client_id: ClientId, amount: int) -> list[int]:
    return [client_id.next_number() for _ in range(amount)]


def kept(state: Path) -> Path:
    return state / "slots" / "0.json"


def test_client_id_numbers_start_at_one(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        assert len(client_id.client) == 8
        assert numbers(client_id, 3) == [1, 2, 3]


def test_client_id_without_a_file_counts_too() -> None:
    one, two = ClientId(), ClientId()
    assert one.client != two.client
    assert numbers(one, 2500) == list(range(1, 2501))


def test_free_id_is_reused(tmp_path: Path) -> None:
    clients: set[bytes] = set()
    used: list[int] = []
    for _ in range(5):
        with acquire_client_id(tmp_path) as client_id:
            clients.add(client_id.client)
            used += numbers(client_id, 3)
    assert len(clients) == 1
    assert used == sorted(set(used))


def test_unused_client_id_skips_no_numbers(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path):
        pass
    with acquire_client_id(tmp_path) as client_id:
        assert client_id.next_number() == 1


def test_concurrent_processes_have_different_ids(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as first, acquire_client_id(tmp_path) as second:
        assert first.client != second.client
        numbers(first, 1)
        numbers(second, 1)
        ids = [first.client, second.client]
    with acquire_client_id(tmp_path) as first, acquire_client_id(tmp_path) as second:
        assert [first.client, second.client] == ids


async def test_processes_share_ids_as_they_come_and_go(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(state=str(tmp_path)))

    async with launching(tmp_path) as launch:
        first = await launch.script(program, user="alice")
        one, number = (await first.out.containing(" ")).split()
        second = await launch.script(program, user="alice")
        other, _ = (await second.out.containing(" ")).split()
        first.running.kill()  # the lock ends with its process
        await first.running.wait()
        third = await launch.script(program, user="alice")
        again, further = (await third.out.containing(" ")).split()
    assert one != other
    assert one == again
    assert int(further) > int(number)


@pytest.mark.parametrize("amount", [1, 999, 1000, 1001, 2000, 3500])
def test_no_number_is_reused_after_a_crash(tmp_path: Path, amount: int) -> None:
    with acquire_client_id(tmp_path) as client_id:
        used = numbers(client_id, amount)
        # After a crash, the file is as it is now, while the id is in use.
        after_a_crash = ClientId(kept(tmp_path))
    assert after_a_crash.client == client_id.client
    assert after_a_crash.next_number() > max(used)


def test_numbers_are_reserved_before_they_are_used(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        for number in numbers(client_id, 1):
            assert json.loads(kept(tmp_path).read_text())["next"] > number


def test_numbers_known_to_the_server_are_skipped(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        numbers(client_id, 5)
        client_id.advance_past(3)
        assert client_id.next_number() == 6
        client_id.advance_past(123_456)
        assert numbers(client_id, 2) == [123_457, 123_458]
        assert ClientId(kept(tmp_path)).next_number() > 123_458


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"client": "00112233"}',
        b'{"client": "0011", "next": 5}',
        b'{"client": "zz11223344556677", "next": 5}',
        b'{"client": "0011223344556677", "next": 0}',
        b'{"client": "0011223344556677", "next": "many"}',
        b'{"client": 7, "next": 5}',
        b"\xff\xfe\x00",
    ],
)
def test_damaged_file_gets_a_new_id(tmp_path: Path, damage: bytes) -> None:
    with acquire_client_id(tmp_path) as client_id:
        before = client_id.client
        client_id.next_number()
    kept(tmp_path).write_bytes(damage)
    with acquire_client_id(tmp_path) as client_id:
        assert client_id.client not in (before, bytes.fromhex("0011223344556677"))
        assert client_id.next_number() == 1
    with acquire_client_id(tmp_path) as client_id:
        assert client_id.next_number() > 1


def test_leftover_draft_is_ignored(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        used = numbers(client_id, 5)
        before = client_id.client
    kept(tmp_path).with_suffix(".new").write_bytes(b'{"client": "0')
    with acquire_client_id(tmp_path) as client_id:
        assert client_id.client == before
        assert client_id.next_number() > max(used)


def test_slots_directory_is_private(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path / "state"):
        assert (tmp_path / "state" / "slots").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("numbered", [False, True])
def test_key_of_another_process_is_found_until_answered(tmp_path: Path, numbered: bool) -> None:
    with acquire_client_id(tmp_path) as one, acquire_client_id(tmp_path) as other:
        entry = one.journal.add("alice", "server", "ops", "red", None, 1, "build 7")
        if numbered:  # it is being sent
            one.journal.record_numbers([(entry, one.next_number())])
        place = "alice", ["server"], "ops", "build 7"
        assert is_in_a_journal(other, *place)
        one.journal.remove(entry)
        assert not is_in_a_journal(other, *place)


def test_unusable_state_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartupError, match="file cannot be used: Not a directory"),
        acquire_client_id(tmp_path / "file"),
    ):
        raise AssertionError("unreachable")


def test_error_inside_the_block_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), acquire_client_id(tmp_path):
        raise ConnectionError
    with acquire_client_id(tmp_path) as client_id:
        assert client_id.next_number() == 1


def test_absurd_number_is_ignored(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        client_id.advance_past(2**63 - 1)
        assert client_id.next_number() == 1
