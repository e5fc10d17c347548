"""File requests on the chat connection: quota, deduplication by digest, tickets for transfers.

A file is transferred on a connection of its own, so that TCP paces the transfer and the chat never
waits for it. The client asks for the transfer on the chat connection, and gets a single-use ticket.

An upload begins with an offer: the file's size and the digest of its first piece. If the person has
access to a stored file with the same size and first piece, the server asks for the digest of the
whole file; if that matches, nothing has to be transferred. Anybody else uploads the file as if it
were new, so offering a file does not reveal whether it is already stored. Either way, the server
stores only one copy.

Each `prepare_...` function does the slow part of a request, and returns a function that the group's
actor calls with the group's state, to decide and to make the reply.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.fingerprints import SHA256_SIZE
from tchat.core.protocol.converters import INT_LIMIT
from tchat.core.protocol.frames import (
    AlreadyStored,
    DigestRequired,
    Download,
    FileList,
    FileListRequest,
    StoredFileInfo,
    Ticket,
    Upload,
)
from tchat.core.text import fold, size_text
from tchat.errors import Code, Refused, StorageError
from tchat.server.limits import size_limit_text
from tchat.server.tickets import Permission
from tchat.store.base import DiskReserved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.schema import Frame
    from tchat.server.context import ServerContext
    from tchat.server.limits import Limits

_FILES_PER_PAGE = 40
_NAMES_PER_FILE = 8

MAX_UNSHARED = 1000
"""The largest number of files that a person has uploaded and not shared."""


async def prepare_upload(
    context: ServerContext, author: Author, request: Upload
) -> Callable[[Group], Frame]:
    """Return the function that decides on an offer. Raises `Refused`."""
    person, size, head, sha256 = fold(author.name), request.size, request.head, request.sha256
    if {len(digest) for digest in (head, sha256) if digest is not None} != {SHA256_SIZE}:
        raise Refused(Code.BAD_FILE, "An offered file needs SHA-256 digests of 32 bytes.")
    files = context.store.files
    await _check_unshared(context, person)
    used = await _used(context, author.name, sha256)
    stored = similar = False
    if sha256 is None:
        similar = await files.has_similar(person, size, head)
    if not similar:
        _check_space(context, author.name, size, used)
    if sha256 is not None:
        stored = await files.lease(person, sha256, context.clock()) == size
        if not stored:  # the file is new to this person, so nothing is excluded from the usage
            used = await _used(context, author.name)
    if not (similar or stored) and await _is_member(context, person, request.group):
        await _make_room(context, author.name, request, used)

    def decide(group: Group) -> Frame:
        group.require_member(author.name)
        if similar:
            return DigestRequired(request.id)
        if stored:
            return AlreadyStored(request.id)
        # Check again: other uploads may have got tickets while this one waited for the disk.
        _check_space(context, author.name, size, used)
        _OF_ALL.check(context, _total(context), size)
        permission = Permission(
            "upload", author.name, size, head=head, group=group.name, key=author.key
        )
        return Ticket(request.id, context.tickets.issue(permission))

    return decide


async def prepare_download(
    context: ServerContext, author: Author, request: Download
) -> Callable[[Group], Frame]:
    """Return the function that decides on a request to download."""
    stored = await context.store.files.find(fold(request.group), request.number)

    def decide(group: Group) -> Frame:
        group.require_member(author.name)
        file = group.files.get(request.number)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, "The group has no file with this number.")
        if stored is None:
            raise Refused(Code.NO_SUCH_FILE, f"{file.name} is no longer stored on this server.")
        permission = Permission(
            "download",
            author.name,
            file.size,
            file.sha256,
            group=group.name,
            number=file.number,
            key=author.key,
        )
        return Ticket(request.id, context.tickets.issue(permission))

    return decide


async def prepare_file_list(
    context: ServerContext, author: Author, request: FileListRequest
) -> Callable[[Group], Frame]:
    """Return the function that decides on a request for a page of files, the newest first."""
    before = INT_LIMIT - 1 if request.before is None else request.before
    page = await context.store.files.page(
        fold(request.group), before, _FILES_PER_PAGE + 1, _NAMES_PER_FILE
    )
    keep = context.limits.keep_files

    def decide(group: Group) -> Frame:
        group.require_member(author.name)
        shown = [file for file in page[:_FILES_PER_PAGE] if file.number in group.files]
        return FileList(
            request.id,
            tuple(
                StoredFileInfo(
                    file.number,
                    file.fetch_count,
                    tuple(group.members.get(person, person) for person in file.fetched_by),
                    None if keep is None else file.at + keep,
                )
                for file in shown
            ),
            len(page) > _FILES_PER_PAGE,
        )

    return decide


# ------------------------------------------------------------------ quota


async def _used(context: ServerContext, user: str, excluded: bytes | None = None) -> int:
    """Return the size of a person's files, without `excluded` and without promised uploads."""
    promised = context.tickets.promised_bytes(user)
    used = await context.store.files.usage(fold(user), excluded)
    # Add uploads that finished during the read: `used` may lack them, and they have no tickets.
    return used + max(0, promised - context.tickets.promised_bytes(user))


