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
