"""Every command line in the documents is run, as it is written.

They are run one after the other, in a directory like a copy of the repository, on a server with the
group that they name. Each runs in a pipe, in cron's bare environment, and with a closed standard
input. A command that goes on for ever is stopped by SIGTERM.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "examples/README.md",
    "tchat/cli/README.md",
    "tchat/irc/README.md",
    "tchat/server/README.md",
)

ELSEWHERE = ("pip install -q -e", "pip wheel", "pip install -q dist/", "tmux ")
"""What the commands contain that other tests run, or nobody can run twice."""

EXPECTED = {
    "serve": (0,),
    "join localhost 7777": (2,),  # it asks for the username, and nobody is there
    "join chat.example.org": (0,),
    "say": (0,),
    "tail": (0,),
    "ask": (0,),
    "export": (0,),
    "send": (0,),
    "get": (0,),
    "irc": (143,),
    "examples/ci.py": (0,),
    "examples/echo.py": (143,),
    "admin backup": (0,),
    "admin verify": (0,),
    "admin restore": (0,),
}
"""The exit status of each command, by a part of its line; the first part that fits counts."""

FOREVER = (" serve ", " irc ", "examples/echo.py")
"""What the commands contain that go on until they are stopped."""

PLACES = ("pipe", "cron", "closed input")


def command_lines() -> list[str]:
    """Return the lines of all sh blocks in the documents, except those that others run."""
    lines: list[str] = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            lines += [line for line in block.splitlines() if line.strip()]
    return [line for line in lines if not any(part in line for part in ELSEWHERE)]


def expected(line: str) -> tuple[int, ...]:
    """Return the exit statuses that a command may have."""
    for part, statuses in EXPECTED.items():
        if f" {part}" in f" {line}":
            return statuses
    raise AssertionError(f"no exit status is expected for: {line}")


def prepare(directory: Path) -> None:
    """Make a directory like a copy of the repository, with what the commands work on."""
    (directory / ".venv").symlink_to(sys.prefix)
    (directory / "examples").symlink_to(ROOT / "examples")
    (directory / "reports").mkdir()
    (directory / "reports" / "a.txt").write_text("data")
    (directory / "deploy").write_text("#!/bin/sh\necho deployed\n")
    (directory / "deploy").chmod(0o755)


def here(line: str, address: str) -> str:
    """Return a command for this server, without the installation in front of it."""
    line = re.sub(r"^python3 -m venv .* && (?=\S*python -m tchat serve)", "", line)
    line = re.sub(r" irc .*", r"\g<0> --listen 127.0.0.1:0", line)
    port = "0" if " serve " in line else address.rpartition(":")[2]
    line = re.sub(r"(localhost|chat\.example\.org)([ :])7777", rf"127.0.0.1\g<2>{port}", line)
    return line.replace("0.0.0.0 7777", "127.0.0.1 0")


async def run(
    line: str, place: str, directory: Path, bot: Callable[[], Awaitable[None]]
) -> tuple[int, str, str]:
    """Run a line in a shell, and return its exit status and what it printed.

    A command that goes on is stopped when it has printed something, or when `bot` returns.
    """
    goes_on = any(part in line for part in FOREVER)
    closing = "exec <&-;" if place == "closed input" else ""
    script = f'set -o pipefail; make() {{ echo "error: 1"; }}; {closing} {"exec " * goes_on}{line}'
    bare = {"HOME": str(directory), "PATH": "/usr/bin:/bin"}
    full = {key: value for key, value in os.environ.items() if key != "TCHAT_HOME"}
    process = await trio.lowlevel.open_process(
        ["/bin/bash", "-c", script],
        stdin=subprocess.PIPE if place == "pipe" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=bare if place == "cron" else {**full, "HOME": str(directory)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdin is not None:
        await process.stdin.aclose()
    printed, complained = bytearray(), bytearray()
    begun = trio.Event()

    async def read(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
        async for data in stream:
            into += data
            if into is printed:
                begun.set()

    async def stop(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        process.terminate()

    async with trio.open_nursery() as nursery:
        if goes_on:
            nursery.start_soon(stop, bot if "examples/echo.py" in line else begun.wait)
        async with trio.open_nursery() as reading:
            reading.start_soon(read, process.stdout, printed)
            reading.start_soon(read, process.stderr, complained)
        nursery.cancel_scope.cancel()
    return await process.wait(), printed.decode(), complained.decode()


async def answer_questions(group: tchat.Group, client: tchat.Client) -> None:
    """Answer each question with yes."""
    async with client.events(group) as events:
        async for event in events:
            if isinstance(event, tchat.Message) and "answer yes or no" in event.text:
                await event.reply("yes")


async def is_online(group: tchat.Group, client: tchat.Client, *, online: bool = True) -> None:
    """Wait until the bot of the examples is connected, or is not."""
    async with client.notices() as notices:
        while ("echo" in group.online) != online:
            await notices.receive()


async def share_files(server: tchat.testing.TestServer, home: Path) -> None:
    """Make ci and alice members with the key in `home`, and share three files."""
    for user in ("alice", "ci"):
        async with tchat.connect(server.address, user=user, home=home, pin=server.pin) as client:
            group = await client.join("ops")
            for number in range(3 * (user == "ci")):
                await group.send_file(ROOT / "LICENSE", name=f"file{number}")


@pytest.mark.parametrize("place", PLACES)
async def test_documented_commands_do_what_they_say(place: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    async with tchat.testing.open_server() as server, server.connect("owner") as owner:
        group = await owner.join("ops", create=True)
        await group.set_policy("open")
        await share_files(server, tmp_path / ".local" / "state" / "tchat")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_questions, group, owner)
            for line in command_lines():
                await is_online(group, owner, online=False)
                with trio.fail_after(GUARD):
                    status, out, err = await run(
                        here(line, server.address),
                        place,
                        tmp_path,
                        partial(is_online, group, owner),
                    )
                assert status in expected(line), (line, status, out, err)
                assert "Traceback" not in err, (line, err)
                assert len(err.splitlines()) <= 1, (line, err)
            nursery.cancel_scope.cancel()


def test_every_kind_of_command_is_documented() -> None:
    lines = command_lines()
    assert all(expected(line) for line in lines)
    for part in EXPECTED:
        assert any(f" {part}" in f" {line}" for line in lines), part
