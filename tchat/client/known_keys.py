"""The keys of a person's name that this device knows of, so that a new one can be reported.

    {"sha256:Y2hhdC5l…": {"alice": ["3f2a-91c4-77de-0b12"]}}

The file has the fingerprints of the keys of each person on each server. If it is missing or
damaged, all keys are known: a device that was just linked has nothing to report. If it cannot be
written, a key is reported again at the next start.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tchat.core.fingerprints import fingerprint
from tchat.core.text import fold
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tchat.core.protocol.frames import NameKey


class KnownKeys:
    """The known keys of one person on one server.

    `servers` are the names that identify the server, the most reliable first. Without a path,
    nothing is saved.
    """

    def __init__(
        self, path: Path | None = None, servers: Sequence[str] = ("",), user: str = ""
    ) -> None:
        self._path = path
        self._server = servers[0]
        self._user = fold(user)
        self._known = _texts(_table(self._read().get(self._server)).get(self._user))

    def find_new(self, keys: Iterable[NameKey]) -> list[NameKey]:
        """Return those keys that are not known yet, and remember them.

        The file is read only at the start: each program that is running reports a new key.
        """
        found = {fingerprint(key.key): key for key in keys}
        known = found.keys() if self._known is None else self._known
        new = [key for text, key in found.items() if text not in known]
        if self._known is None or new:
            self._known = set(known) | found.keys()
            self._save(self._known)
        return new

    def _save(self, known: set[str]) -> None:
        if self._path is None:
            return
        kept = self._read()
        kept[self._server] = _table(kept.get(self._server)) | {self._user: sorted(known)}
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


def _texts(saved: object) -> set[str] | None:
    if isinstance(saved, list) and all(isinstance(text, str) for text in saved):
        return set(saved)
    return None
