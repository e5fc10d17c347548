"""Concurrent transfers, deduplicated files, cancellation and resuming."""

from __future__ import annotations

import gc
import hashlib
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.files import downloads as downloads_module
from tchat.client.files.downloads import part_name
from tchat.client.files.queue import Transfers
from tchat.client.files.transfer import fetch_file, send_file
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import PartialFile
from tests.client.journey import DATA, WAYS, journey
from tests.client.scene import MIB, Scene, noise, scenery
from tests.helpers import GUARD, approve, session_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.state import File


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scenery(tmp_path) as scene:
        yield scene


# ------------------------------------------------------------------ concurrency


async def test_many_transfers_run_concurrently_both_ways(scene: Scene) -> None:
    there = [await scene.send_bytes(noise(MIB + n, n), f"down {n}") for n in range(6)]
    transfers = Transfers(scene.alice, lambda: None)
    paths = [scene.write(noise(MIB + n, n), f"up {n}") for n in range(10, 16)]
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            for file in there:
                nursery.start_soon(transfers.fetch, scene.ops, file, scene.into)
            for path in paths:
                nursery.start_soon(transfers.send, scene.ops, path)
            await scene.alice.post(scene.ops, "the chat does not wait").wait()
        await until(scene.bob, lambda: len(scene.there.state.files) == 12)
    assert scene.saved == [f"down {n}" for n in range(6)]
    for n in range(6):
        assert (scene.into / f"down {n}").read_bytes() == noise(MIB + n, n)
    sent = {file.name: file.sha256 for file in scene.there.state.files.values()}
    for path in paths:
        assert sent[path.name] == hashlib.sha256(path.read_bytes()).digest()
    assert transfers.active == []


async def test_cancelled_transfer_disturbs_nothing_and_resumes(scene: Scene) -> None:
    one, two = [await scene.send_bytes(noise(4 * MIB, n), f"file {n}") for n in (1, 2)]
    transfers = Transfers(scene.bob, lambda: None)
    ends: list[str] = []

    async def fetch(file: File) -> None:
        try:
            ends.append((await transfers.fetch(scene.there, file, scene.into)).name)
        except Refused as refusal:
            ends.append(refusal.code)

    scene.proxy.down.stall_after(4 * MIB)  # both transfers have begun by then
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, one)
            nursery.start_soon(fetch, two)
            await scene.proxy.down.stalled.wait()
            (number,) = [active.number for active in transfers.active if active.name == "file 1"]
            transfers.cancel(number)
            while not ends:
                await trio.lowlevel.checkpoint()
            scene.proxy.down.go_on()
    assert ends == [Code.CANCELLED, "file 2"]
    assert await scene.save(one) == scene.into / "file 1"
    assert scene.saved == ["file 1", "file 2"]


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_transfer_resumes_where_it_stopped(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    for size in (700_001, 2 * PIECE_SIZE, 123):
        await trip.stop_after(size)
    await trip.go()
    await trip.check()
    assert trip.transferred == len(DATA)


@pytest.mark.parametrize("way", WAYS)
async def test_another_process_resumes_the_transfer(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    await trip.stop_after(3 * PIECE_SIZE + 99)
    name = {"up": "alice", "down": "bob"}[way]
    async with session_of(scene.proxy.address, name) as (again, ops):
        await until(again, lambda: ops.caught_up)
        if way == "up":
            copy = scene.write(DATA, "plan.txt")  # another inode, later
            await send_file(again, ops, copy)
        else:
            await fetch_file(again, ops, ops.state.files[1], scene.into)
    await trip.check()
    assert trip.transferred == len(DATA)


async def test_other_file_with_same_beginning_starts_at_zero(scene: Scene) -> None:
    trip = await journey(scene, "up")
    await trip.stop_after(3 * PIECE_SIZE + 99)
    before = trip.transferred
    other = DATA[:PIECE_SIZE] + noise(len(DATA) - PIECE_SIZE, seed=9)
    assert (await scene.save(await scene.send_bytes(other))).read_bytes() == other
    assert trip.transferred - before == len(other)


async def test_verification_of_a_partial_file_can_be_cancelled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = await journey(scene, "down")
    await trip.stop_after(3 * PIECE_SIZE + 99)

    def cancelled() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads_module, "check_cancelled", cancelled)
        with pytest.raises(KeyboardInterrupt):
            await trip.go()
    gc.collect()  # a file that was left open would be found here
    await trip.go()
    await trip.check()
    assert trip.transferred == len(DATA)


async def test_partial_upload_is_not_shared_between_people(scene: Scene) -> None:
    trip = await journey(scene, "up")
    await trip.stop_after(3 * PIECE_SIZE)
    before = trip.transferred
    await send_file(scene.bob, scene.there, scene.sent / "plan.txt")
    assert trip.transferred - before == len(DATA)


# ------------------------------------------------------------------ deduplication


async def test_two_processes_download_to_the_same_place(scene: Scene) -> None:
    file = await scene.send_bytes(DATA)
    places: list[Path] = []

    async def fetch(session: Session, replica: Replica) -> None:
        places.append(await fetch_file(session, replica, file, scene.into))

    async with session_of(scene.proxy.address, "bob") as (other, there):
        scene.proxy.down.stall_after(PIECE_SIZE)
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, scene.bob, scene.there)
                await scene.proxy.down.stalled.wait()
                await fetch(other, there)
                scene.proxy.down.go_on()
    assert places == [scene.into / "plan.txt"] * 2
    assert places[0].read_bytes() == DATA
    assert scene.saved == ["plan.txt"]


