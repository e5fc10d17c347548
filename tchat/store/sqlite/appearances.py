"""Index of what the names of people and groups look like (see `core.lookalikes`).

The tables are computed anew for other versions of the Unicode data. Closed groups are in none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tchat.core.group.direct import is_direct
from tchat.core.lookalikes import APPEARANCES, appearances_of

if TYPE_CHECKING:
    import sqlite3

_Table = Literal["appearances", "group_appearances"]


def prepare_appearances(connection: sqlite3.Connection) -> None:
    """Compute the appearances of all names, unless they were made with the same versions."""
    if _is_up_to_date(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM appearances_made_with")
    connection.execute("INSERT INTO appearances_made_with VALUES (?)", (APPEARANCES,))
    connection.execute("DELETE FROM appearances")
    for person, name in connection.execute("SELECT key, name FROM people").fetchall():
        add_person_appearances(connection, person, name)
    connection.execute("DELETE FROM group_appearances")
    for number, name, shown in connection.execute(
        "SELECT id, name, ifnull(shown, name) FROM groups WHERE id IN"
        " (SELECT group_id FROM standings WHERE standing = 'member')"
    ).fetchall():
        if not is_direct(name):
            set_group_appearances(connection, number, shown)
    connection.execute("COMMIT")


def _is_up_to_date(connection: sqlite3.Connection) -> bool:
    made_with = connection.execute("SELECT versions FROM appearances_made_with").fetchall()
    return made_with == [(APPEARANCES,)]


def add_person_appearances(connection: sqlite3.Connection, person: str, name: str) -> None:
    """Add a new person (folded) with a display name."""
    _add(connection, "appearances", person, name)


def person_like(connection: sqlite3.Connection, person: str, name: str) -> str | None:
    """Return the display name of a person other than this (folded) who looks like `name`."""
    sql = (
        "SELECT name FROM appearances JOIN people ON people.key = person"
        " WHERE appearance = ? AND person <> ?"
    )
    for appearance in appearances_of(name):
        if (row := connection.execute(sql, (appearance, person)).fetchone()) is not None:
            return str(row[0])
    return None


def set_group_appearances(connection: sqlite3.Connection, number: int, name: str) -> None:
    """Set those of the group with that id to those of a display name."""
    remove_group_appearances(connection, number)
    _add(connection, "group_appearances", number, name)


def group_appearances(connection: sqlite3.Connection, number: int) -> set[str] | None:
    """Return those of the group with that id; None if they have to be computed again."""
    if not _is_up_to_date(connection):
        return None
    sql = "SELECT appearance FROM group_appearances WHERE group_id = ?"
    return {appearance for (appearance,) in connection.execute(sql, (number,))}


def remove_group_appearances(connection: sqlite3.Connection, number: int) -> None:
    """Remove a group, which was closed: another one may have its looks."""
    connection.execute("DELETE FROM group_appearances WHERE group_id = ?", (number,))


def has_group_like(connection: sqlite3.Connection, number: int | None, name: str) -> bool:
    """Return whether a group other than that with this id looks like `name`."""
    sql = "SELECT 1 FROM group_appearances WHERE appearance = ? AND group_id IS NOT ?"
    return any(
        connection.execute(sql, (appearance, number)).fetchone() is not None
        for appearance in appearances_of(name)
    )


def _add(connection: sqlite3.Connection, table: _Table, owner: str | int, name: str) -> None:
    rows = [(appearance, owner) for appearance in appearances_of(name)]
    connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608  # constant
