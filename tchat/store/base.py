"""What a server needs from storage. One contract test-suite holds every implementation to it.

The log is a compare-and-append: the caller says which seq it believes to be the last, and the
append happens only if that is so. One server could do without; several servers over one store
could not. An append that returns has reached the disk.

Frames come packed, as they go to sockets, and are given back as they came. Only two things look
into them: the search, for the words of messages, and the erasing of what was deleted, after which
a message is nowhere in the store any more, neither in the log nor in what it is found by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tchat.core.group.events import erase_event
from tchat.core.protocol.framing import PREFIX, skip_frames, split_frames
from tchat.errors import Code, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tchat.core.protocol.frames import Standing
    from tchat.store.blobs import BlobDirectory
    from tchat.store.words import Term

PAGE_LIMIT = 128 * 1024
"""About how many bytes one `read` returns; a single larger batch comes whole."""

BACK_LIMIT = 48 * 1024
"""Most bytes that one `read_before` returns, unless a single event has more."""


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

    def bodies(self) -> dict[int, bytes]:
        """Return the body of each event by its seq."""
        return dict(enumerate(split_frames(self.frames), start=self.first))

    def erase(self, seqs: Collection[int]) -> Page:
        """Return the page with nothing in these of its events."""
        if not any(self.first <= seq <= self.last for seq in seqs):
            return self
        frames = [
            erase_event(body) if seq in seqs else len(body).to_bytes(PREFIX, "big") + body
            for seq, body in self.bodies().items()
        ]
        return Page(self.first, self.last, b"".join(frames))

    def ending(self, seq: int, limit: int) -> Page:
        """Return the part that ends with `seq`: at most `limit` bytes, but at least one event."""
        kept: list[bytes] = []
        room, first = limit, seq + 1
        bodies = self.bodies()
        while first > self.first and (not kept or len(bodies[first - 1]) + PREFIX <= room):
            first -= 1
            kept.append(len(bodies[first]).to_bytes(PREFIX, "big") + bodies[first])
            room -= len(kept[-1])
        return Page(first, seq, b"".join(reversed(kept)))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that a group's shelf has as `number`, since `at` (ms since the Unix epoch).

    `person` (folded) shared it. `fetched` counts who has fetched it, and `by` are some of those.
    """

    number: int
    sha256: bytes
    size: int
    person: str
    at: int
    fetch_count: int = 0
    fetched_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SideEffects:
    """What events mean outside their log, to be noted in the same transaction.

    Who becomes what to the group, and which files come on its shelf and which go from it; which
    events have nothing in them from now on; and how the group's name is written, if that is new.
    """

    standings: Mapping[str, Standing] = field(default_factory=dict)
    added_files: tuple[FileEntry, ...] = ()
    removed_files: tuple[int, ...] = ()
    redacted: tuple[int, ...] = ()
    display_name: str | None = None

    def __bool__(self) -> bool:
        """Return whether there is anything to note."""
        return bool(
            self.standings
            or self.added_files
            or self.removed_files
            or self.redacted
            or self.display_name
        )


NO_EFFECTS = SideEffects()


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """What a group's log comes to as of event `seq`, in the form of the server that made it.

    `made_with` says what else that depends on. The log is the truth: whoever cannot use a state
    that was kept does without. It has nothing of what messages say, or erasing one would have to
    look for it there too.
    """

    seq: int
    made_with: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """What a group is taken up with: its state, if one was kept, and the first page behind it.

    Without one, `page` is the first of the log. `cursors` are as in `Store.cursors`.
    """

    snapshot: StateSnapshot | None
    page: Page | None
    cursors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Membership:
    """A group that a person is something to.

    `name` is as it is shown, `last` the group's last event, `read` the last that the person saw.
    """

    group: str
    name: str
    standing: Standing
    last: int
    read: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found: event `seq` of the group that is shown as `group`.

    `at` (ms since the Unix epoch) is when it was posted, and `text` what it says now.
    """

    group: str
    seq: int
    at: int
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class AccountKey:
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

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name, the oldest first."""

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Take a key from a name; it cannot claim the name again by itself.

        Returns False, having changed nothing, unless both it and another, `by` which it is done,
        are the name's: two that take each other away at once do not leave the name to anybody.
        """

    async def release(self, person: str, at: int) -> bool:
        """Take all keys from a name; return whether it had any."""


class FileIndex(Protocol):
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

    async def may_hold_similar(self, person: str, size: int, head: bytes) -> bool:
        """Return whether there is a file of that size and beginning that the person could have.

        One can have what one holds, and what is on the shelf of a group of which one is a member.
        """

    async def hold(self, person: str, sha256: bytes, at: int) -> int | None:
        """Keep a file for a person from `at` on; return its size, or None if he cannot have it."""

    async def size_of(self, sha256: bytes) -> int | None:
        """Return the size of a file; None if there is none."""

    async def used(self, person: str, besides: bytes | None = None) -> int:
        """Return the size of all files together that count for a person `besides` a certain one."""

    async def record_fetch(self, group: str, number: int, person: str, at: int) -> None:
        """Remember that somebody has a group's file; nothing, if it is not there any more."""

    async def page(self, group: str, before: int, most: int, names: int) -> list[FileEntry]:
        """Return the newest files of a group below number `before`, the newest first.

        At most `most` of them, each with at most `names` of those who fetched it, the first ones
        first.
        """

    async def find(self, group: str, number: int) -> FileEntry | None:
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
    files: FileIndex
    blobs: BlobDirectory

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
    ) -> None:
        """Add `count` packed events behind `expected`; return once they are on disk.

        `effects` is what follows from them; what they erase is not on the disk any more. Raises
        `Conflict`, `StorageFull` (nothing was written) or `StorageError` (do not go on).
        """

    async def read(self, group: str, after: int) -> Page | None:
        """Return the events behind `after`, about `PAGE_LIMIT` bytes of them, or None."""

    async def load(self, group: str) -> StoredGroup:
        """Return what a group is taken up with, at the price of one read."""

    async def save_snapshot(self, group: str, snapshot: StateSnapshot) -> None:
        """Keep a group's state, in place of one that is not newer; nothing if one is.

        Nothing either, if the log does not go so far. Raises `StorageFull` (nothing was written).
        """

    async def read_before(self, group: str, before: int) -> Page | None:
        """Return the last events before event `before`, at most `BACK_LIMIT` bytes, or None."""

    async def find(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return the bodies of those of these events that there are."""

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return the groups of which a person is a member, or asks to be one."""

    async def memberships_of(self, person: str) -> list[Membership]:
        """Return the same with more about each, the one that had an event last first."""

    async def share_a_group(self, one: str, other: str) -> bool:
        """Return whether there is a group of which both are members."""

    async def search(
        self, groups: Collection[str], terms: Sequence[Term], skip: int, most: int
    ) -> list[Hit]:
        """Return messages of these groups that have all the terms, the newest first.

        At most `most` of them behind the first `skip`. Of a group that was founded anew, only what
        was said since then.
        """

    async def cursors(self, group: str) -> dict[str, int]:
        """Return the last event that each person has seen."""

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; never moves a cursor back."""
