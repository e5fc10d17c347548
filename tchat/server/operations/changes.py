"""Changes that an operator makes, on a running server or on its data.

Each is a coroutine that takes the server's context, as its connections do, so that a change goes
through the actors of the groups, and people who are connected see it. When no server runs,
`control` opens the store, makes a context without connections, and calls the same coroutine.

The keyword arguments and the result of a change are values of JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from tchat.core.fingerprints import pin_text
from tchat.core.group.direct import check_group
from tchat.core.group.operation import Appoint, Close
from tchat.core.text import check_name
from tchat.errors import Code, Refused, StartupError
from tchat.server.accounts import OPERATOR_CODE_SECONDS
from tchat.server.bans import new_ban, normalized
from tchat.server.operations.erasure import erase_person
from tchat.server.operations.group_commands import Commander
from tchat.server.operations.key_rotation import rotate_key
from tchat.server.operations.reports import Report, time_text
from tchat.server.retention import erase_files
from tchat.store.base import BanKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.core.group.state import Author
    from tchat.net.address import Address
    from tchat.server.context import ServerContext


async def link(context: ServerContext, name: str, keep_keys: str = "") -> Report:
    """Make a link code with which a person takes back their name on a new device.

    All other keys of the name are removed when it is redeemed, unless `keep_keys` is given. Raises
    `Refused` (no_such_name), or `StartupError` if no server runs, since codes are kept in memory.
    """
    name = check_name(name, "username")
    if not context.serving:
        raise StartupError(
            Code.CANNOT_START,
            "Start the server first: a link code is valid only while the server runs.",
        )
    code = await context.accounts.new_operator_code(name, keep_keys=bool(keep_keys))
    context.log.line("link_code", name=name)
    return {"name": name, "code": code, "minutes": int(OPERATOR_CODE_SECONDS // 60)}


async def rotate_server_key(context: ServerContext) -> Report:
    """Replace the server's own key by a new one, which the old one signs. Raises `Refused`."""
    if context.own_keys is None:
        raise Refused(
            Code.CANNOT_START,
            "This server does not use a key that tchat made: it has a certificate of its own"
            " (--cert), or no TLS. Only tchat's own keys can be rotated.",
        )
    # Not in a thread: nothing else may read the files, or replace the credentials, meanwhile.
    credentials = rotate_key(context.own_keys)
    if context.credentials is not None:
        context.credentials = credentials
    context.log.line("key_rotated", pin=pin_text(credentials.pin))
    return {"pin": pin_text(credentials.pin)}


async def remove_group(context: ServerContext, group: str) -> Report:
    """Close a group and erase its events. Raises `Refused` (no_such_group, direct)."""
    name = check_group(group)
    commander = Commander(context)
    await commander.give(Close(0, 0, name))
    await erase_files(context.store, context.log)
    return {"group": name}


async def set_admin(context: ServerContext, group: str, name: str) -> Report:
    """Make a member the admin of a group. Raises `Refused` (no_such_group, no_such_member)."""
    group, name = check_group(group), check_name(name, "username")
    commander = Commander(context)
    await commander.give(Appoint(0, 0, group, name))
    return {"group": group, "admin": name}


async def ban(context: ServerContext, kind: BanKind, value: str, reason: str = "") -> Report:
    """Ban a name, a key or an address, and disconnect whom it concerns. Raises `Refused`."""
    made = new_ban(_kind(kind), value, reason, context.clock())
    await context.bans.add(made)
    disconnected = 0
    for connection in context.presence.connections():
        refusal = _refusal_of(context, connection.author, connection.peer)
        if refusal is not None:
            connection.disconnect(Code.BANNED, refusal.sentence)
            disconnected += 1
    disconnected += context.tickets.revoke(
        lambda permission, peer: _refusal_of(context, permission.author, peer) is not None
    )
    context.log.line("server_ban", what=made.kind, value=made.value)
    return {"kind": made.kind, "value": made.value, "disconnected": disconnected}


def _refusal_of(context: ServerContext, author: Author, peer: Address | None) -> Refused | None:
    """Return the refusal for a person who is banned; None for others."""
    try:
        context.bans.check_person(author)
        context.bans.check_address(peer)
    except Refused as refusal:
        return refusal
    return None


async def unban(context: ServerContext, kind: BanKind, value: str) -> Report:
    """Lift a ban. Raises `Refused` (bad_name, no_such_ban)."""
    value = normalized(_kind(kind), value)
    await context.bans.remove(kind, value)
    context.log.line("server_unban", what=kind, value=value)
    return {"kind": kind, "value": value}


async def bans(context: ServerContext) -> Report:
    """Return all bans."""
    return {
        "bans": [
            {"kind": one.kind, "value": one.value, "reason": one.reason, "at": time_text(one.at)}
            for one in context.bans.all()
        ]
    }


def _kind(kind: BanKind) -> BanKind:
    """Return the kind of a ban, which comes from JSON. Raises `Refused`."""
    if kind not in get_args(BanKind):
        raise Refused(Code.MALFORMED, "A ban is by name, key or address.")
    return kind


async def status(context: ServerContext) -> Report:
    """Return since when the server runs, who is connected, and what limits its files."""
    limits = context.limits
    return {
        "since": time_text(context.started),
        "connections": context.open_connections,
        "people_online": context.presence.people_online,
        "transfers": context.tickets.running_count,
        "max_transfers": limits.transfers,
        "max_files": limits.files_per_user,
        "max_group_files": limits.files_per_group,
        "max_files_total": limits.files_total,
        "disk_reserve": limits.disk_reserve,
    }


async def trust_clock(context: ServerContext) -> Report:
    """Go by the wall clock of this machine as it is now; see `server.clock`."""
    return {"now": time_text(context.clock.trust())}


CHANGES: dict[str, Callable[..., Awaitable[Report]]] = {
    "status": status,
    "link": link,
    "rotate-key": rotate_server_key,
    "remove-group": remove_group,
    "set-admin": set_admin,
    "erase": erase_person,
    "ban": ban,
    "unban": unban,
    "bans": bans,
    "trust-clock": trust_clock,
}
"""The commands that the control socket accepts; `status` and `bans` change nothing."""
