"""Blobs on disk: atomic, durable before they are named, deduplicated and private."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.protocol.frames import Have
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused, StorageError
from tchat.store.base import DiskReserved, FileDamaged, StorageFull, StoredFile, storage_errors
from tchat.store.blobs import BlobDirectory, trash_path
from tchat.transfer.partial_file import PartialFile
from tchat.transfer.pieces import CHUNK_SIZE, EMPTY_DIGEST, piece_end, piece_start
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


DATA = random.Random(2).randbytes(2 * PIECE_SIZE + 77)
DIGESTS = [hashlib.sha256(DATA[:end]).digest() for end in (PIECE_SIZE, 2 * PIECE_SIZE, len(DATA))]
DIGEST = DIGESTS[-1]
HEAD = DIGESTS[0]
SMALL = b"a small file"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    blobs = BlobDirectory(tmp_path / "files")
    blobs.set_reserve(0)
    return blobs


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def add(part: PartialFile, data: bytes, until: int) -> None:
    """Add what a partial file is missing of `data[:until]`."""
    while part.offset < until:
        end = min(piece_end(part.offset, len(data)), until)
        if end == piece_end(part.offset, len(data)):
            part.add(data[part.offset : end], sha(data[:end]))
        else:
            part.add_incomplete(data[part.offset : end])


async def send(
    blobs: BlobDirectory, data: bytes, until: int | None = None, person: str = "alice"
) -> int:
    """Upload a file, or its beginning; return how much was stored already."""
    async with blobs.upload(person, len(data), sha(data[:PIECE_SIZE])) as part:
        blobs.open_partial(part)
        found = part.offset
        add(part, data, len(data) if until is None else until)
        if until is None:
            await blobs.commit(part)
    return found


@pytest.fixture(autouse=True)
def _begin_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.store.blobs.check_cancelled", lambda: None)


def names(blobs: BlobDirectory) -> list[str]:
    """Return the relative paths of all files that are not in the trash."""
    found = (path.relative_to(blobs.path) for path in blobs.path.rglob("*"))
    found = (path for path in found if path.parts[0] != "trash")
    return sorted(str(path) for path in found if (blobs.path / path).is_file())


def name_of(data: bytes) -> str:
    digest = sha(data).hex()
    return f"{digest[:2]}/{digest}"


def begun(blobs: BlobDirectory) -> list[Path]:
    parts = blobs.path.glob("incoming/*/*")
    return sorted((p for p in parts if p.suffix != ".sums"), key=lambda p: p.stat().st_mtime)


# ------------------------------------------------------------------ stored files


async def test_files_are_deduplicated_by_digest(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    await send(blobs, DATA, person="bob")
    assert names(blobs) == [name_of(DATA), name_of(DATA) + ".sums"]
    assert (blobs.path / name_of(DATA)).read_bytes() == DATA
    assert (blobs.path / (name_of(DATA) + ".sums")).read_bytes() == b"".join(DIGESTS)


@pytest.mark.parametrize("data", [b"", SMALL, DATA[:PIECE_SIZE]])
async def test_a_single_piece_has_no_digests_file(blobs: BlobDirectory, data: bytes) -> None:
    await send(blobs, data)
    assert names(blobs) == [name_of(data)]


async def test_a_commit_syncs_file_then_directory(
    blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = blobs.path / name_of(DATA)
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        assert place.exists() == (len(synced) > 1)

    monkeypatch.setattr("os.fsync", fsync)
    await send(blobs, DATA)
    assert synced == [path.stat().st_ino for path in (place, place.parent, place.parent.parent)]


async def test_files_and_directories_are_private(blobs: BlobDirectory) -> None:
    umask = os.umask(0)
    try:
        await send(blobs, DATA)
        await send(blobs, DATA[::-1], PIECE_SIZE + 5)
        (blobs.path / (name_of(DATA) + ".sums")).unlink()
        async with blobs.download(DIGEST, len(DATA)) as file:
            file.start(Have(0, EMPTY_DIGEST), lambda: None)
    finally:
        os.umask(umask)
    modes = {path: path.stat().st_mode & 0o777 for path in [blobs.path, *blobs.path.rglob("*")]}
    assert len(modes) == 8
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


async def test_a_new_upload_repairs_a_damaged_file(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    for name in names(blobs):
        (blobs.path / name).write_bytes(b"nonsense")
    await send(blobs, DATA)
    assert (blobs.path / name_of(DATA)).read_bytes() == DATA
    assert (blobs.path / (name_of(DATA) + ".sums")).read_bytes() == b"".join(DIGESTS)


async def test_a_removed_file_leaves_nothing(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    await send(blobs, SMALL)
    await blobs.remove([DIGEST, sha(b"never sent")])
    assert names(blobs) == [name_of(SMALL)]


# ------------------------------------------------------------------ unfinished uploads


async def test_an_upload_is_resumed_by_its_person(blobs: BlobDirectory) -> None:
    await send(blobs, DATA, PIECE_SIZE + 5)
    assert await send(blobs, DATA, PIECE_SIZE + 7, person="bob") == 0
    assert await send(blobs, DATA[:-1], 5) == 0, "of another size"
    assert await send(blobs, SMALL + DATA[len(SMALL) :], 5) == 0, "of another beginning"
    assert await send(blobs, DATA) == PIECE_SIZE + 5
    assert await send(blobs, DATA, person="bob") == PIECE_SIZE + 7
    assert len(begun(blobs)) == 2


async def test_concurrent_uploads_of_a_file_are_separate(blobs: BlobDirectory) -> None:
    async with blobs.upload("alice", len(DATA), HEAD) as first:
        blobs.open_partial(first)
        add(first, DATA, 5)
        async with blobs.upload("alice", len(DATA), HEAD) as second:
            blobs.open_partial(second)
            assert (second.path.parent, second.offset) == (first.path.parent, 0)
            assert second.path != first.path


async def test_a_dead_upload_is_replaced_and_resumed(blobs: BlobDirectory) -> None:
    alive = True
    ended: list[str] = []

    async def send() -> None:
        async with blobs.upload("alice", len(DATA), HEAD, lambda: alive) as part:
            blobs.open_partial(part)
            add(part, DATA, PIECE_SIZE + 5)
            await trio.sleep_forever()

    async def send_slowly() -> None:
        with pytest.raises(Refused) as caught:
            await send()
        ended.append(caught.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly)
        await trio.testing.wait_all_tasks_blocked()
        async with blobs.upload("alice", len(DATA), HEAD) as beside:
            blobs.open_partial(beside)
            assert (beside.offset, ended) == (0, [])
        alive = False
        async with blobs.upload("alice", len(DATA), HEAD) as instead:
            blobs.open_partial(instead)
            assert (instead.offset, ended) == (PIECE_SIZE + 5, [Code.REPLACED])


async def test_an_unopened_upload_leaves_nothing(blobs: BlobDirectory) -> None:
    await send(blobs, DATA, 0)
    async with blobs.upload("alice", len(DATA), HEAD):
        pass
    assert names(blobs) == []


async def test_a_cancelled_upload_keeps_its_data(blobs: BlobDirectory) -> None:
    with trio.CancelScope() as scope:
        async with blobs.upload("alice", len(DATA), HEAD) as part:
            blobs.open_partial(part)
            add(part, DATA, PIECE_SIZE)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await send(blobs, DATA) == PIECE_SIZE


async def test_an_upload_continues_after_a_failed_close(
    blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: PartialFile) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "discard", fail)
        with pytest.raises(OSError, match="broken"):
            async with blobs.upload("alice", len(DATA), HEAD, is_alive=lambda: False) as part:
                blobs.open_partial(part)
    with trio.fail_after(GUARD):
        assert await send(blobs, DATA) == 0


@pytest.mark.parametrize("failure", [StorageFull(), StorageError("internal", "broken")])
async def test_an_upload_to_a_failing_disk_is_discarded(
    blobs: BlobDirectory, failure: Exception
) -> None:
    await send(blobs, DATA, PIECE_SIZE)

    async def fail() -> None:
        async with blobs.upload("alice", len(DATA), HEAD) as part:
            blobs.open_partial(part)
            raise failure

    with pytest.raises(type(failure)):
        await fail()
    assert names(blobs) == []


async def test_only_the_missing_rest_needs_disk_space(
    blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    await send(blobs, DATA, PIECE_SIZE)
    lacks = len(DATA) - PIECE_SIZE
    for free in (lacks, lacks - 1):
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))  # noqa: B023
        async with blobs.upload("alice", len(DATA), HEAD) as part:
            if free == lacks:
                blobs.open_partial(part)
                continue
            with pytest.raises(DiskReserved):
                blobs.open_partial(part)


def minute_ago() -> int:
    return int((time.time() - 60) * 1000)


def make_older(blobs: BlobDirectory, part: Path, seconds: float) -> None:
    for path in (part, part.with_name(part.name + ".sums")):
        if path.exists():
            os.utime(path, (time.time() - seconds,) * 2)
    blobs.begun.load()


async def test_stale_uploads_are_removed(blobs: BlobDirectory) -> None:
    await send(blobs, DATA, PIECE_SIZE + 5)
    await send(blobs, DATA, PIECE_SIZE + 5, person="bob")
    old, _ = begun(blobs)
    make_older(blobs, old, 120)
    for part in begun(blobs)[1:]:
        make_older(blobs, part, 30)
    await blobs.remove_stale_uploads(minute_ago())
    assert (old.exists(), len(begun(blobs)), len(names(blobs))) == (False, 1, 2)


async def test_uploads_in_progress_are_not_stale(blobs: BlobDirectory) -> None:
    async with blobs.upload("alice", len(DATA), HEAD) as part:
        blobs.open_partial(part)
        add(part, DATA, PIECE_SIZE + 5)
        make_older(blobs, part.path, 120)
        await blobs.remove_stale_uploads(minute_ago())
        await blobs.remove_unknown(set())
        await blobs.trim_uploads("alice", 0, [(5, EMPTY_DIGEST)])
        assert part.path.with_name(part.path.name + ".sums").exists()
        add(part, DATA, len(DATA))
        await blobs.commit(part)
    assert (blobs.path / name_of(DATA)).read_bytes() == DATA


# ------------------------------------------------------------------ trimming uploads


@pytest.fixture
async def four(blobs: BlobDirectory) -> list[Path]:
    """Four unfinished uploads of 100 bytes each, the oldest first."""
    for number in range(4):
        await send(blobs, bytes([number]) * 200, 100)
    parts = sorted(begun(blobs), key=lambda part: part.read_bytes())
    for age, part in zip((400, 300, 200, 100), parts, strict=True):
        make_older(blobs, part, age)
    return parts


@pytest.mark.parametrize(
    ("room", "left"), [(1000, 4), (400, 4), (399, 3), (300, 3), (100, 1), (99, 0), (0, 0), (-5, 0)]
)
async def test_trimming_removes_the_oldest_uploads(
    blobs: BlobDirectory, four: list[Path], room: int, left: int
) -> None:
    await send(blobs, SMALL, 5, person="bob")
    await blobs.trim_uploads("alice", room, [(999, EMPTY_DIGEST)])
    assert [part.exists() for part in four] == [False] * (4 - left) + [True] * left
    assert len(begun(blobs)) == left + 1, "what bob began is his own affair"


async def test_trimming_exempts_uploads_about_to_start(
    blobs: BlobDirectory, four: list[Path]
) -> None:
    await blobs.trim_uploads("alice", 200, [(200, sha(bytes([0]) * 200))])
    assert [part.exists() for part in four] == [True, False, True, True]


async def test_trimming_exempts_uploads_in_progress(blobs: BlobDirectory, four: list[Path]) -> None:
    async with blobs.upload("alice", 200, sha(bytes([1]) * 200)):
        await blobs.trim_uploads("alice", 200, [(999, EMPTY_DIGEST)])
        assert [part.exists() for part in four] == [False, True, True, True]


async def test_concurrent_trimming_is_harmless(
    blobs: BlobDirectory, four: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    glob = type(blobs.path).glob

    def found_and_gone(self: Path, pattern: str) -> Iterator[Path]:
        for path in [*glob(self, pattern)]:
            four[0].unlink(missing_ok=True)
            yield path

    monkeypatch.setattr(type(blobs.path), "glob", found_and_gone)
    await blobs.trim_uploads("alice", 200, [(999, EMPTY_DIGEST)])
    assert [part.exists() for part in four] == [False, False, True, True]


# ------------------------------------------------------------------ cleaning


async def test_cleaning_keeps_known_files_and_fresh_uploads(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    await send(blobs, SMALL)
    await send(blobs, DATA[::-1])
    await send(blobs, b"begun", 3)
    (blobs.path / "incoming-0123456789abcdef").write_bytes(b"half a fi")
    await blobs.remove_unknown({DIGEST, sha(SMALL)})
    (part,) = begun(blobs)
    known = [name_of(DATA), name_of(DATA) + ".sums", name_of(SMALL)]
    assert names(blobs) == sorted([*known, str(part.relative_to(blobs.path))])


# ------------------------------------------------------------------ the trash


def trashed(blobs: BlobDirectory) -> list[str]:
    """Return the names of what is in the trash."""
    return sorted(path.name for path in trash_path(blobs.path).glob("*"))


async def test_discarded_file_comes_back_when_asked_for(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    await blobs.discard([DIGEST, sha(b"never sent")])
    assert (names(blobs), trashed(blobs)) == ([], [DIGEST.hex(), DIGEST.hex() + ".sums"])
    async with blobs.download(DIGEST, len(DATA)) as file:
        assert file.start(Have(0, EMPTY_DIGEST), lambda: None) == 0
        assert read_all(file) == DATA
    assert (names(blobs), trashed(blobs)) == ([name_of(DATA), name_of(DATA) + ".sums"], [])


async def test_unknown_file_comes_back_once_it_is_known(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    (blobs.path / "ab").mkdir()
    (blobs.path / "ab" / ("-" * 64)).write_bytes(b"of somebody else")
    await blobs.remove_unknown(set())
    assert (names(blobs), len(trashed(blobs))) == ([], 3)
    await blobs.remove_unknown({DIGEST})
    assert names(blobs) == [name_of(DATA), name_of(DATA) + ".sums"]
    assert trashed(blobs) == ["-" * 64]


async def test_new_upload_replaces_the_discarded_copy(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    await blobs.discard([DIGEST])
    await send(blobs, DATA)
    assert (names(blobs), trashed(blobs)) == ([name_of(DATA), name_of(DATA) + ".sums"], [])


async def test_trash_goes_by_the_clock_of_the_server(blobs: BlobDirectory) -> None:
    now = 1_000_000
    blobs.set_clock(lambda: now)
    await send(blobs, DATA)
    await blobs.discard([DIGEST])
    await blobs.empty_trash(now)
    assert len(trashed(blobs)) == 2
    await blobs.empty_trash(now + 1)
    assert trashed(blobs) == []


async def test_removed_file_leaves_the_trash_at_once(blobs: BlobDirectory) -> None:
    for data in (DATA, SMALL):
        await send(blobs, data)
        await blobs.discard([sha(data)])
    await blobs.remove([DIGEST])
    assert trashed(blobs) == [sha(SMALL).hex()]
    await blobs.empty_trash()
    assert trashed(blobs) == []


async def test_trash_gives_way_to_an_upload(
    blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000
    blobs.set_clock(lambda: now)
    for data in (b"older", b"newer"):
        await send(blobs, data)
        await blobs.discard([sha(data)])
        now += 1000
    disk = 12  # bytes

    def free() -> int:
        return disk - sum(path.stat().st_size for path in trash_path(blobs.path).glob("*"))

    monkeypatch.setattr(blobs.space, "available", free)
    await blobs.check_space("bob", 2, HEAD, 0)
    assert len(trashed(blobs)) == 2
    await blobs.check_space("bob", 7, HEAD, 0)
    assert trashed(blobs) == [sha(b"newer").hex()], "the oldest first"
    with pytest.raises(DiskReserved):
        await blobs.check_space("bob", 13, HEAD, 0)
    assert trashed(blobs) == []


# ------------------------------------------------------------------ downloads


def read_all(file: StoredFile) -> bytes:
    data = b""
    while len(data) < file.size:
        is_first = len(data) % PIECE_SIZE == 0
        content, digest = file.read()
        assert len(content) <= CHUNK_SIZE
        data += content
        expected = DIGESTS[piece_start(len(data) - 1) // PIECE_SIZE]
        assert digest == (expected if is_first else None)
    return data


async def test_a_file_is_read_with_its_digests(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)
    async with blobs.download(DIGEST, len(DATA)) as file:
        assert file.start(Have(0, EMPTY_DIGEST), lambda: None) == 0
        assert read_all(file) == DATA


async def test_a_missing_file_counts_as_damaged(blobs: BlobDirectory) -> None:
    with pytest.raises(FileDamaged):
        async with blobs.download(DIGEST, len(DATA)):
            pass


async def test_a_file_truncated_while_read_is_damaged(
    blobs: BlobDirectory,
) -> None:
    await send(blobs, DATA)
    async with blobs.download(DIGEST, len(DATA)) as file:
        file.start(Have(0, EMPTY_DIGEST), lambda: None)
        os.truncate(blobs.path / name_of(DATA), CHUNK_SIZE + 1)
        file.read()
        with pytest.raises(FileDamaged):
            file.read()


async def test_verifying_a_file_can_be_cancelled(blobs: BlobDirectory) -> None:
    await send(blobs, DATA)

    def enough() -> None:
        raise RuntimeError("enough")

    async with blobs.download(DIGEST, len(DATA)) as file:
        file.start(Have(0, EMPTY_DIGEST), enough)  # reads nothing back
        with pytest.raises(RuntimeError, match="enough"):
            file.start(Have(0, EMPTY_DIGEST, doubt=True), enough)


# ------------------------------------------------------------------ OS errors


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageError),
        (errno.EROFS, StorageError),
    ],
)
def test_os_errors_become_storage_errors(number: int, said: type[Exception]) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(said), storage_errors():
        fail()
