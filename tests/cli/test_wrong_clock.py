"""Commands on a machine whose clock is wrong: periods are measured by the server's time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

import tchat
from tchat.exits import TEMPORARY
from tests.cli.running import scene
from tests.wrong_clock import YEARS, faked_program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Scene


def faked(here: Scene, place: Path, ahead: int, verb: str, *words: object) -> list[str]:
    """Return the command line of a command as ci, with a wrong clock."""
    script = faked_program(place, ahead)
    return [sys.executable, str(script), *here.command(verb, *words)[3:]]


async def test_since_counts_from_the_server_time(tmp_path: Path) -> None:
    """It printed nothing with a clock ahead."""
    async with scene() as here:
        await here.group.say("now")
        async with here.program(faked(here, tmp_path, YEARS, "tail", "--since", "1h")) as tail:
            assert tail.stdout is not None
            printed = b"".join([part async for part in tail.stdout]).decode()
    assert [line.partition("] ")[2] for line in printed.splitlines()] == ["<alice> now"]


async def test_repeated_question_waits_by_server_time(tmp_path: Path) -> None:
    """A clock that was ahead ended it at once: "Nobody answered in time."."""
    async with scene() as here, here.alice.notices() as notices:
        question = ("deploy?", "--key", "release", "--timeout")
        await here.run("ask", *question, "1s", status=TEMPORARY)
        command = faked(here, tmp_path, YEARS, "ask", *question, "1h")
        async with here.program(command) as ask:
            while not _is_back(await notices.receive()):
                pass
            await trio.sleep(0.3)  # longer than it looks for answers that were given before
            await here.group.say("yes")
            assert await ask.wait() == 0


def _is_back(notice: object) -> bool:
    return isinstance(notice, tchat.Presence) and "ci" in notice.group.online
