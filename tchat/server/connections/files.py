"""Files: who may send and fetch them, their transfers, and how long they are kept.

A file has a connection of its own, so that TCP paces it and the chat never waits behind it. What
is asked for in the chat is answered with a ticket, which is good for one transfer.

To send begins with an offer: the file's size and the digest of its first piece. Only if there is a
file like that already which this person could fetch anyway does the server ask for the digest of
all of it, and if that is the one, nothing is sent. Whoever could not fetch it sends it like any
other, and so learns nothing of what others have stored; it is kept once all the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.group.rules import SHA256_SIZE
from tchat.core.protocol.frames import (
    AlreadyStored,
    DigestRequired,
    Download,
    FileList,
    FileListRequest,
    Stored,
    Ticket,
    Upload,
    encode,
)
from tchat.core.protocol.handshake import Ready, agree
from tchat.core.protocol.schema import INT_LIMIT
from tchat.core.text import fold, size_text
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.server.tickets import Permission
from tchat.store.base import FileDamaged, StorageFull, storage_errors
from tchat.transfer.endpoints import FileWithdrawn, receive_file, send_file, with_pings
from tchat.transfer.threads import in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.frames import Have
    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link
    from tchat.server.context import ServerContext
    from tchat.store.base import FileEntry, StoredFile
    from tchat.transfer.partial_file import PartialFile

DAY_MS = 24 * 3600 * 1000
SWEEP_SECONDS = 60.0
QUIET_SECONDS = 1.0
"""After how long an upload gives way to another one of the same file."""

_PAGE = 40
_MOST_NAMES = 8


async def consider(
    host: ServerContext, author: Author, request: Upload | Download | FileListRequest
) -> Callable[[Group], Frame]:
    """Return what answers a request about files once it is given the group's state.

    All that takes time happens here, and what is asked of the group is whether it may be.
    """
    match request:
        case Upload():
            return await _consider_upload(host, author, request)
        case Download():
            return await _consider_download(host, author, request)
    return await _consider_shelf(host, author, request)


# ------------------------------------------------------------------ sending


async def _consider_upload(
    host: ServerContext, author: Author, request: Upload
) -> Callable[[Group], Frame]:
    person, size, head, sha256 = fold(author.name), request.size, request.head, request.sha256
    if {len(digest) for digest in (head, sha256) if digest is not None} != {SHA256_SIZE}:
        raise Refused(Code.BAD_FILE, "A file is offered with SHA-256 digests.")
    shelves = host.store.files
    used = await _used(host, author.name, sha256)
    held = alike = False
    if sha256 is None:
        alike = await shelves.has_similar(person, size, head)
    if not alike:
        _check_room(host, author.name, size, used)
    if sha256 is not None:
        held = await shelves.lease(person, sha256, host.clock()) == size
        if not held:  # it is no file that counts already, whatever was said
            used = await _used(host, author.name)
    if not (alike or held):
        room = host.limits.files_per_user - used - host.tickets.promised(author.name) - size
        with _no_more_than_a_file():
            going = [(size, head), *host.tickets.uploads(author.name)]
            await host.store.blobs.trim_uploads(person, room, going)

    def answer(group: Group) -> Frame:
        _require_member(group, author)
        if alike:
            return DigestRequired(request.id)
        if held:
            return AlreadyStored(request.id)
        _check_room(host, author.name, size, used)
        permission = Permission("upload", author.name, size, head=head)
        return Ticket(request.id, host.tickets.issue(permission))

    return answer


async def _used(host: ServerContext, user: str, besides: bytes | None = None) -> int:
    """Return how many bytes of files count for a person, besides one and what is promised."""
    promised = host.tickets.promised(user)
    used = await host.store.files.usage(fold(user), besides)
    # What is finished meanwhile is in neither of the two otherwise.
    return used + max(0, promised - host.tickets.promised(user))


def _require_member(group: Group, author: Author) -> None:
    if group.standing(author.name) != "member":
        raise Refused(Code.NOT_MEMBER, "Only members can send, list and fetch files.")


def _check_room(host: ServerContext, user: str, size: int, used: int) -> None:
    limit = host.limits.file
    if size > limit:
        raise Refused(
            Code.FILE_TOO_LARGE,
            f"The file has {size_text(size)}; this server takes at most {size_text(limit)}.",
        )
    check_quota(host, used, host.tickets.promised(user) + size)


def check_uploaded(size: int | None, said: int) -> None:
    """Raise `Refused` (not_uploaded) unless the person has sent that: a digest is no proof."""
    if size != said:
        raise Refused(Code.NOT_UPLOADED, "The file has to be uploaded before it is shared.")


def check_quota(host: ServerContext, used: int, more: int = 0) -> None:
    """Raise `Refused` (quota_exceeded) for one who has so many bytes of files, and wants more."""
    total = host.limits.files_per_user
    if used + more > total:
        raise Refused(
            Code.QUOTA_EXCEEDED,
            f"You have {size_text(used)} of files here, and this server takes {size_text(total)}"
            " from one person; /remove makes room.",
        )


async def _receive(host: ServerContext, link: Link, permission: Permission) -> None:
    person = fold(permission.user)
    blobs, patience = host.store.blobs, host.limits.stall_seconds

    listening = False

    def is_alive() -> bool:
        return not listening or trio.current_time() - link.last_received < QUIET_SECONDS

    async with blobs.upload(person, permission.size, permission.head, is_alive) as part:
        await with_pings(link, partial(blobs.open_partial, part))
        listening = True
        try:
            with storage_errors():
                await receive_file(link, part, _nobody_told, patience)
        except FileWithdrawn:
            await in_thread_shielded(part.discard)
            raise
        listening = False
        with storage_errors():
            await with_pings(link, part.sync)
        await _keep(host, person, part)
        digest = part.digest
    await link.send(encode(Stored(digest)))
    await link.close_gracefully()


async def _keep(host: ServerContext, person: str, part: PartialFile) -> None:
    """Keep a file, and know that the person has it: both or neither, whoever cancels what."""
    blobs, shelves = host.store.blobs, host.store.files
    head = part.digests[0] if part.digests else part.digest
    async with blobs.lock():
        with trio.CancelScope(shield=True):
            await blobs.commit(part)
            try:
                await shelves.add(person, part.digest, part.size, head, host.clock())
            except StorageFull:
                if await shelves.size_of(part.digest) is None:
                    await blobs.remove([part.digest])
                raise


# ------------------------------------------------------------------ fetching


async def _consider_download(
    host: ServerContext, author: Author, request: Download
) -> Callable[[Group], Frame]:
    there = await host.store.files.find(fold(request.group), request.number)

    def answer(group: Group) -> Frame:
        _require_member(group, author)
        file = group.files.get(request.number)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, "The group has no file of that number.")
        if there is None:
            raise Refused(Code.NO_SUCH_FILE, f"{file.name} is not kept here any more.")
        permission = Permission(
            "download", author.name, file.size, file.sha256, group=group.name, number=file.number
        )
        return Ticket(request.id, host.tickets.issue(permission))

    return answer


async def _send(host: ServerContext, link: Link, permission: Permission) -> None:
    store, patience = host.store, host.limits.stall_seconds
    try:
        async with store.blobs.download(permission.sha256, permission.size) as file:
            checked = _Checked(file, partial(_forget, host, permission, file))
            digest = await send_file(link, checked, _nobody_told, patience)
    except FileDamaged:
        await _forget(host, permission)
        raise
    if digest == permission.sha256:
        await store.files.record_fetch(
            fold(permission.group), permission.number, fold(permission.user), host.clock()
        )
    await link.close_gracefully()


class _Checked:
    """A stored file that is forgotten, if it is found damaged, before anybody is told so.

    Whoever hears of it may send it again at once, and should not be told that it is there.
    """

    def __init__(self, file: StoredFile, forget: Callable[[], Awaitable[None]]) -> None:
        self.size = file.size
        self._file = file
        self._forget = forget

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Go to where the receiver is; see `Source.start`."""
        with self._forgotten():
            return self._file.start(have, check)

    def read(self) -> tuple[memoryview, bytes]:
        """Return the rest of the next piece; see `Source.read`."""
        with self._forgotten():
            return self._file.read()

    @contextmanager
    def _forgotten(self) -> Iterator[None]:
        try:
            yield
        except FileDamaged:
            trio.from_thread.run(self._forget)
            raise


