"""`tchat admin export`: everything that is stored about a person, or nothing at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tchat.core.fingerprints import fingerprint
from tchat.core.group.features import EVENTS
from tchat.core.group.files import FileShared
from tchat.core.group.membership import Ban
from tchat.errors import Code, StorageError
from tchat.server.control import perform
from tchat.server.operations.reports import export
from tchat.store.open import open_store
from tests.helpers import GROUP, identity_of, members, running_server
from tests.server.file_transfers import DATA, download, share, upload

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.group.feature import Body


async def test_an_export_has_all_tables(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        await download(server, bob, 1, DATA)
        await upload(server, bob, DATA[1:])
        await alice.command(Ban, "bob")
        await store.accounts.take_over("bob", identity_of("bob", "new").public, 1)
        await perform(tmp_path, "ban", kind="name", value="Bob", reason="spam")
        await perform(tmp_path, "ban", kind="name", value="carol")
        await store.set_cursors(GROUP, {"bob": 2})
    account, *events = export(tmp_path, "BOB")
    keys = {key["fingerprint"]: key["until"] for key in account["keys"]}
    assert len(keys) == 2
    assert keys[fingerprint(identity_of("bob").public)] is not None
    assert [(ban["value"], ban["reason"]) for ban in account["bans"]] == [("bob", "spam")]
    assert (account["groups"], account["read"]) == ({}, {GROUP: 2})
    assert [(one["group"], one["number"]) for one in account["downloads"]] == [(GROUP, 1)]
    assert len(account["uploads"]) == 1
    assert [(one["kind"], one["actor"]) for one in events][-1] == ("banned", "alice")


async def test_a_damaged_log_is_not_half_exported(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        for number in range(5):
            await alice.post(f"text {number}")
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection, connection:
        connection.execute("UPDATE segments SET frames = x'00' WHERE first = 4")
    with pytest.raises(StorageError) as caught:
        next(export(tmp_path, "alice"))
    assert caught.value.code == Code.FILE_DAMAGED
    assert "Events 4 to 4" in caught.value.sentence


@pytest.mark.parametrize("body", EVENTS, ids=lambda body: body.kind)
def test_events_say_which_fields_are_people(body: type[Body]) -> None:
    """A field of a person's name is called so, except for the name of a file."""
    expected = set() if body is FileShared else {"name", "by"} & set(body.__annotations__)
    assert set(body.names) == expected
