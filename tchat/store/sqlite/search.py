"""Full-text search over messages, with an FTS5 index that is updated lazily.

Posting a message does not touch the index. Before a search, the index catches up with the log, in
short transactions so that other writers need not wait; its progress is stored for each group. It
contains the words of the current texts: an edit replaces them, a deletion removes them. On a full
disk, a search finds what the index has.

A word is indexed as `group·word`, so that the words of a group are adjacent: the time of a search
in one group does not depend on other groups, and reveals nothing about them. The rowid encodes
group and seq, so results come in the order of the log. The index does not contain the texts. To
remove a message's words, its text in the log is tokenized again, and has to give the same words.
So the index is rebuilt when the tokenizer has changed, or the Unicode tables that it uses.

To tokenize a long text takes longer than to add or remove its words. So this is done in a reading
thread before the transaction, which gets the words by text (`Tokenized`): messages wait for the
writer thread, and nobody waits for that one.

Removed words must not stay on the disk. SQLite ensures that from version 3.42 on. Older versions
only mark words as removed, until the whole index is merged. With these versions, the index is
merged after a removal, in short transactions in the background (see `erasing`): 0.3 s for a hundred
thousand messages. An index in ordinary tables would not work: its B-trees would leave copies of the
rows that they move (see `log`).
"""

from __future__ import annotations

import heapq
import sqlite3
from contextlib import suppress
from functools import partial
from itertools import islice
from time import monotonic, thread_time
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from tchat.core.group.features import decode_event
from tchat.core.group.membership import Created
from tchat.core.group.messages import Edited, Posted
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, Refused
from tchat.store.base import DataDamaged, Hit, LogDamaged, StorageFull
from tchat.store.computing import compute
from tchat.store.sqlite.damage import damage_in
from tchat.store.sqlite.database import SLICE_SECONDS, QueryInterrupted, postponed_if_full
from tchat.store.sqlite.log import body_of, find_group, segments_from
from tchat.store.words import MOST_LETTERS, TABLES, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from tchat.core.group.feature import Event
    from tchat.store.sqlite.database import Database
    from tchat.store.words import Term

    Tokenized = Mapping[str, Sequence[str]]

T = TypeVar("T")

SEARCH_SECONDS = 2.0
"""How long a search may take, without the time that it waits for its turn."""

_INDEX = "CREATE VIRTUAL TABLE said USING fts5 (words, content='', columnsize=0, tokenize='ascii')"
_ERASES = sqlite3.sqlite_version_info >= (3, 42)
_MADE_WITH = f"unicode {TABLES}, {MOST_LETTERS} letters, {'erasing' if _ERASES else 'merging'}"
_SEQ_BITS = 36
_PAGES_PER_MERGE = 4
_NONE: Tokenized = MappingProxyType({})


