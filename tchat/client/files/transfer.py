"""Sending and fetching files: on connections of their own, until they are across.

A connection that breaks is no more than a delay, as it is to the session: a transfer is asked for
anew and goes on where it was. What is being fetched is kept in a hidden `.part` in the directory
where it is to be; whoever asks for the file again, be it the next year, goes on with that.

A received file takes its name when it is whole and its digest is right, and never replaces
anything: when the name is taken by other bytes it becomes "name (2)", and so on; when it is taken
by the very same bytes, that is the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import secrets
import shutil
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.client.authenticate import Busy
from tchat.client.files.sources import open_source
from tchat.core.group.commands import Share
from tchat.core.protocol.frames import (
    AlreadyStored,
    DigestRequired,
    Download,
    Stored,
    Ticket,
    Upload,
    encode,
)
from tchat.core.protocol.handshake import TICKET_SIZE, VERSION, Ready, TransferHello
from tchat.core.text import clean_line, safe_filename
from tchat.errors import Code, ProtocolError, Refused
from tchat.net.address import explain
from tchat.transfer.endpoints import FileWithdrawn, expect, receive_file, unreadable_file
from tchat.transfer.endpoints import send_file as carry_file
from tchat.transfer.partial_file import BrokenPiece, PartialFile, is_disk_full
from tchat.transfer.threads import check_cancelled, in_thread, in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tchat.client.files.sources import HashedSource
    from tchat.client.replica import Replica
    from tchat.client.request import Answer
    from tchat.client.session import Session
    from tchat.core.group.state import File
    from tchat.net.link import Link

STALL_SECONDS = 60.0
AUTOMATIC_LIMIT = 8 * 1024 * 1024
"""Files up to this size, in bytes, are fetched without being asked for."""

_MOST_FAILURES = 6
_FIRST_RETRY_SECONDS = 0.1
# What the other side says of a transfer that may go well the next time.
_PASSING = (
    Code.FILE_CHANGED,
    Code.BAD_TICKET,
    Code.BUSY,
    Code.SHUTTING_DOWN,
    Code.IDLE,
    Code.REPLACED,
)


class ProgressListener(Protocol):
    """Who is told how a transfer goes. Sizes are in bytes."""

    def about(self, name: str, size: int) -> None:
        """Hear what it is that will be transferred."""

    def checking(self, done: int) -> None:
        """Hear that so much of the file was read, to see whether it has to be sent at all."""

    def moved(self, done: int) -> None:
        """Hear that so much of the file is across."""

    def across(self) -> None:
        """Hear that all of it is, and that the group is about to hear of it."""


class _Nobody:
    def about(self, name: str, size: int) -> None:
        pass

    def checking(self, done: int) -> None:
        pass

    def moved(self, done: int) -> None:
        pass

    def across(self) -> None:
        pass


NOBODY: ProgressListener = _Nobody()


async def send_file(
    session: Session, replica: Replica, path: Path, told: ProgressListener = NOBODY
) -> None:
    """Bring a file, or a directory as an archive, to the server and share it. Raises `Refused`."""
    source = await in_thread(partial(open_source, path, check_cancelled), long=True)
    try:
        told.about(source.name, source.size)
        digest = await _bring(session, replica, source, told)
    except OSError as error:
        raise unreadable_file(error) from error
    finally:
        source.close()
    told.across()
    name, size = source.name, source.size
    await session.request(lambda i, n: Share(i, n, replica.name, name, size, digest))


async def fetch_file(
    session: Session,
    replica: Replica,
    file: File,
    into: Path,
    name: str | None = None,
    told: ProgressListener = NOBODY,
) -> Path:
    """Bring a shared file into a directory and return where it is. Raises `Refused`.

    It gets the name that it was shared by, or `name`.
    """
    target = into / (name or safe_filename(file.name))
    told.about(file.name, file.size)
    with _unwritable(into):
        there = await in_thread(partial(_find, target, file), long=True)
        if there is not None:
            return there
        part = await in_thread(partial(_open_part, into, file), long=True)
        try:
            await _take(session, replica, file, part, told)
            return await in_thread(partial(_settle, part, target, file), long=True)
        except (OSError, Refused) as error:
            if _is_of_no_use(error):
                await in_thread_shielded(part.discard)
            raise
        finally:
            await in_thread_shielded(partial(_leave, part, file))


# ------------------------------------------------------------------ again and again


class _Attempts:
    """Says how often to try again: as long as it gets further, and a few times more."""

    def __init__(self) -> None:
        self._failures = 0
        self._furthest = -1

    async def failed(self, failure: Refused, at: int) -> None:
        """Wait a moment before the next try. Raises the failure if there should be none."""
        if at > self._furthest:
            self._furthest, self._failures = at, 0
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise failure
        longest = _FIRST_RETRY_SECONDS * 2**self._failures
        await trio.sleep(random.uniform(longest / 2, longest))  # noqa: S311  # jitter, not a secret


async def _bring(
    session: Session, replica: Replica, source: HashedSource, told: ProgressListener
) -> bytes:
    """Return the digest of a file once the server has it and holds it for this person."""

    def checking(done: int) -> None:
        check_cancelled()
        told.checking(done)

    attempts = _Attempts()
    head = await in_thread(source.head)
    sha256: bytes | None = None
    while True:
        answer = await session.ask(
            lambda i: Upload(i, replica.name, source.size, head, sha256)  # noqa: B023  # asked at once
        )
        if isinstance(answer, AlreadyStored) and sha256 is not None:
            told.moved(source.size)
            return sha256
        if isinstance(answer, DigestRequired) and sha256 is None:
            sha256 = await in_thread(partial(source.whole, checking), long=True)
            continue
        progress = _Progress(told)
        try:
            async with _transfer(session, answer, source.size) as link:
                stored = await carry_file(link, source, progress.moved, STALL_SECONDS)
                if stored != source.digest:
                    raise Refused(
                        Code.FILE_CHANGED, "What the server has stored is not what was sent."
                    )
                return stored
        except _Again as again:
            await attempts.failed(again.refusal, progress.furthest)


async def _take(
    session: Session, replica: Replica, file: File, part: PartialFile, told: ProgressListener
) -> None:
    """Fetch what a part lacks."""
    attempts = _Attempts()
    while not part.is_complete:
        answer = await session.ask(lambda i: Download(i, replica.name, file.number))
        try:
            async with _transfer(session, answer, file.size) as link:
                await receive_file(link, part, told.moved, STALL_SECONDS)
                if part.digest == file.sha256:
                    await link.send(encode(Stored(part.digest)))
                    await link.close_gracefully()
        except _Again as again:
            await attempts.failed(again.refusal, part.offset)
    if part.digest != file.sha256:
        await in_thread_shielded(part.discard)
        raise Refused(Code.FILE_CHANGED, "What came is not the file that was shared.")


class _Progress:
    """Passes on how far a transfer is, and remembers it."""

    def __init__(self, told: ProgressListener) -> None:
        self.furthest = -1
        self._told = told

    def moved(self, done: int) -> None:
        self.furthest = max(self.furthest, done)
        self._told.moved(done)


class _Again(Exception):
    """A transfer ended for a reason that may have passed."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__()
        self.refusal = refusal


