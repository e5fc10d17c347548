"""Uploads and downloads: nothing is overwritten, nothing escapes its directory."""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.client.files import downloads
from tchat.client.files.downloads import (
    MOST_NUMBERED,
    close_part,
    find_existing,
    finish,
    open_part,
)
from tchat.client.files.transfer import send_file
from tchat.core.group.files import Share
from tchat.core.group.state import File
from tchat.errors import Code, Refused
from tests.client.clocks import told
from tests.client.scene import Scene, scenery
from tests.helpers import GROUP, NO_RATE_LIMITS, session_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


DATA = bytes(range(256)) * 2000


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scenery(tmp_path, replace(NO_RATE_LIMITS, file=4 * len(DATA))) as scene:
        yield scene


# ------------------------------------------------------------------ saving


@pytest.mark.parametrize("size", [0, 1, 65_536, len(DATA)])
async def test_file_arrives_with_identical_bytes(scene: Scene, size: int) -> None:
    place = await scene.save(await scene.send_bytes(DATA[:size]))
    assert place == scene.into / "plan.txt"
    assert place.read_bytes() == DATA[:size]
    assert scene.saved == ["plan.txt"]


async def test_a_file_is_never_overwritten(scene: Scene) -> None:
    scene.into.mkdir()
    (scene.into / "plan.txt").write_text("mine")
    first = await scene.save(await scene.send_bytes(b"hers"))
    second = await scene.save(await scene.send_bytes(b"hers, revised"))
    assert (scene.into / "plan.txt").read_text() == "mine"
    assert [first.name, second.name] == ["plan (2).txt", "plan (3).txt"]
    assert [first.read_bytes(), second.read_bytes()] == [b"hers", b"hers, revised"]
    assert scene.saved == ["plan (2).txt", "plan (3).txt", "plan.txt"]


