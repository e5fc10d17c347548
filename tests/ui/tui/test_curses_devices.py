"""Read positions and preferences on real terminals: two of one person, killed and started again."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tchat.core.group.membership import Join
from tests.ui.scenes import ENTER, alt, headless, join, open_group, store_identity, wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

TABS = "[1 #ops]  2 #lab"


async def test_reading_on_one_terminal_reads_on_the_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with (
        open_group(server, tmp_path, "alice", "bob") as (bob,),
        open_group(server, tmp_path, "alice", "bob", group="lab"),
    ):
        with join(server, tmp_path, "alice") as here, join(server, tmp_path, "alice") as there:
            here.sees("in #ops with 1 other member", TABS)
            there.sees("in #ops with 1 other member", TABS)
            await bob.post("alice, look", group="lab")
            here.sees(f"{TABS} 1!")
            there.sees(f"{TABS} 1!")
            here.type(alt("2"))
            here.sees("» alice, look")
            there.sees(f"{TABS} ──")


async def test_mention_in_an_unvisited_group_survives_a_kill(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with (
        open_group(server, tmp_path, "bob", "carol") as _,
        open_group(server, tmp_path, "bob", "carol", group="lab") as (carol,),
        headless(server, "alice") as alice,
    ):
        await carol.post("alice, from before", group="lab")
        for group in ("ops", "lab"):  # she joins, and looks into neither
            await alice.command(Join, group=group)
        await carol.post("alice, welcome", group="lab")
        store_identity(tmp_path, "alice")
        for _ in range(2):
            with join(server, tmp_path, "alice") as terminal:
                terminal.sees(f"{TABS} 1!")
                terminal.signal(signal.SIGKILL)
        with join(server, tmp_path, "alice") as terminal:
            terminal.sees(f"{TABS} 1!")
            terminal.type(alt("2"))
            terminal.sees("── new ──", "» alice, welcome", "since", "1 message, 1 mention of you")


async def test_ignored_lines_come_back_after_a_restart(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with open_group(server, tmp_path, "alice", "bob", "carol") as (bob, carol):
        with join(server, tmp_path, "alice") as alice:
            alice.sees("in #ops with 2 other members")
            alice.type("/ignore bob" + ENTER)
            alice.sees("Messages from bob are hidden.")
            alice.signal(signal.SIGKILL)
        await bob.post("the hidden one", group="ops")
        await carol.post("the visible one", group="ops")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("the visible one")
            wait_gone(alice, "the hidden one")
            alice.type("/unignore bob" + ENTER)
            alice.sees("the hidden one", "the visible one", "Messages from bob are shown again.")
            rows = alice.screen.display
            hidden = next(y for y, row in enumerate(rows) if "the hidden one" in row)
            visible = next(y for y, row in enumerate(rows) if "the visible one" in row)
            assert hidden < visible