@asynccontextmanager
async def _transfer(session: Session, answer: Answer, size: int) -> AsyncIterator[Link]:
    """Open a connection for the ticket in `answer` and wait until the server is ready."""
    if not isinstance(answer, Ticket) or len(answer.ticket) != TICKET_SIZE:
        raise Refused(Code.INTERNAL, "The server gave no ticket for the transfer.")
    with _sorted_out():
        link = await _connect(session)
        try:
            with trio.fail_after(STALL_SECONDS):
                await link.send(encode(TransferHello(VERSION, answer.ticket)))
            ready = await expect(link, Ready, STALL_SECONDS)
            if ready.size != size:
                raise Refused(Code.BAD_FILE, "The server means another file.")
            yield link
        finally:
            await link.abort()


async def _connect(session: Session) -> Link:
    try:
        with trio.fail_after(STALL_SECONDS):
            return await session.connector.open()
    except OSError as error:  # of the network, not of a disk
        raise trio.BrokenResourceError(explain(error)) from error


@contextmanager
def _sorted_out() -> Iterator[None]:
    """Tell what may go well the next time from what will not."""
    try:
        yield
    except (trio.BrokenResourceError, trio.TooSlowError, Busy) as error:
        reason = f"The transfer does not get on: {explain(error)}."
        raise _Again(Refused(Code.IDLE, reason)) from error
    except BrokenPiece as broken:
        raise _Again(broken) from broken
    except FileWithdrawn as said:
        if said.code in _PASSING:
            raise _Again(said) from said
        raise
    except ProtocolError as error:
        raise Refused(error.code, error.sentence) from error


