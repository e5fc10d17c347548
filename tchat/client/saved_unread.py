"""Unread messages that an earlier start has counted, so that no later one has to load them again.

    {"sha256:Y2hhdC5l…": {"alice": {"lab": {"last": 3400, "people": ["bob"],
                                            "unread": [[120, 1795341720000, 0, null, false]]}}}}

Of the events of #lab up to 3400, event 120 is unread: a message by bob, at that time (ms since the
Unix epoch), without a file, and not meant for alice. The file only saves time: if it is missing,
damaged or cannot be written, that is no error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tchat.core.text import fold
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(slots=True)
class Unread:
    """A message or a file of somebody else: `author` is folded, `file` the number of a file.

    `personal` says that it is meant for this person.
    """

    seq: int
    at: int
    author: str
    file: int | None
    personal: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """What is `unread` of a group's events up to `last`, in order."""

    last: int = 0
    unread: tuple[Unread, ...] = ()


class SavedUnread:
    """The counted events of a person's groups on one server.

    `servers` are the names that identify the server, the most reliable first. Without a path,
    nothing is saved.
    """

    def __init__(
        self, path: Path | None = None, servers: Sequence[str] = ("",), user: str = ""
    ) -> None:
        self._path = path
        self._server = servers[0]
        self._user = fold(user)
        mine = _table(_table(self._read().get(self._server)).get(self._user))
        self._groups = {group: _counted(saved) for group, saved in mine.items()}

    def of(self, group: str) -> Counted:
        """Return what was counted of a group."""
        return self._groups.get(fold(group), Counted())

    def save(self, group: str, counted: Counted | None) -> None:
        """Replace what was counted of a group; None if it need not be kept."""
        name = fold(group)
        if counted == self._groups.get(name):
            return
        self._groups.pop(name, None)
        if counted is not None:
            self._groups[name] = counted
        if self._path is None:
            return
        kept = self._read()
        people = _table(kept.get(self._server))
        mine = _table(people.get(self._user))
        mine.pop(name, None)
        if counted is not None:
            mine[name] = _encoded(counted)
        kept[self._server] = people | {self._user: mine}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, json.dumps(kept).encode())
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            return _table(json.loads(self._path.read_text("utf-8")) if self._path else None)
        except (OSError, ValueError, RecursionError):
            return {}


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _encoded(counted: Counted) -> dict[str, object]:
    people = {name: number for number, name in enumerate({one.author: 0 for one in counted.unread})}
    unread = [
        [one.seq, one.at, people[one.author], one.file, one.personal] for one in counted.unread
    ]
    return {"last": counted.last, "people": list(people), "unread": unread}


def _counted(saved: object) -> Counted:
    """Return what a record says; nothing if it is damaged."""
    try:
        match saved:
            case {"last": int(last), "people": [*people], "unread": [*rows]}:
                unread = tuple(_unread(row, people) for row in rows)
                seqs = [one.seq for one in unread]
                if seqs == sorted(set(seqs)) and all(0 < seq <= last for seq in seqs):
                    return Counted(last, unread)
    except (ValueError, IndexError):
        pass
    return Counted()


def _unread(row: object, people: list[object]) -> Unread:
    match row:
        case [int(seq), int(at), int(number), int() | None as file, bool(personal)]:
            return Unread(seq, at, str(people[number]), file, personal)
    raise ValueError
