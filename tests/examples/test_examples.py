"""Each example in examples/ does what it says, as a process, against a real server."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tests.examples.running import (
    EXAMPLES,
    admin_of_open_group,
    joined,
    output_of,
    running,
    said_by,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Server = Callable[[Path], AbstractAsyncContextManager[int]]

LINES = 100
"""The most lines of an example, so that it can be read at once."""

PINGED = 200
"""Lines that a bridge carries while the IRC server pings it for each.

Only `small_ircd` does that; ngircd accepts no more than three lines a second.
"""


def test_every_example_is_short_and_tested() -> None:
    tested = {"echo", "remind", "log", "welcome", "poll", "ci", "irc_bridge"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= LINES


async def test_echo_answers_also_what_it_missed(tmp_path: Path) -> None:
    async with admin_of_open_group() as (server, group, alice), alice.events() as events:
        async with running(server, "echo", cwd=tmp_path):
            await joined(events, "echo")
            await group.say("!echo hello")
            answer = await said_by(events, "echo")
            assert answer.text == "hello"
        await group.say("!echo while it was away")
        async with running(server, "echo", cwd=tmp_path):
            assert (await said_by(events, "echo")).text == "while it was away"


async def test_echo_answers_in_private(tmp_path: Path) -> None:
    async with (
        admin_of_open_group() as (server, _, alice),
        alice.events() as events,
        running(server, "echo", cwd=tmp_path),
    ):
        await joined(events, "echo")
        private = await alice.talk_to("echo")
        await private.say("!echo psst")
        answer = await said_by(events, "echo")
        assert (answer.text, answer.direct) == ("psst", True)


async def test_remind_survives_a_restart(tmp_path: Path) -> None:
    async with admin_of_open_group() as (server, group, alice), alice.events() as events:
        async with running(server, "remind", cwd=tmp_path):
            await joined(events, "remind")
            await group.say("!remind 2s water the plants")
            assert (await said_by(events, "remind")).text == "I will remind you in 2 s."
        async with running(server, "remind", cwd=tmp_path):
            assert (await said_by(events, "remind")).text == "alice: water the plants"


async def test_log_writes_everything_once(tmp_path: Path) -> None:
    async with admin_of_open_group() as (server, group, alice), alice.events() as events:
        await group.say("before")
        async with running(server, "log", cwd=tmp_path):
            await joined(events, "log")
            await group.say("/me waves\n<!-- 99 -->")
            await written(tmp_path, "*alice waves")
        with (tmp_path / "ops.md").open("a") as file:
            file.write("**alice** 2026-01-01 10:00\n> cut o")
        last = await group.say("meanwhile")
        async with running(server, "log", cwd=tmp_path):
            await written(tmp_path, f"<!-- {last.seq} -->")
    text = (tmp_path / "ops.md").read_text()
    said = [line for line in text.splitlines() if line.startswith(">")]
    assert said == ["> before", "> *alice waves", "> <!-- 99 -->*", "> meanwhile"]


async def written(directory: Path, text: str) -> None:
    """Wait until the log has a text."""
    path = trio.Path(directory / "ops.md")
    while not await path.exists() or text not in await path.read_text():  # noqa: ASYNC110  # a file
        await trio.sleep(0.01)


async def test_welcome_approves_and_greets(tmp_path: Path) -> None:
    async with (
        admin_of_open_group() as (server, group, alice),
        alice.events() as events,
        running(server, "welcome", cwd=tmp_path),
    ):
        await joined(events, "welcome")
        await group.set_policy("approval")
        await group.set_topic("servers")
        await group.transfer("welcome")
        async with server.connect("bob") as bob:
            await bob.join("ops")
            greeting = await said_by(events, "welcome")
            assert greeting.text == "Welcome, bob! We talk about servers."


async def test_poll_counts_over_a_restart(tmp_path: Path) -> None:
    async with admin_of_open_group() as (server, group, alice), alice.events() as events:
        async with running(server, "poll", cwd=tmp_path):
            await joined(events, "poll")
            await group.say("!poll Lunch? | pizza | soup")
            asked = await said_by(events, "poll")
            assert asked.text == "Lunch?\n1 pizza\n2 soup\nVote with !vote NUMBER."
            await group.say("!vote 3")
            assert (await said_by(events, "poll")).text == "Vote with a number from 1 to 2."
            await group.say("!vote 1")
            await group.say("!vote 2")
        await group.say("!result")
        async with running(server, "poll", cwd=tmp_path):
            assert (await said_by(events, "poll")).text == "Lunch?\npizza: 0\nsoup: 1"


async def test_bots_survive_requests_with_long_answers(tmp_path: Path) -> None:
    """A message could end a bot, and each restart of it: the answer was too long for a message."""
    requests = {
        "poll": ("!poll " + "|" * 5000, "!poll Tea? | yes"),
        "remind": ("!remind 1s " + "x" * 16_370, "!remind 1s tea"),
    }
    async with admin_of_open_group() as (server, _, alice), server.connect("a" * 32) as mallory:
        group = await mallory.join("ops")
        for name, (long, short) in requests.items():
            async with running(server, name, cwd=tmp_path), alice.events() as events:
                await joined(events, name)
                await group.say(long)
                await said_by(events, name)
                await group.say(short)
                while "tea" not in (await said_by(events, name)).text.lower():
                    pass


async def test_ci_reports_a_build_once(tmp_path: Path) -> None:
    async with admin_of_open_group() as (server, group, alice), alice.events() as events:
        output = b"".join(b"line %d\n" % number for number in range(1000)) + b"\xff FAILED"
        for _ in range(2):
            ended = await output_of(server, "ci", output, cwd=tmp_path, BUILD="17")
            assert ended.returncode == 0, ended.stderr
        report = await said_by(events, "ci")
        assert report.text.startswith("Build 17 on ")
        assert report.text.endswith("line 998\nline 999\n\N{REPLACEMENT CHARACTER} FAILED")
        (file,) = group.files
        saved = await file.save(tmp_path)
        assert (saved.name, saved.read_bytes()) == ("build-17.log", output)
        said = [one for one in await group.history() if isinstance(one, tchat.Message)]
        assert [one.who for one in said] == ["ci"]


# ------------------------------------------------------------------ IRC


class Channel:
    """A client of an IRC server that is in #ops."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, line: str) -> None:
        await self.stream.send_all(f"{line}\r\n".encode())

    async def hears(self, text: str) -> None:
        """Read until a line has this text."""
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                self._buffer += await self.stream.receive_some()
                continue
            self._buffer = rest
            if text.encode() in line:
                return


