"""Upload or download one file on a connection of its own, and retry until it is done.

After a broken connection, a transfer requests a new ticket, connects again, and resumes where it
stopped. A connection on which less than `MIN_RATE` is transferred counts as broken, too. It gives
up after several attempts in a row without enough progress. So a server that sends a byte now and
then, on one connection or on many, does not keep a transfer for ever. `downloads` stores partial
downloads on disk; `content` reads the files to upload.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.client.authenticate import Busy
from tchat.client.backoff import Backoff
from tchat.client.files.downloads import (
    close_part,
    find_existing,
    finish,
    open_part,
    saving_into,
    should_discard,
)
from tchat.client.files.hashed_source import open_source
from tchat.client.native_paths import native
from tchat.core.group.files import Share
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
from tchat.core.text import safe_filename
from tchat.errors import Code, ProtocolError, Refused
from tchat.net.tcp import explain
from tchat.transfer.endpoints import (
    STALL_SECONDS,
    FileWithdrawn,
    expect,
    receive_file,
    unreadable_file,
)
from tchat.transfer.endpoints import send_file as transfer_file
from tchat.transfer.partial_file import BrokenPiece, PartialFile
from tchat.transfer.patience import WINDOW_SECONDS, Patience, TooSlow
from tchat.transfer.threads import check_cancelled, in_thread, in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tchat.client.files.hashed_source import HashedSource
    from tchat.client.replica import Replica
    from tchat.client.request import Answer
    from tchat.client.session import Session
    from tchat.core.group.state import File
    from tchat.net.link import Link

MIN_RATE = 1024
"""The slowest rate of a transfer, in bytes per second over a minute: that of servers by default."""

PROGRESS = int(MIN_RATE * WINDOW_SECONDS)
"""Bytes that attempts have to transfer together until their failures are forgiven."""

_MAX_FAILURES = 7
# Codes of failures that may be temporary, so that a retry may succeed.
_TEMPORARY = (
    Code.FILE_CHANGED,
    Code.BAD_TICKET,
    Code.BUSY,
    Code.SHUTTING_DOWN,
    Code.IDLE,
    Code.TOO_SLOW,
    Code.REPLACED,
)


class ProgressListener(Protocol):
    """Receives the progress of a transfer. Sizes are in bytes."""

    def on_start(self, name: str, size: int) -> None:
        """Handle the name and the size of the file, before the transfer starts."""

    def on_checked(self, done: int) -> None:
        """Handle the number of bytes hashed so far; called in a worker thread."""

    def on_progress(self, done: int) -> None:
        """Handle the number of bytes transferred so far."""

    def on_sharing(self) -> None:
        """Handle the end of an upload; the file is shared with the group next."""


class _NoListener:
    def on_start(self, name: str, size: int) -> None:
        pass

    def on_checked(self, done: int) -> None:
        pass

    def on_progress(self, done: int) -> None:
        pass

    def on_sharing(self) -> None:
        pass


NO_LISTENER: ProgressListener = _NoListener()


async def send_file(
    session: Session,
    replica: Replica,
    path: Path,
    listener: ProgressListener = NO_LISTENER,
    *,
    name: str | None = None,
) -> Answer:
    """Upload a file, or a directory as an archive, and share it in a group. Raises `Refused`.

    It is shared as `name` if that is given. Return the answer to the `share` command.
    """
    source = await in_thread(partial(open_source, path, check_cancelled), long=True)
    try:
        listener.on_start(name or source.name, source.size)
        digest = await _upload(session, replica, source, listener)
    except OSError as error:
        raise unreadable_file(error) from error
    finally:
        source.close()
    listener.on_sharing()
    shared, size = name or source.name, source.size
    return await session.request(lambda i, n: Share(i, n, replica.name, shared, size, digest))


async def fetch_file(
    session: Session,
    replica: Replica,
    file: File,
    into: Path,
    name: str | None = None,
    listener: ProgressListener = NO_LISTENER,
    *,
    anew: bool = False,
) -> Path:
    """Download a shared file into a directory and return its path. Raises `Refused`.

    The file keeps the name under which it was shared, unless `name` is given. One that is there
    already is not downloaded, unless `anew`: if nobody has asked for the file, that would tell the
    server which files of others the person has.
    """
    target = into / (name or native(safe_filename(file.name)))
    listener.on_start(file.name, file.size)
    with saving_into(into):
        existing = None
        if not anew:
            existing = await in_thread(partial(find_existing, target, file), long=True)
        if existing is not None:
            return existing
        opening = partial(open_part, into, file, session.owner, session.clock)
        part = await in_thread(opening, long=True)
        try:
            await _download(session, replica, file, part, listener)
            return await in_thread(partial(finish, part, target, file), long=True)
        except (OSError, Refused) as error:
            if should_discard(error):
                await in_thread_shielded(part.discard)
            raise
        finally:
            closing = partial(close_part, part, file, session.owner, session.clock)
            await in_thread_shielded(closing)


# ------------------------------------------------------------------ retries


class _Retries:
    """Waits between attempts (backoff); gives up after several in a row without enough progress."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self._forgiven = 0

    async def after(self, failure: Refused, done: int) -> None:
        """Wait before the next attempt; raise the failure if there were too many attempts.

        `done` is the number of bytes transferred so far.
        """
        if done >= self._forgiven + PROGRESS:
            self._forgiven = done
            self._backoff.reset()
        delay = self._backoff.next_delay()
        if self._backoff.failures >= _MAX_FAILURES:
            raise failure
        await trio.sleep(delay)


