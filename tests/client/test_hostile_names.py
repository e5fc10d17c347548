"""Hostile file names and directories: a download always becomes a new file in its place."""

from __future__ import annotations

import hashlib
import unicodedata
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.client.bounds import NAME_LENGTH
from tchat.client.files.transfer import fetch_file, send_file
from tchat.core.group.files import Share
from tchat.core.text import FILE_NAME_LIMIT
from tests.fake_server import ScriptedPeer, fake_server
from tests.helpers import GROUP, approve, running_server, session_of, until
from tests.hostile_text import HOSTILE, unsafe_characters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.state import File

    Plant = Callable[[Path, Path], None]

DATA = b"data"
SHA256 = hashlib.sha256(DATA).digest()

PATHS = (
    "../../escaped",
    "/etc/escaped",
    "a/../../escaped",
    "..\\..\\escaped",
    "C:\\escaped",
    "C:escaped",
    "\\\\server\\share\\escaped",
    "file:///etc/escaped",
    "~/.ssh/authorized_keys",
    "..",
    ".",
    "/",
    "",
    "...",
    "./",
    "..\u200d",
    "\u2024\u2024/escaped",
    "\uff0e\uff0e\uff0fescaped",  # what NFKC would make ../ of
)
NAMES = (
    ".bashrc",
    ".",
    "-rf",
    "--help",
    "~root",
    "\u00a0.hidden",
    "\u200b-rf",
    "ends. . ",
    "CON",
    "con.txt",
    "NUL .txt",
    "Com1.tar.gz",
    "LPT\u00b9",  # superscripts are digits to Windows
    "AUX\u200b.txt",
    "conin$",
    "a:stream",
    "desktop.ini::$DATA",
    "x" * 300,
    "é" * 300 + ".txt",
    "👩\u200d" * 100 + ".png",
    "x." + "y" * 300,
    ".." * 150,
    "???",
    "\u202e\u200b\u2066",
    "\0\0",
    "\ufffe",
    "fdp\u202etxt.exe",
)
HOSTILE_NAMES = (*PATHS, *NAMES, *(f"{case.text}.txt" for case in HOSTILE))
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
_PORTS = {f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³"}


def is_safe(name: str) -> bool:
    """Return whether a file name is harmless to file systems, shells and terminals."""
    return (
        name[0] not in ".-~ "
        and name[-1] not in ". "
        and not set(name) & set('/\\<>:"|?*')
        and len(name.encode()) <= FILE_NAME_LIMIT + len(" (999)")
        and name.partition(".")[0].strip().upper() not in _DEVICES | _PORTS
        and unicodedata.is_normalized("NFC", name)
        and not unsafe_characters(name)
    )


def check_saved(place: Path, into: Path) -> None:
    assert place.parent == into
    assert is_safe(place.name), ascii(place.name)
    assert not place.is_symlink()
    assert place.read_bytes() == DATA


# ------------------------------------------------------------------ peers and servers


@pytest.fixture
def into(tmp_path: Path) -> Path:
    into = tmp_path / "home" / "received"
    into.mkdir(parents=True)
    return into


@asynccontextmanager
async def told_by_a_peer(
    tmp_path: Path, *names: str
) -> AsyncIterator[tuple[Session, Replica, list[File]]]:
    """Run Bob's session; Alice, a raw client, has shared files with these names."""
    (tmp_path / "plan").write_bytes(DATA)
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, ops),
        session_of(server.address, "bob") as (bob, there),
    ):
        await approve(alice, "bob")
        await send_file(alice, ops, tmp_path / "plan")
        for name in names:
            await share(alice, name)
        await until(bob, lambda: len(there.state.files) > len(names))
        yield bob, there, list(there.state.files.values())[1:]


async def share(session: Session, name: str) -> None:
    await session.request(lambda i, n: Share(i, n, GROUP, name, len(DATA), SHA256))