class SearchIndex:
    """The tables `said`, `searchable` and `reworded`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self,
        groups: Collection[str],
        terms: Sequence[Term],
        skip: int,
        most: int,
        on_work: Callable[[float], None],
    ) -> list[Hit]:
        """Return messages that match all terms; see `Store.search`."""
        work, damage, doubtful = _Work(), self._database.damage, list[DataDamaged]()
        groups = [group for group in groups if group not in damage.blocked]
        try:
            outdated = await self._database.read_slowly(work.of(_outdated, groups=groups))
            with suppress(StorageFull):  # then the newest messages are not found
                doubtful += await self._index_new(outdated, work)
            query = work.of(_search, groups=groups, terms=terms, skip=skip, most=most)
            hits, lost = await self._database.read_slowly(query, SEARCH_SECONDS)
        except QueryInterrupted:
            raise Refused(
                Code.TOO_SLOW,
                f"The search took longer than {SEARCH_SECONDS:g} s and was stopped; use longer"
                " words, or search a single group.",
            ) from None
        finally:
            on_work(work.seconds)
        for one in lost:
            damage.report(one)
        for one in [*doubtful, *lost]:
            if not isinstance(one, LogDamaged):  # it is the index, so more is missing than that
                with suppress(DataDamaged):
                    await self._database.write(_rebuild_at_start)
                raise one
        return hits

    async def _index_new(self, outdated: list[tuple[str, int]], work: _Work) -> list[DataDamaged]:
        """Index the new messages of these groups; return the damage that was met.

        What is damaged in a log is left out; the other groups are searched.
        """
        doubtful: list[DataDamaged] = []
        for name, number in outdated:
            step = work.of(_index_readable, group=name, number=number)
            tokenize = work.of(_tokenize_readable, group=name, number=number)
            try:
                await self._database.write_in_slices(step, prepare=tokenize)
            except DataDamaged as damaged:
                doubtful.append(damaged)
        return doubtful

    async def needs_purge(self) -> bool:
        """Return whether the database may contain words that were removed from the index."""
        return await self._database.read(lambda connection: bool(_removals(connection)))

    async def purge(self) -> None:
        """Remove all traces of removed words from the database, except its write-ahead log.

        Words that are removed meanwhile need another purge. Raises `StorageFull`.
        """
        removals = await self._database.write(_start_merging)
        await self._database.write_in_slices(partial(_merge_some, removals=removals))

    async def tokenize(self, group: str, seqs: Collection[int]) -> Tokenized:
        """Return the words of the messages that `remove_messages` is going to remove."""

        def texts(connection: sqlite3.Connection) -> list[str]:
            number, _ = find_group(connection, group)
            upto = _progress(connection, number)[0] if number else 0
            found = (_event(connection, number, seq) for seq in seqs if number and seq <= upto)
            return [
                _current_text(connection, number, event)
                for event in found
                if number and event is not None and isinstance(event.body, Posted)
            ]

        found = await self._database.read(texts, group)
        return await compute(lambda: {text: words_of(text) for text in found}) if found else {}


class _Work:
    """The processor time in seconds that the queries of one search have taken so far.

    They run one after the other, in threads of the database. The time that they wait for other
    threads does not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, query: Callable[..., T], **arguments: object) -> Callable[..., T]:
        """Return a query that adds its time."""

        def run(connection: sqlite3.Connection, *prepared: object) -> T:
            began = thread_time()
            try:
                return query(connection, *prepared, **arguments)
            finally:
                self.seconds += thread_time() - began

        return run


def prepare_search(connection: sqlite3.Connection) -> None:
    """Create or rebuild the index if needed."""
    connection.execute("BEGIN IMMEDIATE")
    row = connection.execute("SELECT made_with, merging FROM search_state").fetchone()
    if row is None or row[0] != _MADE_WITH:
        connection.execute("DROP TABLE IF EXISTS said")
        connection.execute(_INDEX)
        connection.execute("DELETE FROM searchable")
        connection.execute("DELETE FROM reworded")
        connection.execute("DELETE FROM search_state")
        connection.execute("INSERT INTO search_state VALUES (?, 0)", (_MADE_WITH,))
        if _ERASES:
            connection.execute("INSERT INTO said (said, rank) VALUES ('secure-delete', 1)")
    connection.execute("COMMIT")


