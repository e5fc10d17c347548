"""Message ids that an IRC client kept from before a restore of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.api.people import connected
from tests.helpers import GROUP, log_of, raw_client
from tests.irc.client import door_of
from tests.restored import found_group, restored_server, say

if TYPE_CHECKING:
    from pathlib import Path


async def test_id_of_a_lost_message_names_no_other(tmp_path: Path) -> None:
    """A reply by it is refused, and so is a request for what comes before it."""
    tags = "message-tags", "batch", "draft/chathistory"
    async with (
        restored_server(tmp_path, found_group) as scene,
        connected(scene.restored.address, tmp_path, "bob") as member,
        connected(scene.proxy.address, tmp_path, "bob") as client,
    ):
        await member.join(GROUP)
        await client.join(GROUP)
        async with door_of(client, tmp_path) as door, door.registered(*tags) as irc:
            await irc.until(" 366 bob #ops ")
            async with raw_client(scene.lost.address, "alice") as other:
                await other.post("lost")
            msgid = (await irc.message("lost")).tags["msgid"]
            await say(scene.restored, "new", 20)
            before = await log_of(scene.restored.store)
            scene.restore()
            await irc.until("NOTICE #ops :The server was restored from a backup")
            newer = await irc.message("new 19")
            await irc.send(f"@+draft/reply={msgid} PRIVMSG #ops :yes")
            assert "restored from a backup" in await irc.until(" 404 bob #ops ")
            await irc.send(f"CHATHISTORY BEFORE #ops msgid={msgid} 5")
            assert "is lost" in await irc.until("FAIL CHATHISTORY INVALID_PARAMS")
            assert await log_of(scene.restored.store) == before
            await irc.send(f"CHATHISTORY BEFORE #ops msgid={newer.tags['msgid']} 5")
            await irc.until("new 18")