# ------------------------------------------------------------------ on the disk here


def _part_of(file: File, more: str = "") -> str:
    return f".{file.sha256.hex()[:32]}{more}.part"


def _open_part(into: Path, file: File) -> PartialFile:
    into.mkdir(parents=True, exist_ok=True)
    part = PartialFile(into / _part_of(file), file.size, 0o644)
    try:
        try:
            part.open(check_cancelled)
        except BlockingIOError:  # another program fetches it to here, too
            spare = _part_of(file, f"-{secrets.token_hex(4)}")
            part = PartialFile(into / spare, file.size, 0o644)
            part.open(check_cancelled)
        _check_room(into, file.size - part.offset)
    except BaseException:
        part.close()
        raise
    return part


def _leave(part: PartialFile, file: File) -> None:
    """End the use of a part, which stays if it is one that would be found again."""
    if part.path.name != _part_of(file):
        part.discard()
    part.close()


def _is_of_no_use(error: OSError | Refused) -> bool:
    """Return whether what came of a file is not to be gone on with, as it ended like this.

    What will not fit should not fill the disk either, and of a damaged file there is no more. That
    a server cannot read its own may pass.
    """
    return is_disk_full(error) if isinstance(error, OSError) else error.code == Code.FILE_DAMAGED


def _check_room(into: Path, size: int) -> None:
    if shutil.disk_usage(into).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _find(target: Path, file: File) -> Path | None:
    """Return where the very same bytes are under the file's name already, if they are."""
    return next((place for place in _names(target) if _is_the_same(place, file)), None)


def _names(target: Path) -> Iterator[Path]:
    """Yield a name's variations that are taken, and the first that is not."""
    number, place = 1, target
    while True:
        yield place
        if not os.path.lexists(place):
            return
        number += 1
        place = target.with_name(f"{target.stem} ({number}){target.suffix}")


def _settle(part: PartialFile, target: Path, file: File) -> Path:
    """Give a whole file its name, or the first free variation of it, and return where it is."""
    while True:
        for place in _names(target):
            if _is_the_same(place, file):
                part.discard()
                return place
        try:
            _take_name(part, place)
        except FileExistsError:
            continue  # somebody was faster
        return place


def _take_name(part: PartialFile, place: Path) -> None:
    """Give a whole file a name that nobody has. Raises FileExistsError."""
    try:
        place.hardlink_to(part.path)
    except FileExistsError:
        raise
    except OSError:  # of a file system without links: whoever creates a name there owns it
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        part.move_to(place)
    else:
        part.discard()


def _is_the_same(place: Path, file: File) -> bool:
    if place.is_symlink() or not place.is_file() or place.stat().st_size != file.size:
        return False
    with place.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").digest() == file.sha256


@contextmanager
def _unwritable(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(
            Code.FILE_UNREADABLE,
            f"The file cannot be saved in {clean_line(str(into))}: {error.strerror or error}.",
        ) from error
