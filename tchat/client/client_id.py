"""A client's random id and its count of requests, kept from run to run.

A group remembers the highest count of each client id for ever, so ids should be few and a count
must never be used twice. A slot holds one id and its count in a file, locked for as long as a
process uses it: a script that runs every minute reuses one slot, two terminals have two. Counts
are reserved in blocks, on disk before the first of them is used; a crash skips the rest of a
block, which nobody minds. Beside them is the slot's outbox: what was counted with the id, or will
be, and is not known to be stored yet.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tchat.client.journal import Journal
from tchat.core.protocol.handshake import CLIENT_ID_SIZE
from tchat.errors import Code, Refused, StartupError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_BLOCK = 1000
_LARGEST_SKIP = 1 << 40
_MOST_SLOTS = 1000
_OUTBOX = ".outbox"


class ClientId:
    """One client id (8 random bytes), the next number to count with, and what is to be sent."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.client, self._next = _read(path)
        self._reserved = self._next
        self.journal = Journal(self.client, path and path.with_suffix(_OUTBOX))

    @property
    def upcoming(self) -> int:
        """The number that `count` will return next."""
        return self._next

    def count(self) -> int:
        """Return a number that was never returned before, by any process, for this id."""
        if self._next >= self._reserved:
            self._reserve(self._next + _BLOCK)
        number = self._next
        self._next += 1
        return number

    def skip_to(self, number: int) -> None:
        """Count on from above `number`, which a server remembers and this slot does not.

        A number out of all proportion is a lie, and would spoil the slot for other servers.
        """
        if self._next <= number < self._next + _LARGEST_SKIP:
            self._next = number + 1  # reserved, as any other, when it is counted with

    def _reserve(self, number: int) -> None:
        if self._path is None:
            self._reserved = number
            return
        draft = self._path.with_suffix(".new")
        try:
            with draft.open("w") as file:
                json.dump({"client": self.client.hex(), "next": number}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise Refused(
                Code.FILE_UNREADABLE,
                f"{self._path.parent} cannot be written: {error.strerror}. Nothing was sent.",
            ) from error
        self._reserved = number


@contextmanager
def take_slot(state: Path, user: str = "", servers: Collection[str] = ()) -> Iterator[ClientId]:
    """Hold the first slot under `state` that no other process holds. Raises `StartupError`.

    One in which `user` left something, for a server that is known by one of these names, is
    preferred to others.
    """
    try:
        lock, path = _lock_first(state / "slots", user, servers)
        slot = ClientId(path)
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"The state directory {state} cannot be used: {error.strerror}."
        ) from error
    with lock:
        slot.journal.tidy()
        try:
            yield slot
        finally:
            slot.journal.close()


def _lock_first(
    directory: Path, user: str, servers: Collection[str]
) -> tuple[AbstractContextManager[object], Path]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (*_left(directory, user, servers), *_all(directory)):
        try:
            lock = FileLock(path.with_suffix(".lock"), timeout=0).acquire()
        except Timeout:
            continue
        return lock, path
    raise StartupError(Code.CANNOT_START, f"Too many clients are running from {directory}.")


def _all(directory: Path) -> Iterator[Path]:
    return (directory / f"{number}.json" for number in range(_MOST_SLOTS))


def _left(directory: Path, user: str, servers: Collection[str]) -> list[Path]:
    """Return the slots in which a person left something for a server."""
    outboxes = {path.with_suffix(".json"): path for path in directory.glob(f"*{_OUTBOX}")}
    return [
        path
        for path in _all(directory)
        if path in outboxes and Journal(b"", outboxes[path]).notes(user, servers)
    ]


def _read(path: Path | None) -> tuple[bytes, int]:
    """Return what a slot's file says; a damaged one is not trusted, and a new id begun."""
    if path is not None and path.exists():
        try:
            kept = json.loads(path.read_text())
            client, number = bytes.fromhex(kept["client"]), int(kept["next"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        else:
            if len(client) == CLIENT_ID_SIZE and number > 0:
                return client, number
    return secrets.token_bytes(CLIENT_ID_SIZE), 1
