"""Slots: few client ids, and no count that is ever used twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tchat.client.client_id import ClientId, acquire_client_id
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


def numbers(slot: ClientId, amount: int) -> list[int]:
    return [slot.next_number() for _ in range(amount)]


def kept(state: Path) -> Path:
    return state / "slots" / "0.json"


def test_a_slot_counts_from_one(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as slot:
        assert len(slot.client) == 8
        assert numbers(slot, 3) == [1, 2, 3]


def test_a_slot_without_a_file_counts_as_well() -> None:
    one, two = ClientId(), ClientId()
    assert one.client != two.client
    assert numbers(one, 2500) == list(range(1, 2501))


def test_an_id_is_used_again_by_whoever_comes_after(tmp_path: Path) -> None:
    clients: set[bytes] = set()
    used: list[int] = []
    for _ in range(5):
        with acquire_client_id(tmp_path) as slot:
            clients.add(slot.client)
            used += numbers(slot, 3)
    assert len(clients) == 1
    assert used == sorted(set(used))


def test_a_slot_that_was_not_used_skips_nothing(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path):
        pass
    with acquire_client_id(tmp_path) as slot:
        assert slot.next_number() == 1


def test_two_at_once_have_two_ids_and_each_comes_back(tmp_path: Path) -> None:
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
        first.running.kill()  # a lock does not outlive its process, however that ended
        await first.running.wait()
        third = await launch.script(program, user="alice")
        again, further = (await third.out.containing(" ")).split()
    assert one != other
    assert one == again
    assert int(further) > int(number)


@pytest.mark.parametrize("amount", [1, 999, 1000, 1001, 2000, 3500])
def test_after_a_crash_no_count_comes_again(tmp_path: Path, amount: int) -> None:
    with acquire_client_id(tmp_path) as slot:
        used = numbers(slot, amount)
        # What a crash would leave is what is on disk while the slot is in use.
        after_a_crash = ClientId(kept(tmp_path))
    assert after_a_crash.client == slot.client
    assert after_a_crash.next_number() > max(used)


def test_a_reserved_count_is_on_disk_before_it_is_used(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as slot:
        for number in numbers(slot, 1):
            assert json.loads(kept(tmp_path).read_text())["next"] > number


def test_a_count_that_the_server_knows_is_skipped(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as slot:
        numbers(slot, 5)
        slot.advance_past(3)
        assert slot.next_number() == 6
        slot.advance_past(123_456)
        assert numbers(slot, 2) == [123_457, 123_458]
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
def test_a_damaged_file_is_not_trusted_and_begins_a_new_id(tmp_path: Path, damage: bytes) -> None:
    with acquire_client_id(tmp_path) as slot:
        before = slot.client
        slot.next_number()
    kept(tmp_path).write_bytes(damage)
    with acquire_client_id(tmp_path) as slot:
        assert slot.client not in (before, bytes.fromhex("0011223344556677"))
        assert slot.next_number() == 1
    with acquire_client_id(tmp_path) as slot:
        assert slot.next_number() > 1


def test_what_a_crash_in_the_middle_of_writing_leaves_does_not_matter(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as slot:
        used = numbers(slot, 5)
        before = slot.client
    kept(tmp_path).with_suffix(".new").write_bytes(b'{"client": "0')
    with acquire_client_id(tmp_path) as slot:
        assert slot.client == before
        assert slot.next_number() > max(used)


def test_only_the_owner_may_look_into_the_slots(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path / "state"):
        assert (tmp_path / "state" / "slots").stat().st_mode & 0o077 == 0


def test_a_state_directory_that_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartupError, match="file cannot be used: Not a directory"),
        acquire_client_id(tmp_path / "file"),
    ):
        raise AssertionError("unreachable")


def test_an_error_of_whoever_holds_a_slot_is_not_taken_for_the_slots(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), acquire_client_id(tmp_path):
        raise ConnectionError
    with acquire_client_id(tmp_path) as slot:
        assert slot.next_number() == 1


def test_a_number_out_of_all_proportion_is_not_believed(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as slot:
        slot.advance_past(2**63 - 1)
        assert slot.next_number() == 1
