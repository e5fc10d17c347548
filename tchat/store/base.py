"""What a server needs from storage. One contract test-suite holds every implementation to it.

The log is a compare-and-append: the caller says which seq it believes to be the last, and the
append happens only if that is so. One server could do without; several servers over one store
could not. An append that returns has reached the disk.

Frames are opaque here: they come packed, as they go to sockets, and are given back as they came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tchat.core.framing import skip_frames
from tchat.errors import Code, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.core.frames import Standing
    from tchat.store.blobs import BlobDirectory

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


class FileDamaged(Refused):
    """A stored file is not what it was when it was stored, or is gone."""

    def __init__(self) -> None:
        super().__init__(
            Code.FILE_DAMAGED,
            "The server's copy of this file is damaged or gone; if its sender sends it again, it is"
            " whole again for everybody.",
        )


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


@dataclass(frozen=True, slots=True)
class Shelved:
    """A file that a group's shelf has as `number`, since `at` (ms since the Unix epoch).

    `person` (folded) shared it. `fetched` counts who has fetched it, and `by` are some of those.
    """

    number: int
    sha256: bytes
    size: int
    person: str
    at: int
    fetched: int = 0
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effects:
    """What events mean outside their log, to be noted in the same transaction.

    Who becomes what to the group, and which files come on its shelf and which go from it.
    """

    standings: Mapping[str, Standing] = field(default_factory=dict)
    shelved: tuple[Shelved, ...] = ()
    removed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to note."""
        return bool(self.standings or self.shelved or self.removed)


NO_EFFECTS = Effects()


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


class Shelves(Protocol):
    """Which files there are, by SHA-256, and what refers to them.

    A file is kept while a group's shelf has it or somebody holds it: who has just sent it, or was
    told that it need not be sent, may share it for a day. It counts once for each person who
    shared or holds it. People and groups are named by their folded names, times are in ms since
    the Unix epoch.
    """

    async def add(self, person: str, sha256: bytes, size: int, head: bytes, at: int) -> None:
        """Know a file that `person` has sent, and who holds it from `at` on.

        `head` is the SHA-256 of its first piece.
        """

    async def may_have_alike(self, person: str, size: int, head: bytes) -> bool:
        """Return whether there is a file of that size and beginning that the person could have.

        One can have what one holds, and what is on the shelf of a group of which one is a member.
        """

    async def hold(self, person: str, sha256: bytes, at: int) -> int | None:
        """Keep a file for a person from `at` on; return its size, or None if he cannot have it."""

    async def size_of(self, sha256: bytes) -> int | None:
        """Return the size of a file; None if there is none."""

    async def used(self, person: str, besides: bytes | None = None) -> int:
        """Return the size of all files together that count for a person `besides` a certain one."""

    async def note_fetched(self, group: str, number: int, person: str, at: int) -> None:
        """Remember that somebody has a group's file; nothing, if it is not there any more."""

    async def page(self, group: str, before: int, most: int, names: int) -> list[Shelved]:
        """Return the newest files of a group below number `before`, the newest first.

        At most `most` of them, each with at most `names` of those who fetched it, the first ones
        first.
        """

    async def find(self, group: str, number: int) -> Shelved | None:
        """Return a file of a group; None if it is not there any more."""

    async def forget(self, sha256: bytes) -> None:
        """Know a file no more that is damaged; shelves keep their places for it."""

    async def sweep(self, held_before: int, shared_before: int) -> list[bytes]:
        """End what was held and shared before those times; forget what nothing refers to then.

        Returns the files that were forgotten.
        """

    async def all(self) -> set[bytes]:
        """Return all files that there are."""


class Store(Protocol):
    """Groups are named by their folded names, and so are people."""

    accounts: Accounts
    shelves: Shelves
    blobs: BlobDirectory

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: Effects = NO_EFFECTS,
    ) -> None:
        """Add `count` packed events behind `expected`; return once they are on disk.

        `effects` is what follows from them. Raises `Conflict`, `StorageFull`
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
