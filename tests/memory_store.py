"""An in-memory store for tests; the contract tests hold it to the same behaviour as SQLite."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import EMPTY, extend
from tchat.core.group.membership import Created
from tchat.core.group.messages import Edited, Posted
from tchat.core.lookalikes import appearances_of
from tchat.store.base import (
    BACK_LIMIT,
    NO_EFFECTS,
    PAGE_LIMIT,
    UNFOUNDED,
    UNKNOWN_HEAD,
    AccountKey,
    Accounts,
    Blobs,
    Conflict,
    DamageReports,
    FileEntry,
    FileIndex,
    GroupLookalike,
    Hit,
    LogHead,
    Maintenance,
    Membership,
    Page,
    ServerBan,
    SideEffects,
    StateSnapshot,
    Store,
    StoredGroup,
)
from tchat.store.blobs import BlobDirectory
from tchat.store.troubles import Troubles
from tchat.store.words import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import Standing
    from tchat.store.words import Term


@dataclass(slots=True)
class _Log:
    name: str
    last: int = 0
    closed_after: int = 0
    pages: list[Page] = field(default_factory=list)
    head: LogHead = UNFOUNDED

    def bodies(self) -> dict[int, bytes]:
        """Return the body of each event."""
        return {seq: body for page in self.pages for seq, body in page.bodies().items()}

    def messages(self) -> Iterator[Hit]:
        """Yield the messages of the group's present life with their current texts, oldest first."""
        said: dict[int, tuple[Event, str]] = {}
        for body in self.bodies().values():
            event = decode_event(body)
            match event.body:
                case Created():
                    said.clear()
                case Posted(text):
                    said[event.seq] = event, text
                case Edited(target, text) if target in said:
                    said[target] = said[target][0], text
        for seq, (event, text) in said.items():
            yield Hit(event.group, seq, event.at, event.actor, text)


