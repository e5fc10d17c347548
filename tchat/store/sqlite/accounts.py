"""Tables of accounts in SQLite: names and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.store.base import AccountKey, Accounts
from tchat.store.sqlite.appearances import add_person_appearances, person_like

if TYPE_CHECKING:
    import sqlite3

    from tchat.store.sqlite.database import Database

_LINK = (
    "INSERT INTO keys (person, key, since) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET since = excluded.since, until = NULL"
    " WHERE until IS NOT NULL"
)
_KEYS = "SELECT key, since FROM keys WHERE person = ? AND until IS NULL ORDER BY since, key"


class SqliteAccounts(Accounts):
    """The tables `people` and `keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        """Return the display name; see `Accounts.claim`."""
        # The common case, a login with a known key, costs no commit.
        known = await self._database.read_account(lambda c: _display_name(c, person, key))
        if known is not None:
            return known

        def work(connection: sqlite3.Connection) -> str | None:
            has_keys = connection.execute(_KEYS, (person,)).fetchone() is not None
            if not has_keys and _may_claim(connection, person, name):
                _add_person(connection, person, name, at)
                connection.execute(
                    "INSERT INTO keys (person, key, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (person, key, at),
                )
            return _display_name(connection, person, key)

        return await self._database.write(work)

    async def link(self, person: str, key: bytes, at: int) -> None:
        """Add a key to a name; see `Accounts.link`."""
        await self._database.write(lambda c: c.execute(_LINK, (person, key, at)).rowcount)

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name; see `Accounts.keys`."""
        return await self._database.read_account(
            lambda c: [AccountKey(key, since) for key, since in c.execute(_KEYS, (person,))]
        )

    async def claimed_at(self, person: str) -> int | None:
        """Return when a name was first claimed; see `Accounts.claimed_at`."""
        sql = (
            "SELECT since FROM people WHERE key = ?"
            " AND EXISTS (SELECT 1 FROM keys WHERE person = people.key AND until IS NULL)"
        )
        row = await self._database.read_account(lambda c: c.execute(sql, (person,)).fetchone())
        return None if row is None else int(row[0])

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Remove a key from a name; see `Accounts.unlink`."""
        sql = "UPDATE keys SET until = ? WHERE person = ? AND key = ? AND until IS NULL"

        def work(connection: sqlite3.Connection) -> bool:
            may_remove = key != by and _display_name(connection, person, by) is not None
            return may_remove and connection.execute(sql, (at, person, key)).rowcount > 0

        return await self._database.write(work)

    async def take_over(self, person: str, key: bytes, at: int) -> list[bytes]:
        """Make a key the only one of a name; see `Accounts.take_over`."""
        remove = "UPDATE keys SET until = ? WHERE person = ? AND key != ? AND until IS NULL"

        def work(connection: sqlite3.Connection) -> list[bytes]:
            others = [one for one, _ in connection.execute(_KEYS, (person,)) if one != key]
            connection.execute(_LINK, (person, key, at))
            connection.execute(remove, (at, person, key))
            return others

        return await self._database.write(work)

    async def was_removed(self, person: str, key: bytes) -> bool:
        """Return whether a key was removed from a name; see `Accounts.was_removed`."""
        sql = "SELECT 1 FROM keys WHERE person = ? AND key = ? AND until IS NOT NULL"
        return await self._database.read(
            lambda c: c.execute(sql, (person, key)).fetchone() is not None
        )

    async def erase(self, person: str, name: str, at: int) -> list[bytes]:
        """Reserve a name; see `Accounts.erase`."""
        reserve = "UPDATE people SET erased = ifnull(erased, ?) WHERE key = ?"

        def work(connection: sqlite3.Connection) -> list[bytes]:
            _add_person(connection, person, name, at)
            connection.execute(reserve, (at, person))
            keys = connection.execute("SELECT key FROM keys WHERE person = ?", (person,)).fetchall()
            connection.execute("DELETE FROM keys WHERE person = ?", (person,))
            return [key for (key,) in keys]

        return await self._database.write(work)

    async def is_erased(self, person: str) -> bool:
        """Return whether a name is reserved; see `Accounts.is_erased`."""
        return await self._database.read_account(lambda c: _is_erased(c, person))

    async def lookalike(self, person: str, name: str) -> str | None:
        """Return the name of another person that looks alike; see `Accounts.lookalike`."""
        return await self._database.read(lambda c: person_like(c, person, name))


def _may_claim(connection: sqlite3.Connection, person: str, name: str) -> bool:
    """Return whether a name without keys may be claimed."""
    row = connection.execute("SELECT erased FROM people WHERE key = ?", (person,)).fetchone()
    if row is not None:  # it was somebody's before, whatever it looks like
        return row[0] is None
    return person_like(connection, person, name) is None


def _add_person(connection: sqlite3.Connection, person: str, name: str, at: int) -> None:
    """Add a person, unless the name has a row already."""
    sql = "INSERT INTO people (key, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    if connection.execute(sql, (person, name, at)).rowcount:
        add_person_appearances(connection, person, name)


def _is_erased(connection: sqlite3.Connection, person: str) -> bool:
    sql = "SELECT 1 FROM people WHERE key = ? AND erased IS NOT NULL"
    return connection.execute(sql, (person,)).fetchone() is not None


def _display_name(connection: sqlite3.Connection, person: str, key: bytes) -> str | None:
    """Return the display name; None unless the name belongs to the key."""
    row = connection.execute(
        "SELECT name FROM people JOIN keys ON person = people.key"
        " WHERE person = ? AND keys.key = ? AND until IS NULL",
        (person, key),
    ).fetchone()
    return None if row is None else str(row[0])
