"""Transfer connections: one file, one way, unframed between two frames.

A file has a connection of its own, so that TCP paces it and the chat never waits behind it. At
no time is more of it in memory than a few chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.frames import TO_SERVER, Digest, Stored, decode, encode
from tchat.core.handshake import Ready, Transfer, agree
from tchat.errors import Code, ProtocolError, Refused, StorageError

if TYPE_CHECKING:
    from tchat.net.link import Link
    from tchat.server.host import Host, Permission
    from tchat.store.base import Incoming

CHUNK = 256 * 1024


async def serve_transfer(host: Host, link: Link, opening: Transfer) -> None:
    """Carry the file that the ticket stands for. Raises `TchatError` for the client to hear."""
    permission = host.tickets.redeem(opening.ticket)
    try:
        await link.send(encode(Ready(agree(opening.version), permission.size)))
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
        claimed = None if body is None else decode(body, TO_SERVER)
        if not isinstance(claimed, Digest):
            raise ProtocolError(Code.FILE_CHANGED, "The file did not end with its digest.")
        await incoming.keep(claimed.sha256)
    host.uploads.note(permission.user, claimed.sha256, permission.size)
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
