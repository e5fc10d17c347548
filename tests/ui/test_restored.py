"""What people see once their server was restored from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.updates import LOG_REPLACED
from tests.helpers import log_of
from tests.restored import found_group, restored_server, say
from tests.ui.typist import typing

if TYPE_CHECKING:
    from pathlib import Path

KEPT = [f"alice: kept {number}" for number in range(14)]
NEW = [f"alice: new {number}" for number in range(20)]


async def test_window_shows_the_restored_log(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        typing(scene.proxy, "alice") as alice,
    ):
        await alice.reads("alice: kept 13")
        await say(scene.lost, "lost", 11)
        await alice.reads("alice: lost 10")
        await say(scene.restored, "new", 20)
        scene.restore()
        await alice.reads("alice: new 19")
        assert alice.screen() == [*KEPT, *NEW]
        told = [line.text for line in alice.window.lines if not line.seq]
        assert told.count(LOG_REPLACED) == 1


async def test_plain_front_end_prints_the_new_log(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        typing(scene.proxy, "alice", rewrites=False) as alice,
    ):
        await say(scene.lost, "lost", 11)
        await alice.shows("lost 10")
        await say(scene.restored, "new", 20)
        scene.restore()
        await alice.shows("new 19")
        texts = [line.text for line in alice.lines]
        assert texts.index(LOG_REPLACED) < texts.index("new 0")


@pytest.mark.parametrize("command", ["/edit ^1 changed", "/delete ^1", "/pin ^1", "/reply ^1 yes"])
async def test_command_without_connection_reaches_no_other_message(
    tmp_path: Path, command: str
) -> None:
    """It is about the last line on the screen, whose number another message has by now."""
    async with (
        restored_server(tmp_path, found_group) as scene,
        typing(scene.proxy, "alice") as alice,
    ):
        await say(scene.lost, "lost", 11)
        await alice.reads("alice: lost 10")
        await say(scene.restored, "new", 20)
        before = await log_of(scene.restored.store)
        scene.restore()
        alice.chat.enter(command)
        await alice.shows("is lost: the server was restored from a backup")
        await alice.reads("alice: new 19")
        assert await log_of(scene.restored.store) == before


async def test_saved_command_is_refused_after_a_restore(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        typing(scene.proxy, "alice") as alice,
    ):
        await say(scene.lost, "lost", 11)
        await alice.reads("alice: lost 10")
        saved = alice.chat.complete(alice.window, "/edit changed")
        await say(scene.restored, "new", 20)
        scene.restore()
        await alice.reads("alice: new 19")
        (refused,) = await alice.types(saved)
        assert refused == "error: That message is lost: the server was restored from a backup."
        assert alice.screen() == [*KEPT, *NEW]


async def test_search_result_that_is_lost_is_not_shown(tmp_path: Path) -> None:
    async with (
        restored_server(tmp_path, found_group) as scene,
        typing(scene.proxy, "alice") as alice,
    ):
        await say(scene.lost, "lost", 11)
        await alice.reads("alice: lost 10")
        await alice.types("/search lost")
        await say(scene.restored, "new", 20)
        scene.restore()
        await alice.reads("alice: new 19")
        (refused,) = await alice.types("/jump 1")
        assert refused.startswith("error: That message is lost")
        assert alice.frontend.revealed == []
