"""Sending and fetching files: on a connection of their own, a chunk at a time.

A received file is written under a name that nobody looks for and takes its real one when it is
whole and its digest is right. It never replaces anything: when the name is taken by other bytes
it becomes "name (2)", and so on; when it is taken by the very same bytes, that is the file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import trio

from tchat.client.introduction import Busy
from tchat.core.commands import Share
from tchat.core.frames import (
    TO_CLIENT,
    Digest,
    Download,
    Failed,
    Stored,
    Ticket,
    Upload,
    decode,
    encode,
)
from tchat.core.handshake import TICKET_SIZE, VERSION, Ready, Transfer
from tchat.core.text import clean_line, safe_filename
from tchat.errors import Code, ProtocolError, Refused
from tchat.net.address import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.receipt import Answer
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.events import FileShared
    from tchat.net.link import Link

CHUNK = 256 * 1024
STALL_SECONDS = 60.0
AUTOMATIC_LIMIT = 8 * 1024 * 1024
"""Files up to this size, in bytes, are fetched without being asked for."""


async def send_file(session: Session, replica: Replica, path: Path) -> None:
    """Upload a file and share it with the group. Raises `Refused`."""
    with await _open_to_send(path) as file:
        size = os.fstat(file.fileno()).st_size
        ticket = await session.ask(lambda i: Upload(i, replica.name, size))
        async with _transfer(session, ticket, size) as link:
            digest = await _upload(link, file, size)
    name = safe_filename(path.name)
    await session.request(lambda i, n: Share(i, n, replica.name, name, size, digest))


async def fetch_file(session: Session, replica: Replica, file: FileShared, into: Path) -> Path:
    """Download a shared file into a directory and return where it is. Raises `Refused`."""
    ticket = await session.ask(lambda i: Download(i, replica.name, file.number))
    try:
        await trio.to_thread.run_sync(_make_directory, into)
        part = into / f".{secrets.token_hex(8)}.part"
        target = FileIO(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
        try:
            with target:
                async with _transfer(session, ticket, file.size) as link:
                    await _download(link, target, file)
            return await trio.to_thread.run_sync(_settle, part, into, file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(into, error) from error


@asynccontextmanager
async def _transfer(session: Session, answer: Answer, size: int) -> AsyncIterator[Link]:
    """Open a connection for the ticket in `answer` and wait until the server is ready."""
    if not isinstance(answer, Ticket) or len(answer.ticket) != TICKET_SIZE:
        raise Refused(Code.INTERNAL, "The server gave no ticket for the transfer.")
    try:
        with trio.fail_after(STALL_SECONDS):
            link = await session.connector.open()
    except (OSError, Busy, ProtocolError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise Refused(Code.FILE_CHANGED, f"No transfer: {explain(error)}.") from error
    try:
        with trio.fail_after(STALL_SECONDS):
            await link.send(encode(Transfer(VERSION, answer.ticket)))
        ready = await _answer(link)
        if not isinstance(ready, Ready) or ready.size != size:
            raise Refused(Code.FILE_CHANGED, "The server means another file.")
        yield link
    except ProtocolError as error:
        raise Refused(error.code, error.sentence) from error
    except trio.TooSlowError:
        raise Refused(Code.IDLE, "The transfer stood still for too long.") from None
    except trio.BrokenResourceError:
        raise Refused(Code.FILE_CHANGED, "The connection broke; try the file again.") from None
    finally:
        await trio.aclose_forcefully(link.stream)


async def _answer(link: Link) -> object:
    """Return the server's next frame on a transfer connection. Raises `Refused`."""
    with trio.fail_after(STALL_SECONDS):
        body = await link.receive()
    frame = None if body is None else decode(body, TO_CLIENT)
    if isinstance(frame, Failed):
        raise Refused(clean_line(frame.code), clean_line(frame.text))
    if frame is None:
        raise trio.BrokenResourceError
    return frame


async def _upload(link: Link, file: FileIO, size: int) -> bytes:
    """Send exactly `size` bytes and their digest; return the digest once the server has both."""
    digest = hashlib.sha256()
    missing = size
    while missing:
        try:
            chunk = await trio.to_thread.run_sync(_read, file, min(CHUNK, missing), digest)
        except OSError as error:
            raise Refused(
                Code.FILE_UNREADABLE, f"The file cannot be read to its end: {error.strerror}."
            ) from error
        if not chunk:
            raise Refused(Code.FILE_CHANGED, "The file became shorter while it was sent.")
        missing -= len(chunk)
        with trio.fail_after(STALL_SECONDS):
            await link.send(chunk)
    await link.send(encode(Digest(digest.digest())))
    if not isinstance(await _answer(link), Stored):
        raise Refused(Code.FILE_CHANGED, "The server did not confirm the file.")
    return digest.digest()


async def _download(link: Link, target: FileIO, file: FileShared) -> None:
    digest = hashlib.sha256()
    missing = file.size
    while missing:
        with trio.fail_after(STALL_SECONDS):
            data = await link.receive_raw()
        if not data:
            raise trio.BrokenResourceError
        chunk = data[:missing]
        missing -= len(chunk)
        await trio.to_thread.run_sync(_write, target, chunk, digest)
    if digest.digest() != file.sha256:
        raise Refused(Code.FILE_CHANGED, "The file broke on its way; nothing of it was kept.")


async def _open_to_send(path: Path) -> FileIO:
    try:
        return await trio.to_thread.run_sync(_open, path)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(
            Code.FILE_UNREADABLE, f"{clean_line(str(path))} cannot be sent: {reason}."
        ) from error


def _open(path: Path) -> FileIO:
    # Not to hang on a named pipe: opened without blocking, then turned away.
    file = FileIO(os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it is not a file")
    return file


def _read(file: FileIO, most: int, digest: hashlib._Hash) -> bytes:
    chunk = file.read(most)
    digest.update(chunk)
    return chunk


def _write(file: FileIO, chunk: bytes, digest: hashlib._Hash) -> None:
    digest.update(chunk)
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _make_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def _settle(part: Path, into: Path, file: FileShared) -> Path:
    """Give a whole file its name, or the first free variation of it, and return where it is."""
    name = Path(safe_filename(file.name))
    number = 1
    while True:
        place = into / (name.name if number == 1 else f"{name.stem} ({number}){name.suffix}")
        try:
            # Whoever creates a name owns it; only then may the rename replace what is there.
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            if _is_the_same(place, file):
                return place
            number += 1
        else:
            part.replace(place)
            return place


def _is_the_same(place: Path, file: FileShared) -> bool:
    if place.is_symlink() or not place.is_file() or place.stat().st_size != file.size:
        return False
    with place.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").digest() == file.sha256


def _unwritable(into: Path, error: OSError) -> Refused:
    return Refused(
        Code.FILE_UNREADABLE, f"The file cannot be saved in {into}: {error.strerror or error}."
    )
