"""Index of the uploads that are begun and not running: their sizes and ages, in memory.

A request for an upload has to know them: they take a part of the person's quota, and the oldest
make room for new ones. Listing the directory instead would cost more with each upload begun. The
index is read from the directory at the start, and then follows every change.

They are bounded for each person and for all together, in number, bytes and age. Removing one costs
its person nothing but the time to send it again.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tchat.transfer.partial_file import DIGESTS_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_EACH = 64
"""The largest number of begun uploads of one person."""

MAX_TOTAL = 10_000
"""The largest number of begun uploads of all people."""


class _Begun(NamedTuple):
    size: int
    at: float  # seconds since the Unix epoch


class BegunUploads:
    """The files `p/f` below a directory, by person `p`, the oldest first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._people: dict[Path, OrderedDict[Path, _Begun]] = {}
        self.count = 0
        self.load()

    @property
    def size(self) -> int:
        """The size of all uploads together."""
        return sum(begun.size for one in self._people.values() for begun in one.values())

    def load(self) -> None:
        """Read the directory."""
        found: dict[Path, _Begun] = {}
        for path in self._directory.glob("*/*"):
            with suppress(FileNotFoundError):
                status, main = path.stat(), _main_file(path)
                size, at = found.get(main, _Begun(0, 0.0))
                size += status.st_size if path == main else 0
                found[main] = _Begun(size, max(at, status.st_mtime))
        self._people.clear()
        self.count = 0
        for path, begun in sorted(found.items(), key=lambda item: item[1].at):
            self.add(path, begun.size, begun.at)

    def limit_times(self, now: float) -> None:
        """Let no upload have stopped later than `now`."""
        for uploads in self._people.values():
            for path, begun in uploads.items():
                uploads[path] = begun._replace(at=min(begun.at, now))

    def add(self, path: Path, size: int, at: float) -> None:
        """Add an upload that has stopped at `at`."""
        self.discard(path)
        self._people.setdefault(path.parent, OrderedDict())[path] = _Begun(size, at)
        self.count += 1

    def discard(self, path: Path) -> None:
        """Remove an upload, if it is there: it is running again, or its file is gone."""
        uploads = self._people.get(path.parent)
        if uploads is not None and uploads.pop(path, None) is not None:
            self.count -= 1
            if not uploads:
                del self._people[path.parent]

    def size_of(self, path: Path) -> int:
        """Return how much there is of an upload."""
        begun = self._people.get(path.parent, OrderedDict()).get(path)
        return 0 if begun is None else begun.size

    def excess_of(self, person: Path, limit: int, is_exempt: Callable[[Path], bool]) -> list[Path]:
        """Return a person's oldest uploads: those beyond `limit` bytes, or beyond `MAX_EACH`."""
        excess, number = [], 0
        for path, begun in reversed(self._people.get(person, OrderedDict()).items()):
            if not is_exempt(path):
                limit -= begun.size
                number += 1
                if limit < 0 or number > MAX_EACH:
                    excess.append(path)
        return excess

    def excess(self, is_exempt: Callable[[Path], bool]) -> list[Path]:
        """Return the oldest uploads of whoever has the most, those beyond `MAX_TOTAL`."""
        if self.count <= MAX_TOTAL:
            return []
        largest = max(self._people.values(), key=len)
        paths = [path for path in largest if not is_exempt(path)]
        return paths[: self.count - MAX_TOTAL]

    def stale(self, before: float) -> list[Path]:
        """Return the uploads that stopped before that time."""
        stale: list[Path] = []
        for uploads in self._people.values():
            for path, begun in uploads.items():
                if begun.at >= before:
                    break
                stale.append(path)
        return stale


def digests_file(path: Path) -> Path:
    """Return the digests file of a file."""
    return path.with_name(path.name + DIGESTS_SUFFIX)


def _main_file(path: Path) -> Path:
    """Return the file that a digests file belongs to, or the file itself."""
    return path.with_name(path.name.removesuffix(DIGESTS_SUFFIX))