class MemoryAccounts(Accounts):
    """Accounts in memory. `_former` are keys that were removed from a name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._claimed: dict[str, int] = {}
        self._keys: dict[str, dict[bytes, int]] = {}
        self._former: set[tuple[str, bytes]] = set()
        self._erased: set[str] = set()

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        """Return how the name is written; see `Accounts.claim`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.setdefault(person, {})
        if not keys and await self._may_claim(person, name):
            self._names.setdefault(person, name)
            self._claimed.setdefault(person, at)
            if (person, key) not in self._former:
                keys[key] = at
        return self._names.get(person, name) if key in keys else None

    async def lookalike(self, person: str, name: str) -> str | None:
        """Return the name of another person that looks alike; see `Accounts.lookalike`."""
        looks = appearances_of(name)
        return next(
            (
                other
                for key, other in self._names.items()
                if key != person and not looks.isdisjoint(appearances_of(other))
            ),
            None,
        )

    async def _may_claim(self, person: str, name: str) -> bool:
        if person in self._names:
            return person not in self._erased
        return await self.lookalike(person, name) is None

    async def link(self, person: str, key: bytes, at: int) -> None:
        """Add a key to a name; see `Accounts.link`."""
        await trio.lowlevel.checkpoint()
        self._former.discard((person, key))
        self._keys.setdefault(person, {}).setdefault(key, at)

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name; see `Accounts.keys`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.get(person, {}).items()
        return [AccountKey(key, since) for key, since in sorted(keys, key=lambda item: item[::-1])]

    async def claimed_at(self, person: str) -> int | None:
        """Return when a name was first claimed; see `Accounts.claimed_at`."""
        await trio.lowlevel.checkpoint()
        return self._claimed.get(person) if self._keys.get(person) else None

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Remove a key from a name; see `Accounts.unlink`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.get(person, {})
        if key == by or not {key, by} <= keys.keys():
            return False
        del keys[key]
        self._former.add((person, key))
        return True

    async def take_over(self, person: str, key: bytes, at: int) -> list[bytes]:
        """Make a key the only one of a name; see `Accounts.take_over`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.setdefault(person, {})
        others = [account.public for account in await self.keys(person) if account.public != key]
        self._former.update((person, one) for one in others)
        self._former.discard((person, key))
        self._keys[person] = {key: keys.get(key, at)}
        return others

    async def was_removed(self, person: str, key: bytes) -> bool:
        """Return whether a key was removed from a name; see `Accounts.was_removed`."""
        await trio.lowlevel.checkpoint()
        return (person, key) in self._former

    async def erase(self, person: str, name: str, at: int) -> list[bytes]:
        """Reserve a name; see `Accounts.erase`."""
        await trio.lowlevel.checkpoint()
        self._names.setdefault(person, name)
        self._erased.add(person)
        former = {key for owner, key in self._former if owner == person}
        self._former -= {(person, key) for key in former}
        return [*self._keys.pop(person, {}), *former]

    async def is_erased(self, person: str) -> bool:
        """Return whether a name is reserved; see `Accounts.is_erased`."""
        await trio.lowlevel.checkpoint()
        return person in self._erased


class MemoryFileIndex(FileIndex):
    """The file index in memory. `standings` is by person, then by group."""

    def __init__(self, standings: dict[str, dict[str, Standing]]) -> None:
        self._standings = standings
        self._blobs: dict[bytes, tuple[int, bytes]] = {}
        self._leases: dict[tuple[str, bytes], int] = {}
        self._group_files: dict[str, dict[int, FileEntry]] = {}
        self._fetches: dict[tuple[str, int], dict[str, int]] = {}

    def update(self, group: str, effects: SideEffects) -> None:
        """Remove and then add files of a group."""
        for number in effects.removed_files:
            self._remove(group, number)
        for file in effects.added_files:
            self._group_files.setdefault(group, {})[file.number] = file
            self._leases.pop((file.person, file.sha256), None)

    async def add(self, person: str, sha256: bytes, size: int, head: bytes, at: int) -> None:
        """Add an uploaded file; see `FileIndex.add`."""
        await trio.lowlevel.checkpoint()
        self._blobs.setdefault(sha256, (size, head))
        self._leases[person, sha256] = at

    async def has_similar(self, person: str, size: int, head: bytes) -> bool:
        """Return whether a person has access to a similar file; see `FileIndex.has_similar`."""
        await trio.lowlevel.checkpoint()
        alike = [sha256 for sha256, blob in self._blobs.items() if blob == (size, head)]
        return any(self._has_access(person, sha256) for sha256 in alike)

    async def lease(self, person: str, sha256: bytes, at: int) -> int | None:
        """Start or renew a lease; see `FileIndex.lease`."""
        await trio.lowlevel.checkpoint()
        if sha256 not in self._blobs or not self._has_access(person, sha256):
            return None
        self._leases[person, sha256] = at
        return self._blobs[sha256][0]

    async def size_of(self, sha256: bytes) -> int | None:
        """Return the size of a file; see `FileIndex.size_of`."""
        await trio.lowlevel.checkpoint()
        return self._blobs[sha256][0] if sha256 in self._blobs else None

    async def usage(self, person: str, excluding: bytes | None = None) -> int:
        """Return the size of a person's files; see `FileIndex.usage`."""
        await trio.lowlevel.checkpoint()
        shared = {
            f.sha256 for s in self._group_files.values() for f in s.values() if f.person == person
        }
        held = {sha256 for holder, sha256 in self._leases if holder == person}
        return sum(self._blobs[f][0] for f in (shared | held) - {excluding} if f in self._blobs)

    async def group_usage(self, group: str, excluding: bytes | None = None) -> int:
        """Return the size of a group's files; see `FileIndex.group_usage`."""
        await trio.lowlevel.checkpoint()
        files = self._group_files.get(group, {}).values()
        return sum({f.sha256: f.size for f in files if f.sha256 != excluding}.values())

    async def total(self) -> int:
        """Return the size of all files; see `FileIndex.total`."""
        await trio.lowlevel.checkpoint()
        return sum(size for size, _ in self._blobs.values())

    async def lease_count(self, person: str) -> int:
        """Return the number of a person's leases; see `FileIndex.lease_count`."""
        await trio.lowlevel.checkpoint()
        return sum(holder == person for holder, _ in self._leases)

    async def record_fetch(self, group: str, number: int, person: str, at: int) -> None:
        """Record a download; see `FileIndex.record_fetch`."""
        await trio.lowlevel.checkpoint()
        if number in self._group_files.get(group, {}):
            self._fetches.setdefault((group, number), {}).setdefault(person, at)

    async def page(self, group: str, before: int, most: int, names: int) -> list[FileEntry]:
        """Return the newest files of a group; see `FileIndex.page`."""
        await trio.lowlevel.checkpoint()
        files = sorted(self._group_files.get(group, {}).items(), reverse=True)
        there = [n for n, file in files if n < before and file.sha256 in self._blobs]
        return [self._entry(group, number, names) for number in there[:most]]

    async def find(self, group: str, number: int) -> FileEntry | None:
        """Return a file of a group; see `FileIndex.find`."""
        await trio.lowlevel.checkpoint()
        file = self._group_files.get(group, {}).get(number)
        there = file is not None and file.sha256 in self._blobs
        return self._entry(group, number, 0) if there else None

    async def forget(self, sha256: bytes) -> None:
        """Remove a damaged file; see `FileIndex.forget`."""
        await trio.lowlevel.checkpoint()
        self._blobs.pop(sha256, None)
        self._leases = {key: at for key, at in self._leases.items() if key[1] != sha256}

    async def expire(self, leased_before: int, shared_before: int) -> list[bytes]:
        """Remove expired files; see `FileIndex.expire`."""
        await trio.lowlevel.checkpoint()
        referenced = self._referenced()
        self._leases = {key: at for key, at in self._leases.items() if at >= leased_before}
        for group, shelf in self._group_files.items():
            for number in [n for n, file in shelf.items() if file.at < shared_before]:
                self._remove(group, number)
        return self._forget(referenced - self._referenced())

    async def sweep(self) -> list[bytes]:
        """Remove unreferenced files; see `FileIndex.sweep`."""
        await trio.lowlevel.checkpoint()
        return self._forget(self._blobs.keys() - self._referenced())

    def _referenced(self) -> set[bytes]:
        shared = {file.sha256 for shelf in self._group_files.values() for file in shelf.values()}
        return shared | {sha256 for _, sha256 in self._leases}

    def _forget(self, files: set[bytes]) -> list[bytes]:
        there = [sha256 for sha256 in self._blobs if sha256 in files]
        for sha256 in there:
            del self._blobs[sha256]
        return there

    async def digests(self) -> set[bytes]:
        """Return the SHA-256 of every file; see `FileIndex.digests`."""
        await trio.lowlevel.checkpoint()
        return set(self._blobs)

    def _remove(self, group: str, number: int) -> None:
        self._group_files.get(group, {}).pop(number, None)
        self._fetches.pop((group, number), None)

    def _has_access(self, person: str, sha256: bytes) -> bool:
        standings = self._standings.get(person, {})
        groups = [group for group, standing in standings.items() if standing == "member"]
        shelves = [self._group_files.get(group, {}).values() for group in groups]
        on_shelf = any(file.sha256 == sha256 for shelf in shelves for file in shelf)
        return on_shelf or (person, sha256) in self._leases

    def _entry(self, group: str, number: int, names: int) -> FileEntry:
        fetches = self._fetches.get((group, number), {})
        by = sorted(fetches, key=lambda person: (fetches[person], person))[:names]
        return replace(
            self._group_files[group][number], fetch_count=len(fetches), fetched_by=tuple(by)
        )


