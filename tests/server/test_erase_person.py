"""`tchat admin erase`: no text of the person is left in the data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tchat.core.group.messages import Posted
from tchat.errors import Code, Refused
from tchat.server.control import perform
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.words import terms_of
from tchat.testing import open_server
from tests.helpers import log_of, texts
from tests.server.operated import MESSAGES, make_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await trio.to_thread.run_sync(make_data, tmp_path)
    return tmp_path / "server"


def grep(data: Path, text: str) -> list[Path]:
    """Return the files whose name or content has a text."""
    files = [path for path in data.rglob("*") if path.is_file()]
    return [path for path in files if text in path.name or text.encode() in path.read_bytes()]


async def test_nothing_of_the_person_is_left(data: Path) -> None:
    assert grep(data, "4711"), "the test can see what it is about"
    report = await perform(data, "erase", name="BOB")
    assert report == {"name": "bob", "groups": 3, "messages": 2, "files": 1}
    assert grep(data, "4711") == []


async def test_others_keep_what_they_wrote(data: Path) -> None:
    await perform(data, "erase", name="bob")
    assert verify_server(data).faults == []
    async with open_store(data) as store:
        said = [event for event in await log_of(store) if isinstance(event.body, Posted)]
        assert len(said) == MESSAGES
        assert {event.actor for event in said} == {"alice"}
        assert len(await store.search(["ops"], terms_of("hello"), 0, 1000)) == MESSAGES
        assert texts(await log_of(store, "@alice,bob")) == ["a direct word of alice"]
        assert await store.groups_of("bob") == {"@alice,bob": "member"}
        assert (await store.groups_of("alice"))["bobs"] == "member"


async def test_members_see_the_messages_disappear(tmp_path: Path, data: Path) -> None:
    """On a running server, whose groups go on."""
    async with open_server(tmp_path) as server, server.connect("alice") as alice:
        ops = await alice.open("ops")
        async with server.connect("bob") as bob:
            await (await bob.open("ops")).say("4711 once more")
        async with alice.events(ops) as events:
            await perform(data, "erase", name="bob")
            deleted = 0
            async for event in events:
                deleted += isinstance(event, tchat.Deleted)
                if isinstance(event, tchat.Left) and event.name == "bob":
                    break
            assert deleted >= 3
        assert [member.casefold() for member in ops.members] == ["alice"]
        await ops.say("life goes on")
        assert grep(data, "4711") == []
    assert verify_server(data).faults == []


async def test_the_person_is_disconnected(tmp_path: Path, data: Path) -> None:
    async with open_server(tmp_path) as server:

        async def stay() -> None:
            async with server.connect("bob"):
                await perform(data, "erase", name="bob")
                await trio.sleep_forever()

        with pytest.raises(tchat.Refused, match="has erased this name"):
            await stay()


async def test_the_name_is_free_afterwards(tmp_path: Path, data: Path) -> None:
    await perform(data, "erase", name="bob")
    async with (
        open_server(tmp_path) as server,
        tchat.connect(server.address, user="bob", home=tmp_path / "other", pin=server.pin) as bob,
    ):
        assert bob.user == "bob"
        with pytest.raises(tchat.Refused):
            await bob.open("ops")


async def test_an_unknown_person_is_refused(data: Path) -> None:
    with pytest.raises(Refused) as caught:
        await perform(data, "erase", name="nobody")
    assert caught.value.code == Code.NO_SUCH_NAME
