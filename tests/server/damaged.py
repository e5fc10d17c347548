"""A data directory of several groups, and what a member still gets of it once it is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import decode_event
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post, Posted
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Failed,
    GroupsRequest,
    HistoryPage,
    HistoryRequest,
    Ok,
    Search,
    SearchResults,
    SubscriptionEnded,
)
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, StartupError
from tchat.store.open import open_store
from tests.helpers import GUARD, RawClient, raw_client, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.schema import Frame

GROUPS = ("den", "lab", "ops", "tea")
POSTS = 60
PAGE_SIZE = 4096
Request = GroupsRequest | Attach | Post | HistoryRequest | Search
_DATABASE = "tchat.db"


def text_of(group: str, number: int) -> str:
    """Return the text of a message."""
    return f"{group} {number} " + "wide words " * 20


async def make_groups(data: Path) -> None:
    """Fill a data directory with groups of alice, one after the other, and with free pages."""
    async with (
        open_store(data) as store,
        running_server(store, data=data) as server,
        raw_client(server.address, "alice") as alice,
    ):
        for group in GROUPS:
            await alice.command(Join, group=group)
            for number in range(POSTS):
                await alice.post(text_of(group, number), group)
    with closing(sqlite3.connect(data / _DATABASE)) as connection:
        connection.execute("CREATE TABLE filler (x)")
        connection.executemany("INSERT INTO filler VALUES (?)", [(bytes(3000),)] * 8)
        connection.commit()
        connection.execute("DROP TABLE filler")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@dataclass(slots=True)
class Served:
    """What a member got: the texts and refusals by group, and the sentence of a refused start."""

    refused_start: str | None = None
    texts: dict[str, list[str]] = field(default_factory=dict)
    posted: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def whole(self) -> set[str]:
        """The groups in which everything works."""
        return {
            group
            for group in self.posted
            if self.texts.get(group) == [text_of(group, number) for number in range(POSTS)]
            and not any(where == group for where, _ in self.refusals)
        }

    def check(self) -> None:
        """Check that nothing is wrong, only missing."""
        for group, texts in self.texts.items():
            right = [text_of(group, number) for number in range(POSTS)]
            assert texts == right[: len(texts)], group
        assert all(code == Code.LOG_DAMAGED for _, code in self.refusals), self.refusals
        assert not any("fault" in line for line in self.log), self.log
        if self.refused_start is not None:
            assert "tchat admin verify" in self.refused_start
            assert _DATABASE in self.refused_start


async def serve(data: Path) -> Served:
    """Serve a damaged directory: attach each group, post there, read back, and search."""
    served = Served()
    try:
        async with open_store(data) as store, running_server(store, data=data) as server:
            async with raw_client(server.address, "alice") as alice:
                await _use(alice, served)
            await server.logged("alice disconnected")
            await server.end()
            served.log = server.console
    except* StartupError as group:
        served.refused_start = str(group.exceptions[0])
    return served


async def _use(alice: RawClient, served: Served) -> None:
    ids, numbers = count(1000), count(10_000)

    async def ask(group: str, frame: Request) -> Frame | None:
        answer = await _answer(alice, frame)
        if isinstance(answer, Failed):
            served.refusals.append((group, answer.code))
            return None
        return answer

    await ask("", GroupsRequest(next(ids)))
    for group in GROUPS:
        answer = await ask(group, Attach(next(ids), group, 0))
        if isinstance(answer, Attached) and answer.standing == "member":
            served.texts[group] = await _catch_up(alice, group, answer.seq, served)
        post = Post(next(ids), next(numbers), group, "still here")
        if isinstance(await ask(group, post), Ok):
            served.posted.add(group)
        page = await ask(group, HistoryRequest(next(ids), group, POSTS))
        if isinstance(page, HistoryPage):
            for body in split_frames(page.frames):
                event = decode_event(body)
                if isinstance(event.body, Posted):
                    assert event.body.text == text_of(group, event.seq - 2)
        found = await ask("search", Search(next(ids), f"{group} 7", group))
        if isinstance(found, SearchResults) and found.hits:
            served.found.add(group)


async def _answer(client: RawClient, frame: Request) -> Frame:
    await client.send(frame)
    with trio.fail_after(GUARD):
        while True:
            answer = await client.receive()
            assert answer is not None, f"the connection ended after {frame}"
            if getattr(answer, "re", None) == frame.id:
                return answer


async def _catch_up(client: RawClient, group: str, last: int, served: Served) -> list[str]:
    texts: list[str] = []
    seq = 0
    while seq < last:
        frame = await client.receive()
        assert frame is not None, "the connection ended"
        if isinstance(frame, SubscriptionEnded):
            served.refusals.append((group, frame.code))
            break
        if isinstance(frame, Event) and frame.group == group:
            seq = frame.seq
            if isinstance(frame.body, Posted):
                texts.append(frame.body.text)
    return texts