def test_many_files_of_one_name_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thousands of files with one name and size, each took a look at all before it."""
    read: list[Path] = []
    is_same = downloads._is_same

    def note(path: Path, file: File) -> bool:
        read.append(path)
        return is_same(path, file)

    monkeypatch.setattr(downloads, "_is_same", note)
    for number in range(100, 160):
        data = f"data {number}".encode()
        file = File(number, "plan.txt", len(data), hashlib.sha256(data).digest(), "bob", 0)
        part = open_part(tmp_path, file, "", told())
        part.add(data, file.sha256)
        read.clear()
        place = finish(part, tmp_path / file.name, file)
        close_part(part, file, "", told())
        assert len(read) <= MOST_NUMBERED + 1
        assert place.read_bytes() == data
        assert find_existing(tmp_path / file.name, file) == place
    assert place.name == f"plan ({file.sha256.hex()[:16]}).txt"
    assert (tmp_path / f"plan ({MOST_NUMBERED}).txt").exists()


async def test_existing_file_is_not_saved_twice(scene: Scene) -> None:
    file = await scene.send_bytes(DATA)
    assert await scene.save(file) == await scene.save(file)
    assert scene.saved == ["plan.txt"]


@pytest.mark.parametrize("name", ["no-extension", "two.tar.gz", "ends.", "a b.txt", "ünïcödé.txt"])
async def test_a_second_file_of_a_name_is_numbered(scene: Scene, name: str) -> None:
    await scene.save(await scene.send_bytes(b"first", name))
    second = await scene.save(await scene.send_bytes(b"second", name))
    assert "(2)" in second.name
    assert second.suffix == scene.into.joinpath(name.rstrip(".")).suffix
    assert len(scene.saved) == 2


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "/etc/escaped",
        "..\\..\\escaped",
        "C:\\escaped",
        ".escaped",
        "~/.ssh/authorized_keys",
        "-rf",
        "..",
        ".",
        "/",
        "a\x00b",
        "a\nb",
        "a\x1b[2Jb",
        "con.txt",
        "\u202etxt.exe",
        "",
        300 * "ä" + ".txt",
    ],
)
async def test_a_hostile_name_stays_in_the_directory(scene: Scene, name: str) -> None:
    honest = await scene.send_bytes(b"data")
    hostile = replace(honest, name=name)
    place = await scene.save(hostile)
    assert place.parent == scene.into
    assert scene.saved == [place.name]
    assert place.read_bytes() == b"data"
    assert place.name.isprintable()
    assert place.name[0] not in ".-~"
    assert len(place.name.encode()) <= 120


async def test_hostile_file_name_is_sanitized_for_everybody(scene: Scene) -> None:
    file = await scene.send_bytes(b"data")
    await scene.alice.request(
        lambda i, n: Share(i, n, GROUP, "../../.bashrc", file.size, file.sha256)
    )
    await until(scene.bob, lambda: 2 in scene.there.state.files)
    assert scene.there.state.files[2].name == "bashrc"


async def test_symlink_at_the_destination_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    dangling = tmp_path / "not there"
    scene.into.mkdir()
    (scene.into / "plan.txt").symlink_to(target)
    (scene.into / "plan (2).txt").symlink_to(dangling)
    place = await scene.save(await scene.send_bytes(b"data"))
    assert place.name == "plan (3).txt"
    assert target.read_text() == "precious"
    assert not dangling.exists()


async def test_symlink_does_not_count_as_the_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"data")
    scene.into.mkdir()
    (scene.into / "plan.txt").symlink_to(tmp_path / "elsewhere")
    assert (await scene.save(await scene.send_bytes(b"data"))).name == "plan (2).txt"


async def test_directory_or_pipe_gets_a_free_name(scene: Scene) -> None:
    (scene.into / "plan.txt").mkdir(parents=True)
    os.mkfifo(scene.into / "plan (2).txt")
    assert (await scene.save(await scene.send_bytes(b"data"))).name == "plan (3).txt"


async def test_wrong_digest_leaves_no_file(scene: Scene) -> None:
    honest = await scene.send_bytes(b"data")
    refusal = await scene.unsaved(replace(honest, sha256=hashlib.sha256(b"tada").digest()))
    assert refusal.code == Code.FILE_CHANGED
    assert scene.saved == []


async def test_a_file_of_another_size_leaves_nothing(scene: Scene) -> None:
    honest = await scene.send_bytes(b"data")
    assert (await scene.unsaved(replace(honest, size=400))).code == Code.BAD_FILE
    assert scene.saved == []


async def test_unknown_file_is_refused(scene: Scene) -> None:
    refusal = await scene.unsaved(File(9, "plan.txt", 4, bytes(32), "alice", 0))
    assert refusal.code == Code.NO_SUCH_FILE
    assert scene.saved == []


async def test_unwritable_directory_is_reported(scene: Scene) -> None:
    file = await scene.send_bytes(b"data")
    scene.into.write_text("not a directory")
    refusal = await scene.unsaved(file)
    assert refusal.code == Code.FILE_UNREADABLE
    assert str(scene.into) in refusal.sentence


# ------------------------------------------------------------------ sending


async def test_missing_file_is_refused(scene: Scene, tmp_path: Path) -> None:
    refusal = await scene.refused(tmp_path / "not there")
    assert refusal.code == Code.FILE_UNREADABLE
    assert "No such file" in refusal.sentence


async def test_a_directory_is_sent_as_an_archive(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "photos" / "2026").mkdir(parents=True)
    (tmp_path / "photos" / "2026" / "a.jpg").write_bytes(DATA)
    place = await scene.save(await scene.send(tmp_path / "photos"))
    assert place.name == "photos.tar"
    with tarfile.open(place) as archive:
        assert archive.getnames() == ["photos", "photos/2026", "photos/2026/a.jpg"]
        member = archive.extractfile("photos/2026/a.jpg")
        assert member is not None
        assert member.read() == DATA


async def test_named_pipe_is_refused_without_blocking(scene: Scene, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert (await scene.refused(tmp_path / "pipe")).code == Code.FILE_UNREADABLE


async def test_a_socket_cannot_be_sent(scene: Scene, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert (await scene.refused(tmp_path / "s")).code == Code.FILE_UNREADABLE


async def test_a_device_cannot_be_sent(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert (await scene.refused(tmp_path / "zero")).code == Code.FILE_UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_unreadable_file_is_refused(scene: Scene, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o000)
    assert (await scene.refused(secret)).code == Code.FILE_UNREADABLE


async def test_impossible_path_is_refused(scene: Scene, tmp_path: Path) -> None:
    assert (await scene.refused(tmp_path / "a\x00b")).code == Code.FILE_UNREADABLE
    assert (await scene.refused(tmp_path / (300 * "x"))).code == Code.FILE_UNREADABLE


async def test_a_path_may_begin_at_home(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "notes.txt").write_text("data")
    assert (await scene.send(type(tmp_path)("~/notes.txt"))).name == "notes.txt"


async def test_a_symlink_is_sent_under_its_own_name(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("data")
    (tmp_path / "link.txt").symlink_to(tmp_path / "target")
    file = await scene.send(tmp_path / "link.txt")
    assert (file.name, file.size) == ("link.txt", 4)


async def test_too_large_file_is_refused_before_upload(scene: Scene) -> None:
    refusal = await scene.refused(scene.write(5 * DATA))
    assert refusal.code == Code.FILE_TOO_LARGE
    assert scene.proxy.of_type("transfer") == []


async def test_nonmember_cannot_send_files(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("data")
    async with session_of(scene.proxy.address, "eve") as (eve, ops):
        with pytest.raises(Refused) as caught:
            await send_file(eve, ops, tmp_path / "f")
        assert caught.value.code == Code.NOT_APPROVED
