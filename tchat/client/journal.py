"""Write-ahead journal of unsent messages: each survives a crash and is stored exactly once.

A message is not lost if the program ends before sending it, and not stored twice if the program
ends before the answer, because each step is in the file before it has a visible effect:

- the message is in the file before it is shown as pending;
- its number is in the file, and synced to disk, before the message is sent;
- it is removed only after the server's answer, or the event itself, has arrived.

So whenever a process is killed, a message is in one of three states. It is not in the file: then it
was stored, or never shown. It is in the file without a number: then it was never sent, and the next
process sends it like a new one. It is in the file with a number: then it may have been sent, and
the next process sends it again with the same number of the same client id, and the server
deduplicates (see `core.group.state`). The next process is one that starts later, or one that is
running already (see `adoption`). The journal belongs to the process that holds the lock of the
client id, so no second process can send the same message.

A file can go back to an earlier state: a home directory that is restored, or a block that a crash
has lost. What was typed then looks as if it had never been sent. So the number of a message is not
given before the server has said how far it has counted (`sender`). If it has counted further than
the file knows (`highest`), whatever an earlier process left without a number is looked for in the
group's log, before it is sent (`leftovers`).

The format is append-only: lines of JSON, with a key by which later lines refer to a message. A
write that fails is rolled back, so that no line is ever appended to half of another. If a line is
damaged nevertheless, only that line is lost, the damage is reported, and the file is copied. When
no message is left, the file is truncated; when most of it is obsolete, it is compacted. A refused
message stays until the person discards it. A message that is *held* waits, across restarts too,
until the person has entered its group (see `delivery`).

Why not SQLite: it would save some fifty lines here, and need as many for a schema, a migration and
a fallback for a damaged database. In WAL mode, SQLite needs three fsyncs per message, this format
one; damage to a database is not confined to one message; and SQLite has no checksums either.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from tchat.core.group.direct import check_group
from tchat.core.protocol.converters import INT_LIMIT
from tchat.core.protocol.handshake import CLIENT_ID_SIZE
from tchat.core.text import check_text, fold
from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_LINES_PER_ENTRY = 8
COMPACTION_LINES = 1000
"""A file with fewer lines is not compacted, since that is not worth a sync."""

MOST_ENTRIES = 20_000
"""Most messages that wait to be sent: a program that posts without a connection ends there."""

_TEXT = b'"text"'
_UID_SIZE = 8


@dataclass(slots=True)
class JournalEntry:
    """A message that `user` (folded) typed for a group on a server, at `at` (ms since the epoch).

    It has a `number` if it may have been sent, and a `failure` if it was refused. It is `held` if
    it was typed before the server had said whether `user` may write to the group, and was not sent
    since. A message with `once`, a text that its author chose, is posted once (see
    `program_state`). All numbers below `floor` were given before it was typed; that is unknown for
    a message of an earlier version. `left` is not 0 if it was typed by an earlier process: then it
    was sent with this number or a higher one, or never. `stamp` is that of the message with seq
    `reply`, which it replies to (see `core.group.log_digest`). `origin` is the `identity` of the
    entry in another journal that it was moved from (see `Journal.adopt`).
    """

    key: int
    user: str
    server: str
    group: str
    at: int
    text: str
    reply: int | None = None
    number: int | None = None
    failure: Refused | None = None
    once: str | None = None
    held: bool = False
    floor: int | None = None
    left: int = 0
    stamp: bytes | None = None
    uid: str | None = None
    origin: str | None = None

    @property
    def identity(self) -> str:
        """What distinguishes this entry from those of all journals; keys are used again."""
        if self.uid:
            return self.uid
        # Entries of earlier versions: two processes may have begun in the same millisecond.
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return f"{self.key}:{self.at}:{self.group}:{digest}"


class Journal:
    """The unsent messages of a client id, in the file at `path`; without a path, in memory.

    If a part of the file could not be read, `damage` is a sentence that says so. `highest` is the
    highest number that a message was given. `client` is the id; without one, it is that in the
    file, if there is any, and otherwise a new one. Raises OSError.
    """

    def __init__(self, client: bytes | None, path: Path | None = None) -> None:
        self.damage: str | None = None
        self.highest = 0
        self._unreadable = False
        data = path.read_bytes() if path is not None and path.exists() else b""
        self.client = client or _last_client(data) or secrets.token_bytes(CLIENT_ID_SIZE)
        self._client = self.client.hex()
        self._path = path
        self._entries: dict[int, JournalEntry] = {}
        self._file: int | None = None
        self._size = 0
        self._lines = 0
        self._stale = False
        if path is not None and data:
            self._load(path, data)
        for entry in self._entries.values():
            if entry.number is not None:
                entry.left = entry.number
            elif entry.floor is not None:
                entry.left = max(entry.floor, self.highest + 1)
        self._next = max(self._entries, default=0) + 1

    def __len__(self) -> int:
        return len(self._entries)

    def places(self) -> Counter[tuple[str, str]]:
        """Return how many messages there are, by person (folded) and name of the server."""
        return Counter((entry.user, entry.server) for entry in self._entries.values())

    def entries(self, user: str, servers: Collection[str]) -> list[JournalEntry]:
        """Return the unsent messages of a person to a server with one of these names, in order."""
        entries = self._entries.values()
        return [entry for entry in entries if entry.user == fold(user) and entry.server in servers]

    def add(
        self,
        user: str,
        server: str,
        group: str,
        text: str,
        reply: int | None,
        at: int,
        once: str | None = None,
        *,
        held: bool = False,
        floor: int | None = None,
        stamp: bytes | None = None,
    ) -> JournalEntry:
        """Add a message.

        Raises `Refused` if too many wait, or the file cannot be written; then nothing is added.
        """
        if len(self._entries) >= MOST_ENTRIES:
            raise Refused(
                Code.TOO_MANY, f"{MOST_ENTRIES} messages wait to be sent; try again later."
            )
        said = fold(user), server, group, at, text, reply
        entry = JournalEntry(
            self._next, *said, once=once, held=held, floor=floor, stamp=stamp, uid=_new_uid()
        )
        self._append([_typed_item(entry)])
        return self._insert(entry)

    def record_numbers(self, numbered: Sequence[tuple[JournalEntry, int]]) -> None:
        """Save the numbers of messages that are about to be sent, and sync them to disk.

        Raises `Refused`; then none of the messages may be sent.
        """
        if numbered:
            self._append(
                [self._number_item(entry, number) for entry, number in numbered], sync=True
            )
        for entry, number in numbered:
            entry.number, entry.held = number, False
            self.highest = max(self.highest, number)

    def forget_number(self, entry: JournalEntry) -> None:
        """Save that a message has no number any more, since the server has it for another command.

        Raises `Refused`; then it keeps its number.
        """
        self._append([_typed_item(replace(entry, held=False))], sync=True)
        entry.number = None

    def record_refusal(self, entry: JournalEntry, failure: Refused) -> None:
        """Save that a message was refused: it is not sent again unless the person asks for it."""
        entry.failure, entry.held = failure, False
        self._try_append(_refused_item(entry, failure))

    def resubmit(self, entry: JournalEntry) -> JournalEntry:
        """Add a refused message again, as if it had just been typed. Raises `Refused`.

        If the message that it replies to is lost, it is no reply any more.
        """
        new = replace(entry, key=self._next, number=None, failure=None, held=False, left=0)
        if entry.failure is not None and entry.failure.code == Code.LOG_REPLACED:
            new = replace(new, reply=None, stamp=None)
        self._append([_typed_item(new), _removed_item(entry)])
        del self._entries[entry.key]
        self._insert(new)
        if self._is_long:
            # The server decides how often a message that waits for an approval is sent again.
            self.compact()
        return new

    def find(self, identity: str) -> JournalEntry | None:
        """Return the entry with an identity."""
        return next((one for one in self._entries.values() if one.identity == identity), None)

    def identities(self) -> set[str]:
        """Return the identities of all entries."""
        return {one.identity for one in self._entries.values()}

    def copies(self) -> dict[str, JournalEntry]:
        """Return the messages that were moved here, by the identities of their originals."""
        return {one.origin: one for one in self._entries.values() if one.origin is not None}

    def adopt(self, source: Journal, entry: JournalEntry) -> JournalEntry:
        """Move a message here that was refused or is held in another journal. Raises `Refused`.

        A process that is killed meanwhile may leave it in both files; the next process of either
        finishes the move (see `client_id`). It may be sent when this has returned.
        """
        fresh = replace(entry, key=self._next, number=None, floor=None, left=0)
        new = replace(fresh, uid=_new_uid(), origin=entry.identity)
        self._append(list(self._items_of(new)), sync=True)
        self._insert(new)
        try:
            source.remove_durably(entry)
        except Refused:
            try:
                self.remove_durably(new)
            except Refused:
                self.hold_back(new)  # both are in their files
                return new
            raise
        return new

    def remove_durably(self, entry: JournalEntry) -> None:
        """Remove a message of which another journal has a copy, and sync the file.

        Raises `Refused` if that is not possible; the message then stays in this journal.
        """
        self._append([_removed_item(entry)], sync=True)
        self._entries.pop(entry.key, None)
        if not self._entries or self._is_long:
            self.compact()

    def hold_back(self, entry: JournalEntry) -> None:
        """Leave it to the person whether a message is sent: another journal has it, too.

        This replaces a refusal that an approval would lift.
        """
        entry.failure, entry.held = _in_two_journals(), False

    def remove(self, entry: JournalEntry) -> None:
        """Remove a message: the server has stored it, or the person has discarded it."""
        if self._entries.pop(entry.key, None) is None:
            return
        if self._entries and not self._is_long and not self._stale:
            self._try_append(_removed_item(entry))
        else:
            self.compact()

    def compact(self) -> None:
        """Rewrite the file with only the present entries, if possible."""
        if self._path is None or not (self._lines or self._stale):
            return
        if self._unreadable and not self._keep_damaged(self._path):
            self._stale = True
            return
        lines = [line for entry in self._entries.values() for line in self._items_of(entry)]
        if lines and self.highest:
            lines.insert(0, self._highest_item())
        try:
            self._rewrite(self._path, lines)
        except OSError:
            # Harmless: the old file takes space; at worst, a message is sent again with its number.
            self._stale = True
        else:
            self._stale, self._lines = False, len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def _is_long(self) -> bool:
        """Whether most lines of the file are of no use any more."""
        return self._lines >= COMPACTION_LINES + _LINES_PER_ENTRY * len(self._entries)

    def _insert(self, entry: JournalEntry) -> JournalEntry:
        self._entries[entry.key] = entry
        self._next = entry.key + 1
        return entry

    # ------------------------------------------------------------------ reading

    def _load(self, path: Path, data: bytes) -> None:
        *lines, torn = data.split(b"\n")
        whole = [self._read_line(line) for line in lines]
        self._lines = len(lines)
        self._size = sum(len(line) + 1 for line in lines)
        self._stale = bool(torn)
        if torn or not all(whole):
            self._unreadable = True
            self.damage = f"{path} was damaged: unsent messages may be lost."

    def _keep_damaged(self, path: Path) -> bool:
        """Copy a damaged file before it is rewritten; return whether that was possible."""
        names = (f"{path.name}.damaged{number or ''}" for number in count())
        aside = next(one for name in names if not (one := path.with_name(name)).exists())
        try:
            replace_file(aside, path.read_bytes())
        except OSError as error:
            self.damage = (
                f"{path} was damaged, and cannot be copied ({error.strerror}): unsent messages may"
                " be lost."
            )
            return False
        self._unreadable = False
        self.damage = f"{path} was damaged: unsent messages may be lost. It is kept as {aside}."
        return True

    def _read_line(self, line: bytes) -> bool:
        """Apply a line; return whether it is valid."""
        try:
            self._apply(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError, Refused):
            if _TEXT not in line:  # the line may have had the number of any message above
                for entry in self._entries.values():
                    _hold_back(entry)
            return False
        return True

    def _apply(self, item: dict[str, Any]) -> None:
        key = _as_natural(item["key"])
        entry = self._entries.get(key)
        if item.get("client") == self._client:
            self.highest = max(self.highest, _as_natural(item.get("number", item.get("upto"))))
        if "upto" in item:
            return
        if "text" in item:
            self._entries[key] = _entry_from(key, item)
        elif entry is None:
            return  # the line with its text was damaged
        elif "number" in item:
            entry.number, entry.held = _as_natural(item["number"]), False
            if item["client"] != self._client:  # the id's file was damaged, and a new id made
                entry.number = None
                _hold_back(entry)
        elif "refused" in item:
            entry.failure, entry.held = Refused(str(item["refused"]), str(item["sentence"])), False
        elif item["gone"]:
            del self._entries[key]

    # ------------------------------------------------------------------ writing

    def _append(self, items: list[dict[str, object]], *, sync: bool = False) -> None:
        """Append lines to the file, all or none. Raises `Refused`."""
        if self._path is None:
            return
        data = b"".join(map(_encode_line, items))
        try:
            self._file = self._open(self._path) if self._file is None else self._file
            _write_all(self._file, data)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self._roll_back()
            raise Refused(
                Code.FILE_UNREADABLE,
                f"{self._path.parent} cannot be written: {error.strerror}. Nothing was sent.",
            ) from error
        self._size += len(data)
        self._lines += len(items)

    def _try_append(self, item: dict[str, object]) -> None:
        try:
            self._append([item])
        except Refused:
            self._stale = True

    def _open(self, path: Path) -> int:
        """Open the file and truncate it after its last complete line."""
        is_new = not path.exists()
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if is_new:  # otherwise, a power cut may remove the file, whatever was synced in it
                with suppress(OSError):
                    sync_directory(path.parent)
            os.ftruncate(file, self._size)
        except OSError:
            os.close(file)
            raise
        return file

    def _roll_back(self) -> None:
        """Undo a failed write by truncating the file; if that fails too, `_open` does it later."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.close()

    def _rewrite(self, path: Path, items: list[dict[str, object]]) -> None:
        data = b"".join(map(_encode_line, items))
        if not data:
            self._size = 0
            self._file = self._open(path) if self._file is None else self._file
            os.ftruncate(self._file, 0)
            return
        self.close()
        replace_file(path, data)
        self._size = len(data)

    def _items_of(self, entry: JournalEntry) -> Iterator[dict[str, object]]:
        """Yield the lines that hold an entry."""
        yield _typed_item(entry)
        if entry.number is not None:
            yield self._number_item(entry, entry.number)
        if entry.failure is not None:
            yield _refused_item(entry, entry.failure)

    def _number_item(self, entry: JournalEntry, number: int) -> dict[str, object]:
        return {"key": entry.key, "number": number, "client": self._client}

    def _highest_item(self) -> dict[str, object]:
        """Return the line with the highest number; to earlier versions, it says nothing."""
        return {"key": 0, "gone": True, "upto": self.highest, "client": self._client}


