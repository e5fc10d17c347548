"""`tchat send` and `tchat get` in processes of their own: output, exit status, resumption."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.connector import first_visit_notice
from tchat.core.group.membership import Join
from tchat.exits import DATA, OUTPUT, PERMISSION, USAGE
from tchat.net.tls import make_credentials
from tests.helpers import GROUP, GUARD, members, raw_client, running_server
from tests.processes import launching
from tests.ui.terminal import Terminal
from tests.ui.wire import HELD, held_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.net.address import Address
    from tests.helpers import RawClient
    from tests.processes import Launcher, Process
    from tests.ui.conftest import ServerProcess


class Desk:
    """Runs commands as Alice, the only member of a group."""

    def __init__(self, launch: Launcher, address: Address, raw: RawClient) -> None:
        self.address = address
        self.raw = raw
        self._launch = launch

    async def start(
        self, verb: str, *arguments: object, user: str = "alice", group: str = GROUP
    ) -> Process:
        where = self._where(user, group)
        return await self._launch.tchat(verb, *where, *arguments, user=user)

    def _where(self, user: str, group: str) -> tuple[object, ...]:
        address = self.address
        return address.host, address.port, "--no-tls", "--user", user, "--group", group

    async def shell(self, verb: str, *arguments: object, end: str) -> tuple[int, str]:
        """Run a command in a shell; return its exit status and its standard error."""
        where = self._where("alice", GROUP)
        words = [sys.executable, "-m", "tchat", verb, *where, *arguments]
        done = await trio.run_process(
            ["sh", "-c", f"{shlex.join(map(str, words))} {end}"],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            env=self._launch.environment("alice"),
        )
        return done.returncode, done.stderr.decode()

    async def runs(
        self, verb: str, *arguments: object, **options: str
    ) -> tuple[int, list[str], list[str]]:
        """Run a command; return its exit status, and the lines of stdout and stderr."""
        process = await self.start(verb, *arguments, **options)
        return await process.exit(), process.out.all, process.err.all


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        running_server() as server,
        members(server, "alice") as (raw,),
        launching(tmp_path / "homes") as launch,
    ):
        launch.install_identity("alice")
        yield Desk(launch, server.address, raw)


async def test_send_is_silent_and_get_prints_paths(tmp_path: Path) -> None:
    (tmp_path / "my report.pdf").write_text("report")
    (tmp_path / "folder").mkdir()
    async with desk(tmp_path) as alice:
        assert await alice.runs("send", "my report.pdf", "folder") == (0, [], [])
        status, out, err = await alice.runs("get", 2, 1, "--to", "saved")
        assert (status, err) == (0, [])
        assert out == ["saved/folder.tar", "saved/my report.pdf"]
        assert (tmp_path / out[1]).read_text() == "report"


async def test_an_unprintable_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with desk(tmp_path) as alice:
        assert await alice.runs("send", "a.txt") == (0, [], [])
        status, err = await alice.shell("get", 1, end=">/dev/full")
        assert (status, err) == (
            OUTPUT,
            "tchat: The output cannot be written: No space left on device.\n",
        )


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
async def test_closed_stderr_does_not_stop_transfers(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with desk(tmp_path) as alice:
        assert await alice.shell("send", "a.txt", end=end) == (0, "")
        assert await alice.shell("get", 1, "--to", "b.txt", end=end) == (0, "")
        assert (tmp_path / "b.txt").read_text() == "data"
        assert await alice.shell("get", 2, end=end) == (DATA, "")


async def test_get_saves_here_or_under_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with desk(tmp_path) as alice:
        assert await alice.runs("send", "a.txt") == (0, [], [])
        assert await alice.runs("get", 1) == (0, ["a.txt"], [])
        assert await alice.runs("get", 1, "--to", "b.txt") == (0, ["b.txt"], [])
        assert await alice.runs("get", 1, "--to", "not/there/") == (0, ["not/there/a.txt"], [])
        (tmp_path / "a.txt").write_text("mine")
        assert await alice.runs("get", 1) == (0, ["a (2).txt"], [])
        assert (tmp_path / "a.txt").read_text() == "mine"


async def test_a_refusal_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with desk(tmp_path) as alice:
        status, out, err = await alice.runs("send", "nope", "a.txt")
        assert (status, out) == (DATA, [])
        assert err == ["tchat: nope cannot be sent: No such file or directory."]
        status, out, err = await alice.runs("get", 7, 1, "x", "--to", "saved")
        assert (status, out) == (DATA, ["saved/a.txt"])
        assert err == ["tchat: The group has no file 7.", "tchat: The group has no file x."]


async def test_a_new_server_is_announced_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    credentials = make_credentials(tmp_path / "server")
    async with (
        running_server(credentials=credentials) as server,
        launching(tmp_path / "homes") as launch,
    ):
        where = (server.address.host, server.address.port, "--user", "alice", "--group", GROUP)
        notices = []
        for _ in range(2):
            process = await launch.tchat("send", *where, "a.txt", user="alice")
            assert await process.exit() == PERMISSION
            notices.append(process.err.all[:-1])  # the last line says that she is not a member
        assert notices == [[first_visit_notice(credentials.pin)], []]


@pytest.mark.parametrize("verb", ["send", "get"])
async def test_send_and_get_never_join_a_group(tmp_path: Path, verb: str) -> None:
    async with desk(tmp_path) as alice:
        status, out, err = await alice.runs(verb, 1, group="other")
        assert (status, out) == (PERMISSION, [])
        join = f"{sys.executable} -m tchat join {alice.address.host} {alice.address.port}"
        (line,) = err
        assert line.startswith("tchat: You are not a member of other. Join it first (")
        assert line.endswith(f" ({join} --user alice --group other), or pass --invite.")
        status, out, err = await alice.runs(verb, 1, user="bob")
        assert (status, out) == (PERMISSION, [])
        (line,) = err
        assert line.startswith("tchat: You are not a member of ops. Join it first (")
        assert line.endswith(f" ({join} --user bob --group ops), or pass --invite.")
        assert await alice.raw.before_pong() == []


async def test_get_before_approval_is_refused(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path / "homes") as launch:
        launch.install_identity("bob")
        async with members(server, "alice"), raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            waiting = Desk(launch, server.address, bob)
            status, out, err = await waiting.runs("get", 1, user="bob")
        assert (status, out) == (PERMISSION, [])
        assert err == ["tchat: You are not a member of ops yet: alice has to approve you."]


async def test_an_empty_path_is_refused(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        process = await launch.tchat("send", "127.0.0.1", 1, "--group", "ops", "--user", "al", "")
        assert await process.exit() == USAGE
        assert "a path cannot be empty" in process.err.all[-1]


async def test_send_accepts_an_invite(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with running_server() as server, launching(tmp_path / "homes") as launch:
        alice = await launch.join(server.address, "alice")
        await alice.type("/invite")
        line = await alice.out.containing(" --invite ")
        where = Desk(launch, server.address, None)  # type: ignore[arg-type]
        invite = line.rpartition(" ")[2]
        assert await where.runs("send", "a.txt", "--invite", invite, user="bob") == (0, [], [])
        await alice.sees("bob joined, invited by alice", "bob shared a.txt")


def test_tchat_prompts_for_a_missing_username(server: ServerProcess, tmp_path: Path) -> None:
    arguments = ["get", "127.0.0.1", server.port, "--group", "ops", "1"]
    with Terminal(arguments, str(tmp_path / "alice")) as terminal:
        terminal.sees("username:")
        terminal.type("alice\n")
        terminal.sees("You are not a member of ops. Join it first")
        assert terminal.end() == PERMISSION


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_get_resumes(tmp_path: Path, number: int) -> None:
    data = os.urandom(HELD + HELD // 4)
    (tmp_path / "big.bin").write_bytes(data)
    async with desk(tmp_path) as alice, held_wire(alice.address) as (held_address, held):
        assert await alice.runs("send", "big.bin") == (0, [], [])
        address, alice.address = alice.address, held_address
        process = await alice.start("get", 1, "--to", "saved/")
        with trio.fail_after(GUARD):
            await held.wait()
        process.running.send_signal(number)
        assert await process.exit() == 128 + number
        assert process.out.all == []
        assert process.err.all[-1] == ("tchat: interrupted; run the same command again to resume.")
        kept = list((tmp_path / "saved").iterdir())
        assert ".part" in [path.suffix for path in kept]
        assert all(path.name.startswith(".") for path in kept)
        alice.address = address
        assert await alice.runs("get", 1, "--to", "saved/") == (0, ["saved/big.bin"], [])
        assert (tmp_path / "saved" / "big.bin").read_bytes() == data
        assert [path.name for path in (tmp_path / "saved").iterdir()] == ["big.bin"]


async def test_an_interrupted_send_resumes(tmp_path: Path) -> None:
    data = os.urandom(HELD + HELD // 4)
    (tmp_path / "big.bin").write_bytes(data)
    async with desk(tmp_path) as alice, held_wire(alice.address) as (held_address, held):
        address, alice.address = alice.address, held_address
        process = await alice.start("send", "big.bin")
        with trio.fail_after(GUARD):
            await held.wait()
        await process.err.containing("sending big.bin: ")
        process.running.send_signal(signal.SIGINT)
        assert await process.exit() == 130
        assert process.out.all == []
        assert process.err.all[-1].startswith("tchat: interrupted; ")
        alice.address = address
        # On a busy machine, both report their progress on standard error.
        assert (await alice.runs("send", "big.bin"))[:2] == (0, [])
        assert (await alice.runs("get", 1, "--to", "saved/"))[:2] == (0, ["saved/big.bin"])
        assert (tmp_path / "saved" / "big.bin").read_bytes() == data


async def test_stalled_transfers_say_so(tmp_path: Path) -> None:
    """While sending and saving, by command and in the chat, with the time since it moved."""
    (tmp_path / "big.bin").write_bytes(os.urandom(HELD + HELD // 4))
    async with desk(tmp_path) as alice, held_wire(alice.address) as (held_address, _):
        assert (await alice.runs("send", "big.bin"))[:2] == (0, [])
        (tmp_path / "other.bin").write_bytes(os.urandom(HELD + HELD // 4))
        alice.address = held_address
        sending = await alice.start("send", "other.bin")
        getting = await alice.start("get", 1, "--to", "saved/")
        chatting = await alice.start("join", "--plain", "--commands")
        await chatting.sees("in #ops")
        await chatting.type("/get 1 chat/")
        stalled = await sending.err.containing(", stalled for 0:")
        assert re.fullmatch(r"sending other.bin: \d+ % of 21.0 MB, stalled for 0:\d\d", stalled)
        await getting.err.containing(" % of 21.0 MB, stalled for 0:")
        await chatting.sees(" % of 21.0 MB, stalled for 0:")


def test_progress_redraws_one_line_on_a_terminal(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    where = ["127.0.0.1", server.port, "--user", "alice", "--group", "ops"]
    with Terminal(["join", *where], str(tmp_path / "alice")) as chat:
        chat.sees("nobody else")
        with Terminal(["send", *where, "a.txt"], str(tmp_path / "alice")) as terminal:
            assert terminal.end() == 0
            assert terminal.text.strip() == "sent a.txt"
        chat.sees("alice shared a.txt (4 B), file 1")
        with Terminal(["get", *where, "1", "--to", "x/"], str(tmp_path / "alice")) as terminal:
            assert terminal.end() == 0
            assert terminal.text.strip() == "x/a.txt"
