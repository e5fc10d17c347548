"""Standard streams that are closed, full, unreadable or abandoned, in every command."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from tchat.core.group.messages import Posted
from tchat.core.pace import Rate
from tchat.exits import DATA
from tchat.net.address import Address
from tchat.ui.plain.typed import PART_LIMIT
from tests.helpers import GROUP, GUARD, NO_RATE_LIMITS, log_of, members, running_server
from tests.processes import launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.limits import Limits
    from tests.helpers import RunningServer
    from tests.processes import Launcher

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"]


class Outcome(NamedTuple):
    """How a program ended, and what it printed."""

    status: int
    out: str
    err: str


class Shell:
    """Runs tchat in a shell as alice, who is a member of the group."""

    def __init__(self, launch: Launcher, server: RunningServer) -> None:
        self.server = server
        address = server.address
        self.where = [address.host, address.port, "--no-tls", "--user", "alice", "--group", GROUP]
        self._launch = launch

    async def run(self, *words: object, end: str, before: str = "") -> Outcome:
        """Run a command, with `before` and `end` around it in the shell's language."""
        # Without buffers, argparse itself ignores that its output cannot be written.
        buffered = {**self._launch.environment("alice"), "PYTHONUNBUFFERED": ""}
        program = shlex.join([sys.executable, "-m", "tchat", *map(str, words)])
        done = await trio.run_process(
            ["bash", "-o", "pipefail", "-c", f"{before} {program} {end}"],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            env=buffered,
        )
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        for text in ("Traceback", "Exception ignored"):
            assert text not in outcome.err, outcome.err
        return outcome


@asynccontextmanager
async def shell(home: Path, limits: Limits | None = None) -> AsyncIterator[Shell]:
    async with (
        running_server(limits=limits) as server,
        members(server, "alice"),
        launching(home) as launch,
    ):
        launch.install_identity("alice")
        yield Shell(launch, server)


@pytest.mark.parametrize("end", CLOSED)
async def test_help_survives_closed_streams(tmp_path: Path, end: str) -> None:
    async with shell(tmp_path) as sh:
        for words in (["--help"], ["join", "--help"], ["--version"]):
            assert (await sh.run(*words, end=end)).status == 0
        assert (await sh.run("join", end=end)).status == 2


@pytest.mark.parametrize("end", CLOSED)
async def test_transfers_survive_closed_streams(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with shell(tmp_path) as sh:
        assert await sh.run("send", *sh.where, tmp_path / "a.txt", end=end) == (0, "", "")
        done = await sh.run("get", *sh.where, 1, "--to", tmp_path / "b.txt", end=end)
        assert done.status == 0
        assert (tmp_path / "b.txt").read_text() == "data"
        assert (await sh.run("get", *sh.where, 7, end=end)).status == DATA


@pytest.mark.parametrize("end", [end for end in CLOSED if "<" in end])
async def test_join_without_input_shows_the_backlog(tmp_path: Path, end: str) -> None:
    async with shell(tmp_path) as sh:
        done = await sh.run("join", *sh.where, end=end)
        assert done.status == 0
        assert ("You are in #ops" in done.out) == (">&-" not in end)


@pytest.mark.parametrize("end", [end for end in CLOSED if "<" not in end])
async def test_join_without_output_still_sends(tmp_path: Path, end: str) -> None:
    async with shell(tmp_path) as sh:
        assert (await sh.run("join", *sh.where, before="echo sent |", end=end)).status == 0
        done = await sh.run("join", *sh.where, "--history", 50, end="< /dev/null")
        assert "<alice> sent\n" in done.out


@pytest.mark.parametrize("end", CLOSED)
async def test_demo_without_streams_ends_in_a_sentence(tmp_path: Path, end: str) -> None:
    async with shell(tmp_path) as sh:
        done = await sh.run("demo", end=end)
        assert done.status == 1
        assert done.err == ("" if "2>" in end else "tchat: The demo needs a terminal.\n")


@pytest.mark.parametrize("end", CLOSED)
async def test_server_never_prints_into_its_files(tmp_path: Path, end: str) -> None:
    """The first files it opened had the numbers of its standard streams."""
    data = tmp_path / "data"
    async with launching(tmp_path) as launch:
        with trio.socket.socket() as free:
            await free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = f"exec {sys.executable} -m tchat serve 127.0.0.1 {port} --data {data} --no-tls"
        process = await trio.lowlevel.open_process(
            ["sh", "-c", f"{command} {end}"],
            env=launch.environment("server"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await _until_up(port)
            alice = await launch.join(Address("127.0.0.1", port), "alice")
            await alice.sees("alice created ops")
            assert await alice.end() == 0
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()
        for path in data.rglob("*"):
            assert not path.is_file() or b"listening on" not in path.read_bytes()
        again = await launch.serve()
        assert await again.stop() == 0


async def _until_up(port: int) -> None:
    """Wait until a server listens that cannot say so."""
    with trio.fail_after(GUARD):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
                continue
            await stream.aclose()
            return


# ------------------------------------------------------------------ full, unreadable, abandoned


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["--version"]])
async def test_unprintable_help_is_an_error(tmp_path: Path, words: list[str]) -> None:
    async with shell(tmp_path) as sh:
        assert await sh.run(*words, end=">/dev/full") == (
            1,
            "",
            "tchat: The output cannot be written: No space left on device.\n",
        )


@pytest.mark.parametrize("end", [">/dev/full", "1</dev/null"])
async def test_unprintable_messages_are_an_error(tmp_path: Path, end: str) -> None:
    async with shell(tmp_path) as sh:
        done = await sh.run("join", *sh.where, before="echo hi |", end=end)
        assert done.status == 1
        assert done.err.startswith("tchat: The output cannot be written: ")
        assert done.err.count("\n") == 1


async def test_unreadable_input_is_an_error(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        done = await sh.run("join", *sh.where, end="0>/dev/null")
        assert (done.status, done.err) == (1, "")
        assert "! The input cannot be read: Bad file descriptor.\n" in done.out


async def test_an_abandoned_pipe_ends_quietly(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        lines = "for n in $(seq 200); do echo line $n; done |"
        done = await sh.run("join", *sh.where, before=lines, end="| head -1")
        assert (done.status, done.err, done.out.count("\n")) == (1, "", 1)


async def test_lines_are_posted_before_the_copy_fails(tmp_path: Path) -> None:
    """With a rate limit, most lines still wait when the copy fails."""
    lines = [f"line {number}" for number in range(60)]
    (tmp_path / "input").write_text("\n".join([*lines, "x" * PART_LIMIT]))
    async with shell(tmp_path, replace(NO_RATE_LIMITS, messages=Rate(100, 10))) as sh:
        end = f"< {tmp_path}/input | head -c 1"
        assert (await sh.run("say", *sh.where, "--lines", "--tee", end=end)).err == ""
        log = await log_of(sh.server.store)
        assert [event.body.text for event in log if isinstance(event.body, Posted)] == lines
