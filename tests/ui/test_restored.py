"""What people see once their server was restored from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.updates import LOG_REPLACED
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
