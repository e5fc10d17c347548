"""The tables of the SQLite store, as the list of steps that lead to them.

`user_version` in the file says how many steps it has taken. A step, once released, is never
edited: what it got wrong, a later step puts right.

A segment is what one commit added to one group: its events packed one behind the other, as they
go to sockets. A quiet group has a segment for each event; a busy one, fewer and longer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.events import decode_event
from tchat.core.group.rules import apply
from tchat.core.group.state import Group
from tchat.core.protocol.framing import split_frames
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import fold
from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from tchat.core.protocol.frames import Standing

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
    for number, group in _replayed(connection):
        people = [*group.members, *group.requests]
        set_standings(connection, number, {person: group.standing(person) for person in people})


def _fill_shelves(connection: sqlite3.Connection) -> None:
    """Find out from the logs which group has which files."""
    for group_id, group in _replayed(connection):
        for file in group.files.values():
            # Of a longer file nobody knows the first piece's digest until somebody sends it again.
            head = file.sha256 if file.size <= PIECE_SIZE else None
            connection.execute(
                "INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (file.sha256, file.size, head),
            )
            connection.execute(
                "INSERT INTO shelf VALUES (?, ?, ?, ?, ?, ?)",
                (group_id, file.number, file.sha256, file.size, fold(file.by), file.at),
            )


def _fill_names(connection: sqlite3.Connection) -> None:
    """Find out from the logs how the groups' names are written."""
    last = (
        "SELECT id, frames FROM groups JOIN segments"
        " ON group_id = id AND segments.last = groups.last"
    )
    for number, frames in connection.execute(last).fetchall():
        *_, body = split_frames(frames)
        shown = decode_event(body).group
        connection.execute("UPDATE groups SET shown = ? WHERE id = ?", (shown, number))


def _replayed(connection: sqlite3.Connection) -> Iterator[tuple[int, Group]]:
    """Give the id of each group and the state that its log leads to."""
    for (number,) in connection.execute("SELECT id FROM groups").fetchall():
        group = Group()
        segments = connection.execute(
            "SELECT frames FROM segments WHERE group_id = ? ORDER BY last", (number,)
        )
        for (frames,) in segments:
            for body in split_frames(frames):
                apply(group, decode_event(body))
        yield number, group


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

# A blob is a file as such; `head` is the SHA-256 of its first piece, unknown for long ones from
# before. Whoever has sent a file holds it until it is on a shelf. What `uploads` knew and no shelf
# has, nobody can ask for.
_SHELVES = """
    CREATE TABLE blobs (
        sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL, head BLOB) WITHOUT ROWID;
    CREATE INDEX blobs_alike ON blobs (size, head);
    CREATE TABLE held (
        person TEXT NOT NULL, sha256 BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (person, sha256)) WITHOUT ROWID;
    CREATE INDEX held_by_file ON held (sha256);
    CREATE TABLE shelf (
        group_id INTEGER NOT NULL REFERENCES groups, number INTEGER NOT NULL,
        sha256 BLOB NOT NULL, size INTEGER NOT NULL, person TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (group_id, number)) WITHOUT ROWID;
    CREATE INDEX shelf_by_file ON shelf (sha256, group_id);
    CREATE INDEX shelf_by_person ON shelf (person, sha256);
    CREATE TABLE fetches (
        group_id INTEGER NOT NULL REFERENCES groups, number INTEGER NOT NULL,
        person TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (group_id, number, person)) WITHOUT ROWID;
    DROP TABLE uploads;
    """

# How a group's name is written; and what `search` keeps beside its index: up to which of a group's
# events that goes, from which on it is searched, and which event says what an edited one says now.
_SEARCH = """
    ALTER TABLE groups ADD COLUMN shown TEXT;
    CREATE TABLE searchable (
        group_id INTEGER PRIMARY KEY REFERENCES groups, upto INTEGER NOT NULL,
        floor INTEGER NOT NULL);
    CREATE TABLE reworded (
        group_id INTEGER NOT NULL REFERENCES groups, target INTEGER NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY (group_id, target)) WITHOUT ROWID;
    CREATE TABLE search_state (made_with TEXT NOT NULL, merging INTEGER NOT NULL);
    """

# What a group's log comes to as of event `seq`, so that not all of it has to be read. Nothing that
# could be erased is in `data`: names, times, topics, but no message.
_STATES = """
    CREATE TABLE states (
        group_id INTEGER PRIMARY KEY REFERENCES groups, seq INTEGER NOT NULL,
        made_with TEXT NOT NULL, data BLOB NOT NULL);
    """

MIGRATIONS = (
    (_TABLES, None),
    (_ACCOUNTS, _fill_standings),
    (_SHELVES, _fill_shelves),
    (_SEARCH, _fill_names),
    (_STATES, None),
)
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
