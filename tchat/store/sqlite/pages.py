"""Read the rows of a damaged database page by page, without SQLite, which stops at the first fault.

SQLite finds a row only along a path of sound pages. Here every page is looked at: those that a tree
leads to belong to its table, and others, below a damaged page, are recognized by the values in
their rows (`is_row`). A row is whole or it is left out, and the caller can check it further: each
segment of a log has a checksum. Pages in the write-ahead log replace those in the file; a frame
whose checksum is wrong is left out, and those behind it are used.

The format is described in https://www.sqlite.org/fileformat2.html. Deleted rows are overwritten
(`database`), so none comes back.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tchat.store.sqlite.wal import sound_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.store.sqlite.wal import WalDamage

    Value = int | float | bytes | str | None

_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 13, 5, 10, 2
_KINDS = (_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR)
_MAGIC = b"SQLite format 3\0"
_HEADER_SIZE = 100
_DEFAULT_PAGE_SIZE = 4096
_INTEGER_SIZES = (0, 1, 2, 3, 4, 6, 8)
_SHA256_SIZE = 32
_MOST_BYTES = 1 << 30  # of a row, by SQLite's own limit


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its values in the order of the columns, and the number of its page, from 1 on.

    An `INTEGER PRIMARY KEY` is NULL among the values, and is the `rowid`.
    """

    table: str
    values: tuple[Value, ...]
    page: int
    rowid: int = 0


class _Damaged(Exception):
    """Something is not as the format has it."""