@asynccontextmanager
async def told_by_a_server(
    *names: str,
) -> AsyncIterator[tuple[Session, Replica, list[File]]]:
    """Run Alice's session at a server that does not sanitize file names."""

    async def tell(peer: ScriptedPeer) -> None:
        if peer.opening["type"] == "transfer":
            await peer.send("ready", version=1, size=len(DATA))
            await peer.expect("have")
            await peer.send("from", offset=0)
            await peer.piece(DATA, SHA256)
            return
        await peer.welcome()
        await peer.attach(seq=len(names) + 1)
        await peer.event("created", "alice")
        for number, name in enumerate(names, start=1):
            file = {"number": number, "name": name, "size": len(DATA), "sha256": SHA256}
            await peer.event("file_shared", "bob", **file)
        while (request := await peer.expect("download"))["type"] != "end":
            await peer.send("ticket", re=request["id"], ticket=bytes(16))

    async with (
        fake_server(tell, tell) as address,
        session_of(address, "alice") as (alice, there),
    ):
        await until(alice, lambda: there.caught_up)
        yield alice, there, list(there.state.files.values())


# ------------------------------------------------------------------ names


def outside(into: Path) -> list[str]:
    """Return the names in the two directories above `into`."""
    return sorted(path.name for above in into.parents[:2] for path in above.iterdir())


async def test_hostile_peer_cannot_choose_the_path(tmp_path: Path, into: Path) -> None:
    async with told_by_a_peer(tmp_path, *HOSTILE_NAMES) as (bob, there, files):
        assert len(files) == len(HOSTILE_NAMES)
        assert [file.name for file in files if not is_safe(file.name)] == []
        for file in files:
            check_saved(await fetch_file(bob, there, file, into), into)
    assert outside(into) == ["home", "plan", "received"]


async def test_hostile_server_cannot_choose_the_path(tmp_path: Path, into: Path) -> None:
    names = [name for name in HOSTILE_NAMES if len(name) <= NAME_LENGTH]
    async with told_by_a_server(*names) as (alice, there, files):
        assert [file.name for file in files] == names
        for file in files:
            check_saved(await fetch_file(alice, there, file, into), into)
    assert outside(into) == ["home", "received"]


# ------------------------------------------------------------------ symlinks


def to_a_file(link: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"precious")
    link.symlink_to(elsewhere)


def to_the_same_bytes(link: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(DATA)
    link.symlink_to(elsewhere)


def to_a_directory(link: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    link.symlink_to(elsewhere)


def to_nothing(link: Path, elsewhere: Path) -> None:
    link.symlink_to(elsewhere)


def to_itself(link: Path, _: Path) -> None:
    link.symlink_to(link.name)


def to_above(link: Path, _: Path) -> None:
    link.symlink_to("../escaped")


def hard(link: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"precious")
    link.hardlink_to(elsewhere)


LINKS = (to_a_file, to_the_same_bytes, to_a_directory, to_nothing, to_itself, to_above, hard)


@pytest.mark.parametrize("plant", LINKS)
async def test_nothing_is_written_through_a_link(tmp_path: Path, into: Path, plant: Plant) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("plan.txt", "plan (2).txt", "x", "x (2)", "x (3)"):
        plant(into / name, tmp_path / "elsewhere" / name)
    before = everything_in(tmp_path)
    async with told_by_a_server("../plan.txt", "x") as (alice, there, files):
        plan, x = [await fetch_file(alice, there, file, into) for file in files]
    assert (plan, x) == (into / "plan (3).txt", into / "x (4)")
    for place in (plan, x):
        check_saved(place, into)
        place.unlink()
    assert everything_in(tmp_path) == before


def everything_in(directory: Path) -> dict[str, bytes | str]:
    """Return all entries: the bytes of files, the targets of links, and directories."""
    found: dict[str, bytes | str] = {}
    for path in directory.rglob("*"):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        else:
            found[str(path)] = path.read_bytes() if path.is_file() else "directory"
    return found


async def test_hostile_name_never_overwrites_an_existing_file(tmp_path: Path, into: Path) -> None:
    (into / "file").write_bytes(b"mine")
    async with told_by_a_server("", "..", "\u202e", "///") as (alice, there, files):
        places = [await fetch_file(alice, there, file, into) for file in files]
    # All names become "file", and all bytes are the same: one file beside the existing one.
    assert {place.name for place in places} == {"file (2)"}
    assert (into / "file").read_bytes() == b"mine"