async def _forget(
    host: ServerContext, permission: Permission, file: StoredFile | None = None
) -> None:
    """Know a damaged file no more, unless it was sent again meanwhile."""
    store, sha256 = host.store, permission.sha256
    async with store.blobs.lock():
        if await store.files.size_of(sha256) is None or (file and not file.is_current()):
            return
        await store.files.forget(sha256)
        await store.blobs.remove([sha256])
    host.log.line("file_damaged", group=permission.group, number=permission.number)


async def _consider_shelf(
    host: ServerContext, author: Author, request: FileListRequest
) -> Callable[[Group], Frame]:
    before = INT_LIMIT - 1 if request.before is None else request.before
    page = await host.store.files.page(fold(request.group), before, _PAGE + 1, _MOST_NAMES)
    keep = host.limits.keep_files

    def answer(group: Group) -> Frame:
        _require_member(group, author)
        shown = [file for file in page[:_PAGE] if file.number in group.files]
        return FileList(
            request.id,
            tuple(file.number for file in shown),
            tuple(0 if keep is None else file.at + keep for file in shown),
            tuple(file.fetch_count for file in shown),
            tuple(_names(group, file) for file in shown),
            len(page) > _PAGE,
        )

    return answer


def _names(group: Group, file: FileEntry) -> str:
    return "\n".join(group.members.get(person, person) for person in file.fetched_by)


