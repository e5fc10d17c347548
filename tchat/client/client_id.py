"""Persistent client ids and command numbers for deduplication; each id is locked by its process.

A group remembers the highest number of each client id for ever, so ids should be few, and no number
may be used twice. Each id has its own file, which also holds its next number and is locked while a
process uses the id: a script that runs every minute reuses one id; two terminals use two. Numbers
are reserved in blocks: a block is saved to disk before its first number is used. A crash skips the
rest of the block, which is harmless. The file itself may go back to an earlier state, so that a
process may give numbers that were used: `sender` prevents that. The journal of an id's unsent
messages is another file of the same name, with its own suffix.

Each server has a directory of its own for them (see `server_directory`): no server learns the ids
that are used at another one, and none can use up the numbers for another one.

A message can move from the journal of one id, the original, to that of another one, the copy (see
`adoption`). First the copy is written, then the original removed, and only then may the copy be
sent or removed. A process that is killed in between leaves both. Whoever uses one of the two ids
next finishes the move, before anything is sent: the original is removed. This is sound since as
long as there is the original, nothing has been done with the copy.

`journal` explains why these are files and not an SQLite database.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING

from tchat.client.journal import Journal
from tchat.client.program_state import ProgramState
from tchat.client.server_directory import (
    WITHOUT_TLS,
    directories_of,
    directory_of,
    read_records,
)
from tchat.core.protocol.handshake import CLIENT_ID_SIZE
from tchat.core.text import fold
from tchat.durable_directory import make_directory, sync_file
from tchat.errors import Code, Refused, StartupError
from tchat.file_lock import try_lock
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tchat.client.journal import JournalEntry

_BLOCK_SIZE = 1000
_MAX_SKIP = 1 << 40
_LAST_SKIP = 1 << 62  # no server makes a client count further, so numbers never run out
_MAX_SLOTS = 1000
_JOURNAL_SUFFIX = ".outbox"  # the name on disk is historical
_ID_SUFFIX = ".json"
_MOVE_SECONDS = 2.0  # for another process that starts at the same time to finish a move
_POLL_SECONDS = 0.01


class ClientId:
    """A client id (`client`, 8 random bytes), its next command number, and its journal.

    `programs` is the state that programs share, whatever their client id; it is in the directory
    `state`. `directories` are those with client ids for the same server.
    """

    def __init__(
        self,
        path: Path | None = None,
        state: Path | None = None,
        directories: Sequence[Path] = (),
    ) -> None:
        self._path = path
        self._directories = directories
        self._state = state
        client, number = _load(path)
        # Without a valid file of the id, the journal still knows the id of its messages.
        self.journal = Journal(client, path and path.with_suffix(_JOURNAL_SUFFIX))
        given = self.journal.highest if self.journal.highest < _LAST_SKIP else 0
        self.client, self._next = self.journal.client, max(number, given + 1)
        self._reserved = number
        self.first = self._next  # the files know of no higher number
        self.began: int | None = None  # the first number that this process has given
        self.has_gone_back = False  # a server has counted further than the files
        self.programs = ProgramState(state and state / "programs.db")

    def other_journals(self) -> Iterator[Journal]:
        """Yield the journals of the other client ids for this server, as they are on disk."""
        for directory in self._directories:
            for path in directory.glob(f"*{_JOURNAL_SUFFIX}"):
                id_file = path.with_suffix(_ID_SUFFIX)
                if id_file != self._path:
                    yield _journal_of(id_file)

    def finish_moves(self, patience: float) -> bool:
        """Remove the originals of messages that were being moved when a process was killed.

        Where that is not possible within `patience` seconds, the person decides whether the message
        is sent. Return whether it was possible everywhere.
        """
        doubtful = [
            one for path, some in self._with_copies() for one in self._give_away(some, path)
        ]
        copies = self.journal.copies()
        doubtful += [copies[one] for one in self._remove_originals(copies.keys(), patience)]
        for entry in doubtful:
            self.journal.hold_back(entry)
        return not doubtful

    def _with_copies(self) -> list[tuple[Path, list[JournalEntry]]]:
        """Return the messages of which other journals have copies, by the id files of those."""
        found = []
        for path in self._other_ids():
            with suppress(OSError):
                originals = [self.journal.find(origin) for origin in _journal_of(path).copies()]
                if here := [one for one in originals if one is not None]:
                    found.append((path, here))
        return found

    def _give_away(self, originals: list[JournalEntry], path: Path) -> list[JournalEntry]:
        """Remove messages of which another journal has copies; return those that are still here."""
        left = list(originals)
        with suppress(OSError, Refused):
            # The process may have been killed before it had synced the copies.
            sync_file(path.with_suffix(_JOURNAL_SUFFIX))
            while left:
                self.journal.remove_durably(left[0])
                del left[0]
        return left

    def _remove_originals(self, origins: AbstractSet[str], patience: float) -> set[str]:
        """Remove originals from the other journals; return those that are still there.

        If another process has locked such a journal, it is starting, and removes them itself.
        """
        deadline = time.monotonic() + patience
        places = self._places_of(origins)
        if places and self._path is not None:
            try:
                sync_file(self._path.with_suffix(_JOURNAL_SUFFIX))  # as in `_give_away`
            except OSError:
                return _all_of(places)
        while places:
            for path, found in places.items():
                with suppress(OSError):
                    _remove_from(path, found)
            places = self._places_of(origins)
            if time.monotonic() >= deadline:
                break
            if places:
                time.sleep(_POLL_SECONDS)
        return _all_of(places)

    def _places_of(self, identities: AbstractSet[str]) -> dict[Path, set[str]]:
        """Return which of these entries each other journal has, by the id files of those."""
        places: dict[Path, set[str]] = {}
        if identities:
            for path in self._other_ids():
                with suppress(OSError):
                    if found := _journal_of(path).identities() & identities:
                        places[path] = found
        return places

    def _other_ids(self) -> Iterator[Path]:
        """Yield the files of the other client ids for this server that have journals."""
        for directory in self._directories:
            yield from (path for path in _with_journals(directory) if path != self._path)

    def unsent_elsewhere(
        self, user: str, servers: Collection[str]
    ) -> Iterator[tuple[str, str, int]]:
        """Yield the other people and servers with unsent messages here, and how many each has.

        A server is named by its address, if that is known.
        """
        if self._state is None:
            return
        found = self.journal.places()
        for path in journals_under(self._state):
            if path.with_suffix(_ID_SUFFIX) != self._path:
                with suppress(OSError):
                    found += _journal_of(path.with_suffix(_ID_SUFFIX)).places()
        addresses = {one.server: one.address for one in read_records(self._state)}
        for (person, server), count in sorted(found.items()):
            if person != fold(user) or server not in servers:
                # Without TLS, the name of the server has its address; the one in the record is the
                # same for all addresses of this machine.
                address = server.removesuffix(WITHOUT_TLS)
                yield person, address if address != server else addresses.get(server, server), count

    @property
    def upcoming(self) -> int:
        """The number that `next_number` will return."""
        return self._next

    def next_number(self) -> int:
        """Return a number that no process has used with this id. Raises `Refused`."""
        if self._next >= self._reserved:
            self._reserve(self._next + _BLOCK_SIZE)
        number = self._next
        self.began = self.began or number
        self._next += 1
        return number

    def advance_past(self, number: int) -> None:
        """Continue above `number`, the highest that a server has recorded for this id.

        After this client's files were restored from a backup, `number` may be higher than the one
        stored there. An absurdly high one is ignored: it would use up the numbers of this id.
        """
        if self._next <= number < min(self._next + _MAX_SKIP, _LAST_SKIP):
            self.has_gone_back = True
            self._next = number + 1  # `next_number` reserves it

    def _reserve(self, number: int) -> None:
        if self._path is None:
            self._reserved = number
            return
        data = json.dumps({"client": self.client.hex(), "next": number}).encode()
        try:
            replace_file(self._path, data)
        except OSError as error:
            raise Refused(
                Code.FILE_UNREADABLE,
                f"{self._path.parent} cannot be written: {error.strerror}. Nothing was sent.",
            ) from error
        self._reserved = number


@contextmanager
def acquire_client_id(
    state: Path, user: str = "", servers: Collection[str] = ()
) -> Iterator[ClientId]:
    """Lock the first free client id for a server, under `state`, while the block runs.

    The server has the names `servers`, of which the first one names the directory of its ids. An
    id whose journal has unsent messages from `user` to it is preferred, whichever directory it is
    in. Raises `StartupError`.
    """
    directories = directories_of(state, servers)
    try:
        lock, path = _lock_first_free(directories, user, servers)
        client_id = ClientId(path, state, directories)
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"The state directory {state} cannot be used: {error.strerror}."
        ) from error
    with _in_use(lock, client_id):
        client_id.finish_moves(_MOVE_SECONDS)
        yield client_id


@contextmanager
def adopt_client_id(state: Path, user: str, servers: Collection[str]) -> Iterator[ClientId | None]:
    """Lock an id under `state` that no process uses and that has unsent messages, if there is one.

    The messages are from `user` to a server with one of these names, as in `acquire_client_id`.
    Raises OSError.
    """
    directories = directories_of(state, servers)
    found = _lock_first(_with_unsent_messages(directories, user, servers))
    if found is None:
        yield None
        return
    lock, path = found
    client_id = ClientId(path, state, directories)
    with _in_use(lock, client_id):
        # What cannot be finished at once is left to a later attempt: nothing may wait here, and an
        # original that stays would be moved once more.
        yield client_id if client_id.finish_moves(0) else None


@contextmanager
def _in_use(lock: AbstractContextManager[object], client_id: ClientId) -> Iterator[None]:
    """Use a client id, whose lock is held, while the block runs."""
    with lock:
        client_id.journal.compact()
        try:
            yield
        finally:
            client_id.journal.close()
            client_id.programs.close()


def _lock_first_free(
    directories: Sequence[Path], user: str, servers: Collection[str]
) -> tuple[AbstractContextManager[object], Path]:
    directory = directories[0]
    make_directory(directory)
    unsent = _with_unsent_messages(directories, user, servers)
    found = _lock_first(chain(unsent, _id_files(directory)))
    if found is None:
        raise StartupError(Code.CANNOT_START, f"Too many clients are running from {directory}.")
    return found


def _lock_first(paths: Iterable[Path]) -> tuple[AbstractContextManager[object], Path] | None:
    """Lock the first of these ids that no process uses; None if all are in use."""
    for path in paths:
        if (lock := try_lock(path.with_suffix(".lock"))) is not None:
            return lock, path
    return None


def _id_files(directory: Path) -> Iterator[Path]:
    return (_id_file(directory, number) for number in range(_MAX_SLOTS))


def _id_file(directory: Path, number: int) -> Path:
    return directory / f"{number}{_ID_SUFFIX}"


def journals_under(state: Path) -> list[Path]:
    """Return the journals of all client ids for all servers."""
    directories = [directory_of(state, ""), *(state / "servers").glob("*")]
    return [path for one in directories for path in one.glob(f"*{_JOURNAL_SUFFIX}")]


def _journal_of(path: Path) -> Journal:
    """Return the journal of the id in a file; of another process's, as it is on disk."""
    return Journal(_load(path)[0], path.with_suffix(_JOURNAL_SUFFIX))