def finish_merge(connection: sqlite3.Connection) -> None:
    """Finish a merge that a crash interrupted; on a full disk, it is left to the background."""
    if not _removals(connection):
        return
    with postponed_if_full(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO said (said) VALUES ('optimize')")
        connection.execute("UPDATE search_state SET merging = 0")
        connection.execute("COMMIT")


def _index_damaged(reason: str) -> DataDamaged:
    return DataDamaged(
        reason,
        "the search index",
        "The server's search index is damaged, so it cannot search; its operator has been told. The"
        " index is made anew when the server starts again.",
    )


def _rebuild_at_start(connection: sqlite3.Connection) -> None:
    """Make the next start build the index anew: it is damaged."""
    connection.execute("UPDATE search_state SET made_with = 'damaged'")


def remove_messages(
    connection: sqlite3.Connection, number: int, seqs: Collection[int], tokenized: Tokenized = _NONE
) -> None:
    """Remove messages from the index; `needs_purge` says whether `purge` has to follow.

    Call this before the messages are erased from the log, because it needs their texts.
    """
    upto, _ = _progress(connection, number)
    found = False
    for seq in seqs:
        event = _event(connection, number, seq)
        if seq <= upto and event is not None and isinstance(event.body, Posted):
            text = _current_text(connection, number, event)
            _remove_words(connection, number, seq, _words_of(text, tokenized))
            connection.execute(
                "DELETE FROM reworded WHERE group_id = ? AND target = ?", (number, seq)
            )
            found = True
    if found and not _ERASES:
        connection.execute("UPDATE search_state SET merging = merging + 1")


# ------------------------------------------------------------------ indexing


def _outdated(connection: sqlite3.Connection, groups: Collection[str]) -> list[tuple[str, int]]:
    """Return the names and ids of the groups whose index is behind their log."""
    sql = (
        "SELECT id FROM groups LEFT JOIN searchable ON group_id = id"
        " WHERE name = ? AND last > ifnull(upto, 0)"
    )
    found: list[tuple[str, int]] = []
    for group in groups:
        try:
            found += [(group, number) for (number,) in connection.execute(sql, (group,))]
        except sqlite3.Error as error:
            if damage_in(error, group) is None:
                raise
    return found


def _progress(connection: sqlite3.Connection, number: int) -> tuple[int, int]:
    """Return a group's last event in the index, and the first one that is searched."""
    sql = "SELECT upto, floor FROM searchable WHERE group_id = ?"
    return connection.execute(sql, (number,)).fetchone() or (0, 0)


def _tokenize_readable(connection: sqlite3.Connection, group: str, number: int) -> Tokenized:
    """Return the words of some of the next texts to index: as many as one step can index.

    What cannot be read is left to the step, which fails then.
    """
    tokenized: dict[str, list[str]] = {}
    try:
        _tokenize_some(connection, number, tokenized)
    except Exception as error:
        if damage_in(error, group) is None:
            raise
    return tokenized


def _tokenize_some(
    connection: sqlite3.Connection, number: int, tokenized: dict[str, list[str]]
) -> None:
    deadline = monotonic() + SLICE_SECONDS
    upto, _ = _progress(connection, number)
    for _, body in _bodies_after(connection, number, upto):
        match decode_event(body).body:
            case Posted(text):
                tokenized[text] = words_of(text)
            case Edited(target, text):
                tokenized[text] = words_of(text)
                posted = _event(connection, number, target)
                if posted is not None:
                    former = _current_text(connection, number, posted)
                    tokenized[former] = words_of(former)
        if monotonic() > deadline:
            break


def _index_some(connection: sqlite3.Connection, tokenized: Tokenized, number: int) -> bool:
    """Index some of a group's next events; return whether no events are left."""
    deadline = monotonic() + SLICE_SECONDS
    upto, floor = _progress(connection, number)
    done = True
    for seq, body in _bodies_after(connection, number, upto):
        event = decode_event(body)
        floor = seq if isinstance(event.body, Created) else floor
        _index(connection, number, event, tokenized)
        upto = seq
        if monotonic() > deadline:
            done = False
            break
    connection.execute("INSERT OR REPLACE INTO searchable VALUES (?, ?, ?)", (number, upto, floor))
    return done


def _index_readable(
    connection: sqlite3.Connection, tokenized: Tokenized, group: str, number: int
) -> bool:
    """Do `_index_some`. Raises `LogDamaged`, or `DataDamaged` if the index is damaged."""
    try:
        return _index_some(connection, tokenized, number)
    except Exception as error:
        damaged = damage_in(error, group)
        if damaged is None:
            raise
        if isinstance(error, sqlite3.Error):
            raise _index_damaged(damaged.reason) from error
        raise damaged from error


def _bodies_after(
    connection: sqlite3.Connection, number: int, after: int
) -> Iterator[tuple[int, bytes]]:
    for segment in segments_from(connection, number, after + 1):
        page = segment.after(after)
        yield from enumerate(split_frames(page.frames), start=page.first)


def _index(connection: sqlite3.Connection, number: int, event: Event, tokenized: Tokenized) -> None:
    match event.body:
        case Posted(text):
            _add_words(connection, number, event.seq, _words_of(text, tokenized))
        case Edited(target, text):
            posted = _event(connection, number, target)
            if posted is not None and isinstance(posted.body, Posted):
                former = _current_text(connection, number, posted)
                _remove_words(connection, number, target, _words_of(former, tokenized))
                _add_words(connection, number, target, _words_of(text, tokenized))
                connection.execute(
                    "INSERT OR REPLACE INTO reworded VALUES (?, ?, ?)", (number, target, event.seq)
                )


def _words_of(text: str, tokenized: Tokenized) -> Sequence[str]:
    """Return the words of a text, which may have changed since others were tokenized."""
    words = tokenized.get(text)
    return words_of(text) if words is None else words


def _add_words(connection: sqlite3.Connection, number: int, seq: int, words: Sequence[str]) -> None:
    connection.execute(
        "INSERT INTO said (rowid, words) VALUES (?, ?)",
        (_rowid(number, seq), _tokens(number, words)),
    )


def _remove_words(
    connection: sqlite3.Connection, number: int, seq: int, words: Sequence[str]
) -> None:
    connection.execute(
        "INSERT INTO said (said, rowid, words) VALUES ('delete', ?, ?)",
        (_rowid(number, seq), _tokens(number, words)),
    )


def _removals(connection: sqlite3.Connection) -> int:
    """Return the number of removals since the index was merged as a whole."""
    (removals,) = connection.execute("SELECT merging FROM search_state").fetchone()
    return int(removals)


def _start_merging(connection: sqlite3.Connection) -> int:
    """Make the following merges include all that is in the index now; return `_removals`."""
    connection.execute("INSERT INTO said (said, rank) VALUES ('merge', ?)", (-_PAGES_PER_MERGE,))
    return _removals(connection)


def _merge_some(connection: sqlite3.Connection, removals: int) -> bool:
    """Merge some pages of the index; return whether everything from the start is merged."""
    deadline = monotonic() + SLICE_SECONDS
    while True:  # at least one step, so that the merge makes progress
        before = connection.total_changes
        connection.execute("INSERT INTO said (said, rank) VALUES ('merge', ?)", (_PAGES_PER_MERGE,))
        if connection.total_changes - before < 2:  # the statement itself counts as one
            connection.execute("UPDATE search_state SET merging = merging - ?", (removals,))
            return True
        if monotonic() > deadline:
            return False


# ------------------------------------------------------------------ verifying


class SearchCheck:
    """Compares a group's rows in the index with its log, event by event.

    Each word at each place has a hash; the sums of these hashes are compared. So the check needs
    no copy of the index, only a number for each message. It reads through a connection that may be
    read-only.
    """

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._upto, self._floor = _progress(connection, number)
        self._last = 0
        self._founded = 0
        self._sums: dict[int, int] = {}
        self._reworded: dict[int, int] = {}

    def add(self, event: Event) -> None:
        """Add the next event of the log."""
        self._last = event.seq
        if event.seq > self._upto:
            return
        match event.body:
            case Created():
                self._founded = event.seq
            case Posted(text):
                self._sums[event.seq] = self._sum(event.seq, text)
            case Edited(target, text) if target in self._sums:
                self._sums[target] = self._sum(target, text)
                self._reworded[target] = event.seq

    def faults(self, erase_to: int) -> Iterator[str]:
        """Yield a sentence for each fault; events up to `erase_to` may be erased already."""
        if self._upto > self._last:
            yield f"The search index goes up to event {self._upto}, beyond the log."
        # The event that founded the group may have been erased since it was indexed.
        if self._floor != self._founded and (self._founded or self._floor > erase_to):
            yield f"A search begins at event {self._floor} instead of {self._founded}."
        sql = "SELECT target, seq FROM reworded WHERE group_id = ?"
        if dict(self._connection.execute(sql, (self._number,)).fetchall()) != self._reworded:
            yield "The search index has other edits than the log."
        if not self._has_words():
            yield "The search index has other words than the log."

    def _has_words(self) -> bool:
        """Return whether the index has exactly the words of the messages that were added."""
        self._connection.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS temp.words USING fts5vocab (main, said, instance)"
        )
        rows = self._connection.execute(
            "SELECT term, doc, offset FROM temp.words WHERE term >= ? AND term < ?",
            (f"{self._number}·", f"{self._number}{chr(ord('·') + 1)}"),
        )
        return sum(map(hash, rows)) == sum(self._sums.values())

    def _sum(self, seq: int, text: str) -> int:
        rowid = _rowid(self._number, seq)
        return sum(
            hash((f"{self._number}·{word}", rowid, place))
            for place, word in enumerate(words_of(text))
        )


