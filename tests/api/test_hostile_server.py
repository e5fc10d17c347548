"""Hostile server: a bot gets a refusal, or goes on; it does not end with another error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tchat.core.protocol.frames import Attached
from tchat.errors import Code, Refused
from tests.client.impostor import Wire, event, impostor, snapshot
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from pathlib import Path


async def test_group_beyond_the_bounds_is_refused(tmp_path: Path) -> None:
    """The bot does not wait for it for ever, and other groups go on."""

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        await wire.say(Attached(request["id"], GROUP, "member", seq=9, first=10).to_map())
        await wire.say(snapshot(9)[0] | {"data": b"\xa0"})
        request = await wire.hear_only("attach")
        await wire.say(Attached(request["id"], "lab", "member", seq=9, first=10).to_map())
        await wire.say(*snapshot(9, group="lab"), event(10, "lab"))
        await wire.hear()

    async with impostor(act) as server:
        address = str(server.address)
        with trio.fail_after(GUARD):
            async with tchat.connect(address, user="alice", home=tmp_path, tls=False) as client:
                with pytest.raises(Refused, match="ops cannot be shown") as caught:
                    await client.open(GROUP)
                lab = await client.open("lab")
                assert lab.members == ["alice"]
                assert client.groups == [lab]
    assert caught.value.code == Code.MALFORMED


async def test_flood_of_new_conversations_is_asked_about_once(tmp_path: Path) -> None:
    """Each notice started a request for the list of groups, and a task that waited for it."""
    asked = 0

    async def act(wire: Wire) -> None:
        nonlocal asked
        await wire.greet()
        for _ in range(3):
            request = await wire.hear_only("groups_request")
            asked += 1
            notice = {"type": "activity", "group": "@alice,bob", "seq": 1, "by": "bob"}
            await wire.say(*[notice] * (500 if asked < 3 else 0))
            await trio.sleep(0.05)
            await wire.say({"type": "group_list", "re": request["id"], "groups": []})
        with trio.move_on_after(0.2):
            await wire.hear_only("groups_request")
            asked += 1
        done.set()

    done = trio.Event()
    async with impostor(act) as server:
        with trio.fail_after(GUARD):
            address = str(server.address)
            async with (
                tchat.connect(address, user="alice", home=tmp_path, tls=False) as client,
                client.events(),
            ):
                await done.wait()
    assert asked == 3
