"""Check the checksums of SQLite's write-ahead log.

SQLite takes the first frame with a wrong checksum for the end of the log, since a power failure may
leave a transaction half written. So after a byte has changed there, it drops everything from that
frame on without an error: committed transactions, too, and with them messages that were
acknowledged. This check tells the two apart. A transaction with messages is on the disk before the
next one is written. So if another frame that ends a transaction follows the wrong one, the log is
damaged. (Or the power failed while the search index was updated, whose transactions do not wait for
the disk; then no message is lost.)

The format is described in https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, two salts, two sums
_FRAME = struct.Struct(">6I")  # page, size after a commit (or 0), two salts, two sums
_SUMMED_OF_HEADER = 24
_SUMMED_OF_FRAME = 8
_BEGINNING = 100  # the size of the header of a database, in its page 1
_MAGIC = 0x377F0682  # in the last bit: whether the sums are of big-endian words
_WORD = 1 << 32
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1

_Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalDamage:
    """The number of the first wrong frame, 0 for the header, and its bytes.

    `ends` is how many transactions seem to end with this frame or a later one.
    """

    frame: int
    found: bytes
    ends: int = field(compare=False)

    @property
    def sentence(self) -> str:
        """What is wrong."""
        if not self.frame:
            return "The header of the write-ahead log has changed; all that is in it is lost."
        sentence = f"Frame {self.frame} of the write-ahead log has changed."
        if self.ends == 1:
            return (
                f"{sentence} The last transaction is lost; unless the power failed while it was"
                " written, it was acknowledged."
            )
        return f"{sentence} The last {self.ends} transactions are lost."


def find_damage(path: Path) -> WalDamage | None:
    """Return the damage of a write-ahead log; None if there is none, or no log.

    A running server may be writing, so only damage that stays where it is counts. Raises OSError.
    """
    damage = _find_once(path)
    for _ in range(_ATTEMPTS):
        if damage is None:
            break
        sleep(_PAUSE_SECONDS)
        again = _find_once(path)
        if again == damage:
            return damage
        damage = again
    return None


@dataclass(slots=True)
class CommittedPages:
    """The numbers of the `pages` of a database that its write-ahead log contains.

    `size` is how many pages the database has after the last transaction; 0 without one. `first` is
    the beginning of the newest page 1, if that is among them.
    """

    page_size: int
    size: int = 0
    pages: set[int] = field(default_factory=set)
    first: bytes | None = None


def committed_pages(path: Path, *, check: bool) -> CommittedPages | None:
    """Return what the whole transactions in a log contain; None without a log that SQLite reads.

    Without `check`, the checksums are not computed, which takes 0.1 ms for a page; then it may be
    more than SQLite reads, after a power failure. Raises OSError.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return None
            magic, _, page_size, _, *salts, one, two = _HEADER.unpack(head)
            words = struct.Struct(">II" if magic & 1 else "<II")
            sums = _sum(words, head[:_SUMMED_OF_HEADER], (0, 0))
            if magic & ~1 != _MAGIC or sums != (one, two) or not page_size:
                return None
            found, pages, first = CommittedPages(page_size), set[int](), None
            while len(head := file.read(_FRAME.size)) == _FRAME.size:
                number, size, *its_salts, one, two = _FRAME.unpack(head)
                page = file.read(page_size)
                if its_salts != salts or len(page) < page_size:
                    break
                if check:
                    sums = _sum(words, page, _sum(words, head[:_SUMMED_OF_FRAME], sums))
                    if sums != (one, two):
                        break
                pages.add(number)
                first = page[:_BEGINNING] if number == 1 else first
                if size:
                    found.pages |= pages
                    found.size, found.first = size, first
                    pages.clear()
            return found
    except FileNotFoundError:
        return None


def sound_frames(path: Path) -> tuple[int, dict[int, int]]:
    """Return the page size, and where in the log the newest committed version of each page begins.

    SQLite ends at the first wrong frame. Here only that is left out, and the checksums of the
    others follow from the one that the frame before has. Without a log, the size is 0.
    """
    try:
        log = path.read_bytes()
    except OSError:
        return 0, {}
    if len(log) < _HEADER.size:
        return 0, {}
    magic, _, page_size, _, *salts, one, two = _HEADER.unpack_from(log)
    if magic & ~1 != _MAGIC or not 512 <= page_size <= 65536:
        return 0, {}
    words = struct.Struct(">II" if magic & 1 else "<II")
    sums, committed, pending = (one, two), dict[int, int](), dict[int, int]()
    at = _HEADER.size
    for head, page in _frames(log, page_size):
        number, size, *its_salts, one, two = _FRAME.unpack(head)
        if its_salts != salts:
            if not any(mine == its for mine, its in zip(salts, its_salts, strict=True)):
                break  # of an earlier use of the log
        elif _sum(words, page, _sum(words, head[:_SUMMED_OF_FRAME], sums)) == (one, two):
            pending[number] = at + _FRAME.size
            if size:
                committed |= pending
                pending.clear()
        sums = (one, two)
        at += _FRAME.size + page_size
    return page_size, committed


def _find_once(path: Path) -> WalDamage | None:
    try:
        with path.open("rb") as file:
            log = file.read()
    except FileNotFoundError:
        return None
    if len(log) < _HEADER.size:
        return None
    magic, _, page_size, _, *salts, one, two = _HEADER.unpack_from(log)
    words = struct.Struct(">II" if magic & 1 else "<II")
    sums = _sum(words, log[:_SUMMED_OF_HEADER], (0, 0))
    if magic & ~1 != _MAGIC or sums != (one, two) or not page_size:
        return WalDamage(0, log[: _HEADER.size], 0)
    wrong, found, ends = 0, b"", 0
    for number, (head, page) in enumerate(_frames(log, page_size), start=1):
        _, size, *its_salts, one, two = _FRAME.unpack(head)
        # A frame of an earlier use of the log has two other salts. One of ours may have changed.
        if not any(mine == its for mine, its in zip(salts, its_salts, strict=True)):
            continue
        if not wrong:
            sums = _sum(words, page, _sum(words, head[:_SUMMED_OF_FRAME], sums))
            if its_salts == salts and sums == (one, two):
                continue
            wrong, found = number, head + page
        ends += bool(size)
    return WalDamage(wrong, found, ends) if ends else None


def _frames(log: bytes, page_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the header and the page of each whole frame."""
    step = _FRAME.size + page_size
    for start in range(_HEADER.size, len(log) - step + 1, step):
        yield log[start : start + _FRAME.size], log[start + _FRAME.size : start + step]


def _sum(words: struct.Struct, data: bytes, sums: _Sums) -> _Sums:
    """Return the checksum of data that follows what has the checksum `sums`."""
    one, two = sums
    for first, second in words.iter_unpack(data):
        one = (one + first + two) % _WORD
        two = (two + second + one) % _WORD
    return one, two