def _check_space(context: ServerContext, user: str, size: int, used: int) -> None:
    """Raise `Refused` if a file is too large (file_too_large) or exceeds the quota."""
    limit = context.limits.file
    if size > limit:
        raise Refused(
            Code.FILE_TOO_LARGE,
            f"The file is {size_text(size)}; this server accepts at most {size_limit_text(limit)}.",
        )
    check_quota(context, used, context.tickets.promised_bytes(user) + size)


async def _check_unshared(context: ServerContext, person: str) -> None:
    """Raise `Refused` (too_many) if a person has too many files that they did not share.

    A client shares each file at once; without a bound, somebody could make the quota hard to count.
    """
    if await context.store.files.lease_count(person) >= MAX_UNSHARED:
        raise Refused(
            Code.TOO_MANY,
            f"You have uploaded {MAX_UNSHARED} files without sharing them; share some, or wait:"
            " they are removed after a day.",
        )


async def _make_room(context: ServerContext, user: str, request: Upload, used: int) -> None:
    """Check that the group, the server and the disk have room for a file that has to be uploaded.

    The person's begun uploads make room if the quota needs it. Raises `Refused`.
    """
    store, tickets, size, head = context.store, context.tickets, request.size, request.head
    check_group_quota(context, await store.files.group_usage(fold(request.group)), size)
    if context.limits.files_total is not None:
        await context.stored_bytes.refresh()
        await _revoke_until(context, partial(_check_total, context, size))
    space = context.limits.files_per_user - used - tickets.promised_bytes(user) - size
    with refusing_file_errors():
        uploads = [(size, head), *tickets.uploads(user)]
        await store.blobs.trim_uploads(fold(user), space, uploads)
        await _revoke_until(context, partial(store.blobs.check_space, fold(user), size, head))


async def _is_member(context: ServerContext, person: str, group: str) -> bool:
    """Return whether a person (folded) is a member; nobody else may take others' tickets."""
    return (await context.store.groups_of(person)).get(fold(group)) == "member"


async def _revoke_until(context: ServerContext, check: Callable[[int], Awaitable[None]]) -> None:
    """Revoke unused tickets until `check` finds room beside the bytes that are still promised.

    If there would be no room without all of them, none is revoked: whoever asks for too much must
    not keep others from sending files. Raises what `check` raises.
    """
    tickets = context.tickets
    while True:
        try:
            return await check(tickets.promised_total)
        except (Refused, DiskReserved):
            await check(tickets.promised_total - tickets.promised_unused)
            if not tickets.revoke_unused():
                raise


def check_uploaded(size: int | None, claimed: int) -> None:
    """Raise `Refused` (not_uploaded) unless the person has uploaded a file of `claimed` bytes.

    Knowing a file's digest must not give access to the files of other people.
    """
    if size != claimed:
        raise Refused(Code.NOT_UPLOADED, "Upload the file before you share it.")


class _Quota(NamedTuple):
    """A limit of the bytes of files, and the words of its refusal."""

    files: str
    allowed: str
    limit: Callable[[Limits], int | None]

    def check(self, context: ServerContext, used: int, more: int) -> None:
        """Raise `Refused` (quota_exceeded) if `used` and `more` bytes exceed the limit."""
        limit = self.limit(context.limits)
        if limit is not None and used + more > limit:
            raise Refused(
                Code.QUOTA_EXCEEDED,
                f"{self.files} take {size_text(used)} of the {size_limit_text(limit)} that this"
                f" server {self.allowed} to make room.",
            )


_OF_A_PERSON = _Quota(
    "Your files", "allows each person; /remove a file", lambda limits: limits.files_per_user
)
_OF_A_GROUP = _Quota(
    "The files of this group",
    "allows each group; /remove a file",
    lambda limits: limits.files_per_group,
)
_OF_ALL = _Quota("All files", "has for them; ask its operator", lambda limits: limits.files_total)


def check_quota(context: ServerContext, used: int, more: int = 0) -> None:
    """Raise `Refused` (quota_exceeded) if a person's files would exceed the quota."""
    _OF_A_PERSON.check(context, used, more)


def check_group_quota(context: ServerContext, used: int, more: int) -> None:
    """Raise `Refused` (quota_exceeded) if a group's files would exceed the quota."""
    _OF_A_GROUP.check(context, used, more)


async def _check_total(context: ServerContext, more: int, promised: int) -> None:
    """Raise `Refused` (quota_exceeded) if all files together would exceed the server's limit."""
    _OF_ALL.check(context, context.stored_bytes.size + promised, more)


def _total(context: ServerContext) -> int:
    """Return the size of all files, and of those that are promised to be stored."""
    return context.stored_bytes.size + context.tickets.promised_total


@contextmanager
def refusing_file_errors() -> Iterator[None]:
    """Turn an error with a file into a refusal, because the log is not affected."""
    try:
        yield
    except StorageError as error:
        raise Refused(Code.FILE_UNREADABLE, error.sentence) from error
