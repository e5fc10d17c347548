"""After a restore, each client has exactly what the server has, and is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.updates import LogReplaced
from tchat.core.group.direct import direct_name
from tchat.core.group.membership import Join, Leave
from tchat.core.protocol.frames import Attach, Attached
from tests.helpers import GROUP, GUARD, log_of, raw_client, session_at, until
from tests.restored import found_group, restored_server, say

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers import RawClient


@pytest.mark.parametrize("recent", [None, 5])
@pytest.mark.parametrize("others", [0, 4, 30])
@pytest.mark.parametrize("renewed", [True, False])
async def test_client_gets_the_restored_log(
    tmp_path: Path, renewed: bool, others: int, recent: int | None
) -> None:
    """11 of 25 messages are lost; the restored log is shorter than the lost one, or longer."""
    async with (
        restored_server(tmp_path, found_group, renewed=renewed) as scene,
        session_at(scene.proxy.address, "bob", recent=recent) as bob,
    ):
        ops = await bob.enter(GROUP)
        await say(scene.lost, "lost", 11)
        await until(bob, lambda: any("lost 10" in str(event) for event in ops.log))
        await say(scene.restored, "new", others)
        async with raw_client(scene.restored.address, "bob") as device:
            await device.command(Join, group=GROUP)
        scene.restore()
        await scene.agrees(bob, ops)


async def test_unanswered_messages_are_sent_to_restored_server(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops = await alice.enter(GROUP)
        alice.post(ops, "acknowledged")
        await until(alice, lambda: ops.log and not ops.pending)
        await say(scene.restored, "new", 20)
        scene.restore()
        alice.post(ops, "not sent yet")
        await until(alice, lambda: ops.resets and not ops.pending)
        await scene.agrees(alice, ops)
        said = [event.body.to_map().get("text") for event in ops.log]
        assert said.count("not sent yet") == 1
        assert "acknowledged" not in said


async def test_unchanged_log_is_continued(tmp_path: Path) -> None:
    """The server has crashed, or was moved: nothing is loaded twice."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops = await alice.enter(GROUP)
        await until(alice, lambda: ops.caught_up)
        await say(scene.restored, "new", 3)
        scene.restore()
        await until(alice, lambda: ops.last == 19)
        assert (ops.resets, ops.log) == (0, await log_of(scene.restored.store))


async def test_old_read_position_is_not_sent(tmp_path: Path) -> None:
    """It would count messages as read that the person has never seen."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops = await alice.enter(GROUP)
        await say(scene.lost, "lost", 11)
        await until(alice, lambda: ops.last == 27)
        alice.mark_seen(ops, 27)
        await say(scene.restored, "new", 20)
        scene.restore()
        alice.mark_seen(ops, 27)
        await scene.agrees(alice, ops)
        assert ops.position < 27
        async with raw_client(scene.restored.address, "alice") as device:
            assert (await device.attach()).read < 27


async def test_group_missing_from_the_backup(tmp_path: Path) -> None:
    """The person founds it again; what they had of it is not mixed with the new log."""

    async def nothing(_: RawClient) -> None:
        pass

    async with (
        restored_server(tmp_path, nothing) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops = await alice.enter(GROUP)
        await say(scene.lost, "lost", 3)
        await until(alice, lambda: ops.last == 4)
        scene.restore()
        await until(alice, lambda: ops.standing == "outsider")
        await alice.enter(GROUP)
        await say(scene.restored, "new", 9)
        await scene.agrees(alice, ops)


async def test_group_founded_anew_is_no_other_log(tmp_path: Path) -> None:
    """Its seqs go on, and so does the chain."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "bob") as bob,
    ):
        ops = await bob.enter(GROUP)
        await until(bob, lambda: ops.caught_up)
        for device in (scene.lost, scene.restored):
            async with raw_client(device.address, "alice") as alice:
                await alice.command(Leave, group=GROUP)
        await bob.request(lambda i, n: Leave(i, n, GROUP))
        await until(bob, lambda: ops.standing == "outsider")
        await bob.enter(GROUP)
        await until(bob, lambda: ops.caught_up and ops.state.floor > 1)
        scene.proxy.cut()
        await until(bob, lambda: ops.attached and ops.caught_up)
        assert ops.resets == 0


async def test_conversation_gets_the_restored_log(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        for server in (scene.lost, scene.restored):
            async with session_at(server.address, "bob") as bob:
                await bob.enter(GROUP)
        talk = await alice.write_to("bob")
        alice.post(talk, "lost")
        await until(alice, lambda: talk.last == 1)
        async with session_at(scene.restored.address, "bob") as bob:
            for text in ("new 1", "new 2"):
                bob.post(await bob.write_to("alice"), text)
            await bob.wait_for_answers()
        scene.restore()
        await scene.agrees(alice, talk, direct_name("alice", "bob"))


async def test_update_comes_before_the_new_log(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group, renewed=True) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops = await alice.enter(GROUP)
        await until(alice, lambda: ops.caught_up)
        scene.restore()
        with trio.fail_after(GUARD):
            while not isinstance(update := await alice.updates.receive(), LogReplaced):
                pass
        assert update.replica is ops
        await scene.agrees(alice, ops)


# ------------------------------------------------------------------ on the wire


async def test_only_clients_of_another_log_are_told(tmp_path: Path) -> None:
    """A client of an earlier version sends neither identity nor digest, and resumes as before."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        raw_client(scene.lost.address, "alice") as alice,
    ):
        begin = await alice.attach()
        assert begin.log is not None
        resumed = await alice.attach(after=7)
        assert (resumed.log, resumed.first, resumed.diverged) == (begin.log, 8, None)

        async def answer(after: int, log: bytes | None, digest: bytes | None) -> bool | None:
            attach = await alice.ask(lambda i: Attach(i, GROUP, after, log=log, digest=digest))
            assert isinstance(attach, Attached)
            return attach.diverged

        assert not await answer(7, begin.log, resumed.digest)
        assert not await answer(7, begin.log, None)
        assert await answer(7, bytes(16), resumed.digest)
        assert await answer(7, begin.log, begin.digest)
        assert await answer(17, begin.log, resumed.digest)
        assert await answer(17, begin.log, None)
