"""Transfer connections: one file, one way, unframed between two frames.

A file has a connection of its own, so that TCP paces it and the chat never waits behind it. At
no time is more of it in memory than a few chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.frames import Digest, Download, Stored, Upload, decode_request, encode
from tchat.core.handshake import Ready, agree
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError, Refused, StorageError
from tchat.server.tickets import Permission

if TYPE_CHECKING:
    from tchat.core.state import Group
    from tchat.net.link import Link
    from tchat.server.host import Host
    from tchat.store.base import Incoming

CHUNK = 256 * 1024


def permit(
    host: Host, group: Group, user: str, request: Upload | Download, used: int
) -> Permission:
    """Return what a ticket may be given for, to a person who has sent `used` bytes before.

    Raises `Refused`.
    """
    if group.standing(user) != "member":
        raise Refused(Code.NOT_MEMBER, "Only members can send and fetch files.")
    if isinstance(request, Upload):
        _check_room(host, user, request.size, used)
        return Permission("upload", user, request.size)
    file = group.files.get(request.number)
    if file is None:
        raise Refused(Code.NO_SUCH_FILE, "The group has no file of that number.")
    return Permission("download", user, file.size, file.sha256)


def _check_room(host: Host, user: str, size: int, used: int) -> None:
    limit, total = host.limits.file, host.limits.files_per_user
    if size > limit:
        raise Refused(
            Code.FILE_TOO_LARGE,
            f"The file has {size} bytes; this server takes at most {limit}.",
        )
    if used + host.tickets.promised(user) + size > total:
        raise Refused(
            Code.QUOTA_EXCEEDED,
            f"You have sent {used} bytes of files, and this server takes {total} from one person.",
        )


async def serve_transfer(host: Host, link: Link, version: int, permission: Permission) -> None:
    """Carry the file that a ticket stood for. Raises `TchatError` for the client to hear."""
    try:
        with host.tickets.carrying(permission):
            await link.send(encode(Ready(agree(version), permission.size)))
            if permission.way == "upload":
                await _receive(host, link, permission)
            else:
                await _send(host, link, permission)
    except StorageError as error:
        # A file that cannot be kept or read concerns this transfer; the log is not in doubt.
        raise Refused(Code.FILE_UNREADABLE, error.sentence) from error
    except trio.TooSlowError:
        raise ProtocolError(Code.IDLE, "The transfer stood still for too long.") from None


async def _receive(host: Host, link: Link, permission: Permission) -> None:
    async with host.store.incoming() as incoming:
        if not await _fill(host, link, incoming, permission.size):
            return
        with trio.fail_after(host.limits.stall_seconds):
            body = await link.receive()
        claimed = None if body is None else decode_request(body)
        if not isinstance(claimed, Digest):
            raise ProtocolError(Code.FILE_CHANGED, "The file did not end with its digest.")
        await incoming.keep(claimed.sha256)
    person = fold(permission.user)
    await host.store.accounts.note_upload(person, claimed.sha256, permission.size)
    await link.send(encode(Stored(claimed.sha256)))
    await link.farewell()


async def _fill(host: Host, link: Link, incoming: Incoming, missing: int) -> bool:
    """Take `missing` bytes from the link; return whether they all came."""
    while missing:
        with trio.fail_after(host.limits.stall_seconds):
            data = await link.receive_raw()
        if not data:
            return False
        if len(data) > missing:
            link.give_back(data[missing:])
            data = data[:missing]
        missing -= len(data)
        await incoming.write(data)
    return True


async def _send(host: Host, link: Link, permission: Permission) -> None:
    async with host.store.outgoing(permission.sha256) as outgoing:
        while chunk := await outgoing.read(CHUNK):
            with trio.fail_after(host.limits.stall_seconds):
                await link.send(chunk)
    await link.farewell()