async def test_cancelled_second_download_leaves_no_file(scene: Scene) -> None:
    file = await scene.send_bytes(DATA)
    scene.into.mkdir()
    first = PartialFile(scene.into / part_name(file, scene.bob.owner), len(DATA))
    first.open()
    scene.proxy.down.stall_after(PIECE_SIZE)
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.save, file)
            await scene.proxy.down.stalled.wait()
            nursery.cancel_scope.cancel()
    assert scene.saved == [first.path.name]
    first.close()


async def test_two_files_of_one_name_arrive_at_once(scene: Scene) -> None:
    files = [await scene.send_bytes(noise(MIB + 5, n)) for n in range(8)]
    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(scene.save, file)
    assert len(scene.saved) == 8
    saved = {hashlib.sha256(path.read_bytes()).digest() for path in scene.into.iterdir()}
    assert saved == {file.sha256 for file in files}


async def test_concurrent_uploads_of_one_file_succeed(scene: Scene) -> None:
    path = scene.write(DATA)
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            for _ in "ab":
                nursery.start_soon(partial(send_file, scene.alice, scene.ops, path))
        file = await scene.heard_of(2)
    assert scene.there.state.files[1].sha256 == file.sha256 == hashlib.sha256(DATA).digest()
    digest = file.sha256.hex()
    assert sorted(place.name for place in scene.kept) == [digest, f"{digest}.sums"]
    assert (await scene.save(file)).read_bytes() == DATA


# ------------------------------------------------------------------ files that the server has


async def test_saved_file_is_not_downloaded_again(scene: Scene) -> None:
    file = await scene.send_bytes(DATA)
    place = await scene.save(file)
    place.rename(scene.into / "plan (2).txt")
    (scene.into / "plan.txt").write_bytes(b"another")
    before, asked = scene.proxy.down.transferred, len(scene.proxy.of_type("download"))
    assert await scene.save(file) == scene.into / "plan (2).txt"
    assert (scene.proxy.down.transferred, len(scene.proxy.of_type("download"))) == (before, asked)


async def test_changed_local_copy_is_not_overwritten(scene: Scene) -> None:
    file = await scene.send_bytes(DATA)
    place = await scene.save(file)
    place.write_bytes(DATA[:-1] + b"!")
    assert (await scene.save(file)).name == "plan (2).txt"
    assert place.read_bytes() == DATA[:-1] + b"!"


async def test_an_empty_file_needs_no_connection(scene: Scene) -> None:
    file = await scene.send_bytes(b"")
    before = len(scene.proxy.of_type("transfer"))
    assert (await scene.save(file)).read_bytes() == b""
    assert len(scene.proxy.of_type("transfer")) == before


@asynccontextmanager
async def group_of(scene: Scene, *names: str, group: str) -> AsyncIterator[list[Session]]:
    """Run sessions of a group's members, one or two, the first of them its admin."""
    async with session_of(scene.proxy.address, names[0], group=group) as (admin, _):
        if len(names) == 1:
            yield [admin]
            return
        async with session_of(scene.proxy.address, names[1], group=group) as (other, replica):
            await approve(admin, names[1], group)
            await until(other, lambda: replica.caught_up)
            yield [admin, other]


async def sending_costs(scene: Scene, session: Session, group: str, path: Path) -> int:
    before = scene.proxy.up.transferred
    await send_file(session, session.groups[group], path)
    return scene.proxy.up.transferred - before


async def test_stored_file_is_not_uploaded_again_by_members(
    scene: Scene,
) -> None:
    await scene.send_bytes(DATA)
    path = scene.write(DATA, "under another name.bin")
    async with group_of(scene, "alice", group="family") as (alice,):
        assert await sending_costs(scene, alice, "family", path) == 0
        family = alice.groups["family"]
        await until(alice, lambda: 1 in family.state.files)
        place = await fetch_file(alice, family, family.state.files[1], scene.into)
        assert (place.name, place.read_bytes()) == (path.name, DATA)
    async with group_of(scene, "bob", group="work") as (bob,):
        assert await sending_costs(scene, bob, "work", path) == 0


async def test_offer_does_not_reveal_files_of_others(scene: Scene) -> None:
    await scene.send_bytes(DATA)
    path = scene.write(DATA)
    async with group_of(scene, "eve", group="spies") as (eve,):
        words = (
            len(scene.proxy.of_type("digest_required")),
            len(scene.proxy.of_type("already_stored")),
        )
        assert await sending_costs(scene, eve, "spies", path) == len(DATA)
        assert (
            len(scene.proxy.of_type("digest_required")),
            len(scene.proxy.of_type("already_stored")),
        ) == words
        # She has uploaded it herself now.
        assert await sending_costs(scene, eve, "spies", path) == 0
    digest = hashlib.sha256(DATA).hexdigest()
    assert sorted(place.name for place in scene.kept) == [digest, f"{digest}.sums"]


async def test_same_first_piece_is_not_enough(scene: Scene) -> None:
    await scene.send_bytes(DATA)
    path = scene.write(DATA[:-1] + b"!")
    assert await sending_costs(scene, scene.alice, scene.ops.name, path) == len(DATA)
    assert scene.proxy.of_type("digest_required") != []
