"""Reports about a store's contents, read from one snapshot of its database (see `view`).

Names of people and groups are display names, times are in ms since the Unix epoch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import MADE_WITH, thaw_whole
from tchat.core.group.state import Group
from tchat.core.protocol.framing import split_frames
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError, Refused, StorageError
from tchat.store.base import ServerBan
from tchat.store.sqlite.damage import SegmentDamaged
from tchat.store.sqlite.log import body_of, find_group, segments_from

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from tchat.core.group.feature import Event

_KINDS = (
    "SELECT name LIKE '@%',"
    " EXISTS (SELECT 1 FROM standings WHERE group_id = id AND standing = 'member') FROM groups"
)
_GROUPS = (
    "SELECT id, ifnull(shown, name), last,"
    " (SELECT count(*) FROM standings WHERE group_id = id AND standing = 'member'),"
    " (SELECT count(*) FROM standings WHERE group_id = id AND standing = 'waiting'),"
    " (SELECT count(*) FROM shelf WHERE group_id = id),"
    " (SELECT ifnull(sum(size), 0) FROM shelf WHERE group_id = id)"
    " FROM groups ORDER BY name"
)
_PEOPLE = (
    "SELECT people.key, name, since,"
    " (SELECT count(*) FROM keys WHERE person = people.key AND until IS NULL),"
    " (SELECT count(*) FROM standings WHERE person = people.key AND standing = 'member'),"
    " ifnull((SELECT bytes FROM person_usage WHERE person = people.key), 0),"
    " erased IS NOT NULL"
    " FROM people ORDER BY people.key"
)


@dataclass(frozen=True, slots=True)
class Totals:
    """The number of groups, direct conversations, people, events and files, and their size."""

    groups: int
    closed_groups: int
    direct: int
    people: int
    events: int
    files: int
    file_bytes: int
    database_bytes: int


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group: its members, the people who wait, its last event and its files.

    A group without members is closed, unless it is a direct conversation.
    """

    name: str
    direct: bool
    members: int
    waiting: int
    events: int
    last_at: int
    files: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A name: when it was claimed, its keys, its memberships, and the size of its files.

    If the person was `erased`, the name is reserved.
    """

    name: str
    since: int
    keys: int
    groups: int
    file_bytes: int
    erased: bool


def totals(connection: sqlite3.Connection) -> Totals:
    """Return the totals of the whole store."""

    def one(sql: str) -> int:
        return int(connection.execute(sql).fetchone()[0])

    pages, size = one("PRAGMA page_count"), one("PRAGMA page_size")
    kinds = Counter(connection.execute(_KINDS).fetchall())
    return Totals(
        groups=kinds[0, 1],
        closed_groups=kinds[0, 0],
        direct=kinds[1, 0] + kinds[1, 1],
        people=one("SELECT count(*) FROM people WHERE erased IS NULL"),
        events=one("SELECT ifnull(sum(last), 0) FROM groups"),
        files=one("SELECT count(*) FROM blobs"),
        file_bytes=one("SELECT ifnull(sum(size), 0) FROM blobs"),
        database_bytes=pages * size,
    )


def all_groups(connection: sqlite3.Connection) -> Iterator[GroupRow]:
    """Yield all groups, by name."""
    for number, name, last, *counts in connection.execute(_GROUPS).fetchall():
        try:
            body = body_of(connection, number, last)
        except SegmentDamaged:  # the other groups are listed all the same
            body = None
        at = decode_event(body).at if body else 0
        members, waiting, files, size = counts
        yield GroupRow(name, name.startswith("@"), members, waiting, last, at, files, size)


def all_people(connection: sqlite3.Connection) -> Iterator[PersonRow]:
    """Yield all people, by name."""
    for _, name, since, keys, groups, size, erased in connection.execute(_PEOPLE):
        yield PersonRow(name, since, keys, groups, size, bool(erased))


def group_state(connection: sqlite3.Connection, name: str) -> Group:
    """Return the state of a group. Raises `Refused` (no_such_group)."""
    number, _ = find_group(connection, fold(name))
    if number is None:
        raise Refused(
            Code.NO_SUCH_GROUP, f"There is no group {name}; 'tchat admin groups' lists all."
        )
    group = _stored_state(connection, number) or Group.unwritten(fold(name))
    for event in events_after(connection, number, group.seq):
        apply(group, event)
    return group


def events_after(connection: sqlite3.Connection, number: int, after: int) -> Iterator[Event]:
    """Yield the events of a group after the event `after`. Raises `StorageError` (file_damaged)."""
    for segment in segments_from(connection, number, after + 1):
        try:
            events = [decode_event(body) for body in split_frames(segment.after(after).frames)]
        except ProtocolError as error:
            raise StorageError(
                Code.FILE_DAMAGED,
                f"Events {segment.first} to {segment.last} of a group are damaged: `tchat admin"
                f" verify` says more. {error.sentence}",
            ) from error
        yield from events


def group_cursors(connection: sqlite3.Connection, name: str) -> dict[str, int]:
    """Return the last event that each person (folded) has read in a group."""
    sql = "SELECT person, seq FROM cursors JOIN groups ON id = group_id WHERE name = ?"
    return dict(connection.execute(sql, (fold(name),)))


def person_of(connection: sqlite3.Connection, name: str) -> tuple[str, int]:
    """Return a person's display name, and when it was claimed. Raises `Refused` (no_such_name)."""
    sql = "SELECT name, since FROM people WHERE key = ?"
    row = connection.execute(sql, (fold(name),)).fetchone()
    if row is None:
        raise Refused(
            Code.NO_SUCH_NAME, f"Nobody has the name {name}; 'tchat admin people' lists all."
        )
    return row[0], row[1]


