"""Groups that look like other groups: no store lets one be founded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.direct import direct_name
from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.membership import Created, Left
from tchat.core.text import fold
from tchat.store.base import GroupLookalike, SideEffects, Store
from tchat.store.open import open_store
from tests.store.batches import last_seq, packed, read_all
from tests.store.older import remove_tables_since

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.group.feature import Body

CYRILLIC = "g\u0435neral"


def event(name: str, seq: int, body: Body) -> Event:
    return Event(name, seq, seq, "alice", bytes(8), seq, body)


async def found(store: Store, name: str) -> None:
    """Found a group, as its actor does."""
    last = await last_seq(store, fold(name))
    effects = SideEffects({"alice": "member"}, display_name=name)
    await store.append(fold(name), last, 1, encode_event(event(name, last + 1, Created())), effects)


async def close(store: Store, name: str) -> None:
    last = await last_seq(store, fold(name))
    effects = SideEffects({"alice": "outsider"}, closed_after=last)
    await store.append(fold(name), last, 1, encode_event(event(name, last + 1, Left())), effects)


@pytest.mark.parametrize("name", [CYRILLIC, "genera1", "generaI"])
async def test_group_like_another_cannot_be_founded(store: Store, name: str) -> None:
    await found(store, "General")
    with pytest.raises(GroupLookalike) as refused:
        await found(store, name)
    assert name in refused.value.sentence
    assert "General" not in refused.value.sentence
    assert await read_all(store, fold(name)) == []
    await found(store, "generals")


async def test_closed_group_frees_its_look(store: Store) -> None:
    await found(store, "general")
    await close(store, "general")
    await found(store, CYRILLIC)
    with pytest.raises(GroupLookalike):
        await found(store, "general")
    await close(store, CYRILLIC)
    await found(store, "GENERAL")


async def test_looks_hinder_nothing_but_founding(store: Store) -> None:
    await found(store, "general")
    await store.append(CYRILLIC, 0, 1, packed(b"one"))
    await store.append("general", 1, 1, packed(b"two"), SideEffects({"bob": "member"}))
    with pytest.raises(GroupLookalike):
        await store.append(CYRILLIC, 1, 1, packed(b"two"), SideEffects(display_name=CYRILLIC))
    assert await read_all(store, CYRILLIC) == [b"one"]


async def test_looks_of_groups_are_durable(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await found(store, "general")
    async with open_store(tmp_path) as store:
        with pytest.raises(GroupLookalike):
            await found(store, CYRILLIC)


async def test_groups_of_earlier_versions_are_compared(tmp_path: Path) -> None:
    """Those that look alike stay; closed groups and conversations look like nothing."""
    conversation = direct_name("alice", "bob")
    async with open_store(tmp_path) as store:
        await found(store, "general")
        await found(store, "closed")
        await close(store, "closed")
        both = SideEffects({"alice": "member", "bob": "member"})
        await store.append(conversation, 0, 1, packed(b"hello"), both)
        await store.append(CYRILLIC, 0, 1, packed(b"created"), SideEffects({"bob": "member"}))
    with closing(sqlite3.connect(tmp_path / "tchat.db", isolation_level=None)) as connection:
        connection.execute("UPDATE groups SET shown = name")
        remove_tables_since(connection, "group_appearances")
    async with open_store(tmp_path) as store:
        for name in ("genera1", "g\u0435nera1"):
            with pytest.raises(GroupLookalike):
                await found(store, name)
        await found(store, "c1osed")
        await store.append(CYRILLIC, 1, 1, packed(b"posted"))
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        sql = "SELECT name FROM groups WHERE id IN (SELECT group_id FROM group_appearances)"
        assert {name for (name,) in connection.execute(sql)} == {"general", CYRILLIC, "c1osed"}
