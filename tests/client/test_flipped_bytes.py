"""Corrupted bytes, on the wire and on disk, are always detected and cost little."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tchat.client.files.transfer import send_file
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code
from tests.client.journey import DATA, WAYS, journey
from tests.client.scene import Scene, scenery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scenery(tmp_path) as scene:
        yield scene


# ------------------------------------------------------------------ on the wire


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [0, PIECE_SIZE - 1, 2 * PIECE_SIZE + 5, len(DATA) - 1])
async def test_byte_flipped_on_the_wire_costs_its_piece(scene: Scene, way: str, place: int) -> None:
    trip = await journey(scene, way)
    trip.payload.flip_after(place)
    await trip.go()
    await trip.check()
    begun = scene.proxy.of_type("from")[-1]["offset"]
    assert begun == place - place % PIECE_SIZE
    # That piece is sent again, and the data in flight after it when the error was found.
    assert trip.transferred <= len(DATA) + 4 * PIECE_SIZE


@pytest.mark.parametrize("way", WAYS)
async def test_constantly_corrupting_wire_is_given_up(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    trip.payload.flip_after(*range(500, 20 * len(DATA), PIECE_SIZE // 2))
    refusal = await trip.fail()
    assert refusal.code == Code.FILE_CHANGED
    assert refusal.sentence == "The file was damaged in transit."
    assert scene.saved == [] or scene.saved[0].startswith(".")
    assert list(scene.ops.state.files) == ([] if way == "up" else [1])


def flip(path: Path, place: int) -> None:
    """Change a byte of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [7, PIECE_SIZE, 2 * PIECE_SIZE - 1, 3 * PIECE_SIZE + 9])
async def test_flipped_byte_in_partial_file_costs_the_rest(
    scene: Scene, way: str, place: int
) -> None:
    trip = await journey(scene, way)
    await trip.stop_after(3 * PIECE_SIZE + 400_000)
    before, kept = trip.transferred, trip.part.stat().st_size
    assert kept == 3 * PIECE_SIZE + 400_000
    flip(trip.part, place)
    await trip.go()
    await trip.check()
    piece = place - place % PIECE_SIZE
    assert [frame["offset"] for frame in scene.proxy.of_type("from")][-1] == piece
    if piece < 3 * PIECE_SIZE:  # the receiver finds it before it requests anything
        assert trip.transferred - before == len(DATA) - piece
    else:  # an incomplete piece cannot be checked before it is complete
        assert trip.transferred - before <= len(DATA) - kept + len(DATA) - piece


@pytest.mark.parametrize("way", WAYS)
async def test_flipped_byte_in_digests_costs_the_rest(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    await trip.stop_after(3 * PIECE_SIZE + 400_000)
    before = trip.transferred
    flip(trip.part.with_name(f"{trip.part.name}.sums"), 32 + 5)
    await trip.go()
    await trip.check()
    assert trip.transferred - before == len(DATA) - PIECE_SIZE


@pytest.mark.parametrize("left", [0, 1, 31, 33, 3 * 32 - 1])
@pytest.mark.parametrize("way", WAYS)
async def test_truncated_digests_cost_their_pieces(scene: Scene, way: str, left: int) -> None:
    trip = await journey(scene, way)
    await trip.stop_after(3 * PIECE_SIZE + 400_000)
    before = trip.transferred
    sums = trip.part.with_name(f"{trip.part.name}.sums")
    sums.write_bytes(sums.read_bytes()[:left])
    await trip.go()
    await trip.check()
    assert trip.transferred - before == len(DATA) - left // 32 * PIECE_SIZE


@pytest.mark.parametrize("way", WAYS)
async def test_missing_last_digest_means_incomplete(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    await trip.stop_after(3 * PIECE_SIZE + 400_000)
    before = trip.transferred
    trip.part.write_bytes(DATA)  # as after a kill just before the last digest was written
    sums = trip.part.with_name(f"{trip.part.name}.sums")
    ends = range(PIECE_SIZE, len(DATA), PIECE_SIZE)
    sums.write_bytes(b"".join(hashlib.sha256(DATA[:end]).digest() for end in ends))
    await trip.go()
    await trip.check()
    assert trip.transferred - before == len(DATA) % PIECE_SIZE


def blob(scene: Scene) -> Path:
    """Return the path of the only stored file."""
    (place,) = [path for path in scene.files.glob("??/*") if path.suffix == ""]
    return place


@pytest.mark.parametrize("place", [0, 3 * PIECE_SIZE + 5, len(DATA) - 1])
async def test_flipped_byte_in_storage_is_reported(scene: Scene, place: int) -> None:
    trip = await journey(scene, "down")
    flip(blob(scene), place)
    refusal = await trip.fail()
    assert refusal.code == Code.FILE_DAMAGED
    assert "sending it again repairs it for everybody" in refusal.sentence
    assert scene.saved == []
    assert trip.transferred <= len(DATA)
    await scene.server.logged("is damaged and was removed")
    assert scene.kept == []
    # As the refusal says: after another upload, the same file number can be fetched.
    await send_file(scene.alice, scene.ops, scene.sent / "plan.txt")
    await trip.go()
    await trip.check()


async def test_truncated_stored_file_counts_as_damaged(scene: Scene) -> None:
    trip = await journey(scene, "down")
    blob(scene).write_bytes(DATA[:-1])
    assert (await trip.fail()).code == Code.FILE_DAMAGED
    assert (trip.transferred, scene.saved) == (0, [])


@pytest.mark.parametrize("place", [3, 2 * 32 + 1, 5 * 32 + 31])
async def test_flipped_byte_in_stored_digests_costs_its_piece(scene: Scene, place: int) -> None:
    trip = await journey(scene, "down")
    sums = blob(scene).with_name(f"{blob(scene).name}.sums")
    right = sums.read_bytes()
    flip(sums, place)
    await trip.go()
    await trip.check()
    assert sums.read_bytes() == right
    assert trip.transferred <= len(DATA) + 4 * PIECE_SIZE


async def test_missing_stored_digests_are_computed_again(scene: Scene) -> None:
    trip = await journey(scene, "down")
    sums = blob(scene).with_name(f"{blob(scene).name}.sums")
    right = sums.read_bytes()
    sums.unlink()
    await trip.go()
    await trip.check()
    assert sums.read_bytes() == right
    assert trip.transferred == len(DATA)
