"""Full disks, files that change during an upload, and names in any script."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import unicodedata
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client.files.downloads import part_name
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import FILE_NAME_LIMIT
from tchat.errors import Code
from tchat.transfer.partial_file import PartialFile
from tests.client.scene import MIB, Scene, noise, scenery
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.fault_proxy import Side, Verdict

DATA = noise(3 * MIB + 4321)
Usage = namedtuple("Usage", "total used free")  # noqa: PYI024  # as that of shutil


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scenery(tmp_path) as scene:
        yield scene


# ------------------------------------------------------------------ full disks


def no_room(monkeypatch: pytest.MonkeyPatch, free: int = 1000) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - free, free))


def full_after(monkeypatch: pytest.MonkeyPatch, pieces: int, number: int = errno.ENOSPC) -> None:
    """Make writes of partial files fail after `pieces` pieces."""
    write = PartialFile._write

    def limited(part: PartialFile, data: bytes | memoryview) -> None:
        if part.offset >= pieces * PIECE_SIZE:
            write(part, data[:1000])  # the beginning still fits
            raise OSError(number, os.strerror(number))
        write(part, data)

    monkeypatch.setattr(PartialFile, "_write", limited)


async def test_file_larger_than_free_space_is_not_downloaded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await scene.send_bytes(DATA)
    no_room(monkeypatch)
    refusal = await scene.unsaved(file)
    assert refusal.sentence == (
        f"The file cannot be saved in {scene.into}: No space left on device."
    )
    assert (scene.saved, scene.proxy.down.transferred) == ([], 0)


async def test_only_missing_bytes_need_disk_space(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await scene.send_bytes(DATA)
    scene.into.mkdir()
    (scene.into / part_name(file, scene.bob.owner)).write_bytes(DATA[: PIECE_SIZE - 1])
    no_room(monkeypatch, len(DATA) - PIECE_SIZE + 1)
    assert (await scene.save(file)).read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_download_to_full_disk_is_removed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = await scene.send_bytes(DATA)
    full_after(monkeypatch, 2, number)
    refusal = await scene.unsaved(file)
    assert refusal.code == Code.FILE_UNREADABLE
    assert refusal.sentence.endswith(f": {os.strerror(number)}.")
    assert scene.saved == []
    monkeypatch.undo()
    assert (await scene.save(file)).read_bytes() == DATA


async def test_download_resumes_after_an_io_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await scene.send_bytes(DATA)
    full_after(monkeypatch, 2, errno.EIO)
    assert (await scene.unsaved(file)).sentence.endswith("Input/output error.")
    assert [name[-5:] for name in scene.saved] == [".part", ".sums"]
    monkeypatch.undo()
    await scene.proxy.open_at_most(2)  # those of Alice and Bob
    before = scene.proxy.down.transferred
    assert (await scene.save(file)).read_bytes() == DATA
    assert scene.proxy.down.transferred - before == len(DATA) - 2 * PIECE_SIZE - 1000
    assert scene.saved == ["plan.txt"]


@pytest.mark.parametrize("when", ["before", "while"])
async def test_server_without_space_refuses_the_upload(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = scene.write(DATA)
    if when == "before":
        no_room(monkeypatch)
    else:
        full_after(monkeypatch, 2)
    refusal = await scene.refused(path)
    assert refusal.code == Code.STORAGE_FULL
    assert refusal.sentence.startswith("The server's disk ")
    assert scene.kept == []
    assert scene.ops.state.files == {}
    monkeypatch.undo()
    assert (await scene.save(await scene.send(path))).read_bytes() == DATA


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system of its own, of 4 MiB."""
    place = tmp_path / "received"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("nobody may mount a disk here")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S607


