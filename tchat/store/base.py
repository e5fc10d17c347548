"""What a server needs from storage. One contract test-suite holds every implementation to it.

The log is a compare-and-append: the caller says which seq it believes to be the last, and the
append happens only if that is so. One server could do without; several servers over one store
could not. An append that returns has reached the disk.

Frames are opaque here: they come packed, as they go to sockets, and are given back as they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from tchat.core.framing import skip_frames
from tchat.errors import Code, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from tchat.core.frames import Standing

NOBODY: Mapping[str, Standing] = MappingProxyType({})

PAGE_LIMIT = 64 * 1024
"""About how many bytes one `read` returns; a single larger batch comes whole."""


class Conflict(StorageError):
    """The log does not end where the writer believed: somebody else writes to it."""

    def __init__(self, group: str, expected: int, last: int) -> None:
        super().__init__(
            Code.INTERNAL, f"The log of {group!r} ends at {last}, not at {expected} as expected."
        )


class StorageFull(Refused):
    """There is no room left. Nothing was written; reading goes on."""

    def __init__(self) -> None:
        super().__init__(Code.STORAGE_FULL, "The server's disk is full; nothing was stored.")


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive events `first` to `last` of a log, packed one behind the other."""

    first: int
    last: int
    frames: bytes

    def after(self, seq: int) -> Page:
        """Return the part of the page behind `seq`."""
        if seq < self.first:
            return self
        return Page(seq + 1, self.last, skip_frames(self.frames, seq + 1 - self.first))


class Incoming(Protocol):
    """A file on its way in. Left without `keep`, it leaves no trace."""

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises `StorageFull`."""

    async def keep(self, sha256: bytes) -> None:
        """Make the file durable; it is known by its SHA-256 from here on.

        Raises `Refused` (file_changed) when the bytes have another digest, or `StorageFull`.
        """


class Outgoing(Protocol):
    """A stored file being read."""

    size: int

    async def read(self, most: int) -> bytes:
        """Return up to `most` further bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key (Ed25519, 32 bytes) of a name, and since when (ms since the Unix epoch)."""

    public: bytes
    since: int


class Accounts(Protocol):
    """Whose names are whose. People are named by their folded names."""

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        """Return how the person writes the name; None if it belongs to other keys.

        A name without a key becomes the key's, unless it was taken from that very key before.
        How it is written is up to whoever came first.
        """

    async def link(self, person: str, key: bytes, at: int) -> None:
        """Make a further key one of the name's."""

    async def keys(self, person: str) -> list[Key]:
        """Return the keys of a name, the oldest first."""

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Take a key from a name; it cannot claim the name again by itself.

        Returns False, having changed nothing, unless both it and another, `by` which it is done,
        are the name's: two that take each other away at once do not leave the name to anybody.
        """

    async def release(self, person: str, at: int) -> bool:
        """Take all keys from a name; return whether it had any."""

    async def note_upload(self, person: str, sha256: bytes, size: int) -> None:
        """Remember that a person has sent a file of `size` bytes."""

    async def upload_size(self, person: str, sha256: bytes) -> int | None:
        """Return the size of a file that a person has sent; None if it was somebody else."""

    async def uploaded(self, person: str) -> int:
        """Return the size of all files together that a person has sent."""


class Store(Protocol):
    """Groups are named by their folded names, and so are people."""

    accounts: Accounts

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        standings: Mapping[str, Standing] = NOBODY,
    ) -> None:
        """Add `count` packed events behind `expected`; return once they are on disk.

        `standings` is who becomes what to the group by them. Raises `Conflict`, `StorageFull`
        (nothing was written) or `StorageError` (do not go on).
        """

    async def read(self, group: str, after: int) -> Page | None:
        """Return the events behind `after`, about `PAGE_LIMIT` bytes of them, or None."""

    async def last(self, group: str) -> int:
        """Return the seq of the last event; 0 for a group that never was."""

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return the groups of which a person is a member, or asks to be one."""

    async def cursors(self, group: str) -> dict[str, int]:
        """Return the last event that each person has seen."""

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; never moves a cursor back."""

    def incoming(self) -> AbstractAsyncContextManager[Incoming]:
        """Receive a file."""

    def outgoing(self, sha256: bytes) -> AbstractAsyncContextManager[Outgoing]:
        """Read a stored file. Raises `Refused` (no_such_file)."""


def file_changed() -> Refused:
    """Return the error for bytes that are not what their digest says."""
    return Refused(Code.FILE_CHANGED, "The file changed on its way; nothing of it was kept.")


def no_such_file() -> Refused:
    """Return the error for a digest that nothing is stored under."""
    return Refused(Code.NO_SUCH_FILE, "The server does not have this file any more.")