# ------------------------------------------------------------------ searching


def _search(
    connection: sqlite3.Connection,
    groups: Collection[str],
    terms: Sequence[Term],
    skip: int,
    most: int,
) -> tuple[list[Hit], list[DataDamaged]]:
    """Return the hits, and the damage that left out some of them."""
    lost: list[DataDamaged] = []
    if not terms:
        return [], lost
    found = [_readable_hits(connection, group, terms, skip + most, lost) for group in groups]
    newest_first = heapq.merge(*found, key=lambda hit: hit.at, reverse=True)
    return list(islice(newest_first, skip, skip + most)), lost


def _readable_hits(
    connection: sqlite3.Connection,
    group: str,
    terms: Sequence[Term],
    most: int,
    lost: list[DataDamaged],
) -> Iterator[Hit]:
    """Yield the hits of a group; leave out what is damaged, and note it in `lost`."""
    try:
        row = connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
        rows = () if row is None else _matches(connection, row[0], terms, most)
    except sqlite3.Error as error:
        if (damaged := damage_in(error, group)) is None:
            raise
        lost.append(_index_damaged(damaged.reason))
        return
    for seq in rows:
        try:
            hit = _hit(connection, row[0], seq)
        except Exception as error:
            if (damaged := damage_in(error, group)) is None:
                raise
            lost.append(damaged)
        else:
            if hit is not None:
                yield hit


