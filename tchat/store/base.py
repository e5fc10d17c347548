"""Storage interface: protocols for the event log, accounts, the file index and blobs.

A store has four parts, each defined by a protocol: append-only event logs with the indexes derived
from them (`Store`), the keys of names (`Accounts`), the index of files and of the people with
access to them (`FileIndex`), and the bytes of files (`Blobs`). One contract test suite runs over
every implementation.

Appending is a compare-and-append: the caller states the seq that it expects to be the last, and the
append fails with `Conflict` if it is not. This matters only if several servers use one store. An
append that has returned is durable.

Events are stored as packed frames, the same bytes that are sent to sockets, and are returned
unchanged. Only two operations decode them: search, for the words of messages, and erasing. An
erased message is gone from the whole store: from the log and from the search index. When a group
is closed, all its events are erased. Its traces, such as words in unused parts of a file, and the
events of closed groups, are removed soon afterwards (`Maintenance.settle` waits for that).

Groups and people are identified by their folded names; times are in ms since the Unix epoch.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from tchat.core.group.features import erase_event
from tchat.core.group.log_digest import EMPTY, UNKNOWN
from tchat.core.lookalikes import group_lookalike_refusal
from tchat.core.protocol.framing import PREFIX, skip_frames, split_frames
from tchat.errors import Code, Refused, StorageError
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from io import FileIO

    from tchat.core.protocol.frames import Have, Standing
    from tchat.store.troubles import Troubles
    from tchat.store.words import Term
    from tchat.transfer.partial_file import PartialFile

PAGE_LIMIT = 128 * 1024
"""About how many bytes one `read` returns; a single larger batch is returned whole."""

_MOST_REPORTS = 1000

BACK_LIMIT = 48 * 1024
"""Most bytes that one `read_before` returns, unless a single event is larger."""


# ------------------------------------------------------------------ errors


class Conflict(StorageError):
    """The log does not end at the expected seq: another writer has appended to it."""

    def __init__(self, group: str, expected: int, last: int) -> None:
        super().__init__(
            Code.INTERNAL, f"The log of {group!r} ends at {last}, not at {expected} as expected."
        )


class StorageFull(Refused):
    """The disk is full. Nothing was written, and reading still works."""

    def __init__(self) -> None:
        super().__init__(Code.STORAGE_FULL, "The server's disk is full; nothing was stored.")


class DiskReserved(Refused):
    """Files may take no more of the disk: the rest is for the log."""

    def __init__(self) -> None:
        super().__init__(
            Code.STORAGE_FULL,
            "The server's disk has no room for this file; what is left is kept for messages. Its"
            " operator can make room.",
        )


class DataDamaged(Refused):
    """Stored data cannot be read, or is not what was written; everything else goes on.

    Nothing was changed. `what` says for the operator where it is, `reason` how it was found.
    """

    def __init__(self, reason: str, what: str = "an index", sentence: str = "") -> None:
        super().__init__(
            Code.LOG_DAMAGED,
            sentence
            or "The server cannot read what it stored of this, because it is damaged; its operator"
            " has been told.",
        )
        self.what = what
        self.reason = reason


class LogDamaged(DataDamaged):
    """Events `first` to `last` of a group's log are damaged; both are 0 if that is unknown.

    If both are the same, the damage begins there, and perhaps goes on.
    """

    def __init__(self, group: str, first: int, last: int, reason: str) -> None:
        events = f"from event {first}" if first == last else f"events {first} to {last}"
        events = events if first else "at an unknown place"
        super().__init__(
            reason,
            f"the log of {group}, {events}",
            "Part of what the server stored of this group is damaged and cannot be read; its"
            " operator has been told. Your other groups are not affected.",
        )
        self.group = group
        self.first = first
        self.last = last


class DamageReports:
    """The damaged places that were found; each is reported once, when there is a listener.

    A place is told once until the program ends, so that those who try again and again do not fill
    the log. `file` is what they are in. `blocked` are groups of which nothing is believed: even
    where their data begins is in doubt. If the place for new events is damaged, they go to another
    one with `logs_grow_at_front`, and nowhere with `logs_closed`.
    """

    def __init__(self) -> None:
        self.logs_grow_at_front = False
        self.logs_closed: DataDamaged | None = None
        self.file = "the store"
        self.blocked: dict[str, LogDamaged] = {}
        self.found: dict[str, DataDamaged] = {}
        self._listener: Callable[[DataDamaged], None] = lambda _: None

    def report(self, damaged: DataDamaged) -> None:
        """Tell the listener, unless this place is known; at most a thousand places are told."""
        if damaged.what not in self.found and len(self.found) < _MOST_REPORTS:
            self.found[damaged.what] = damaged
            self._listener(damaged)

    def block(self, damaged: LogDamaged) -> None:
        """Report a group of which nothing is to be believed."""
        self.blocked[damaged.group] = damaged
        self.report(damaged)

    def listen(self, listener: Callable[[DataDamaged], None]) -> None:
        """Tell a listener all places, those that are known now and later ones."""
        self._listener = listener
        for damaged in list(self.found.values()):
            listener(damaged)


class FileDamaged(Refused):
    """A stored file is missing, or its contents have changed since it was stored."""

    def __init__(self) -> None:
        super().__init__(
            Code.FILE_DAMAGED,
            "The server's copy of this file is damaged or missing; sending it again repairs it for"
            " everybody.",
        )


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn an OSError within the block into `StorageFull` or `StorageError`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull from error
        raise StorageError(
            Code.INTERNAL, f"Files cannot be stored or read: {error.strerror}."
        ) from error


class GroupLookalike(Refused):
    """The name of a new group looks like that of another group. Nothing was written."""

    def __init__(self, name: str) -> None:
        refusal = group_lookalike_refusal(name)
        super().__init__(refusal.code, refusal.sentence)


# ------------------------------------------------------------------ the event log


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive events `first` to `last` of a log, as packed frames."""

    first: int
    last: int
    frames: bytes

    def after(self, seq: int) -> Page:
        """Return the part of the page after `seq`."""
        if seq < self.first:
            return self
        return Page(seq + 1, self.last, skip_frames(self.frames, seq + 1 - self.first))

    def bodies(self) -> dict[int, bytes]:
        """Return the body of each event by its seq."""
        return dict(enumerate(split_frames(self.frames), start=self.first))

    def erase(self, seqs: Collection[int]) -> Page:
        """Return the page with the texts of these events erased, if it contains them."""
        if not any(self.first <= seq <= self.last for seq in seqs):
            return self
        frames = [
            erase_event(body) if seq in seqs else len(body).to_bytes(PREFIX, "big") + body
            for seq, body in self.bodies().items()
        ]
        return Page(self.first, self.last, b"".join(frames))

    def ending(self, seq: int, limit: int) -> Page:
        """Return the part that ends with `seq`: at most `limit` bytes, but at least one event."""
        frames: list[bytes] = []
        room, first = limit, seq + 1
        bodies = self.bodies()
        while first > self.first and (not frames or len(bodies[first - 1]) + PREFIX <= room):
            first -= 1
            frames.append(len(bodies[first]).to_bytes(PREFIX, "big") + bodies[first])
            room -= len(frames[-1])
        return Page(first, seq, b"".join(reversed(frames)))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """File `number` of a group, shared by `person` (folded) at `at`.

    `fetch_count` people have downloaded it; `fetched_by` lists some of them, the earliest first.
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
    """Index updates derived from events, committed in the same transaction as the events.

    `standings` maps people (folded) to their new standing, `removed_files` are numbers, `erased`
    are the seqs of events to erase, and `display_name` is the group's name if its spelling changed.
    If the group was closed, `closed_after` is the seq of the last event before that: all events up
    to it are erased, and the group's snapshot and read cursors are deleted. All messages up to
    `expired_to` are erased.
    """

    standings: Mapping[str, Standing] = field(default_factory=dict)
    added_files: tuple[FileEntry, ...] = ()
    removed_files: tuple[int, ...] = ()
    erased: tuple[int, ...] = ()
    display_name: str | None = None
    closed_after: int = 0
    expired_to: int = 0

    def __bool__(self) -> bool:
        """Return whether there is anything to update."""
        return bool(
            self.standings
            or self.added_files
            or self.removed_files
            or self.erased
            or self.display_name
            or self.closed_after
            or self.expired_to
        )


NO_EFFECTS = SideEffects()


@dataclass(frozen=True, slots=True)
class LogHead:
    """The identity of a log, and its running digest after its last event (see `log_digest`).

    Each is empty if it is unknown.
    """

    identity: bytes
    digest: bytes


UNKNOWN_HEAD = LogHead(b"", UNKNOWN)

UNFOUNDED = LogHead(b"", EMPTY)
"""The head of a group that does not exist."""


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """A group's state as of event `seq`, serialized by the server.

    `made_with` names the version of the format and rules. The log is authoritative: a server that
    cannot use a snapshot replays the log instead. A snapshot contains no message text, so that
    erasing a message need not change it.
    """

    seq: int
    made_with: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """The data to load a group from: its latest snapshot, if any, and the first page after it.

    Without a snapshot, `page` is the first page of the log. `cursors` are as in `Store.cursors`.
    `head` is that of the whole log.
    """

    snapshot: StateSnapshot | None
    page: Page | None
    cursors: dict[str, int]
    head: LogHead = UNKNOWN_HEAD


@dataclass(frozen=True, slots=True)
class Membership:
    """A group of a person, or one that they asked to join.

    `name` is the group's display name, `last` its last event, `read` the person's read cursor.
    `place` orders the groups by when the person joined them or asked to; it never changes.
    """

    group: str
    name: str
    standing: Standing
    last: int
    read: int
    place: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A message found by a search: event `seq` of the group with the display name `group`.

    It was posted at `at`, and `text` is its current text.
    """

    group: str
    seq: int
    at: int
    actor: str
    text: str


