"""File systems that are really full: a small tmpfs (for root), or a limit on the size of files."""

from __future__ import annotations

import errno
import resource
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["limit", "tmpfs"]
KINDS: tuple[Kind, ...] = ("limit", "tmpfs")


class Disk(Protocol):
    """A directory that `fill` makes full, until `free`."""

    path: Path

    def fill(self) -> None:
        """Leave no room for anything more."""

    def free(self) -> None:
        """Make room again."""


class LimitedFiles:
    """The largest size of files of this process, as `ulimit -f` sets it (EFBIG)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """Let no file become larger than the largest that is there."""
        sizes = [file.stat().st_size for file in self.path.rglob("*") if file.is_file()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0), self._before[1]))

    def free(self) -> None:
        """Restore the limit."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class SmallDisk:
    """A tmpfs of 4 MiB (ENOSPC)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Write a file until nothing more fits."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (1 << 16, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017

    def free(self) -> None:
        """Remove the file."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(kind: Kind, path: Path) -> Iterator[Disk]:
    """Give a directory that can be filled; skip the test where that needs rights it has not."""
    path.mkdir()
    if kind == "limit":
        disk: Disk = LimitedFiles(path)
        try:
            yield disk
        finally:
            disk.free()
        return
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a tmpfs is not permitted")
    try:
        yield SmallDisk(path)
    finally:
        unmount = ["umount", "--lazy", str(path)]
        subprocess.run(unmount, check=True)