async def _upload(
    session: Session, replica: Replica, source: HashedSource, listener: ProgressListener
) -> bytes:
    """Upload a file, unless the server has it already, and return its digest."""

    def on_checked(done: int) -> None:
        check_cancelled()
        listener.on_checked(done)

    retries = _Retries()
    head = await in_thread(source.head)
    sha256: bytes | None = None
    while True:
        # The digest of the whole file is computed only if the server asks for it, because it has
        # a file with the same first piece: most files are new, and are then read only once.
        answer = await session.ask(
            partial(Upload, group=replica.name, size=source.size, head=head, sha256=sha256)
        )
        if isinstance(answer, AlreadyStored) and sha256 is not None:
            listener.on_progress(source.size)
            return sha256
        if isinstance(answer, DigestRequired) and sha256 is None:
            sha256 = await in_thread(partial(source.whole, on_checked), long=True)
            continue
        progress = _Progress(listener)
        try:
            async with _transfer_link(session, answer, source.size) as link:
                stored = await transfer_file(
                    link, source, progress.update, STALL_SECONDS, MIN_RATE, hashed=source.size
                )
                if stored != source.digest:
                    raise Refused(
                        Code.FILE_CHANGED, "The server did not store the bytes that were sent."
                    )
                return stored
        except _Retry as retry:
            await retries.after(retry.reason, progress.confirmed)


async def _download(
    session: Session, replica: Replica, file: File, part: PartialFile, listener: ProgressListener
) -> None:
    """Download the missing rest of a partial file, and check its digest."""
    retries = _Retries()
    while not part.is_complete:
        answer = await session.ask(lambda i: Download(i, replica.name, file.number))
        try:
            async with _transfer_link(session, answer, file.size) as link:
                await receive_file(link, part, listener.on_progress, STALL_SECONDS, MIN_RATE)
                if part.digest == file.sha256:
                    await link.send(encode(Stored(part.digest)))
                    await link.close_gracefully()
        except _Retry as retry:
            await retries.after(retry.reason, part.offset)
    if part.digest != file.sha256:
        await in_thread_shielded(part.discard)
        raise Refused(Code.FILE_CHANGED, "The downloaded bytes are not the file that was shared.")


class _Progress:
    """Passes the progress of an upload on, and remembers how much the server had at its start.

    That is what earlier attempts have achieved. More may have been sent, but perhaps only as far as
    a buffer of this system.
    """

    def __init__(self, listener: ProgressListener) -> None:
        self.confirmed = -1
        self._listener = listener

    def update(self, done: int) -> None:
        if self.confirmed < 0:
            self.confirmed = done
        self._listener.on_progress(done)


class _Retry(Exception):
    """An attempt failed for a reason that may be temporary."""

    def __init__(self, reason: Refused) -> None:
        super().__init__()
        self.reason = reason


@asynccontextmanager
async def _transfer_link(session: Session, answer: Answer, size: int) -> AsyncIterator[Link]:
    """Open a connection with the ticket in `answer`, and wait until the server is ready."""
    if not isinstance(answer, Ticket) or len(answer.ticket) != TICKET_SIZE:
        raise Refused(Code.INTERNAL, "The server gave no ticket for the transfer.")
    with _classified_failures():
        link = await _connect(session)
        try:
            with trio.fail_after(STALL_SECONDS):
                await link.send(encode(TransferHello(VERSION, answer.ticket)))
            ready = await expect(link, Ready, Patience(STALL_SECONDS, MIN_RATE))
            if ready.size != size:
                raise Refused(Code.BAD_FILE, "The server has another size for this file.")
            yield link
        finally:
            await link.abort()


async def _connect(session: Session) -> Link:
    try:
        with trio.fail_after(STALL_SECONDS):
            return await session.connector.open()
    except OSError as error:  # converted, since callers take an OSError for a disk error
        raise trio.BrokenResourceError(explain(error)) from error


@contextmanager
def _classified_failures() -> Iterator[None]:
    """Raise `_Retry` for failures that may be temporary, and `Refused` for others."""
    try:
        yield
    except (trio.BrokenResourceError, trio.TooSlowError, Busy) as error:
        reason = f"The transfer makes no progress: {explain(error)}."
        raise _Retry(Refused(Code.IDLE, reason)) from error
    except (BrokenPiece, TooSlow) as failure:
        raise _Retry(failure) from failure
    except FileWithdrawn as withdrawn:
        if withdrawn.code in _TEMPORARY:
            raise _Retry(withdrawn) from withdrawn
        raise
    except ProtocolError as error:
        raise Refused(error.code, error.sentence) from error