def keys_of(connection: sqlite3.Connection, person: str) -> list[tuple[bytes, int, int | None]]:
    """Return the keys of a person (folded): key, since when, and until when if it was removed."""
    sql = "SELECT key, since, until FROM keys WHERE person = ? ORDER BY since"
    return connection.execute(sql, (person,)).fetchall()


def positions_of(connection: sqlite3.Connection, person: str) -> dict[str, int]:
    """Return the last event that a person (folded) has read in each group."""
    sql = (
        "SELECT ifnull(shown, name), seq FROM cursors JOIN groups ON id = group_id"
        " WHERE person = ? ORDER BY name"
    )
    return dict(connection.execute(sql, (person,)))


def downloads_of(connection: sqlite3.Connection, person: str) -> list[tuple[str, int, int]]:
    """Return the files that a person (folded) has downloaded: group, number, and when."""
    sql = (
        "SELECT ifnull(shown, name), number, at FROM fetches JOIN groups ON id = group_id"
        " WHERE person = ? ORDER BY at"
    )
    return connection.execute(sql, (person,)).fetchall()


def uploads_of(connection: sqlite3.Connection, person: str) -> list[tuple[bytes, int]]:
    """Return what a person (folded) has uploaded and not shared yet: SHA-256, and when."""
    sql = "SELECT sha256, at FROM held WHERE person = ? ORDER BY at"
    return connection.execute(sql, (person,)).fetchall()


def all_bans(connection: sqlite3.Connection) -> list[ServerBan]:
    """Return the operator's bans."""
    sql = "SELECT kind, value, at, reason FROM bans ORDER BY kind, value"
    return [ServerBan(*row) for row in connection.execute(sql)]


def _stored_state(connection: sqlite3.Connection, number: int) -> Group | None:
    row = connection.execute(
        "SELECT seq, data FROM states WHERE group_id = ? AND made_with = ?", (number, MADE_WITH)
    ).fetchone()
    try:
        return thaw_whole(row[1], row[0]) if row else None
    except ProtocolError:
        return None


def standings_of(connection: sqlite3.Connection, person: str) -> dict[str, str]:
    """Return the groups of a person (folded), and their standing there."""
    sql = (
        "SELECT ifnull(shown, name), standing FROM standings JOIN groups ON id = group_id"
        " WHERE person = ? ORDER BY name"
    )
    return dict(connection.execute(sql, (person,)))


def files_of(connection: sqlite3.Connection, person: str) -> list[tuple[str, int, bytes, int]]:
    """Return the files that a person (folded) shared: group, number, SHA-256, size."""
    sql = (
        "SELECT ifnull(shown, name), number, sha256, size FROM shelf"
        " JOIN groups ON id = group_id WHERE person = ? ORDER BY name, number"
    )
    return connection.execute(sql, (person,)).fetchall()


def group_numbers(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of all groups, by name."""
    return [number for (number,) in connection.execute("SELECT id FROM groups ORDER BY name")]