@asynccontextmanager
async def ngircd(directory: Path) -> AsyncIterator[int]:
    """Run a real IRC server; yield its port."""
    program = shutil.which("ngircd")
    if program is None:
        pytest.skip("ngircd is not installed")
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    config = directory / "ngircd.conf"
    config.write_text(
        f"[Global]\nName = irc.test.local\nListen = 127.0.0.1\nPorts = {port}\n"
        "MotdPhrase = hello\n[Options]\nDNS = no\nIdent = no\nPAM = no\n"
    )
    process = await trio.lowlevel.open_process(
        [program, "--config", str(config), "--nodaemon"], stdout=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def small_ircd(_: Path) -> AsyncIterator[int]:
    """Run as much of an IRC server as two clients in one channel need; yield its port."""
    clients: list[trio.SocketStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        clients.append(stream)
        with suppress(trio.BrokenResourceError):  # the bridge was killed
            await talk(stream)

    async def talk(stream: trio.SocketStream) -> None:
        name, buffer = "", b""
        async for data in stream:
            *lines, buffer = (buffer + data).split(b"\r\n")
            for line in lines:
                word, _, rest = line.decode().partition(" ")
                name = rest if word == "NICK" else name
                if word == "JOIN":
                    end = f":irc.test 366 {name} {rest} :End of NAMES list\r\nPING :irc.test\r\n"
                    await stream.send_all(end.encode())
                elif word == "PRIVMSG":
                    await stream.send_all(b"PING :irc.test\r\n")
                    for other in clients:
                        if other is not stream:
                            said = f":{name}!user@host {line.decode()}\r\n"
                            await other.send_all(said.encode())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def bridged(
    ircd: Server, directory: Path
) -> AsyncIterator[tuple[tchat.Group, tchat.Events, Channel]]:
    """Run the bridge; yield alice's group, its events, and carol's channel."""
    async with (
        admin_of_open_group() as (server, group, alice),
        alice.events() as events,
        ircd(directory) as port,
        await connected(port) as stream,
    ):
        channel = Channel(stream)
        await channel.send("NICK carol")
        await channel.send("USER carol 0 * :carol")
        await channel.send("JOIN #ops")
        await channel.hears(" 366 ")
        async with running(server, "irc_bridge", cwd=directory, IRC=f"127.0.0.1:{port}/#ops"):
            await joined(events, "irc-bridge")
            yield group, events, channel


@pytest.mark.parametrize("ircd", [small_ircd, ngircd])
async def test_irc_bridge_carries_both_ways(ircd: Server, tmp_path: Path) -> None:
    async with bridged(ircd, tmp_path) as (group, events, channel):
        await group.say("hello\nJOIN #evil")
        await channel.hears("PRIVMSG #ops :<alice> hello")
        await channel.hears("PRIVMSG #ops :<alice> JOIN #evil")
        await channel.send("PRIVMSG #ops :hi alice : how are you")
        answer = await said_by(events, "irc-bridge")
        assert answer.text == "<carol> hi alice : how are you"


async def test_irc_bridge_answers_pings_while_it_sends(tmp_path: Path) -> None:
    async with bridged(small_ircd, tmp_path) as (group, _, channel):
        await group.say("\n".join(map(str, range(PINGED))))
        await channel.hears(f"PRIVMSG #ops :<alice> {PINGED - 1}")


async def connected(port: int) -> trio.SocketStream:
    """Connect to a server that may not listen yet."""
    while True:
        try:
            return await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.01)
