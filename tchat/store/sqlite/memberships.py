"""The groups of a person, as far as they can be read.

The list of somebody's groups is the first thing that their client asks for. So a damaged page that
has one of these groups costs this one, and not the list: if the query for all fails, each group is
looked up alone, and what cannot be read is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from tchat.core.protocol.frames import Standing
from tchat.store.base import Membership
from tchat.store.sqlite.damage import damage_in

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_STANDINGS = get_args(Standing)
# The index of the segments is enough for these: no page with events is read.
_SELECT = (
    "SELECT name, ifnull(shown, name), standing, groups.last, ifnull(seq, 0), place"
    " FROM standings JOIN groups ON id = standings.group_id"
    " LEFT JOIN segments ON segments.group_id = id AND segments.last = groups.last"
    " LEFT JOIN cursors ON cursors.group_id = id AND cursors.person = standings.person"
    " WHERE standings.person = ?"
)
_ALL = f"{_SELECT} ORDER BY segments.rowid DESC"
_ONE = f"{_SELECT} AND standings.group_id = ?"
_NUMBERS = "SELECT group_id FROM standings WHERE person = ?"
_NAMES = "SELECT name, standing FROM standings JOIN groups ON id = group_id WHERE person = ?"


def memberships_of(connection: sqlite3.Connection, person: str) -> list[Membership]:
    """Return the groups of a person; see `Store.memberships_of`."""
    try:
        return [_membership(*row) for row in connection.execute(_ALL, (person,))]
    except Exception as error:
        if damage_in(error, None) is None:
            raise
        return list(_one_by_one(connection, person))


def groups_of(connection: sqlite3.Connection, person: str) -> dict[str, Standing]:
    """Return the groups of a person; see `Store.groups_of`."""
    try:
        return dict(connection.execute(_NAMES, (person,)))
    except Exception as error:
        if damage_in(error, None) is None:
            raise
        return {one.group: one.standing for one in _one_by_one(connection, person)}


def _one_by_one(connection: sqlite3.Connection, person: str) -> Iterator[Membership]:
    """Yield the groups that can be read. Raises if not even their numbers can."""
    for (number,) in connection.execute(_NUMBERS, (person,)).fetchall():
        try:
            row = connection.execute(_ONE, (person, number)).fetchone()
            if row is not None:
                yield _membership(*row)
        except Exception as error:
            if damage_in(error, None) is None:
                raise


def _membership(
    group: object, name: object, standing: object, last: object, read: object, place: object
) -> Membership:
    """Return a row, if its values can be true. Raises ValueError."""
    match group, name, last, read, place:
        case str(group), str(name), int(last), int(read), int(place) if standing in _STANDINGS:
            return Membership(group, name, cast("Standing", standing), last, read, place)
    raise ValueError("a row has other values than were written")