# ------------------------------------------------------------------ the protocols


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A public key (Ed25519, 32 bytes) of a name, and when it was added."""

    public: bytes
    since: int


class Accounts(Protocol):
    """Which keys own which names."""

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        """Return the display name; None if the name belongs to other keys.

        A name without keys is given to `key`, unless `key` was removed from it before, or the name
        looks like another person's (see `lookalike`). The first claim sets the display name.
        """

    async def lookalike(self, person: str, name: str) -> str | None:
        """Return the display name of another person that looks like `name`, if there is one.

        See `core.lookalikes`. Erased people count: their names are reserved.
        """

    async def link(self, person: str, key: bytes, at: int) -> None:
        """Add a key to a name."""

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name, the oldest first."""

    async def claimed_at(self, person: str) -> int | None:
        """Return when a name was first claimed; None if it has no keys."""

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Remove a key from a name; the key cannot claim the name again.

        `by` is the key that authenticated the request. Returns False and changes nothing unless
        both keys belong to the name and differ. So two keys that remove each other at the same time
        cannot leave the name without a key.
        """

    async def take_over(self, person: str, key: bytes, at: int) -> list[bytes]:
        """Give a name to a key and remove all its other keys; return these.

        The removed keys cannot claim the name again.
        """

    async def was_removed(self, person: str, key: bytes) -> bool:
        """Return whether a key was removed from a name, and has not been added again."""

    async def erase(self, person: str, name: str, at: int) -> list[bytes]:
        """Reserve a name for ever: delete its keys, and let nobody claim it any more.

        Returns the keys, also those that were removed from the name before. Nothing else of the
        person is deleted; see `Maintenance.forget`. Repeating it is harmless.
        """

    async def is_erased(self, person: str) -> bool:
        """Return whether a name is reserved since its person was erased."""


class FileIndex(Protocol):
    """The stored files, by SHA-256, and the references to them.

    A file is kept while a group has it or somebody has a *lease* on it. A person gets a lease by
    uploading a file, or by offering one that is stored already, and can then share it for a day. A
    file counts once towards the quota of each person who shared it or has a lease on it.
    """

    async def add(self, person: str, sha256: bytes, size: int, head: bytes, at: int) -> None:
        """Add an uploaded file, and a lease on it for `person` that starts at `at`.

        `head` is the SHA-256 of its first piece.
        """

    async def has_similar(self, person: str, size: int, head: bytes) -> bool:
        """Return whether the person has access to a file of that size and first piece.

        People have access through a lease, or through membership of a group that has the file.
        """

    async def lease(self, person: str, sha256: bytes, at: int) -> int | None:
        """Start or renew a lease at `at`; return the file's size, or None without access."""

    async def size_of(self, sha256: bytes) -> int | None:
        """Return the size of a file; None if it is not stored."""

    async def usage(self, person: str, excluding: bytes | None = None) -> int:
        """Return the total size of the files that count towards a person's quota."""

    async def group_usage(self, group: str, excluding: bytes | None = None) -> int:
        """Return the total size of a group's files; each counts once."""

    async def total(self) -> int:
        """Return the total size of all files."""

    async def lease_count(self, person: str) -> int:
        """Return the number of a person's leases."""

    async def record_fetch(self, group: str, number: int, person: str, at: int) -> None:
        """Record that somebody has downloaded a group's file, if the group still has it."""

    async def page(self, group: str, before: int, most: int, names: int) -> list[FileEntry]:
        """Return up to `most` files of a group with numbers below `before`, the newest first.

        Each entry has up to `names` names in `fetched_by`.
        """

    async def find(self, group: str, number: int) -> FileEntry | None:
        """Return a file of a group; None if the group does not have it any more."""

    async def forget(self, sha256: bytes) -> None:
        """Remove a damaged file; the groups' entries stay, and work again if it is re-uploaded."""

    async def expire(self, leased_before: int, shared_before: int) -> list[bytes]:
        """End leases and shares that started before these times; remove files that had no others.

        Returns the SHA-256 of the removed files, so that the caller can remove their blobs.
        """

    async def sweep(self) -> list[bytes]:
        """Remove files that nobody has a lease on, and no group has; return them as `expire`."""

    async def digests(self) -> set[bytes]:
        """Return the SHA-256 of every file."""


