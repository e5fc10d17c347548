"""Content to upload: files, tar archives of directories, and changes while they are read."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from tchat.client.files.content import TarContent
from tchat.client.files.hashed_source import HashedSource, open_source
from tchat.core.protocol.frames import Have
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import fill_buffer
from tchat.transfer.pieces import EMPTY_DIGEST

DATA = os.urandom(2 * PIECE_SIZE + 12_345)
START = Have(0, EMPTY_DIGEST)


def nothing() -> None:
    pass


def everything(source: HashedSource, have: Have = START) -> bytes:
    """Return the bytes that a source sends to a receiver with `have`; check the last digest."""
    at = source.start(have, nothing)
    sent = b""
    while at + len(sent) < source.size:
        data, digest = source.read()
        sent += data
    if sent and at == 0:
        assert digest == hashlib.sha256(sent).digest()
    return sent


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with files, links, an empty directory, and long and non-ASCII names."""
    top = tmp_path / "photos"
    (top / "2026" / "empty").mkdir(parents=True)
    (top / "2026" / "a.jpg").write_bytes(DATA)
    (top / "2026" / "наш кот 🐈.jpg").write_bytes(b"cat")
    (top / ("long" * 50)).write_bytes(b"x" * 512)
    (top / "nothing").write_bytes(b"")
    (top / "latest").symlink_to("2026/a.jpg")
    (top / "away").symlink_to("/etc")
    (top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    return top


def test_file_is_sent_unchanged(file: Path) -> None:
    source = open_source(file)
    assert (source.name, source.size) == ("plan.bin", len(DATA))
    assert source.head() == digest_of(DATA[:PIECE_SIZE])
    assert everything(source) == DATA
    assert source.whole(lambda _: None) == digest_of(DATA)
    source.close()


@pytest.mark.parametrize("offset", [0, 1, PIECE_SIZE, PIECE_SIZE + 5, len(DATA) - 1, len(DATA)])
@pytest.mark.parametrize("read_before", [True, False])
def test_receiver_gets_only_missing_bytes(file: Path, offset: int, read_before: bool) -> None:
    source = open_source(file)
    if read_before:
        everything(source)
    whole = offset if offset == len(DATA) else offset - offset % PIECE_SIZE
    have = Have(offset, digest_of(DATA[:whole]))
    assert everything(source, have) == DATA[offset:]
    source.close()


@pytest.mark.parametrize("have", [Have(len(DATA) + 1, EMPTY_DIGEST), Have(PIECE_SIZE, bytes(32))])
def test_receiver_of_other_bytes_starts_at_zero(file: Path, have: Have) -> None:
    source = open_source(file)
    assert everything(source, have) == DATA
    source.close()


def test_resumed_upload_ends_with_the_file_digest(file: Path) -> None:
    source = open_source(file)
    source.start(Have(PIECE_SIZE + 5, digest_of(DATA[:PIECE_SIZE])), nothing)
    source.read()
    _, digest = source.read()
    assert digest == digest_of(DATA)
    source.close()


def test_hashing_reports_progress(file: Path) -> None:
    told: list[int] = []
    source = open_source(file)
    source.whole(told.append)
    assert told == [PIECE_SIZE, 2 * PIECE_SIZE, len(DATA)]
    source.close()


def test_growing_file_is_sent_with_its_original_size(file: Path) -> None:
    source = open_source(file)
    with file.open("ab") as log:
        log.write(b"one more line\n")
    assert everything(source) == DATA
    source.close()


def test_rewritten_longer_file_is_refused(file: Path) -> None:
    source = open_source(file)
    source.start(START, nothing)
    source.read()
    file.write_bytes(b"x" * (len(DATA) + 1))
    os.utime(file, ns=(1, 1))
    source.read()
    with pytest.raises(Refused, match=r"plan\.bin changed") as caught:
        source.read()
    assert caught.value.code == Code.FILE_CHANGED
    source.close()


def test_virtual_file_is_refused() -> None:
    with pytest.raises(Refused, match="virtual file") as caught:
        open_source(Path("/proc/self/status"))
    assert caught.value.code == Code.FILE_UNREADABLE


def test_truncated_file_is_refused(file: Path) -> None:
    source = open_source(file)
    os.truncate(file, PIECE_SIZE + 7)
    with pytest.raises(Refused, match=r"plan\.bin changed") as caught:
        everything(source)
    assert caught.value.code == Code.FILE_CHANGED
    source.close()


def test_modified_file_is_refused(file: Path) -> None:
    source = open_source(file)
    with file.open("r+b") as written:
        written.write(b"other")
    os.utime(file, ns=(1, 1))
    with pytest.raises(Refused, match=r"plan\.bin changed"):
        everything(source)
    source.close()


def test_removed_file_is_still_sent(file: Path) -> None:
    source = open_source(file)
    file.unlink()
    assert everything(source) == DATA
    source.close()


def test_pipe_socket_or_missing_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("pipe", "socket", "missing", "nul\0"):
            with pytest.raises(Refused) as caught:
                open_source(tmp_path / name)
            assert caught.value.code == Code.FILE_UNREADABLE


# ------------------------------------------------------------------ directories


def archive_of(path: Path) -> bytes:
    source = open_source(path)
    data = everything(source)
    assert len(data) == source.size
    source.close()
    return data


def test_a_directory_is_sent_as_an_archive(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with tarfile.open(fileobj=io.BytesIO(archive_of(tree))) as archive:
        archive.extractall(
            out, filter="data", members=[m for m in archive if m.name[-4:] != "away"]
        )
        away = archive.getmember("photos/away")
    assert (away.issym(), away.linkname) == (True, "/etc")
    for path in sorted(tree.rglob("*")):
        copy = out / path.relative_to(tree.parent)
        if path.name == "away":
            continue
        assert copy.is_symlink() == path.is_symlink()
        assert copy.is_dir() == path.is_dir()
        if path.is_file():
            assert copy.read_bytes() == path.read_bytes()
    assert os.access(out / "photos" / "run.sh", os.X_OK)


def test_archive_contains_no_owner(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(tree))) as archive:
        owners = {(m.uid, m.gid, m.uname, m.gname) for m in archive}
    assert owners == {(0, 0, "", "")}


def test_an_archive_has_the_name_of_its_directory(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    for path in (tree, tree / "2026" / "..", type(tree)()):
        source = open_source(path)
        assert source.name == "photos.tar"
        source.close()


def test_archives_are_reproducible(tree: Path) -> None:
    assert archive_of(tree) == archive_of(tree)


@pytest.mark.parametrize("step", [511, 4096, 1_000_003])
def test_archive_can_be_read_from_any_offset(tree: Path, step: int) -> None:
    data = archive_of(tree)
    content = TarContent(tree)
    for offset in range(len(data) - len(data) % step, -1, -step):
        content.seek(offset)
        room = memoryview(bytearray(1000))
        read = room[: fill_buffer(content.read_into, room)]
        assert read == data[offset : offset + 1000]
    content.close()


def test_an_empty_directory_is_an_archive(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive_of(tmp_path / "nothing"))) as archive:
        assert archive.getnames() == ["nothing"]


@pytest.mark.parametrize("how", ["grow", "shrink", "vanish", "touch"])
def test_directory_changed_while_read_is_refused(tree: Path, how: str) -> None:
    source = open_source(tree)
    victim = tree / "2026" / "a.jpg"
    match how:
        case "grow":
            victim.write_bytes(DATA + b"more")
        case "shrink":
            victim.write_bytes(DATA[:-1])
        case "vanish":
            victim.unlink()
        case "touch":
            os.utime(victim, ns=(1, 1))
    with pytest.raises(Refused, match=r"a\.jpg changed"):
        everything(source)
    source.close()


def test_scan_of_a_directory_can_be_cancelled(tree: Path) -> None:
    looked = iter([None, None])
    with pytest.raises(StopIteration):
        open_source(tree, lambda: next(looked))


def test_directory_with_too_many_files_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchat.client.files.content.MOST_MEMBERS", 5)
    with pytest.raises(Refused, match="more than 5 files") as caught:
        open_source(tree)
    assert caught.value.code == Code.FILE_UNREADABLE


def test_archive_omits_pipes(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with tarfile.open(fileobj=io.BytesIO(archive_of(tree))) as archive:
        assert "photos/pipe" not in archive.getnames()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_directory_with_unreadable_file_is_refused(tree: Path) -> None:
    (tree / "run.sh").chmod(0)
    with pytest.raises(Refused, match=r"run\.sh cannot be read"):
        open_source(tree)
