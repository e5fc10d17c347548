"""Remembered preferences: ignored people and muted groups, for each server and person.

    {"sha256:Y2hhdC5l…": {"alice": {"ignore": {"mallory": true}, "mute": {"noise": false}}}}

This file overrides the defaults from the settings file: true adds a name to a list, false removes a
name that the settings file has in it. The file is read again before each change, under a lock, so
that several clients with the same directory keep each other's changes. A damaged file is renamed,
and `damage` reports it.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from tchat.client.shared_records import locked
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    Overrides = dict[str, dict[str, bool]]

List = Literal["ignore", "mute"]
_LISTS: tuple[List, ...] = ("ignore", "mute")


class Preferences:
    """The preferences of a person on one server: `ignored` people and `muted` groups, folded.

    `servers` are the names that identify the server, the most reliable first. `ignore` and `mute`
    are the defaults. Without a path, changes are lost when the program ends. The two sets are
    updated in place.
    """

    def __init__(
        self,
        path: Path | None = None,
        servers: Sequence[str] = ("",),
        user: str = "",
        *,
        ignore: Collection[str] = (),
        mute: Collection[str] = (),
    ) -> None:
        self.ignored: set[str] = set()
        self.muted: set[str] = set()
        self.damage: str | None = None
        self._path = path
        self._servers = servers
        self._user = fold(user)
        self._defaults = {"ignore": set(map(fold, ignore)), "mute": set(map(fold, mute))}
        self._unsaved: Overrides = {name: {} for name in _LISTS}
        self._kept: dict[str, dict[str, Overrides]] = {}
        self._stamp: object = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if another client has changed it; return whether the sets changed."""
        before = (set(self.ignored), set(self.muted))
        stamp = self._file_stamp()
        if stamp != self._stamp or stamp is None:
            self._stamp = stamp
            try:
                self._adopt(self._read())
            except OSError as error:
                self.damage = f"{self._path} cannot be read: {error.strerror}."
                self._adopt(self._kept)
        return before != (self.ignored, self.muted)

    def is_default(self, which: List, name: str) -> bool:
        """Return whether the settings file has a name in a list."""
        return fold(name) in self._defaults[which]

    def change(self, which: List, name: str, *, on: bool) -> None:
        """Add a name to a list, or remove it, permanently.

        Raises `Refused` if the change cannot be saved; it is then lost when the program ends.
        """
        self._unsaved[which][fold(name)] = on
        try:
            with locked(self._path) if self._path is not None else nullcontext():
                kept = self._read()
                mine = kept.setdefault(self._servers[0], {}).setdefault(self._user, {})
                for each, overrides in self._overrides(kept).items():
                    mine[each] = overrides
                if self._path is not None:
                    replace_file(self._path, json.dumps(kept, indent=1).encode())
                    self._unsaved = {each: {} for each in _LISTS}
                    self._stamp = self._file_stamp()
                self._adopt(kept)
        except OSError as error:
            self._adopt(self._kept)
            raise Refused(
                Code.FILE_UNREADABLE,
                f"{self._path} cannot be changed: {error.strerror}. This holds until you quit.",
            ) from error

    # ------------------------------------------------------------------ the file

    def _adopt(self, kept: dict[str, dict[str, Overrides]]) -> None:
        """Fill the two sets from the defaults and the overrides."""
        self._kept = kept
        overrides = self._overrides(kept)
        for which, names in (("ignore", self.ignored), ("mute", self.muted)):
            chosen = overrides[which]
            names.clear()
            names |= {name for name in self._defaults[which] if chosen.get(name, True)}
            names |= {name for name, on in chosen.items() if on}

    def _overrides(self, kept: dict[str, dict[str, Overrides]]) -> Overrides:
        """Return this person's overrides: the saved ones, of any name of the server, and others."""
        merged: Overrides = {which: {} for which in _LISTS}
        for server in reversed(self._servers):
            for which, names in kept.get(server, {}).get(self._user, {}).items():
                merged.setdefault(which, {}).update(names)
        for which, names in self._unsaved.items():
            merged[which].update(names)
        return merged

    def _read(self) -> dict[str, dict[str, Overrides]]:
        """Return the contents of the file; empty if there is none, or it is damaged.

        Raises OSError if it cannot be read.
        """
        if self._path is None:
            return {}
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            _check(kept, depth=4)
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, RecursionError):
            self._set_aside(self._path)
            return {}
        checked: dict[str, dict[str, Overrides]] = kept
        return checked

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}.damaged")
        self.damage = f"{path} is damaged: the lists of ignored people and muted groups are lost."
        try:
            path.replace(aside)
        except OSError:
            return
        self.damage += f" It is kept as {aside.name}."

    def _file_stamp(self) -> object:
        """Return something that changes whenever the file is replaced; None if there is none."""
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return found and (found.st_ino, found.st_mtime_ns, found.st_size)


def _check(value: object, depth: int) -> None:
    """Raise TypeError unless this is a table of tables `depth` deep, of true and false."""
    if depth == 0:
        if not isinstance(value, bool):
            raise TypeError("a value is neither true nor false")
        return
    if not isinstance(value, dict):
        raise TypeError("a table is missing")
    for one in value.values():
        _check(one, depth - 1)