BanKind = Literal["name", "key", "address"]


@dataclass(frozen=True, slots=True)
class ServerBan:
    """A ban on the whole server: a folded name, a key's fingerprint, or a network; since `at`."""

    kind: BanKind
    value: str
    at: int
    reason: str = ""


class Maintenance(Protocol):
    """What only the server's operator asks of a store."""

    async def groups(self) -> list[str]:
        """Return all groups with a log, closed ones and direct conversations included."""

    async def name_of(self, person: str) -> str | None:
        """Return the display name of a person; None if nobody has claimed the name."""

    async def expired(self, before: int) -> list[tuple[str, int]]:
        """Return groups with messages older than `before` (ms), which are not erased yet.

        Each comes with the seq of its last such message, or edit.
        """

    async def newest(self) -> int:
        """Return the largest time of the last events of all groups; 0 without groups."""

    async def forget(self, person: str, groups: Collection[str]) -> None:
        """Remove a person's read cursors, leases and downloads.

        Also remove the snapshots of these groups, which contain topics and names of files.
        """

    async def bans(self) -> list[ServerBan]:
        """Return all bans."""

    async def add_ban(self, ban: ServerBan) -> None:
        """Add a ban, or replace the one of the same kind and value."""

    async def remove_ban(self, kind: BanKind, value: str) -> None:
        """Remove a ban."""

    async def renew_identities(self) -> None:
        """Give every log a new identity: it is not any more what clients know, as after a restore.

        Clients then drop what they have of each group, and load it anew. Nothing else has to be
        dropped if the whole store was replaced by a backup: its snapshots, read cursors and
        digests belong to its logs. Whoever removes or replaces events has to drop the group's
        snapshot, read cursors and search index as well, and to keep the digests that are stored:
        they are compared with those that clients were told, and never computed from the beginning.
        The server must not be running.
        """

    async def settle(self) -> bool:
        """Remove all traces of what has been erased so far; return whether that was possible.

        A store does this by itself, but nobody who erases waits for it: this waits. It is not
        possible while another program reads an older state of the store, or if the disk is full.
        """

    async def compact(self) -> None:
        """Rewrite the store without its unused parts, which may have copies of deleted data.

        Raises `StorageFull`, or `Refused`: busy while another program keeps such copies.
        """


