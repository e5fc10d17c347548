"""The tables of the SQLite store, as the list of steps that lead to them.

`user_version` in the file says how many steps it has taken. A step, once released, is never
edited: what it got wrong, a later step puts right.

A segment is what one commit added to one group: its events packed one behind the other, as they
go to sockets. A quiet group has a segment for each event; a busy one, fewer and longer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID = 0x74636874
"""Marks the file as ours ("tcht") for `file` and for careful people."""

MIGRATIONS: tuple[str, ...] = (
    """
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
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that the file has not taken, each whole or not at all."""
    (taken,) = connection.execute("PRAGMA user_version").fetchone()
    if taken > len(MIGRATIONS):
        raise StartupError(
            Code.CANNOT_START,
            "The data directory was written by a newer tchat; start that version, or a newer one.",
        )
    for version, step in enumerate(MIGRATIONS[taken:], start=taken + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in step.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
