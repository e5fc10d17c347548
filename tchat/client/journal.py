"""What a person has typed and no server has stored yet, in a file beside the slot.

A message is not lost when the program ends before it was sent, and not sent twice when it ends
before it was answered, because the file is always ahead of what anybody could know:

- the message is in the file before it is shown as on its way;
- its number is in the file, and on the disk, before the message is sent;
- it is taken out only when the server's answer, or the event itself, has come.

So at whatever moment a process is killed, the file says one of three things about a message. It is
not there: then it was stored, or never shown. It is there without a number: then it was never
sent, and the next process sends it like a new one. It is there with a number: then it may have been
sent, and the next process sends it again with the same number of the same client, which the
server does once, however often it comes (see `core.state`). Who holds the slot's lock holds the
file, so there is never a second process that could do the same.

The file is a journal: lines of JSON that are appended, with a key by which later lines speak of a
message. A write that fails is taken back, so that no line is ever glued to the half of another; a
line that was damaged all the same costs no more than itself, and is told. When nothing is left in
it, the file is emptied; when most of it is about the past, it is written anew. What was refused
stays until the person lets go of it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tchat.core.group.direct import check_group
from tchat.core.protocol.schema import INT_LIMIT
from tchat.core.text import check_text, fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_MOST_LINES_A_NOTE = 8
_FEW_LINES = 1000
_TEXT = b'"text"'
_BINARY = getattr(os, "O_BINARY", 0)  # on Windows, where line ends would be changed


@dataclass(slots=True)
class JournalEntry:
    """A message that `user` (folded) typed for a group on a server, at `at` (ms since the epoch).

    `number` is what its client has counted it with, if it may have been sent. `failure` is why it
    was refused.
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


