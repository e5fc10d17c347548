"""Commands that were written before a restore never reach other messages after it.

In the restored log, each seq that was lost is that of another message of the same person, so only
the stamp tells the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.client_id import ClientId
from tchat.client.server_directory import WITHOUT_TLS
from tchat.core.group.log_digest import stamp_of
from tchat.core.group.messages import Delete, Edit, Erased, Pin, Post, Posted
from tchat.errors import Code, Refused
from tests.helpers import GROUP, log_of, raw_client, session_at, until
from tests.restored import found_group, restored_server, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Command, Event
    from tests.restored import Restored

COMMANDS: dict[str, Callable[[int, int, Event], Command]] = {
    "edit": lambda i, n, of: Edit(i, n, GROUP, of.seq, "changed", stamp=stamp_of(of)),
    "delete": lambda i, n, of: Delete(i, n, GROUP, of.seq, stamp=stamp_of(of)),
    "pin": lambda i, n, of: Pin(i, n, GROUP, of.seq, stamp=stamp_of(of)),
    "reply": lambda i, n, of: Post(i, n, GROUP, "yes", of.seq, stamp_of(of)),
}


async def _lose(scene: Restored, session: Session, new: int) -> tuple[Replica, Event]:
    """Say 11 messages that are lost, and `new` others on the restored server; return the last."""
    ops = await session.enter(GROUP)
    await say(scene.lost, "lost", 11)
    await until(session, lambda: ops.last == 27)
    await say(scene.restored, "new", new)
    return ops, ops.log[-1]


@pytest.mark.parametrize("new", [0, 20])
@pytest.mark.parametrize("make", COMMANDS.values(), ids=COMMANDS)
async def test_unanswered_command_reaches_no_other_message(
    tmp_path: Path, make: Callable[[int, int, Event], Command], new: int
) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops, lost = await _lose(scene, alice, new)
        before = await log_of(scene.restored.store)
        scene.restore()
        request = alice.submit(lambda i, n: make(i, n, lost))
        with pytest.raises(Refused) as refusal:
            await request.wait()
        assert refusal.value.code == Code.LOG_REPLACED
        await scene.agrees(alice, ops)
        assert await log_of(scene.restored.store) == before


@pytest.mark.parametrize("make", COMMANDS.values(), ids=COMMANDS)
async def test_command_about_a_kept_message_is_done(
    tmp_path: Path, make: Callable[[int, int, Event], Command]
) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops, _ = await _lose(scene, alice, 20)
        kept = ops.log[9]
        scene.restore()
        await alice.request(lambda i, n: make(i, n, kept))


async def test_stamp_survives_the_deletion_of_the_message(tmp_path: Path) -> None:
    """A reply to a deleted message is allowed, as ever; an edit is refused for the deletion."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        raw_client(scene.lost.address, "alice") as alice,
    ):
        message = (await log_of(scene.lost.store))[9]
        await alice.command(Delete, message.seq)
        erased = (await log_of(scene.lost.store))[9]
        assert isinstance(erased.body, Erased)
        assert stamp_of(erased) == stamp_of(message)
        await alice.command(Post, "yes", message.seq, stamp_of(message))
        refusal = await alice.refusal(Edit, message.seq, "changed")
        assert refusal.code == Code.NO_SUCH_MESSAGE


async def test_lost_reply_is_sent_as_a_message(tmp_path: Path) -> None:
    """It was typed without a connection, and the client was killed before the restore."""
    client_id = ClientId()
    async with restored_server(tmp_path, found_group) as scene:
        async with session_at(scene.lost.address, "alice") as before:
            _, lost = await _lose(scene, before, 20)
        entry = client_id.journal.add(
            "alice",
            f"{scene.restored.address}{WITHOUT_TLS}",
            GROUP,
            "yes",
            lost.seq,
            1,
            stamp=stamp_of(lost),
        )
        async with session_at(scene.restored.address, "alice", client_id) as alice:
            ops = await alice.enter(GROUP)
            (pending,) = ops.pending
            with pytest.raises(Refused):
                await pending.wait()
            assert pending.failure is not None
            assert (pending.failure.code, entry.text) == (Code.LOG_REPLACED, "yes")
            await alice.resend(pending).wait()
        assert (await log_of(scene.restored.store))[-1].body == Posted("yes")


async def test_position_in_the_lost_log_is_not_sent(tmp_path: Path) -> None:
    """The front end has not handled the reset of the replica yet, and the log is loaded anew."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        session_at(scene.proxy.address, "alice") as alice,
    ):
        ops, _ = await _lose(scene, alice, 20)
        scene.restore()
        await until(alice, lambda: ops.resets)
        assert not ops.attached
        alice.mark_seen(ops, 27)
        await scene.agrees(alice, ops)
        await alice.my_groups()
        async with raw_client(scene.restored.address, "alice") as device:
            assert (await device.attach()).read < 27