class PageReader:
    """The pages of a database file with its write-ahead log; close it with `close`.

    Only those frames of the log are used whose number is below `before`.
    """

    def __init__(self, path: Path, before: int | None = None) -> None:
        self._files = ExitStack()
        self._file = self._files.enter_context(path.open("rb"))
        head = self._file.read(_HEADER_SIZE)
        self.page_size = _page_size(head)
        log = path.with_name(f"{path.name}-wal")
        size, frames = sound_frames(log, self.page_size, before)
        self.page_size = size or self.page_size
        self._in_log = frames
        self._usable = self.page_size - (head[20] if head.startswith(_MAGIC) else 0)
        length = path.stat().st_size
        self.count = max(-(-length // self.page_size), max(frames, default=0))
        if frames:
            self._log = self._files.enter_context(log.open("rb"))

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, number: int) -> bytes:
        """Return a page; what cannot be read of it, or is beyond the end, is zeros."""
        file, start = self._file, (number - 1) * self.page_size
        if number in self._in_log:
            file, start = self._log, self._in_log[number]
        try:
            file.seek(start)
            data = file.read(self.page_size)
        except OSError:
            data = b""
        return data.ljust(self.page_size, b"\0")

    def rows(self) -> Iterator[Row]:
        """Yield all rows of the tables that `is_row` knows; those of orphan pages come last."""
        owners = self._owners()
        for number, table in owners.items():
            yield from (row for row in self._rows_of(number, table) if is_row(row))
        for number in range(2, self.count + 1):
            if number not in owners:
                yield from self._orphans(number)

    def damaged(self) -> Iterator[tuple[int, str]]:
        """Yield the pages of trees that cannot be read as such, with their table or index.

        Among them are pages whose rows cannot be read, also because of another page.
        """
        for number, table in self._owners().items():
            page, start = self._tree_page(number)
            kind = page[start]
            count = int.from_bytes(page[start + 3 : start + 5], "big")
            is_sound = kind in _KINDS and len(_cells(page, start)) == count
            if is_sound and kind != _TABLE_INTERIOR:
                is_sound = sum(1 for _ in self._rows_of(number, table)) == count
            if not is_sound:
                yield number, table

    def is_whole(self, table: str) -> bool:
        """Return whether every page of a table without rowids, and every row, can be read."""
        pages = [number for number, name in self._owners().items() if name == table]
        return bool(pages) and all(
            self.page(number)[0] in (_INDEX_LEAF, _INDEX_INTERIOR)
            and sum(is_row(row) for row in self._rows_of(number, table))
            == int.from_bytes(self.page(number)[3:5], "big")
            for number in pages
        )

    def single_integer(self, table: str) -> int | None:
        """Return the value of a table with one row and one column."""
        for number, name in self._owners().items():
            for row in self._rows_of(number, table) if name == table else ():
                if isinstance(row.values[0], int):
                    return row.values[0]
        return None

    # ------------------------------------------------------------------ trees

    def _owners(self) -> dict[int, str]:
        """Return the table, or the index, that each page belongs to, if a tree leads to it."""
        owners = {1: "sqlite_schema"}
        self._descend(1, "sqlite_schema", owners)
        roots: dict[int, str] = {}
        for number in [page for page, table in owners.items() if table == "sqlite_schema"]:
            for row in self._rows_of(number, "sqlite_schema"):
                match row.values:
                    case ("table" | "index", str(name), str(), int(root), *_) if root > 1:
                        roots[root] = name
        for root, name in roots.items():
            if root not in owners:
                owners[root] = name
                self._descend(root, name, owners)
        return owners

    def _descend(self, root: int, name: str, owners: dict[int, str]) -> None:
        """Add the pages below `root`. One that another tree leads to already is left there."""
        todo = [root]
        while todo:
            number = todo.pop()
            for child in self._children(number):
                if 1 < child <= self.count and child not in owners:
                    owners[child] = name
                    todo.append(child)

    def _children(self, number: int) -> list[int]:
        page, start = self._tree_page(number)
        if page[start] not in (_TABLE_INTERIOR, _INDEX_INTERIOR):
            return []
        cells = [int.from_bytes(page[at : at + 4], "big") for at in _cells(page, start)]
        return [*cells, int.from_bytes(page[start + 8 : start + 12], "big")]

    def _tree_page(self, number: int) -> tuple[bytes, int]:
        return self.page(number), _HEADER_SIZE if number == 1 else 0

    # ------------------------------------------------------------------ rows

    def _rows_of(self, number: int, table: str) -> Iterator[Row]:
        page, start = self._tree_page(number)
        kind = page[start]
        if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
            return
        for at in _cells(page, start):
            try:
                at += 4 * (kind == _INDEX_INTERIOR)
                size, at = _varint(page, at)
                rowid = 0
                if kind == _TABLE_LEAF:
                    rowid, at = _varint(page, at)
                    rowid -= rowid >> 63 << 64  # it is signed
                payload = self._payload(page, at, size, is_table=kind == _TABLE_LEAF)
                yield Row(table, _values(payload), number, rowid)
            except (_Damaged, IndexError, struct.error, UnicodeDecodeError):
                continue

    def _payload(self, page: bytes, at: int, size: int, *, is_table: bool) -> bytes:
        """Return a row's record, of which the rest is on overflow pages."""
        usable = self._usable
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size > min(_MOST_BYTES, self.count * usable):
            raise _Damaged
        if size <= most:
            local = size
        else:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            local = local if local <= most else least
        parts = [page[at : at + local]]
        if at + local > usable:
            raise _Damaged
        left, following = size - local, 0
        if left:
            following = int.from_bytes(page[at + local : at + local + 4], "big")
        while left:
            if not 1 < following <= self.count:
                raise _Damaged
            more = self.page(following)
            part = more[4 : min(usable, 4 + left)]
            parts.append(part)
            left -= len(part)
            following = int.from_bytes(more[:4], "big")
        return b"".join(parts)

    def _orphans(self, number: int) -> Iterator[Row]:
        """Yield the rows of a page that no tree leads to."""
        kind = self.page(number)[0]
        if kind not in _KINDS:
            return
        for row in self._rows_of(number, ""):
            for table in _SHAPES[kind == _TABLE_LEAF]:
                named = Row(table, row.values, number, row.rowid)
                if is_row(named):
                    yield named
                    break


def _page_size(head: bytes) -> int:
    size = int.from_bytes(head[16:18], "big")
    size = 65536 if size == 1 else size
    is_valid = head.startswith(_MAGIC) and 512 <= size <= 65536 and not size & size - 1
    return size if is_valid else _DEFAULT_PAGE_SIZE


def _cells(page: bytes, start: int) -> list[int]:
    """Return where the cells of a page of a tree begin, as far as that is possible."""
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + (12 if page[start] in (_TABLE_INTERIOR, _INDEX_INTERIOR) else 8)
    count = min(count, (len(page) - first) // 2)
    offsets = struct.unpack_from(f">{count}H", page, first)
    return [at for at in offsets if first <= at < len(page)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer, and where it ends."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at
    return value << 8 | data[at], at + 1


def _values(payload: bytes) -> tuple[Value, ...]:
    end, at = _varint(payload, 0)
    if not at <= end <= len(payload):
        raise _Damaged
    values: list[Value] = []
    body = end
    while at < end:
        kind, at = _varint(payload, at)
        value, body = _value(payload, body, kind)
        values.append(value)
    if body != len(payload):
        raise _Damaged
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (0, 8, 9):
        return (None if kind == 0 else kind - 8), at
    if kind in (10, 11):
        raise _Damaged
    size = 8 if kind == 7 else _INTEGER_SIZES[kind] if kind < 7 else (kind - 12) // 2
    data = payload[at : at + size]
    if len(data) < size:
        raise _Damaged
    if kind == 7:
        return float(struct.unpack(">d", data)[0]), at + size
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), at + size
    return (data if kind % 2 == 0 else data.decode()), at + size


# ------------------------------------------------------------------ the shapes of rows

_NULL = type(None)
_Shape = tuple[type | tuple[type, ...], ...]
_TIME = 10**10  # ms: times are later, and ids of groups are lower

_IN_ROWID_TABLES: dict[str, _Shape] = {
    "segments": (int, int, int, bytes, bytes),
    "groups": (_NULL, str, int),
    "states": (_NULL, int, str, bytes),
}
_IN_INDEX_TABLES: dict[str, _Shape] = {
    "people": (str, str, int),
    "keys": (str, bytes, int, (int, _NULL)),
    "standings": (str, int, str),
    "cursors": (int, str, int),
    "blobs": (bytes, int, (bytes, _NULL)),
    "held": (str, bytes, int),
    "shelf": (int, int, bytes, int, str, int),
    "fetches": (int, int, str, int),
    "bans": (str, str, int, str),
}
_UNIMPORTANT = ("states", "cursors", "fetches")
"""Tables whose lost changes cost nobody a message or a name."""

_SHAPES = {True: _IN_ROWID_TABLES, False: _IN_INDEX_TABLES}
_LENGTHS = {"keys": 4, "cursors": 3, "blobs": 3, "held": 3, "shelf": 6, "fetches": 4}
"""Tables whose rows all have as many values; others have got columns later."""


def lost_rows(path: Path, damage: WalDamage) -> bool:
    """Return whether a damaged write-ahead log has changes that were acknowledged, and are lost.

    SQLite leaves out all transactions from the damage on. The last one may not have been
    acknowledged when the power failed, so it does not count. Nor do the changes that do not wait
    for the disk: in the search index, of erased texts, and of what says how far they are.
    """
    with PageReader(path, damage.frame) as left:
        known = {None, *(_identity(row) for row in left.rows())}
    with PageReader(path, damage.last) as whole:
        return any(_identity(row) not in known for row in whole.rows())


def _identity(row: Row) -> tuple[object, ...] | None:
    """Return what must not be lost of a row; None if that is nothing."""
    if row.table == "segments":
        return row.table, row.values[:3]
    if row.table == "groups":
        return row.table, row.rowid, row.values[1:3]
    return None if row.table in _UNIMPORTANT else (row.table, row.values)


def is_row(row: Row) -> bool:
    """Return whether a row has the values that a row of its table has."""
    values = row.values
    shape = _IN_ROWID_TABLES.get(row.table) or _IN_INDEX_TABLES.get(row.table)
    if shape is None or len(values) < len(shape):
        return False
    if row.table in _LENGTHS and len(values) != _LENGTHS[row.table]:
        return False
    if not all(isinstance(v, kind) for v, kind in zip(values, shape, strict=False)):
        return False
    return _is_plausible(row)


def _is_plausible(row: Row) -> bool:
    """Return whether values of the right types are in their ranges."""
    match row.table, row.values:
        case "segments", (int(group), int(last), int(first), *_):
            return group > 0 and 0 < first <= last
        case "groups", (_, str(name), int(last), *_):
            return row.rowid > 0 and bool(name) and last >= 0
        case "keys", (_, bytes(key), int(since), until):
            return len(key) == _SHA256_SIZE and (until is None or since > _TIME)
        case "standings", (_, int(group), standing, *_):
            return group > 0 and standing in ("member", "waiting")
        case "bans", (kind, *_):
            return kind in ("name", "key", "address")
        case ("blobs", (bytes(digest), *_)) | ("held", (_, bytes(digest), *_)):
            return len(digest) == _SHA256_SIZE
        case "people", (_, _, _, *rest):
            return all(isinstance(value, int | None) for value in rest)
    return True
