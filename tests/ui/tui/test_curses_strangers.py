"""Strangers at a real terminal: conversations that wait, requests in one line, /block."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tchat.core.group.direct import direct_name
from tchat.core.group.membership import Join
from tchat.core.group.settings import SetPolicy
from tests.ui.scenes import ENTER, alt, headless, join, open_group, sees, wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

NAMES = tuple(f"stranger{number}" for number in range(10))
"""Two more than have a window by themselves."""


async def test_strangers_wait_until_they_are_looked_into(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with open_group(server, tmp_path, "alice", *NAMES) as people:
        with join(server, tmp_path, "alice", width=120) as alice:
            await sees(alice, "in #ops with 10 other members")
            for person in people:
                await person.post("psst", group=direct_name(person.user, "alice"))
            await sees(
                alice, "2 direct: Alt-A", "new for you in @stranger8; /query stranger8 opens"
            )
            alice.type(f"/block stranger9{ENTER}")
            await sees(alice, "stranger9 is blocked", "1 direct: Alt-A")
            for number in range(9):
                alice.type(alt("a"))
                await sees(alice, f"@stranger{number}]", "psst")
            wait_gone(alice, "1 direct")


async def test_requests_of_many_are_one_line(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice"), headless(server, "alice") as admin:
        await admin.command(SetPolicy, "approval")
        with join(server, tmp_path, "alice", width=120) as alice:
            await sees(alice, "nobody else is here yet")
            async with AsyncExitStack() as stack:
                for name in NAMES:
                    person = await stack.enter_async_context(headless(server, name))
                    await person.command(Join)
                await sees(
                    alice,
                    "10 people have asked to join: stranger0, stranger1, stranger2 and 7 more",
                    "stranger0 and 9 more ask to join: F9 or /1",
                )
            assert alice.text.count("asks to join") == 0
