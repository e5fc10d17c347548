"""The disk's reserve: space that files never take, so that the log can always grow.

Without it, files could fill the disk, and then nobody could post, leave a group or claim a name.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LEAST = 256 << 20
_MOST = 8 << 30
_PART = 20  # of the disk: 5 %
_SMALL_PART = 5  # of a small disk at most: 20 %


def automatic_reserve(total: int) -> int:
    """Return the reserve on a disk of `total` bytes: 5 %, but 256 MiB to 8 GiB; a fifth at most."""
    return min(max(_LEAST, min(total // _PART, _MOST)), total // _SMALL_PART)


class DiskSpace:
    """The space of the disk with `path`; `reserve` is in bytes, or None for the automatic one."""

    def __init__(self, path: Path) -> None:
        self.reserve: int | None = None
        self._path = path

    def available(self) -> int:
        """Return how many bytes files may still take; negative if the reserve is touched already.

        This may block for a moment.
        """
        usage = shutil.disk_usage(self._path)
        reserve = automatic_reserve(usage.total) if self.reserve is None else self.reserve
        return usage.free - reserve
