"""What a power cut may leave of a recording: synced writes, and any part of those that were not.

The model is as strict as POSIX allows, and stricter than common file systems:

- What a sync of a file has covered stays. Of the later writes, any subset may be there, and each of
  them in any subset of its sectors of 512 bytes.
- Entries of a directory (new files, renames, removals) are certain once the directory was synced.
  Of the later ones, those up to some point are there, for each directory by itself: file systems
  keep their order. A rename happens as a whole, with the directory of the new name.
- A file whose entry is not there is gone, also if it was synced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from tests.faults.recording import (
    Create,
    Remove,
    Rename,
    SyncBegins,
    SyncDirectory,
    SyncEnds,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.faults.recording import Step

SECTOR = 512

Mode = Literal["all", "synced", "any", "torn", "prefix", "newest"]
MODES: tuple[Mode, ...] = ("all", "synced", "any", "torn", "prefix", "newest")
"""Which of the writes that were not synced are there: all of them, none, any of them, any of their
sectors, the first ones (the last of these torn), or only the last ones."""

Change = Write | Truncate
Entry = Create | Rename | Remove


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    covered: dict[int, int] = field(default_factory=dict)


class DiskModel:
    """The state of a directory, `root`, after some steps of a recording.

    With `obeys` false, syncs do nothing, as with a disk that lies.
    """

    def __init__(self, root: str, *, obeys: bool = True) -> None:
        self._root = root
        self._obeys = obeys
        self._files: dict[int, _File] = {}
        self._entries: dict[str, int] = {}  # as synced: path to number, 0 for a directory
        self._pending: dict[str, list[Entry]] = {}  # by directory, in order

    def apply(self, step: Step) -> None:
        """Apply the next step."""
        match step:
            case Write(file=file) | Truncate(file=file):
                self._files.setdefault(file, _File()).pending.append(step)
            case SyncBegins(file, call):
                one = self._files.setdefault(file, _File())
                one.covered[call] = len(one.pending)
            case SyncEnds(file, call):
                self._sync(self._files[file], call)
            case SyncDirectory(path):
                if self._obeys:
                    _apply_entries(self._entries, self._pending.pop(path, []))
            case Create(path=path) | Remove(path=path) | Rename(new=path):
                self._pending.setdefault(str(PurePosixPath(path).parent), []).append(step)

    def _sync(self, file: _File, call: int) -> None:
        number = file.covered.pop(call)
        if not self._obeys:
            return
        for change in file.pending[:number]:
            _apply_change(file.synced, change)
        del file.pending[:number]
        file.covered = {c: max(0, n - number) for c, n in file.covered.items()}

    def after_cut(self, mode: Mode, rng: Random) -> dict[str, bytes | None]:
        """Return the files that a power cut may leave, by path; None for a directory."""
        entries = dict(self._entries)
        for pending in self._pending.values():
            number = {"all": len(pending), "synced": 0}.get(mode, rng.randint(0, len(pending)))
            _apply_entries(entries, pending[:number])
        depth = len(PurePosixPath(self._root).parts)
        return {
            path: self._content(number, mode, rng) if number else None
            for path, number in sorted(entries.items())
            if all(
                str(parent) in entries
                for parent in PurePosixPath(path).parents
                if len(parent.parts) > depth
            )
        }

    def _content(self, number: int, mode: Mode, rng: Random) -> bytes:
        file = self._files.get(number, _File())
        content = bytearray(file.synced)
        for change in _survivors(file.pending, mode, rng):
            _apply_change(content, change)
        return bytes(content)


def _survivors(pending: Sequence[Change], mode: Mode, rng: Random) -> list[Change]:
    match mode:
        case "all":
            return list(pending)
        case "synced":
            return []
        case "any":
            return [change for change in pending if rng.random() < 0.5]
        case "torn":
            return [piece for change in pending for piece in _torn(change, rng)]
        case "prefix":
            number = rng.randint(0, len(pending))
            torn = _torn(pending[number], rng) if number < len(pending) else []
            return [*pending[:number], *torn]
        case "newest":
            return list(pending[rng.randint(0, len(pending)) :])


def _torn(change: Change, rng: Random) -> list[Change]:
    """Return any part of a write, in sectors."""
    if isinstance(change, Truncate):
        return [change] if rng.random() < 0.5 else []
    pieces: list[Change] = []
    start = 0
    while start < len(change.data):
        end = start + SECTOR - (change.offset + start) % SECTOR
        if rng.random() < 0.5:
            pieces.append(Write(change.file, change.offset + start, change.data[start:end]))
        start = end
    return pieces


def _apply_change(content: bytearray, change: Change) -> None:
    if isinstance(change, Truncate):
        if change.size <= len(content):
            del content[change.size :]
        else:
            content.extend(bytes(change.size - len(content)))
        return
    end = change.offset + len(change.data)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    content[change.offset : end] = change.data


def _apply_entries(entries: dict[str, int], changes: Sequence[Entry]) -> None:
    for change in changes:
        match change:
            case Create(path, file):
                entries[path] = file
            case Rename(old, new, file):  # the old name itself may never have been synced
                entries.pop(old, None)
                entries[new] = file
            case Remove(path):
                entries.pop(path, None)