class Journal:
    """The notes of the client with this id, in the file at `path`; without one, in memory.

    `damage` says in a sentence what of the file could not be read. Raises OSError.
    """

    def __init__(self, client: bytes, path: Path | None = None) -> None:
        self.damage: str | None = None
        self._client = client.hex()
        self._path = path
        self._notes: dict[int, JournalEntry] = {}
        self._file: int | None = None
        self._size = 0
        self._lines = 0
        self._stale = False
        if path is not None and path.exists():
            self._load(path)
        self._next = max(self._notes, default=0) + 1

    def notes(self, user: str, servers: Collection[str]) -> list[JournalEntry]:
        """Return what a person has typed for a server that is known by these names, in order."""
        notes = self._notes.values()
        return [note for note in notes if note.user == fold(user) and note.server in servers]

    def add(
        self, user: str, server: str, group: str, text: str, reply: int | None, at: int
    ) -> JournalEntry:
        """Keep a message. Raises `Refused` if that cannot be; then it was not kept at all."""
        note = JournalEntry(self._next, fold(user), server, group, at, text, reply)
        self._append([_typed(note)])
        return self._added(note)

    def count(self, counted: Sequence[tuple[JournalEntry, int]]) -> None:
        """Keep the numbers of messages that are about to be sent, safe from a power cut too.

        Raises `Refused`; then none of them may be sent.
        """
        if counted:
            self._append([self._counted(note, number) for note, number in counted], sync=True)
        for note, number in counted:
            note.number = number

    def refuse(self, note: JournalEntry, failure: Refused) -> None:
        """Keep a message, as one that was refused: it will not be sent by itself any more."""
        note.failure = failure
        self._append_if_possible(_refused(note, failure))

    def renew(self, note: JournalEntry) -> JournalEntry:
        """Keep a message that was refused as if it had just been typed. Raises `Refused`."""
        new = replace(note, key=self._next, number=None, failure=None)
        self._append([_typed(new), _gone(note)])
        del self._notes[note.key]
        return self._added(new)

    def forget(self, note: JournalEntry) -> None:
        """Keep a message no longer: it is stored, or the person has let go of it."""
        if self._notes.pop(note.key, None) is None:
            return
        few = self._lines < _FEW_LINES + _MOST_LINES_A_NOTE * len(self._notes)
        if self._notes and few and not self._stale:
            self._append_if_possible(_gone(note))
        else:
            self.tidy()

    def tidy(self) -> None:
        """Rid the file of all that is not about the messages that are kept, if that is possible."""
        if self._path is None or not (self._lines or self._stale):
            return
        lines = [line for note in self._notes.values() for line in self._lines_of(note)]
        try:
            self._rewrite(self._path, lines)
        except OSError:
            self._stale = True  # which costs space, and at worst an answer that is known already
        else:
            self._stale, self._lines = False, len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _added(self, note: JournalEntry) -> JournalEntry:
        self._notes[note.key] = note
        self._next = note.key + 1
        return note

    # ------------------------------------------------------------------ reading

    def _load(self, path: Path) -> None:
        *lines, torn = path.read_bytes().split(b"\n")
        whole = [self._read(line) for line in lines]
        self._lines = len(lines)
        self._size = sum(len(line) + 1 for line in lines)
        self._stale = bool(torn)
        if torn or not all(whole):
            self.damage = (
                f"{path} was damaged: something that was typed, and not sent yet, may be lost."
            )

    def _read(self, line: bytes) -> bool:
        """Take in a line; return whether it could be understood."""
        try:
            self._understand(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError, Refused):
            if _TEXT not in line:  # it may have been the number of any of those before it
                for note in self._notes.values():
                    _doubt(note)
            return False
        return True

    def _understand(self, item: dict[str, Any]) -> None:
        key = _natural(item["key"])
        note = self._notes.get(key)
        if "text" in item:
            self._notes[key] = _note(key, item)
        elif note is None:
            return  # its line was lost
        elif "number" in item:
            note.number = _natural(item["number"])
            if item["client"] != self._client:  # the slot was damaged, and has another id now
                note.number = None
                _doubt(note)
        elif "refused" in item:
            note.failure = Refused(str(item["refused"]), str(item["sentence"]))
        elif item["gone"]:
            del self._notes[key]

    # ------------------------------------------------------------------ writing

    def _append(self, items: list[dict[str, object]], *, sync: bool = False) -> None:
        """Write lines behind the others, all or none. Raises `Refused`."""
        if self._path is None:
            return
        data = b"".join(map(_line, items))
        try:
            self._file = self._open(self._path) if self._file is None else self._file
            _write(self._file, data)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self._take_back()
            raise Refused(
                Code.FILE_UNREADABLE,
                f"{self._path.parent} cannot be written: {error.strerror}. Nothing was sent.",
            ) from error
        self._size += len(data)
        self._lines += len(items)

    def _append_if_possible(self, item: dict[str, object]) -> None:
        try:
            self._append([item])
        except Refused:
            self._stale = True

    def _open(self, path: Path) -> int:
        """Open the file and cut off what is no whole line."""
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _BINARY, 0o600)
        try:
            os.ftruncate(file, self._size)
        except OSError:
            os.close(file)
            raise
        return file

    def _take_back(self) -> None:
        """Rid the file of a write that failed: now, or when it is opened anew."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.close()

    def _rewrite(self, path: Path, items: list[dict[str, object]]) -> None:
        data = b"".join(map(_line, items))
        if not data:
            self._size = 0
            self._file = self._open(path) if self._file is None else self._file
            os.ftruncate(self._file, 0)
            return
        self.close()
        draft = path.with_name(f"{path.name}.new")
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CREAT | _BINARY
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._size = len(data)

    def _lines_of(self, note: JournalEntry) -> Iterator[dict[str, object]]:
        """Yield the lines that make a note what it is."""
        yield _typed(note)
        if note.number is not None:
            yield self._counted(note, note.number)
        if note.failure is not None:
            yield _refused(note, note.failure)

    def _counted(self, note: JournalEntry, number: int) -> dict[str, object]:
        return {"key": note.key, "number": number, "client": self._client}


def _typed(note: JournalEntry) -> dict[str, object]:
    place = {"user": note.user, "server": note.server, "group": note.group}
    said = {"reply": note.reply, "at": note.at, "text": note.text}
    return {"key": note.key, **place, **said}


def _refused(note: JournalEntry, failure: Refused) -> dict[str, object]:
    return {"key": note.key, "refused": failure.code, "sentence": failure.sentence}


def _gone(note: JournalEntry) -> dict[str, object]:
    return {"key": note.key, "gone": True}


def _note(key: int, item: dict[str, Any]) -> JournalEntry:
    """Return the note that a line holds. Raises what `Journal` expects of a damaged one."""
    names = [item["user"], item["server"], item["group"], item["text"]]
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    user, server, group, text = names
    check_text(text)
    text.encode()
    reply = None if item["reply"] is None else _natural(item["reply"])
    return JournalEntry(key, user, server, check_group(group), _natural(item["at"]), text, reply)


def _natural(value: object) -> int:
    if type(value) is int and 0 <= value < INT_LIMIT:
        return value
    raise TypeError


def _doubt(note: JournalEntry) -> None:
    """Hold back what may have been sent with a number that is not known any more."""
    if note.number is None and note.failure is None:
        note.failure = Refused(
            Code.FILE_UNREADABLE,
            "It is not known whether this was sent before, for the file that said so was damaged.",
        )


def _line(item: dict[str, object]) -> bytes:
    return json.dumps(item).encode() + b"\n"


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
