"""JSON files that all programs of a person's directory share, changed under a lock.

Each change reads the file again under the lock, so that no program overwrites what another one has
written meanwhile. A file that is missing or damaged is empty.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tchat.core.text import fold
from tchat.durable_directory import make_directory
from tchat.file_lock import lock_within
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_LOCK_SECONDS = 1.0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other programs from changing a file while the block runs. Raises OSError."""
    make_directory(path.parent)
    with lock_within(path.with_name(f"{path.name}.lock"), _LOCK_SECONDS):
        yield


def table_of(value: object) -> dict[str, Any]:
    """Return a value of a JSON file if it is a table, and an empty table otherwise."""
    return value if isinstance(value, dict) else {}


def read_table(path: Path) -> dict[str, Any]:
    """Return the table in a file."""
    try:
        return table_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def update_table(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` change the table in a file, in place. Raises OSError."""
    with locked(path):
        table = read_table(path)
        change(table)
        replace_file(path, json.dumps(table, indent=1).encode())


class PersonRecords:
    """What a file has about one person on one server.

        {"sha256:Y2hhdC5l…": {"alice": …}}

    `servers` are the names that identify the server, the most reliable first. Without a path,
    nothing is saved.
    """

    def __init__(
        self, path: Path | None = None, servers: Sequence[str] = ("",), user: str = ""
    ) -> None:
        self._path = path
        self._servers = servers
        self._user = fold(user)

    def read(self) -> object:
        """Return the record under the best name of the server that has one; None without any."""
        return self._find(read_table(self._path)) if self._path is not None else None

    def update(self, change: Callable[[object], object]) -> None:
        """Replace the record by what `change` returns for it. Raises OSError."""
        if self._path is not None:
            update_table(self._path, lambda table: self._replace(table, change))

    def _find(self, table: dict[str, Any]) -> object:
        records = (table_of(table.get(server)).get(self._user) for server in self._servers)
        return next((record for record in records if record is not None), None)

    def _replace(self, table: dict[str, Any], change: Callable[[object], object]) -> None:
        server = self._servers[0]
        people = table_of(table.get(server))
        table[server] = people | {self._user: change(self._find(table))}