class StoredFile(Protocol):
    """A stored file that is open for reading: a `transfer.endpoints.Source`."""

    size: int

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Seek to the offset at which the receiver resumes; see `Source.start`."""

    def read(self) -> tuple[memoryview, bytes | None]:
        """Return the next bytes of a piece, first with its digest; see `Source.read`."""

    def is_current(self) -> bool:
        """Return whether this is still the stored copy; False if a new copy has replaced it."""


class Blobs(Protocol):
    """The bytes of files, by SHA-256, and of unfinished uploads."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Exclude all other changes to the set of files for the length of the block.

        To avoid a deadlock, the holder must not use `in_thread`: all of its threads may be waiting
        for this lock, to remove damaged files.
        """

    def set_reserve(self, reserve: int | None) -> None:
        """Set how many bytes of the disk files have to leave free; None: 5 %, within bounds."""

    def set_clock(self, clock: Callable[[], int]) -> None:
        """Set the clock (ms since the Unix epoch) that says how old things are."""

    def upload(
        self, person: str, size: int, head: bytes, is_alive: Callable[[], bool] = lambda: True
    ) -> AbstractAsyncContextManager[PartialFile]:
        """Reserve the partial file of an upload for the length of the block.

        Open it with `open_partial`. It is discarded if the disk is full or fails. If the person is
        already uploading the same file, wait briefly for that older upload to end. If it does not
        end, and receives no data (its `is_alive` returns False), it is cancelled: its block ends
        with `Refused` (replaced). If it receives data, the new upload gets an empty partial file.
        """

    def open_partial(self, part: PartialFile) -> None:
        """Open a partial file and read its contents; call this in a worker thread.

        Raises `DiskReserved` if the disk has no room for the rest.
        """

    async def commit(self, part: PartialFile) -> None:
        """Store a complete file durably under its digest. Requires the lock."""

    async def trim_uploads(
        self, person: str, limit: int, active: Iterable[tuple[int, bytes]]
    ) -> None:
        """Remove a person's oldest unfinished uploads until the rest fits into `limit` bytes.

        Their number is limited, too. Uploads in progress are not removed, nor are the uploads in
        `active` (size and head), for which a ticket was issued.
        """

    async def check_space(self, person: str, size: int, head: bytes, promised: int) -> None:
        """Raise `DiskReserved` if the disk has no room for what is missing of an upload.

        `promised` is the total size of all other uploads that have tickets or are running.
        """

    def download(self, sha256: bytes, size: int) -> AbstractAsyncContextManager[StoredFile]:
        """Open a stored file for reading. Raises `FileDamaged` if it is missing."""

    def write_unnamed(self, data: bytes) -> FileIO | None:
        """Write data to a new file that vanishes when it is closed; call this in a worker thread.

        Returns None if that is not possible, or would use the reserve of the disk.
        """

    async def remove(self, digests: list[bytes]) -> None:
        """Delete files, also from the trash. Requires the lock."""

    async def discard(self, digests: list[bytes]) -> None:
        """Move files to the trash. Requires the lock.

        They come back when they are needed again: stored anew, asked for, or known after all. What
        is in the trash gives way when an upload needs the space.
        """

    async def remove_unknown(self, known: set[bytes]) -> None:
        """Move files that are not `known` to the trash, and take those that are from there.

        Requires the lock.
        """

    async def empty_trash(self, before: int | None = None) -> None:
        """Delete what came to the trash before that time, or everything. Requires the lock."""

    async def remove_stale_uploads(self, before: int) -> None:
        """Remove uploads that were not continued since `before`."""


class Store(Protocol):
    """Everything that a server stores; `troubles` are those that last, such as a full disk.

    Every operation may raise `DataDamaged` if what it needs cannot be read, and `LogDamaged` if
    that is the log of a group. It is in `damage` then, and nothing was changed.
    """

    damage: DamageReports
    troubles: Troubles
    accounts: Accounts
    files: FileIndex
    blobs: Blobs
    maintenance: Maintenance

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
        head: LogHead = UNKNOWN_HEAD,
    ) -> None:
        """Append `count` packed events after `expected`; return once they are durable.

        `head` is the log's after these events; a log that exists keeps its identity.
        `effects` is committed with them; the texts it erases are then gone from the disk, or as
        soon as no other program reads an older state of the store. Raises
        `Conflict`, `GroupLookalike` if another group, which is not closed, looks like the display
        name (see `core.lookalikes`), `StorageFull` (nothing was written) or `StorageError` (the
        store is broken).
        """

    async def read(self, group: str, after: int) -> Page | None:
        """Return the events after `after`, about `PAGE_LIMIT` bytes, or None if there are none."""

    async def load(self, group: str) -> StoredGroup:
        """Return the data to load a group from, with a single read."""

    async def digests(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return the running digest of a group's log after each of these events.

        Those that do not exist, or whose digest is unknown, are left out.
        """

    async def save_snapshot(self, group: str, snapshot: StateSnapshot) -> None:
        """Save a snapshot, unless a newer one is stored, or the log does not reach that far.

        A snapshot from before the group was closed is not saved either.

        Raises `StorageFull` (nothing was written).
        """

    async def read_before(self, group: str, before: int) -> Page | None:
        """Return the last events before event `before`, at most `BACK_LIMIT` bytes, or None."""

    async def find(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return the bodies of these events by seq; those that do not exist are left out."""

    async def edits_of(self, group: str, message: int, upto: int) -> tuple[int, ...]:
        """Return the seqs of a message's edits up to event `upto`, which is in the log.

        It takes longer the more events are between the two.
        """

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return the groups that a person is a member of, or has asked to join."""

    async def memberships_of(self, person: str) -> list[Membership]:
        """Return a person's groups with details, the group with the most recent event first."""

    async def share_a_group(self, one: str, other: str) -> bool:
        """Return whether both people are members of the same group."""

    async def search(
        self,
        groups: Collection[str],
        terms: Sequence[Term],
        skip: int,
        most: int,
        on_work: Callable[[float], None] = lambda _: None,
    ) -> list[Hit]:
        """Return messages of these groups that match all terms, the newest first.

        The first `skip` matches are left out, and at most `most` are returned. If a group was
        founded anew, only messages since then are found. At the end, `on_work` is called with the
        processor time in seconds that it took, in other threads than the caller's. Raises `Refused`
        (too_slow).
        """

    async def cursors(self, group: str) -> dict[str, int]:
        """Return the read cursors of a group: the last event that each person has seen."""

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Advance read cursors; they never move back."""
