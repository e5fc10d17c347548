"""What finds messages by their words: a full-text index of SQLite (FTS5).

To post costs nothing here. The index is brought up to date from the log when somebody searches, in
short pieces between which others write, up to a mark that each group has. It holds what messages
say now: an edit takes the words of before out, a deletion all of them.

A word stands in it as `group·word`, so that the words of a group lie together: to search one group
costs the same however much is said in others, and nothing of them shows. Its `rowid` says group
and seq, so that what is found comes in the order of the log. The texts are not in it (they are in
the log), so to take words out takes the same words that were put in: hence it is begun anew when
Unicode's tables, by which texts are taken apart, are not those of before.

Words that were taken out must not stay on the disk. SQLite can see to that from version 3.42 on;
before, the index only notes that they do not count, and they go when all of it is merged, which is
done at once, in short pieces again: 0.1 s for a hundred thousand messages. An index in tables of
one's own would leave copies of the rows that its B-trees move (see `segments`).
"""

from __future__ import annotations

import heapq
import sqlite3
from contextlib import contextmanager
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

import trio

from tchat.core.group.events import Created, Edited, Event, Posted, decode_event
from tchat.core.protocol.framing import split_frames
from tchat.store.base import Hit
from tchat.store.sqlite.log import body_of, segments_from
from tchat.store.words import TABLES, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tchat.store.sqlite.database import Database
    from tchat.store.words import Term

    Piece = Callable[[sqlite3.Connection], bool]

PIECE_SECONDS = 0.005
"""For how long the index may keep the writing thread from what people say."""

_INDEX = "CREATE VIRTUAL TABLE said USING fts5 (words, content='', columnsize=0, tokenize='ascii')"
_ERASES = sqlite3.sqlite_version_info >= (3, 42)
_MADE_WITH = f"unicode {TABLES}, {'erasing' if _ERASES else 'merging'}"
_SEQ_BITS = 36
_PAGES_AT_ONCE = 16


class SearchIndex:
    """The tables `said`, `searchable` and `reworded`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = trio.Lock()

    async def search(
        self, groups: Collection[str], terms: Sequence[Term], skip: int, most: int
    ) -> list[Hit]:
        """Return messages that have all the terms; see `Store.search`."""
        behind = await self._database.read(lambda connection: _behind(connection, groups))
        for number in behind:
            await self._in_pieces(partial(_index_some, number=number))
        return await self._database.read_at_leisure(
            lambda connection: _search(connection, groups, terms, skip, most)
        )

    async def purge(self) -> None:
        """Leave nothing on the disk of words that were taken out."""
        await self._in_pieces(_start_merging)
        await self._in_pieces(_merge_some)

    async def _in_pieces(self, piece: Piece) -> None:
        """Do something that says whether it is done, as often as it takes."""
        done = False
        while not done:
            async with self._turn:  # those who search take turns, and the others with all of them
                done = await self._database.write(piece)


def prepare_search(connection: sqlite3.Connection) -> None:
    """Make the index fit for this program, and end what a crash may have left undone."""
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
    elif row[1]:
        connection.execute("INSERT INTO said (said) VALUES ('optimize')")
        connection.execute("UPDATE search_state SET merging = 0")
    connection.execute("COMMIT")


def forget_messages(connection: sqlite3.Connection, number: int, seqs: Collection[int]) -> bool:
    """Take messages out that are still in the log; return whether `purge` has to follow."""
    upto, _ = _progress(connection, number)
    found = False
    for seq in seqs:
        event = _event(connection, number, seq)
        if seq <= upto and event is not None and isinstance(event.body, Posted):
            _take_out(connection, number, seq, _text_now(connection, number, event))
            connection.execute(
                "DELETE FROM reworded WHERE group_id = ? AND target = ?", (number, seq)
            )
            found = True
    if found and not _ERASES:
        connection.execute("UPDATE search_state SET merging = 1")
    return found and not _ERASES


# ------------------------------------------------------------------ putting in and taking out


def _behind(connection: sqlite3.Connection, groups: Collection[str]) -> list[int]:
    """Return the ids of those groups of which not all is in the index yet."""
    sql = (
        "SELECT id FROM groups LEFT JOIN searchable ON group_id = id"
        " WHERE name = ? AND last > ifnull(upto, 0)"
    )
    return [number for group in groups for (number,) in connection.execute(sql, (group,))]


def _progress(connection: sqlite3.Connection, number: int) -> tuple[int, int]:
    """Return up to which event a group is in the index, and from which on it is searched."""
    sql = "SELECT upto, floor FROM searchable WHERE group_id = ?"
    return connection.execute(sql, (number,)).fetchone() or (0, 0)


def _index_some(connection: sqlite3.Connection, number: int) -> bool:
    """Take in a group's next events; return whether these were all."""
    deadline = monotonic() + PIECE_SECONDS
    upto, floor = _progress(connection, number)
    done = True
    for seq, body in _bodies_behind(connection, number, upto):
        event = decode_event(body)
        floor = seq if isinstance(event.body, Created) else floor
        _index(connection, number, event)
        upto = seq
        if monotonic() > deadline:
            done = False
            break
    connection.execute("INSERT OR REPLACE INTO searchable VALUES (?, ?, ?)", (number, upto, floor))
    return done


