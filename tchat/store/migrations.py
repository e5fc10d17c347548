"""The tables of the SQLite store, as the list of steps that lead to them.

`user_version` in the file says how many steps it has taken. A step, once released, is never
edited: what it got wrong, a later step puts right.

A segment is what one commit added to one group: its events packed one behind the other, as they
go to sockets. A quiet group has a segment for each event; a busy one, fewer and longer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.events import decode_event
from tchat.core.framing import split_frames
from tchat.core.state import Group
from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from tchat.core.frames import Standing

APPLICATION_ID = 0x74636874
"""Marks the file as ours ("tcht") for `file` and for careful people."""


def set_standings(
    connection: sqlite3.Connection, number: int | None, standings: Mapping[str, Standing]
) -> None:
    """Note what people (folded) have become to the group of that id."""
    out = [(person, number) for person, standing in standings.items() if standing == "outsider"]
    of = [(person, number, s) for person, s in standings.items() if s != "outsider"]
    connection.executemany("DELETE FROM standings WHERE person = ? AND group_id = ?", out)
    connection.executemany("INSERT OR REPLACE INTO standings VALUES (?, ?, ?)", of)


def _fill_standings(connection: sqlite3.Connection) -> None:
    """Find out from the logs who is what to which group."""
    for (number,) in connection.execute("SELECT id FROM groups").fetchall():
        group = Group()
        segments = connection.execute(
            "SELECT frames FROM segments WHERE group_id = ? ORDER BY last", (number,)
        )
        for (frames,) in segments:
            for body in split_frames(frames):
                group.apply(decode_event(body))
        people = [*group.members, *group.requests]
        set_standings(connection, number, {person: group.standing(person) for person in people})


_TABLES = """
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL);
    CREATE TABLE segments (
        group_id INTEGER NOT NULL REFERENCES groups, last INTEGER NOT NULL,
        first INTEGER NOT NULL, frames BLOB NOT NULL, PRIMARY KEY (group_id, last));
    CREATE TABLE cursors (
        group_id INTEGER NOT NULL REFERENCES groups, person TEXT NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY (group_id, person)) WITHOUT ROWID;
    CREATE TABLE people (
        key TEXT PRIMARY KEY, name TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
    """

# A key that was taken from a name stays, with the time of that in `until`, and may not come back
# by itself. `standings` is what the logs say, by person. `uploads` is who has sent which file.
_ACCOUNTS = """
    CREATE TABLE keys (
        person TEXT NOT NULL, key BLOB NOT NULL, since INTEGER NOT NULL, until INTEGER,
        PRIMARY KEY (person, key)) WITHOUT ROWID;
    CREATE TABLE standings (
        person TEXT NOT NULL, group_id INTEGER NOT NULL REFERENCES groups,
        standing TEXT NOT NULL, PRIMARY KEY (person, group_id)) WITHOUT ROWID;
    CREATE TABLE uploads (
        person TEXT NOT NULL, sha256 BLOB NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY (person, sha256)) WITHOUT ROWID;
    """

MIGRATIONS = ((_TABLES, None), (_ACCOUNTS, _fill_standings))
"""Each step: statements, and what there is to do behind them."""


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that the file has not taken, each whole or not at all."""
    (taken,) = connection.execute("PRAGMA user_version").fetchone()
    if taken > len(MIGRATIONS):
        raise StartupError(
            Code.CANNOT_START,
            "The data directory was written by a newer tchat; start that version, or a newer one.",
        )
    for version, (statements, fill) in enumerate(MIGRATIONS[taken:], start=taken + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements.split(";"):
            connection.execute(statement)
        if fill is not None:
            fill(connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