def _matches(
    connection: sqlite3.Connection, number: int, terms: Sequence[Term], most: int
) -> list[int]:
    """Return the seqs of the messages of a group that match all terms, the newest first."""
    _, floor = _progress(connection, number)
    phrases = " AND ".join(
        f'"{_tokens(number, term.words)}"{" *" if term.open else ""}' for term in terms
    )
    # All at once: an open cursor of a group would keep an interrupt in force (see `database`).
    rows = connection.execute(
        "SELECT rowid FROM said WHERE said MATCH ? AND rowid >= ? ORDER BY rowid DESC LIMIT ?",
        (phrases, _rowid(number, floor), most),
    ).fetchall()
    return [rowid - _rowid(number, 0) for (rowid,) in rows]


def _hit(connection: sqlite3.Connection, number: int, seq: int) -> Hit | None:
    event = _event(connection, number, seq)
    if event is None:
        return None
    text = _current_text(connection, number, event)
    return Hit(event.group, event.seq, event.at, event.actor, text)


def _current_text(connection: sqlite3.Connection, number: int, posted: Event) -> str:
    """Return the text of a message as of the last event in the index."""
    row = connection.execute(
        "SELECT seq FROM reworded WHERE group_id = ? AND target = ?", (number, posted.seq)
    ).fetchone()
    event = _event(connection, number, row[0]) if row else posted
    return event.body.text if event and isinstance(event.body, Posted | Edited) else ""


def _event(connection: sqlite3.Connection, number: int, seq: int) -> Event | None:
    body = body_of(connection, number, seq)
    return None if body is None else decode_event(body)


def _tokens(number: int, words: Sequence[str]) -> str:
    return " ".join(f"{number}·{word}" for word in words)


def _rowid(number: int, seq: int) -> int:
    return (number << _SEQ_BITS) + seq
