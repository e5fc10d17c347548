"""Transfer connections: receive an upload or send a download for a ticket.

A transfer connection carries one file, authorized by a ticket; see `file_requests`.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import Stored, encode
from tchat.core.protocol.handshake import Ready, agree
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError
from tchat.server.connections.file_requests import refusing_file_errors
from tchat.server.connections.pacing import TransferPacing
from tchat.store.base import FileDamaged, StorageFull, storage_errors
from tchat.transfer.endpoints import (
    FileWithdrawn,
    receive_file,
    send_file,
    wait_with_pings,
    with_pings,
)
from tchat.transfer.threads import in_thread, in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tchat.core.protocol.frames import Have
    from tchat.net.link import Link
    from tchat.server.context import ServerContext
    from tchat.server.tickets import Permission
    from tchat.store.base import StoredFile
    from tchat.transfer.partial_file import PartialFile

QUIET_SECONDS = 1.0
"""After this time without data, an upload is cancelled if the person uploads the file again."""


async def serve_transfer(
    context: ServerContext, link: Link, version: int, permission: Permission
) -> None:
    """Transfer a ticket's file. The caller has to send a raised `TchatError` to the client."""
    # There is no checkpoint between these checks and `running`: whoever is banned from then on, or
    # loses the key, has the transfer cancelled.
    context.check_person(permission.author, link.peer)
    try:
        with (
            context.tickets.running(permission, link.peer),
            context.transfer_ledger.account_of(fold(permission.user), link.peer) as account,
            refusing_file_errors(),
        ):
            await link.send(encode(Ready(agree(version), permission.size)))
            pacing = TransferPacing(account)
            await wait_with_pings(link, pacing.begin)
            if permission.direction == "upload":
                await _receive(context, link, permission, pacing)
            else:
                await _send(context, link, permission, pacing)
    except trio.TooSlowError:
        raise ProtocolError(Code.IDLE, "The transfer made no progress for too long.") from None


def ignore_progress(_: int) -> None:
    """Ignore the progress: the server does not show it."""


# ------------------------------------------------------------------ uploads


async def _receive(
    context: ServerContext, link: Link, permission: Permission, pacing: TransferPacing
) -> None:
    person = fold(permission.user)
    blobs, limits = context.store.blobs, context.limits
    listening = False

    def is_alive() -> bool:
        # While the client waits for the server, its silence does not count.
        if not listening or pacing.is_waiting:
            return True
        return trio.current_time() - link.last_received < QUIET_SECONDS

    async with blobs.upload(person, permission.size, permission.head, is_alive) as part:
        there = await in_thread(partial(_size_of, part.path))
        await wait_with_pings(link, partial(pacing.admit_hashing, there))
        await with_pings(link, partial(blobs.open_partial, part))
        listening = True
        try:
            with storage_errors():
                await receive_file(
                    link, part, ignore_progress, limits.stall_seconds, limits.transfer_rate, pacing
                )
        except FileWithdrawn:
            await in_thread_shielded(part.discard)
            raise
        listening = False
        with storage_errors():
            await with_pings(link, part.sync)
        await _store(context, person, part)
        digest = part.digest
    await link.send(encode(Stored(digest)))
    await link.close_gracefully()


def _size_of(path: Path) -> int:
    """Return the size of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


async def _store(context: ServerContext, person: str, part: PartialFile) -> None:
    """Store a complete file and record its owner: both or neither, even if this is cancelled."""
    blobs, files = context.store.blobs, context.store.files
    head = part.digests[0] if part.digests else part.digest
    async with blobs.lock():
        with trio.CancelScope(shield=True):
            await blobs.commit(part)
            try:
                await files.add(person, part.digest, part.size, head, context.clock())
                context.stored_bytes.add(part.size)
            except StorageFull:
                # Somebody else may have stored the same file before.
                if await files.size_of(part.digest) is None:
                    await blobs.remove([part.digest])
                raise


# ------------------------------------------------------------------ downloads


async def _send(
    context: ServerContext, link: Link, permission: Permission, pacing: TransferPacing
) -> None:
    store, limits = context.store, context.limits
    try:
        async with store.blobs.download(permission.sha256, permission.size) as file:
            forget = partial(_forget_damaged, context, permission, file)
            digest = await send_file(
                link,
                _CheckedFile(file, forget),
                ignore_progress,
                limits.stall_seconds,
                limits.transfer_rate,
                pacing,
            )
    except FileDamaged:
        await _forget_damaged(context, permission)
        raise
    if digest == permission.sha256:
        with suppress(StorageFull):  # they have the file, and only the list does not show it
            await store.files.record_fetch(
                fold(permission.group), permission.number, fold(permission.user), context.clock()
            )
    await link.close_gracefully()


class _CheckedFile:
    """A stored file to send. If it is damaged, it is removed before the client gets the error.

    Otherwise, a client that uploads the file again at once would be told that it is already stored.
    The methods are those of `Source`, and run in a thread.
    """

    def __init__(self, file: StoredFile, forget: Callable[[], Awaitable[None]]) -> None:
        self.size = file.size
        self._file = file
        self._forget = forget

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Seek to where the receiver wants to resume; see `Source.start`."""
        with self._forgotten_if_damaged():
            return self._file.start(have, check)

    def read(self) -> tuple[memoryview, bytes | None]:
        """Return the next bytes; see `Source.read`."""
        with self._forgotten_if_damaged():
            return self._file.read()

    @contextmanager
    def _forgotten_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except FileDamaged:
            trio.from_thread.run(self._forget)
            raise


async def _forget_damaged(
    context: ServerContext, permission: Permission, file: StoredFile | None = None
) -> None:
    """Remove a damaged file, unless it was uploaded again meanwhile."""
    store, sha256 = context.store, permission.sha256
    async with store.blobs.lock():
        if await store.files.size_of(sha256) is None or (file and not file.is_current()):
            return
        await store.files.forget(sha256)
        await store.blobs.remove([sha256])
    context.log.line("file_damaged", group=permission.group, number=permission.number)
