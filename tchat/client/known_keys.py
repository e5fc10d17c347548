"""The keys of a person's name that this device knows of, so that a change can be reported.

    {"sha256:Y2hhdC5l…": {"alice": {"3f2a-91c4-77de-0b12": 1700000000000}}}

The file has the fingerprints of the keys of each person on each server, and when each was added: a
key that was removed and added again is new. If the file is missing or damaged, all keys are known:
a device that was just linked has nothing to report. If it cannot be written, a key is reported
again at the next start.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tchat.client.shared_records import PersonRecords
from tchat.core.fingerprints import fingerprint

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from tchat.core.protocol.frames import NameKey

    Keys = dict[str, int]


MOST_KEYS = 1000
"""How many keys of a name are remembered, the latest ones."""


class KnownKeys:
    """The known keys of one person on one server.

    `servers` are the names that identify the server, the most reliable first. Without a path,
    nothing is saved. The file is read only at the start: each program that is running reports a new
    key.
    """

    def __init__(
        self, path: Path | None = None, servers: Sequence[str] = ("",), user: str = ""
    ) -> None:
        self._records = PersonRecords(path, servers, user)
        self._known = _keys(self._records.read())

    def compare(self, all_keys: Collection[NameKey]) -> tuple[list[NameKey], list[str]]:
        """Return the new keys, and the fingerprints of the removed ones; all keys are given.

        From now on, exactly these are known. The first list that this device ever gets has no
        changes.
        """
        before, now = self._known, _keys_of(all_keys)
        self._known = now
        if before != now:
            with suppress(OSError):
                self._records.update(lambda _: now)
        if before is None:
            return [], []
        new = [key for key in all_keys if before.get(fingerprint(key.key)) != key.since]
        return new, [digits for digits in before if digits not in now]

    def add(self, key: NameKey) -> None:
        """Remember a key that was just reported, unless the other keys are not known yet."""
        if self._known is None:
            return
        known = self._known = _latest(self._known | _keys_of([key]))
        with suppress(OSError):
            self._records.update(lambda saved: _latest((_keys(saved) or known) | _keys_of([key])))

    def remove(self, key: bytes) -> None:
        """Forget a key whose removal was just reported."""
        if self._known is None:
            return
        digits = fingerprint(key)
        known = self._known = {one: at for one, at in self._known.items() if one != digits}

        def change(saved: object) -> Keys:
            keys = _keys(saved)
            return known if keys is None else {k: at for k, at in keys.items() if k != digits}

        with suppress(OSError):
            self._records.update(change)


def _keys_of(keys: Collection[NameKey]) -> Keys:
    return {fingerprint(key.key): key.since for key in keys}


def _latest(keys: Keys) -> Keys:
    return dict(list(keys.items())[-MOST_KEYS:])


def _keys(saved: object) -> Keys | None:
    if isinstance(saved, dict) and all(type(since) is int for since in saved.values()):
        return saved
    return None