def _typed_item(entry: JournalEntry) -> dict[str, object]:
    place = {"user": entry.user, "server": entry.server, "group": entry.group}
    said = {"reply": entry.reply, "at": entry.at, "text": entry.text}
    once = {"once": entry.once} if entry.once else {}
    held = {"held": True} if entry.held else {}
    floor = {} if entry.floor is None else {"floor": entry.floor}
    texts = {
        "stamp": None if entry.stamp is None else entry.stamp.hex(),
        "uid": entry.uid,
        "origin": entry.origin,
    }
    given = {name: value for name, value in texts.items() if value is not None}
    return {"key": entry.key, **place, **said, **once, **held, **floor, **given}


def _refused_item(entry: JournalEntry, failure: Refused) -> dict[str, object]:
    return {"key": entry.key, "refused": failure.code, "sentence": failure.sentence}


def _removed_item(entry: JournalEntry) -> dict[str, object]:
    return {"key": entry.key, "gone": True}


def _entry_from(key: int, item: dict[str, Any]) -> JournalEntry:
    """Return the entry in a line. Raises the errors that `_read_line` takes for damage."""
    names = [item["user"], item["server"], item["group"], item["text"]]
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    user, server, group, text = names
    check_text(text)
    text.encode()
    reply = None if item["reply"] is None else _as_natural(item["reply"])
    once, uid, origin = item.get("once"), item.get("uid"), item.get("origin")
    if not all(isinstance(value, str | None) for value in (once, uid, origin)):
        raise TypeError
    group, at = check_group(group), _as_natural(item["at"])
    held = item.get("held") is True
    floor = _as_natural(item["floor"]) if "floor" in item else None
    stamp = bytes.fromhex(item["stamp"]) if "stamp" in item else None
    said = user, server, group, at, text, reply
    return JournalEntry(
        key, *said, once=once, held=held, floor=floor, stamp=stamp, uid=uid, origin=origin
    )


def _new_uid() -> str:
    return secrets.token_hex(_UID_SIZE)


def _as_natural(value: object) -> int:
    if type(value) is int and 0 <= value < INT_LIMIT:
        return value
    raise TypeError


def _last_client(data: bytes) -> bytes | None:
    """Return the client id in the last line of a file that has one."""
    for line in reversed(data.split(b"\n")):
        if b'"client"' in line and _TEXT not in line:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                client = bytes.fromhex(json.loads(line)["client"])
                if len(client) == CLIENT_ID_SIZE:
                    return client
    return None


def _hold_back(entry: JournalEntry) -> None:
    """Stop a message from being sent automatically, since its number may be lost.

    With a new number it would be stored twice if it was sent before: the person has to decide.
    """
    if entry.number is None and entry.failure is None:
        entry.failure = Refused(
            Code.FILE_UNREADABLE,
            "It may have been sent already: the file that recorded it was damaged.",
        )
        entry.held = False


def _in_two_journals() -> Refused:
    return Refused(
        Code.FILE_UNREADABLE,
        "It may be sent by another client of yours, too, whose file of unsent messages cannot be"
        " written.",
    )


def _encode_line(item: dict[str, object]) -> bytes:
    return json.dumps(item).encode() + b"\n"


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