def _bodies_behind(
    connection: sqlite3.Connection, number: int, after: int
) -> Iterator[tuple[int, bytes]]:
    for segment in segments_from(connection, number, after + 1):
        page = segment.after(after)
        yield from enumerate(split_frames(page.frames), start=page.first)


def _index(connection: sqlite3.Connection, number: int, event: Event) -> None:
    match event.body:
        case Posted(text):
            _put_in(connection, number, event.seq, text)
        case Edited(target, text):
            posted = _event(connection, number, target)
            if posted is not None and isinstance(posted.body, Posted):
                _take_out(connection, number, target, _text_now(connection, number, posted))
                _put_in(connection, number, target, text)
                connection.execute(
                    "INSERT OR REPLACE INTO reworded VALUES (?, ?, ?)", (number, target, event.seq)
                )


def _put_in(connection: sqlite3.Connection, number: int, seq: int, text: str) -> None:
    connection.execute(
        "INSERT INTO said (rowid, words) VALUES (?, ?)",
        (_rowid(number, seq), _of_group(number, words_of(text))),
    )


def _take_out(connection: sqlite3.Connection, number: int, seq: int, text: str) -> None:
    connection.execute(
        "INSERT INTO said (said, rowid, words) VALUES ('delete', ?, ?)",
        (_rowid(number, seq), _of_group(number, words_of(text))),
    )


def _start_merging(connection: sqlite3.Connection) -> bool:
    connection.execute("INSERT INTO said (said, rank) VALUES ('merge', ?)", (-_PAGES_AT_ONCE,))
    return True


def _merge_some(connection: sqlite3.Connection) -> bool:
    """Merge some pages; return whether nothing was left to merge."""
    deadline = monotonic() + PIECE_SECONDS
    while True:  # something is done, however late it is already
        before = connection.total_changes
        connection.execute("INSERT INTO said (said, rank) VALUES ('merge', ?)", (_PAGES_AT_ONCE,))
        if connection.total_changes - before < 2:  # the statement itself counts as one
            connection.execute("UPDATE search_state SET merging = 0")
            return True
        if monotonic() > deadline:
            return False


# ------------------------------------------------------------------ finding


def _search(
    connection: sqlite3.Connection,
    groups: Collection[str],
    terms: Sequence[Term],
    skip: int,
    most: int,
) -> list[Hit]:
    if not terms:
        return []
    with _at_one_moment(connection):
        found = [
            _hits(connection, number, terms, skip + most)
            for group in groups
            for (number,) in connection.execute("SELECT id FROM groups WHERE name = ?", (group,))
        ]
        newest_first = heapq.merge(*found, key=lambda hit: hit.at, reverse=True)
        return list(islice(newest_first, skip, skip + most))


@contextmanager
def _at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """See one state of the file for the length of the block, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _hits(
    connection: sqlite3.Connection, number: int, terms: Sequence[Term], most: int
) -> Iterator[Hit]:
    """Give the messages of a group that have all the terms, the newest first."""
    _, floor = _progress(connection, number)
    phrases = " AND ".join(
        f'"{_of_group(number, term.words)}"{" *" if term.open else ""}' for term in terms
    )
    rows = connection.execute(
        "SELECT rowid FROM said WHERE said MATCH ? AND rowid >= ? ORDER BY rowid DESC LIMIT ?",
        (phrases, _rowid(number, floor), most),
    )
    for (rowid,) in rows:
        event = _event(connection, number, rowid - _rowid(number, 0))
        if event is not None:
            text = _text_now(connection, number, event)
            yield Hit(event.group, event.seq, event.at, event.actor, text)


def _text_now(connection: sqlite3.Connection, number: int, posted: Event) -> str:
    """Return what a message says as far as the index knows."""
    row = connection.execute(
        "SELECT seq FROM reworded WHERE group_id = ? AND target = ?", (number, posted.seq)
    ).fetchone()
    event = _event(connection, number, row[0]) if row else posted
    return event.body.text if event and isinstance(event.body, Posted | Edited) else ""


def _event(connection: sqlite3.Connection, number: int, seq: int) -> Event | None:
    body = body_of(connection, number, seq)
    return None if body is None else decode_event(body)


def _of_group(number: int, words: Sequence[str]) -> str:
    return " ".join(f"{number}·{word}" for word in words)


def _rowid(number: int, seq: int) -> int:
    return (number << _SEQ_BITS) + seq