class _Maintenance(Maintenance):
    """Lists groups; what is erased was never on a disk."""

    def __init__(self, logs: dict[str, _Log]) -> None:
        self._logs = logs
        self._bans: dict[tuple[str, str], ServerBan] = {}

    async def bans(self) -> list[ServerBan]:
        """Return all bans; see `Maintenance.bans`."""
        return list(self._bans.values())

    async def add_ban(self, ban: ServerBan) -> None:
        """Add a ban; see `Maintenance.add_ban`."""
        self._bans[ban.kind, ban.value] = ban

    async def remove_ban(self, kind: str, value: str) -> None:
        """Remove a ban; see `Maintenance.remove_ban`."""
        self._bans.pop((kind, value), None)

    async def groups(self) -> list[str]:
        """Return all groups; see `Maintenance.groups`."""
        return sorted(self._logs)

    async def name_of(self, person: str) -> str | None:
        """Return the folded name."""
        return person

    async def expired(self, before: int) -> list[tuple[str, int]]:
        """Return no groups: nothing in memory gets old."""
        return []

    async def newest(self) -> int:
        """Return the newest time; see `Maintenance.newest`."""
        last = (list(log.pages[-1].bodies().values())[-1] for log in self._logs.values())
        return max((decode_event(body).at for body in last), default=0)

    async def forget(self, person: str, groups: Collection[str]) -> None:
        """Do nothing."""

    async def renew_identities(self) -> None:
        """Give every log a new identity; see `Maintenance.renew_identities`."""
        await trio.lowlevel.checkpoint()
        for log in self._logs.values():
            log.head = LogHead(secrets.token_bytes(16), log.head.digest)

    async def settle(self) -> bool:
        """Do nothing; see `Maintenance.settle`."""
        await trio.lowlevel.checkpoint()
        return True

    async def compact(self) -> None:
        """Do nothing."""