# ------------------------------------------------------------------ transfers


async def serve_transfer(
    host: ServerContext, link: Link, version: int, permission: Permission
) -> None:
    """Carry the file that a ticket stood for. Raises `TchatError` for the client to hear."""
    try:
        with host.tickets.carrying(permission), _no_more_than_a_file():
            await link.send(encode(Ready(agree(version), permission.size)))
            if permission.way == "upload":
                await _receive(host, link, permission)
            else:
                await _send(host, link, permission)
    except trio.TooSlowError:
        raise ProtocolError(Code.IDLE, "The transfer stood still for too long.") from None


@contextmanager
def _no_more_than_a_file() -> Iterator[None]:
    """Refuse what cannot be done with a file. The log, and with it the server, is not in doubt."""
    try:
        yield
    except StorageError as error:
        raise Refused(Code.FILE_UNREADABLE, error.sentence) from error


def _nobody_told(_: int) -> None:
    """Take no interest in how far a transfer is."""


# ------------------------------------------------------------------ keeping


async def sweep_files(host: ServerContext) -> None:
    """Remove, from time to time and for ever, what nothing refers to any more."""
    async with host.store.blobs.lock():
        known = await host.store.files.digests()
        with _logged(host):
            await host.store.blobs.remove_unknown(known)
    while True:
        await _sweep(host)
        await trio.sleep(SWEEP_SECONDS)


async def _sweep(host: ServerContext) -> None:
    blobs, now, keep = host.store.blobs, host.clock(), host.limits.keep_files
    forgotten: list[bytes] = []
    async with blobs.lock():
        with _logged(host, StorageFull):  # if the log is in doubt, that ends the server
            forgotten = await host.store.files.sweep(
                now - DAY_MS, 0 if keep is None else max(0, now - keep)
            )
        with _logged(host):
            await blobs.remove(forgotten)
    if forgotten:
        host.log.line("files_removed", count=len(forgotten))
    with _logged(host):
        await blobs.remove_stale_uploads()


@contextmanager
def _logged(
    host: ServerContext,
    kinds: type[TchatError] | tuple[type[TchatError], ...] = (StorageError, StorageFull),
) -> Iterator[None]:
    """Write down that files cannot be removed, which is no reason for the chat to stop."""
    try:
        yield
    except kinds as error:
        host.log.line("fault", where="the files", reason=error.sentence)
