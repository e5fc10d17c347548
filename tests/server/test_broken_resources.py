"""What an operator sees of missing resources: real servers, their logs and exit statuses."""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import TYPE_CHECKING

import trio

from tchat.exits import OUTPUT
from tchat.server.control import status_of
from tests.full_disk import small_disk
from tests.helpers import GROUP
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Launcher, Process


async def serve_in_shell(launch: Launcher, before: str, end: str = "") -> Process:
    """Start a server from a shell, after a command of the shell."""
    where = ["serve", "127.0.0.1", "0", "--data", launch.home / "data", "--no-tls"]
    words = shlex.join([sys.executable, "-m", "tchat", *map(str, where)])
    return await launch.program("bash", "-c", f"{before}exec {words} {end}", user="server")


# ------------------------------------------------------------------ open files


async def test_too_few_open_files_refuse_to_start(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await serve_in_shell(launch, "ulimit -n 64; ")
        sentence = await server.fails()
        assert "at least 128 open files" in sentence
        assert "'ulimit -n 11612'" in sentence


async def test_lowered_limits_are_told(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await serve_in_shell(launch, "ulimit -n 300; ")
        await server.sees(
            "lowered --max-connections from 10000 to 100, since this process may open only 300",
            "lowered --max-strangers from 512 to 50",
            "lowered --max-transfers from 1000 to 50",
            "listening on",
        )
        server.running.terminate()
        assert await server.exit() == 0


# ------------------------------------------------------------------ a full disk


async def test_server_on_a_full_disk_starts_for_reading(tmp_path: Path) -> None:
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        data = disk.path / "data"
        async with launching(tmp_path) as launch:
            server = await launch.serve("--data", data)
            alice = await launch.join(server.address, "alice")
            await alice.sees("alice created ops")
            await alice.type("before", "/search before")
            await alice.sees("<alice> before", "<alice> before")
            assert await alice.end() == 0
            assert await server.stop() == 0
            disk.fill()
            server = await launch.serve("--data", data)
            await server.sees(f"the disk of {data} is full")
            alice = await launch.join(server.address, "alice", "--history", 50)
            await alice.sees("<alice> before")
            await alice.type("/search before")
            await alice.sees("<alice> before")
            await alice.type("while it is full")
            await alice.sees("disk is full")
            disk.free()
            await alice.type("after")
            await alice.sees("<alice> after")
            assert await server.stop() == 0
            assert "Traceback" not in str(server.err)


# ------------------------------------------------------------------ a broken disk


async def test_broken_storage_ends_with_words_and_status(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with launching(tmp_path) as launch:
        server = await launch.serve("--log-format", "json")
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        data.rename(tmp_path / "elsewhere")
        await alice.type("hello")
        await alice.sees("-- connection lost (The server has to stop because of a fault")
        assert await server.exit() == OUTPUT
        (line,) = [line for line in server.lines if "the server stops" in line]
        advice = f"run 'tchat admin verify --data {data}'"
        assert advice in line
        said = json.loads(line)
        assert (said["event"], said["level"]) == ("fatal", "error")
        assert (said["where"], said["path"]) == (f"group {GROUP}", str(data))
        (complaint,) = server.err.all
        assert complaint.startswith("tchat: ")
        assert advice in complaint


# ------------------------------------------------------------------ the log


async def test_server_goes_on_when_its_output_has_gone(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        assert server.running.stdout is not None
        await server.running.stdout.aclose()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        server.running.terminate()
        assert await server.running.wait() == 0
        await server.err.containing("lines of the log are lost: Broken pipe.")
        assert len(server.err.all) == 1


async def test_server_goes_on_when_its_log_is_full(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await serve_in_shell(launch, "", "> /dev/full")
        for _ in range(600):
            if await status_of(tmp_path / "data") is not None:
                break
            await trio.sleep(0.05)
        server.running.terminate()
        assert await server.exit() == 0
        (complaint,) = server.err.all
        assert re.search(r"Up to \d lines of the log are lost: No space left on dev", complaint)
