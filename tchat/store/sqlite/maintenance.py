"""What only the operator asks of the SQLite store: lists, erasure of a person, compaction."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.messages import Edited, Posted
from tchat.core.protocol.framing import split_frames
from tchat.errors import ProtocolError
from tchat.store.base import DataDamaged, Maintenance, ServerBan
from tchat.store.sqlite.log import segments_from
from tchat.store.sqlite.log_heads import RENEW_IDENTITIES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from tchat.store.base import BanKind
    from tchat.store.sqlite.database import Database
    from tchat.store.sqlite.erasing import Eraser

_SLICE_SECONDS = 0.05
_TABLES_WITH_PERSON = ("cursors", "held", "fetches")


class SqliteMaintenance(Maintenance):
    """Operations on all tables."""

    def __init__(self, database: Database, eraser: Eraser) -> None:
        self._database = database
        self._eraser = eraser

    async def groups(self) -> list[str]:
        """Return all groups; see `Maintenance.groups`."""
        sql = "SELECT name FROM groups ORDER BY name"
        return await self._database.read(lambda c: [name for (name,) in c.execute(sql)])

    async def name_of(self, person: str) -> str | None:
        """Return a display name; see `Maintenance.name_of`."""
        sql = "SELECT name FROM people WHERE key = ?"
        row = await self._database.read(lambda c: c.execute(sql, (person,)).fetchone())
        return None if row is None else str(row[0])

    async def expired(self, before: int) -> list[tuple[str, int]]:
        """Return groups with old messages; see `Maintenance.expired`."""
        sql = "SELECT id, name, max(expire_to, erase_to) FROM groups"
        groups = await self._database.read_slowly(lambda c: c.execute(sql).fetchall())
        found: list[tuple[str, int]] = []
        for number, name, upto in groups:
            with suppress(DataDamaged):  # it is reported; the messages of other groups expire
                if last := await self._last_message(name, number, upto, before):
                    found.append((name, last))
        return found

    async def newest(self) -> int:
        """Return the newest time; see `Maintenance.newest`. What is damaged is left out."""
        sql = (
            "SELECT frames FROM groups JOIN segments"
            " ON group_id = id AND segments.last = groups.last"
        )

        def query(connection: sqlite3.Connection) -> int:
            newest = 0
            for (frames,) in connection.execute(sql):
                with suppress(ProtocolError, ValueError, TypeError):
                    *_, body = split_frames(frames)
                    newest = max(newest, decode_event(body).at)
            return newest

        return await self._database.read_slowly(query)

    async def _last_message(self, name: str, number: int, after: int, before: int) -> int:
        """Return the last message or edit after `after` older than `before`; 0 if none is."""
        last, done = 0, False
        while not done:  # in short reads, so that searches have their turns
            query = partial(_last_of_some, number=number, after=after, before=before)
            found, after, done = await self._database.read_slowly(query, group=name)
            last = found or last
        return last

    async def forget(self, person: str, groups: Collection[str]) -> None:
        """Remove a person's rows; see `Maintenance.forget`."""

        def work(connection: sqlite3.Connection) -> None:
            for table in _TABLES_WITH_PERSON:
                connection.execute(
                    f"DELETE FROM {table} WHERE person = ?",  # noqa: S608  # ours
                    (person,),
                )
            connection.executemany(
                "DELETE FROM states WHERE group_id = (SELECT id FROM groups WHERE name = ?)",
                [(group,) for group in groups],
            )

        await self._database.write(work)

    async def bans(self) -> list[ServerBan]:
        """Return all bans; see `Maintenance.bans`."""
        sql = "SELECT kind, value, at, reason FROM bans"
        return await self._database.read(lambda c: [ServerBan(*row) for row in c.execute(sql)])

    async def add_ban(self, ban: ServerBan) -> None:
        """Add a ban; see `Maintenance.add_ban`."""
        sql = "INSERT OR REPLACE INTO bans (kind, value, at, reason) VALUES (?, ?, ?, ?)"
        values = (ban.kind, ban.value, ban.at, ban.reason)
        await self._database.write(lambda c: c.execute(sql, values).rowcount)

    async def remove_ban(self, kind: BanKind, value: str) -> None:
        """Remove a ban; see `Maintenance.remove_ban`."""
        sql = "DELETE FROM bans WHERE kind = ? AND value = ?"
        await self._database.write(lambda c: c.execute(sql, (kind, value)).rowcount)

    async def renew_identities(self) -> None:
        """Give every log a new identity; see `Maintenance.renew_identities`."""
        await self._database.write(lambda c: c.execute(RENEW_IDENTITIES).rowcount)

    async def settle(self) -> bool:
        """Remove all traces of what has been erased; see `Maintenance.settle`."""
        return await self._eraser.settle()

    async def compact(self) -> None:
        """Rewrite the database file; see `Maintenance.compact`."""
        await self._eraser.settle()  # otherwise the copy would have removed words, too
        await self._database.compact()


def _last_of_some(
    connection: sqlite3.Connection, number: int, after: int, before: int
) -> tuple[int, int, bool]:
    """Look at some events after `after`, up to the first that is not older than `before`.

    Return the last message or edit among them, or 0; the last event; and whether that was all.
    """
    last, deadline = 0, monotonic() + _SLICE_SECONDS
    for segment in segments_from(connection, number, after + 1):
        for seq, body in segment.after(after).bodies().items():
            event = decode_event(body)
            if event.at >= before:
                return last, seq, True
            if isinstance(event.body, Posted | Edited):
                last = seq
        after = segment.last
        if monotonic() > deadline:
            return last, after, False
    return last, after, True