def _remove_from(path: Path, identities: Collection[str]) -> None:
    """Remove entries from the journal of another client id, unless a process has locked it.

    Entries that cannot be removed stay; the caller looks again.
    """
    if (lock := try_lock(path.with_suffix(".lock"))) is None:
        return
    with lock:
        journal = _journal_of(path)
        try:
            for identity in identities:
                if (entry := journal.find(identity)) is not None:
                    with suppress(Refused):
                        journal.remove_durably(entry)
        finally:
            journal.close()


def _all_of(places: dict[Path, set[str]]) -> set[str]:
    return {one for found in places.values() for one in found}


def _with_unsent_messages(
    directories: Sequence[Path], user: str, servers: Collection[str]
) -> list[Path]:
    """Return the id files whose journals have unsent messages from a person to a server."""
    paths = [path for directory in directories for path in _with_journals(directory)]
    return [path for path in paths if _journal_of(path).entries(user, servers)]


def _with_journals(directory: Path) -> list[Path]:
    """Return the id files in a directory that have a journal, in the order of their numbers."""
    journals = directory.glob(f"[0-9]*{_JOURNAL_SUFFIX}")
    numbers = sorted(int(path.stem) for path in journals if path.stem.isdigit())
    return [_id_file(directory, number) for number in numbers if number < _MAX_SLOTS]


def is_in_a_journal(
    client_id: ClientId, user: str, servers: Collection[str], group: str, once: str
) -> bool:
    """Return whether any client of this directory still has to send the message with a key.

    A message that was refused does not count.
    """
    journals = [client_id.journal, *client_id.other_journals()]
    return any(
        entry.once == once and fold(entry.group) == fold(group) and entry.failure is None
        for journal in journals
        for entry in journal.entries(user, servers)
    )


def _load(path: Path | None) -> tuple[bytes | None, int]:
    """Return a file's client id and next number; no id if the file is missing or damaged."""
    if path is not None and path.exists():
        try:
            kept = json.loads(path.read_text())
            client, number = bytes.fromhex(kept["client"]), int(kept["next"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        else:
            if len(client) == CLIENT_ID_SIZE and number > 0:
                return client, number
    return None, 1
