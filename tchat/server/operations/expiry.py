"""Retention of messages: erase those that are older than the server keeps them.

Once a day is enough: each time, every group with old messages that are not erased yet gets one
event in its log, which says up to where they are.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.core.group.operation import Expire
from tchat.errors import Refused
from tchat.machine_clocks import DAY_MS
from tchat.server.operations.group_commands import Commander
from tchat.store.base import DataDamaged

if TYPE_CHECKING:
    from tchat.server.context import ServerContext

CHECK_SECONDS = 600.0


async def remove_expired_messages(context: ServerContext) -> None:
    """Remove expired messages now, and whenever a day has passed. Never returns."""
    while True:
        await expire(context)
        await trio.sleep(CHECK_SECONDS)


async def expire(context: ServerContext) -> None:
    """Remove the messages that have expired by the beginning of this day (UTC)."""
    now = context.clock.expiry_time()
    if context.limits.keep_messages is None or now is None:
        return
    before = now // DAY_MS * DAY_MS - context.limits.keep_messages
    commander = Commander(context)
    with suppress(DataDamaged):  # the log says so
        await _expire(context, commander, before)


async def _expire(context: ServerContext, commander: Commander, before: int) -> None:
    for group, upto in await context.store.maintenance.expired(before):
        with suppress(Refused):  # for example a full disk; the log says so. The next time, then
            await commander.give(Expire(0, 0, group, upto))
