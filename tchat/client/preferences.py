"""Remembered preferences: ignored and blocked people, muted groups, for each server and person.

    {"sha256:Y2hhdC5l…": {"alice": {"ignore": {"mallory": true}, "mute": {"noise": false},
                                    "block": {"eve": true, "eve/3f2a-91c4-77de-0b12": true}}}}

This file overrides the defaults from the settings file: true adds a name to a list, false removes a
name that the settings file has in it. A blocked person is ignored as well. The list `block` also
has the fingerprints of the keys that blocked names have used, since a name costs nothing: whoever
uses such a key is blocked, too. The file is read again before each change, under a lock, so
that several clients with the same directory keep each other's changes. A damaged file is renamed,
and `damage` reports it.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from tchat.client.shared_records import locked
from tchat.core.fingerprints import fingerprint
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.transfer.durable import rename_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    Overrides = dict[str, dict[str, bool]]

List = Literal["ignore", "mute", "block"]
_LISTS: tuple[List, ...] = ("ignore", "mute", "block")
_KEY_SIGN = "/"
"""What separates a name and a key in the list `block`; no name has it."""


class Preferences:
    """The preferences of a person on one server: people and groups, by folded names.

    `ignored` are the people whose messages are hidden, `blocked` those of them whose requests and
    conversations are hidden as well, and `muted` groups have no bell. `servers` are the names that
    identify the server, the most reliable first. `ignore` and `mute` are the defaults. Without a
    path, changes are lost when the program ends. The sets are updated in place.
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
        self.blocked: set[str] = set()
        self.muted: set[str] = set()
        self.damage: str | None = None
        self._path = path
        self._servers = servers
        self._user = fold(user)
        self._defaults = {
            "ignore": set(map(fold, ignore)),
            "mute": set(map(fold, mute)),
            "block": set[str](),
        }
        self._lists: dict[str, set[str]] = {name: set() for name in _LISTS}
        self._unsaved: Overrides = {name: {} for name in _LISTS}
        self._kept: dict[str, dict[str, Overrides]] = {}
        self._stamp: object = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if another client has changed it; return whether the sets changed."""
        before = {name: set(chosen) for name, chosen in self._lists.items()}
        stamp = self._file_stamp()
        if stamp != self._stamp or stamp is None:
            self._stamp = stamp
            try:
                self._adopt(self._read())
            except OSError as error:
                self.damage = f"{self._path} cannot be read: {error.strerror}."
                self._adopt(self._kept)
        return before != self._lists

    def is_default(self, which: List, name: str) -> bool:
        """Return whether the settings file has a name in a list."""
        return fold(name) in self._defaults[which]

    def has(self, which: List, name: str) -> bool:
        """Return whether a name is in a list itself."""
        return fold(name) in self._lists[which]

    def listed(self, which: List) -> Collection[str]:
        """Return the names (folded) that are in a list itself."""
        return self._lists[which]

    def change(self, which: List, name: str, *, on: bool) -> None:
        """Add a name to a list, or remove it, permanently. Raises `Refused` like `change_all`."""
        self.change_all(which, [name], on=on)

    def change_all(self, which: List, names: Iterable[str], *, on: bool) -> None:
        """Add names to a list, or remove them, permanently.

        Raises `Refused` if the change cannot be saved; it is then lost when the program ends.
        """
        self._unsaved[which] |= {fold(name): on for name in names}
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

    # ------------------------------------------------------------------ blocked people

    @property
    def blocked_keys(self) -> dict[str, str]:
        """The keys that are blocked: their fingerprints, with a folded name for each."""
        entries = (entry.partition(_KEY_SIGN) for entry in sorted(self._lists["block"]))
        return {digits: name for name, _, digits in entries if digits}

    def block(self, names: Mapping[str, Iterable[bytes]]) -> None:
        """Block people, and the keys that their names use. Raises `Refused` like `change_all`."""
        keys = [
            f"{fold(name)}{_KEY_SIGN}{fingerprint(key)}" for name in names for key in names[name]
        ]
        self.change_all("block", [*names, *keys], on=True)

    def unblock(self, name: str) -> list[str]:
        """Lift a block, and that of all names with the same keys; return the names, folded.

        Raises `Refused` like `change_all`.
        """
        entries = {entry: entry.partition(_KEY_SIGN) for entry in self._lists["block"]}
        keys = {digits for person, _, digits in entries.values() if digits and person == fold(name)}
        names = {person for person, _, digits in entries.values() if digits in keys} | {fold(name)}
        lifted = [entry for entry, (person, *_) in entries.items() if person in names]
        self.change_all("block", lifted, on=False)
        return sorted(names)

    # ------------------------------------------------------------------ the file

    def _adopt(self, kept: dict[str, dict[str, Overrides]]) -> None:
        """Fill the sets from the defaults and the overrides."""
        self._kept = kept
        overrides = self._overrides(kept)
        for which in _LISTS:
            chosen = overrides[which]
            names = {name for name in self._defaults[which] if chosen.get(name, True)}
            self._lists[which] = names | {name for name, on in chosen.items() if on}
        blocked = {name for name in self._lists["block"] if _KEY_SIGN not in name}
        hidden = self._lists["ignore"] | blocked
        sets = ((self.ignored, hidden), (self.blocked, blocked), (self.muted, self._lists["mute"]))
        for names, now in sets:
            names.clear()
            names |= now

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
        self.damage = f"{path} is damaged: the lists of people and muted groups are lost."
        try:
            rename_file(path, aside)
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
