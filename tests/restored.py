"""A server that was restored from a backup, behind a proxy that moves its clients there.

Both servers run at once: the first goes on from the backup to what is lost, the second from the
same backup to other events.
"""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.group.membership import Join
from tchat.core.group.settings import SetPolicy
from tchat.store.sqlite.store import open_sqlite
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.helpers import GROUP, RunningServer, log_of, raw_client, running_server, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.helpers import RawClient


@dataclass
class Restored:
    """The server before its loss, the one that was restored, and a proxy to the first."""

    lost: RunningServer
    restored: RunningServer
    proxy: FaultProxy

    def restore(self) -> None:
        """Replace the server by the restored one, for all who are connected."""
        self.proxy.target = self.restored.address
        self.proxy.cut()

    async def agrees(self, session: Session, replica: Replica, group: str = GROUP) -> None:
        """Wait until a client has caught up; compare its log with that of the restored server."""
        expected = await log_of(self.restored.store, group)
        await until(session, lambda: replica.resets and replica.last >= len(expected))
        assert replica.log == expected[replica.first - 1 :]
        assert replica.caught_up


@asynccontextmanager
async def restored_server(
    place: Path, before: Callable[[RawClient], Awaitable[object]], *, renewed: bool = False
) -> AsyncIterator[Restored]:
    """Run both servers from a backup that was taken after `before`, which alice did.

    If `renewed`, the second was restored by tchat's own command, otherwise by copying.
    """
    async with (
        open_sqlite(place / "lost") as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await before(alice)
    shutil.copytree(place / "lost", place / "restored")
    async with (
        open_sqlite(place / "lost") as lost_store,
        open_sqlite(place / "restored") as restored_store,
    ):
        if renewed:
            await restored_store.maintenance.renew_identities()
        async with (
            running_server(lost_store) as lost,
            running_server(restored_store) as restored,
            fault_proxy(lost.address) as proxy,
        ):
            yield Restored(lost, restored, proxy)


async def found_group(alice: RawClient) -> None:
    """Found an open group with 14 messages."""
    await alice.command(Join, group=GROUP)
    await alice.command(SetPolicy, "open", group=GROUP)
    for number in range(14):
        await alice.post(f"kept {number}")


async def say(server: RunningServer, word: str, count: int) -> None:
    async with raw_client(server.address, "alice") as alice:
        for number in range(count):
            await alice.post(f"{word} {number}")