@pytest.mark.parametrize("knows", [True, False])
async def test_download_to_small_disk_leaves_nothing(
    small_disk: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    large = noise(6 * MIB)
    file = await scene.send_bytes(large)
    if not knows:  # as on a disk that others fill meanwhile
        no_room(monkeypatch, 10**9)
    refusal = await scene.unsaved(file)
    assert refusal.sentence == f"The file cannot be saved in {small_disk}: No space left on device."
    assert scene.saved == []
    assert (scene.proxy.down.transferred > 0) == (not knows)
    assert (await scene.save(await scene.send_bytes(DATA))).read_bytes() == DATA


# ------------------------------------------------------------------ files that change


def at_piece(number: int, what: Callable[[], object]) -> Callable[[Side, dict[str, Any]], Verdict]:
    """Return a watch that calls `what` at the piece with this number."""
    left = number

    def watch(_: Side, frame: dict[str, Any]) -> Verdict:
        nonlocal left
        left -= frame["type"] == "piece"
        if left == 0:
            left -= 1
            what()
        return "pass"

    return watch


LARGE = noise(40 * MIB)


@pytest.mark.parametrize("how", ["shrink", "empty", "overwrite", "touch"])
async def test_file_changed_during_upload_is_not_shared(scene: Scene, how: str) -> None:
    path = scene.write(LARGE)

    def change() -> None:
        match how:
            case "shrink":
                os.truncate(path, len(LARGE) - 100)
            case "empty":
                path.write_bytes(b"")
            case "overwrite":
                with path.open("r+b") as file:
                    file.seek(len(LARGE) - 5)
                    file.write(b"other")
            case "touch":
                os.utime(path, ns=(1, 1))

    scene.proxy.watch = at_piece(1, change)
    refusal = await scene.refused(path)
    assert refusal.code == Code.FILE_CHANGED
    assert refusal.sentence == "plan.txt changed while it was read; send it again."
    with trio.fail_after(GUARD):
        while scene.kept:  # the server hears of it a moment later
            await trio.lowlevel.checkpoint()
    scene.proxy.watch = lambda _, __: "pass"
    assert (await scene.save(await scene.send(path))).read_bytes() == path.read_bytes()


async def test_file_growing_during_upload_is_sent_unchanged(scene: Scene) -> None:
    path = scene.write(DATA)

    def lengthen_and_remove() -> None:
        with path.open("ab") as file:
            file.write(b"more")
        path.unlink()

    scene.proxy.watch = at_piece(1, lengthen_and_remove)
    assert (await scene.save(await scene.send(path))).read_bytes() == DATA


async def test_file_replaced_during_upload_is_sent_unchanged(scene: Scene) -> None:
    path = scene.write(DATA)

    def replace() -> None:
        scene.write(b"another", "new").replace(path)

    scene.proxy.watch = at_piece(1, replace)
    assert (await scene.save(await scene.send(path))).read_bytes() == DATA


async def test_directory_losing_a_file_is_not_shared(
    scene: Scene,
) -> None:
    top = scene.sent / "photos"
    top.mkdir()
    (top / "1.jpg").write_bytes(LARGE)
    (top / "2.jpg").write_bytes(DATA)
    scene.proxy.watch = at_piece(1, (top / "2.jpg").unlink)
    refusal = await scene.refused(top)
    assert refusal.code == Code.FILE_CHANGED
    assert refusal.sentence == f"{top / '2.jpg'} changed while it was read; send it again."


# ------------------------------------------------------------------ names

NAMES = {
    "Arabic": "تقرير نهائي.pdf",
    "Thai": "รายงานสุดท้าย.txt",
    "Hindi": "क्षत्रिय.md",
    "Chinese": "最终报告.docx",
    "a family": "👩‍👩‍👧‍👦 🏳️‍🌈.png",
    "marks apart": unicodedata.normalize("NFD", "Ångström café Việt.txt"),
    "Zalgo": "Z" + "\u0335\u0321\u0353" * 20 + "algo.txt",
    "Hangul": unicodedata.normalize("NFD", "최종 보고서.hwp"),
    "long": "x" * 251 + ".txt",
    "long in Thai": "ก" * 85,
    "newlines": "one\ntwo\r\nthree.txt",
    "spaces": "  a   b  .txt ",
    "an escape": "a\x1b[31mb.txt",
    "reversed": "cod\u202etxt.exe",
    "only dots": "...",
    "hidden": ".profile",
    "an option": "-rf",
    "not UTF-8": os.fsdecode(b"caf\xe9 \xff\xfe.txt"),
    "nothing of it UTF-8": os.fsdecode(b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_names_in_any_script_are_kept(scene: Scene, name: str) -> None:
    file = await scene.send_bytes(b"data", name)
    place = await scene.save(file)
    assert place.read_bytes() == b"data"
    assert scene.saved == [place.name] == [file.name]
    assert 0 < len(place.name.encode()) <= FILE_NAME_LIMIT
    assert "\n" not in place.name
    assert place.name[0] not in ".-"
    if "." in name.strip(" .") and not name.startswith("."):
        assert place.suffix == name.rstrip()[-len(place.suffix) :]


@pytest.mark.parametrize("name", ["Arabic", "Thai", "Chinese", "Hindi"])
async def test_harmless_file_name_is_unchanged(scene: Scene, name: str) -> None:
    assert (await scene.save(await scene.send_bytes(b"data", NAMES[name]))).name == NAMES[name]


@pytest.mark.parametrize("name", ["not UTF-8", "newlines", "an escape"])
async def test_errors_show_sanitized_names(scene: Scene, name: str) -> None:
    refusal = await scene.refused(scene.sent / NAMES[name])
    assert refusal.code == Code.FILE_UNREADABLE
    refusal.sentence.encode()
    path = scene.write(LARGE, NAMES[name])
    scene.proxy.watch = at_piece(1, lambda: os.truncate(path, 5))
    refusal = await scene.refused(path)
    assert refusal.code == Code.FILE_CHANGED
    refusal.sentence.encode()


@pytest.mark.parametrize("name", ["not UTF-8", "Thai", "newlines"])
async def test_archive_may_contain_any_file_names(scene: Scene, name: str) -> None:
    top = scene.sent / NAMES[name]
    top.mkdir()
    (top / NAMES[name]).write_bytes(b"data")
    (top / "link").symlink_to(NAMES[name])
    place = await scene.save(await scene.send(top))
    shutil.unpack_archive(place, scene.into, "tar", filter="data")
    assert (scene.into / NAMES[name] / "link").read_bytes() == b"data"


@pytest.mark.parametrize("name", ["not UTF-8", "Thai", "newlines"])
async def test_download_directory_may_have_any_name(scene: Scene, name: str) -> None:
    file = await scene.send_bytes(DATA)
    scene.into = scene.into / NAMES[name] / "new"
    assert (await scene.save(file)).read_bytes() == DATA
    (scene.into / "plan.txt").write_bytes(b"mine")
    (scene.into / "plan (2).txt").unlink(missing_ok=True)
    scene.into = scene.into / "plan.txt"
    refusal = await scene.unsaved(file)
    refusal.sentence.encode()