class MemoryStore(Store):
    """Keeps every batch as one page, and blobs in a directory that is removed with the store.

    `search_seconds` is the processor time that each search reports.
    """

    def __init__(self, search_seconds: float = 0.0) -> None:
        self.damage = DamageReports()
        self._search_seconds = search_seconds
        self._logs: dict[str, _Log] = {}
        self._cursors: dict[str, dict[str, int]] = {}
        self._snapshots: dict[str, StateSnapshot] = {}
        self._standings: dict[str, dict[str, Standing]] = {}
        self._looks: dict[str, frozenset[str]] = {}  # of groups that are not closed
        self._file_index = MemoryFileIndex(self._standings)
        self.accounts: Accounts = MemoryAccounts()
        self.files: FileIndex = self._file_index
        self.maintenance: Maintenance = _Maintenance(self._logs)
        self.troubles = Troubles()
        directory = tempfile.mkdtemp(prefix="tchat-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self.blobs: Blobs = BlobDirectory(Path(directory))

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
        head: LogHead = UNKNOWN_HEAD,
    ) -> None:
        """Add packed events; see `Store.append`."""
        await trio.lowlevel.checkpoint()
        log = self._logs.setdefault(group, _Log(group))
        if log.last != expected:
            raise Conflict(group, expected, log.last)
        if effects.display_name is not None:
            looks = appearances_of(effects.display_name)
            if any(not looks.isdisjoint(self._looks[one]) for one in self._looks if one != group):
                raise GroupLookalike(effects.display_name)
            self._looks[group] = looks
        log.head = LogHead(log.head.identity or head.identity, head.digest)
        log.last = expected + count
        log.pages.append(Page(expected + 1, log.last, frames))
        if effects.erased:
            log.pages = [page.erase(effects.erased) for page in log.pages]
        if effects.closed_after:
            self._looks.pop(group, None)
            log.closed_after = effects.closed_after
            log.pages = [page.erase(range(1, log.closed_after + 1)) for page in log.pages]
            self._snapshots.pop(group, None)
            self._cursors.pop(group, None)
        log.name = effects.display_name or log.name
        self._logs[group] = self._logs.pop(group)  # so that they are in order of their last event
        for person, standing in effects.standings.items():
            groups = self._standings.setdefault(person, {})
            groups[group] = standing
            if standing == "outsider":
                del groups[group]
        self._file_index.update(group, effects)

    async def read(self, group: str, after: int) -> Page | None:
        """Return a page; see `Store.read`."""
        await trio.lowlevel.checkpoint()
        pages = [page for page in self._log(group).pages if page.last > after]
        taken: list[Page] = []
        for page in pages:
            if taken and sum(len(p.frames) for p in taken) + len(page.frames) > PAGE_LIMIT:
                break
            taken.append(page)
        if not taken:
            return None
        frames = b"".join(page.frames for page in taken)
        return Page(taken[0].first, taken[-1].last, frames).after(after)

    async def load(self, group: str) -> StoredGroup:
        """Return what is needed to load a group; see `Store.load`."""
        snapshot = self._snapshots.get(group)
        page = await self.read(group, snapshot.seq if snapshot else 0)
        return StoredGroup(snapshot, page, await self.cursors(group), self._log(group).head)

    async def digests(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return digests of a log; see `Store.digests`."""
        await trio.lowlevel.checkpoint()
        log, digest, found = self._log(group), EMPTY, {0: EMPTY}
        if not log.head.digest:
            return {}  # what was appended has no digests, and need not be events
        for seq, body in log.bodies().items():
            found[seq] = digest = extend(digest, [decode_event(body)])
        return {seq: found[seq] for seq in seqs if seq in found}

    async def save_snapshot(self, group: str, snapshot: StateSnapshot) -> None:
        """Save a snapshot; see `Store.save_snapshot`."""
        await trio.lowlevel.checkpoint()
        known = self._snapshots.get(group)
        log = self._log(group)
        if log.closed_after < snapshot.seq <= log.last and (
            known is None or snapshot.seq >= known.seq
        ):
            self._snapshots[group] = snapshot

    async def read_before(self, group: str, before: int) -> Page | None:
        """Return the page before an event; see `Store.read_before`."""
        await trio.lowlevel.checkpoint()
        log = self._log(group)
        end = min(before - 1, log.last)
        whole = Page(1, log.last, b"".join(page.frames for page in log.pages))
        return whole.ending(end, BACK_LIMIT) if end > 0 else None

    async def find(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return some events; see `Store.find`."""
        await trio.lowlevel.checkpoint()
        bodies = self._log(group).bodies()
        return {seq: bodies[seq] for seq in seqs if seq in bodies}

    async def edits_of(self, group: str, message: int, upto: int) -> tuple[int, ...]:
        """Return the edits of a message; see `Store.edits_of`."""
        await trio.lowlevel.checkpoint()
        bodies = {seq: decode_event(b).body for seq, b in self._log(group).bodies().items()}
        edits = (seq for seq, b in bodies.items() if isinstance(b, Edited) and b.target == message)
        return tuple(seq for seq in edits if seq <= upto)

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return the groups of a person; see `Store.groups_of`."""
        await trio.lowlevel.checkpoint()
        return self._standings.get(person, {}).copy()

    async def memberships_of(self, person: str) -> list[Membership]:
        """Return the groups of a person, with details; see `Store.memberships_of`."""
        await trio.lowlevel.checkpoint()
        standings = self._standings.get(person, {})
        places = {group: place for place, group in enumerate(standings, start=1)}
        return [
            Membership(
                group,
                log.name,
                standings[group],
                log.last,
                self._read_cursors(group).get(person, 0),
                places[group],
            )
            for group, log in reversed(self._logs.items())
            if group in standings
        ]

    async def share_a_group(self, one: str, other: str) -> bool:
        """Return whether two people share a group; see `Store.share_a_group`."""
        await trio.lowlevel.checkpoint()
        theirs = self._standings.get(other, {}).items() & self._standings.get(one, {}).items()
        return any(standing == "member" for _, standing in theirs)

    async def search(
        self,
        groups: Collection[str],
        terms: Sequence[Term],
        skip: int,
        most: int,
        on_work: Callable[[float], None] = lambda _: None,
    ) -> list[Hit]:
        """Scan all messages; see `Store.search`."""
        await trio.lowlevel.checkpoint()
        on_work(self._search_seconds)
        messages = [hit for group in groups for hit in self._log(group).messages()]
        hits = [hit for hit in messages if terms and _matches(terms, words_of(hit.text))]
        return sorted(hits, key=lambda hit: (hit.at, hit.seq), reverse=True)[skip : skip + most]

    async def cursors(self, group: str) -> dict[str, int]:
        """Return the read cursors of a group; see `Store.cursors`."""
        await trio.lowlevel.checkpoint()
        return self._read_cursors(group).copy()

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Advance read cursors; see `Store.set_cursors`."""
        await trio.lowlevel.checkpoint()
        if group not in self._logs:
            return
        known = self._cursors.setdefault(group, {})
        known.update({user: max(seq, known.get(user, 0)) for user, seq in cursors.items()})

    def _log(self, group: str) -> _Log:
        return self._logs.get(group) or _Log(group)

    def _read_cursors(self, group: str) -> dict[str, int]:
        return self._cursors.get(group, {})


def _matches(terms: Sequence[Term], words: Sequence[str]) -> bool:
    """Return whether the words of a text match all terms."""
    return all(any(_matches_at(term, words, at) for at in range(len(words))) for term in terms)


def _matches_at(term: Term, words: Sequence[str], at: int) -> bool:
    found = tuple(words[at : at + len(term.words)])
    if term.open and found:
        return found[:-1] == term.words[:-1] and found[-1].startswith(term.words[-1])
    return found == term.words
