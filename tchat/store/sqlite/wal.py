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
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, two salts, two sums
_FRAME = struct.Struct(">6I")  # page, size after a commit (or 0), two salts, two sums
_SUMMED_OF_HEADER = 24
_SUMMED_OF_FRAME = 8
_BEGINNING = 100  # the size of the header of a database, in its page 1
_MAGIC = 0x377F0682  # in the last bit: whether the sums are of big-endian words
_WORD = 1 << 32
_DEFAULT_PAGE_SIZE = 4096
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1

_Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalDamage:
    """The number of the first wrong frame, 0 for the header, and its bytes.

    `ends` is how many transactions seem to end with this frame or a later one, and `last` the first
    frame of the last of them.
    """

    frame: int
    found: bytes
    ends: int = field(compare=False)
    last: int = field(compare=False)

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


def _find_once(path: Path) -> WalDamage | None:
    with _opened(path) as log:
        if log is None:
            return None
        file, header = log
        wrong, found = (0, b"") if header.is_right else (-1, header.found)
        ends, begin, last = 0, 1, 1
        for frame in _frames(file, header):
            # A frame of an earlier use has two other salts; of ours, one may have changed.
            if not frame.salts:
                continue
            if not wrong and not frame.is_sound:
                wrong, found = frame.number, frame.found
            ends += bool(wrong and frame.size)
            if frame.size:
                begin, last = frame.number + 1, begin
    if wrong < 0:
        return WalDamage(0, found, ends, last)
    return WalDamage(wrong, found, ends, last) if ends else None


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
    with _opened(path) as log:
        if log is None or not log[1].is_right:
            return None
        file, header = log
        found, pages, first = CommittedPages(header.page_size), set[int](), None
        for frame in _frames(file, header, check=check):
            if not frame.is_sound:
                break
            pages.add(frame.page)
            first = frame.content[:_BEGINNING] if frame.page == 1 else first
            if frame.size:
                found.pages |= pages
                found.size, found.first = frame.size, first
                pages.clear()
        return found


def sound_frames(
    path: Path, page_size: int, before: int | None = None
) -> tuple[int, dict[int, int]]:
    """Return the page size, and where in the log the newest committed version of each page begins.

    SQLite ends at the first wrong frame. Here only that is left out, and the checksums of the
    others follow from the one that the frame before has. Only frames with a number below `before`
    are used. `page_size` is that of the database, for a log whose header has changed. Without a
    log, the size is 0.
    """
    with _opened(path, page_size, errors=OSError) as log:
        if log is None:
            return 0, {}
        file, header = log
        committed, pending = dict[int, int](), dict[int, int]()
        for frame in _frames(file, header):
            if not frame.salts or (before is not None and frame.number >= before):
                break  # of an earlier use of the log
            if frame.is_sound:
                pending[frame.page] = frame.at
                if frame.size:
                    committed |= pending
                    pending.clear()
    return header.page_size, committed


# ------------------------------------------------------------------ the format


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of a log.

    `before` are the checksums that the one of the first frame may follow from: the stored one and
    the computed one, which differ if the header has changed.
    """

    found: bytes
    is_right: bool
    page_size: int
    salts: tuple[int, int]
    words: struct.Struct
    before: frozenset[_Sums]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Frame `number`, from 1 on, of the log, with a version of the database's page `page`.

    `size` is the size of the database if the frame ends a transaction, otherwise 0. `at` is where
    the page begins in the file. `salts` says how many of the two are those of the log. If
    `is_sound`, both are, and the checksum follows from that of the frame before, if that was asked.
    """

    number: int
    page: int
    size: int
    at: int
    found: bytes
    salts: int
    is_sound: bool

    @property
    def content(self) -> bytes:
        """The page."""
        return self.found[_FRAME.size :]


@contextmanager
def _opened(
    path: Path, page_size: int = 0, *, errors: type[OSError] = FileNotFoundError
) -> Iterator[tuple[BufferedReader, _Header] | None]:
    """Open a log for the length of the block, behind its header; None without a whole header.

    A log that cannot be opened because of one of these `errors` counts as missing.
    """
    try:
        file = path.open("rb")
    except errors:
        yield None
        return
    with file:
        header = _read_header(file, page_size)
        yield None if header is None else (file, header)


def _read_header(file: BufferedReader, page_size: int = 0) -> _Header | None:
    """Return the header of a log, also of one that has changed; None if the file is shorter.

    `page_size`, if it is known, replaces a size that is none.
    """
    found = file.read(_HEADER.size)
    if len(found) < _HEADER.size:
        return None
    magic, _, size, _, *salts, one, two = _HEADER.unpack(found)
    words = struct.Struct(">II" if magic & 1 else "<II")
    sums = _sum(words, found[:_SUMMED_OF_HEADER], (0, 0))
    is_right = magic & ~1 == _MAGIC and sums == (one, two) and bool(size)
    if not is_right:
        size = page_size or size
        first = file.read(_FRAME.size)
        file.seek(_HEADER.size)
        if len(first) == _FRAME.size:  # its salts are those that the log should have
            _, _, *salts, _, _ = _FRAME.unpack(first)
    if not 512 <= size <= 65536:
        size, is_right = _DEFAULT_PAGE_SIZE, False
    before = frozenset({(one, two), sums})
    return _Header(found, is_right, size, (salts[0], salts[1]), words, before)


def _frames(file: BufferedReader, header: _Header, *, check: bool = True) -> Iterator[_Frame]:
    """Yield each whole frame; without `check`, checksums count as right."""
    step = _FRAME.size + header.page_size
    before, number = header.before, 1
    while len(found := file.read(step)) == step:
        page, size, *salts, one, two = _FRAME.unpack_from(found)
        same = sum(mine == its for mine, its in zip(header.salts, salts, strict=True))
        is_sound = same == len(salts) and (
            not check or any(_sum_of(header.words, found, sums) == (one, two) for sums in before)
        )
        at = _HEADER.size + (number - 1) * step + _FRAME.size
        yield _Frame(number, page, size, at, found, same, is_sound)
        before, number = frozenset({(one, two)}), number + 1


def _sum_of(words: struct.Struct, frame: bytes, sums: _Sums) -> _Sums:
    """Return the checksum of a frame behind one, or a header, with the checksum `sums`."""
    return _sum(words, frame[_FRAME.size :], _sum(words, frame[:_SUMMED_OF_FRAME], sums))


def _sum(words: struct.Struct, data: bytes, sums: _Sums) -> _Sums:
    """Return the checksum of data that follows what has the checksum `sums`."""
    one, two = sums
    for first, second in words.iter_unpack(data):
        one = (one + first + two) % _WORD
        two = (two + second + one) % _WORD
    return one, two
