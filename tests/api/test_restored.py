"""What a program is told, and hears, once the server was restored from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tests.api.people import connected, texts
from tests.helpers import GROUP, GUARD, log_of
from tests.restored import found_group, restored_server, say

if TYPE_CHECKING:
    from pathlib import Path

    from tests.restored import Restored


async def restore(scene: Restored, client: tchat.Client) -> None:
    """Restore the server, and wait until a client has noticed."""
    async with client.notices() as notices:
        scene.restore()
        with trio.fail_after(GUARD):
            while not isinstance(await notices.receive(), tchat.LogReplaced):
                pass


async def test_program_is_told_of_the_restore(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        connected(scene.restored.address, tmp_path, "bob") as member,
        connected(scene.proxy.address, tmp_path, "bob") as bob,
        bob.notices() as notices,
    ):
        await member.join(GROUP)
        ops = await bob.join(GROUP)
        await say(scene.lost, "lost", 3)
        scene.restore()
        with trio.fail_after(GUARD):
            while not isinstance(notice := await notices.receive(), tchat.LogReplaced):
                pass
        assert notice.group is ops


@pytest.mark.parametrize("new", [2, 20])
async def test_stream_goes_on_in_the_restored_log(tmp_path: Path, new: int) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        connected(scene.restored.address, tmp_path, "bob") as member,
        connected(scene.proxy.address, tmp_path, "bob") as bob,
    ):
        await member.join(GROUP)
        ops = await bob.join(GROUP)
        async with bob.events(ops, since="now", own=True) as events:
            await say(scene.lost, "lost", 11)
            assert await texts(events, 11) == [f"lost {number}" for number in range(11)]
            await say(scene.restored, "new", new)
            scene.restore()
            assert await texts(events, new) == [f"new {number}" for number in range(new)]


async def test_lost_message_is_not_taken_for_another(tmp_path: Path) -> None:
    """A program answers, edits, deletes and acknowledges what the server has lost."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        connected(scene.restored.address, tmp_path, "bob") as member,
        connected(scene.proxy.address, tmp_path, "bob") as bob,
    ):
        there, ops = await member.join(GROUP), await bob.join(GROUP)
        lost = await ops.say("lost", key="once")
        for number in range(3):
            await there.say(f"new {number}")
        before = await log_of(scene.restored.store)
        await restore(scene, bob)
        for attempt in (lost.edit("changed"), lost.delete(), lost.reply("yes")):
            with pytest.raises(tchat.Refused) as refusal:
                await attempt
            assert refusal.value.code == "log_replaced"
        lost_position = ops.seen
        ops.mark_read(lost)
        assert ops.seen == lost_position
        assert await log_of(scene.restored.store) == before


async def test_key_of_a_lost_message_finds_no_other(tmp_path: Path) -> None:
    """Not even one of the same user, with the same seq and the same text."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        connected(scene.restored.address, tmp_path, "bob") as member,
        connected(scene.proxy.address, tmp_path, "bob") as bob,
    ):
        there, ops = await member.join(GROUP), await bob.join(GROUP)
        lost = await ops.say("done", key="once")
        assert (await ops.say("done", key="once")).seq == lost.seq
        other = await there.say("done")
        assert other.seq == lost.seq
        await restore(scene, bob)
        again = await ops.say("done", key="once")
        assert (again.seq, again.stamp) == (0, b"")
