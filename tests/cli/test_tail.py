"""`tchat tail`: what is printed, from where, and what counts as read."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.exits import OUTPUT, PERMISSION, TEMPORARY, USAGE
from tests.cli.running import scene
from tests.helpers import Lines

if TYPE_CHECKING:
    from tests.cli.running import Outcome


def texts(done: Outcome) -> list[str]:
    """Return the printed lines without their times."""
    return [line.partition("] ")[2] for line in done.out.splitlines()]


async def test_the_latest_messages_are_printed() -> None:
    async with scene() as here:
        for number in range(12):
            await here.group.say(f"text {number}")
        assert texts(await here.run("tail")) == [f"<alice> text {n}" for n in range(2, 12)]
        assert texts(await here.run("tail", "-n2")) == ["<alice> text 10", "<alice> text 11"]
        assert texts(await here.run("tail", "-n", 0)) == []


async def test_what_happened_is_printed_with_events() -> None:
    async with scene() as here:
        said = await here.group.say("helo")
        await said.edit("hello")
        await here.group.set_topic("release")
        shown = ["<alice> helo", "-- alice edited a message: hello"]
        assert texts(await here.run("tail")) == shown
        topic = "-- alice set the topic: release"
        assert texts(await here.run("tail", "--events"))[-3:] == [*shown, topic]


async def test_replies_quote_what_was_printed() -> None:
    async with scene() as here:
        said = await here.group.say("who?")
        await said.reply("me")
        assert texts(await here.run("tail")) == ["<alice> who?", "> alice: who?", "<alice> me"]
        assert texts(await here.run("tail", "-n", 1)) == ["<alice> me"]


async def test_json_has_the_keys_of_join() -> None:
    async with scene() as here:
        said = await here.group.say("hello ci")
        await said.reply("\x1b[31m/me")
        done = await here.run("tail", "--json")
        first, second = (json.loads(line) for line in done.out.splitlines())
        assert first == {
            "type": "message",
            "time": round(said.at.timestamp() * 1000),
            "group": "ops",
            "seq": said.seq,
            "from": "alice",
            "text": "hello ci",
            "mention": True,
        }
        assert (second["text"], second["reply_to"]) == ("␛[31m/me", said.seq)


async def test_reading_leaves_the_read_position_unless_seen() -> None:
    async with scene() as here:
        await here.group.say("one")
        await here.group.say("two")
        unread = ["<alice> one", "<alice> two"]
        assert texts(await here.run("tail", "--since", "seen")) == unread
        assert texts(await here.run("tail", "--since", "seen")) == unread
        assert texts(await here.run("tail", "--since", "seen", "--seen")) == unread
        assert texts(await here.run("tail", "--since", "seen")) == []
        await here.group.say("three")
        assert texts(await here.run("tail", "--since", "seen")) == ["<alice> three"]


async def test_since_takes_seqs_times_and_words() -> None:
    async with scene() as here:
        first = await here.group.say("one")
        for number in range(300):
            await here.group.say(f"text {number}")
        assert len(texts(await here.run("tail", "--since", first.seq))) == 300
        assert len(texts(await here.run("tail", "--since", "1h"))) == 301
        assert len(texts(await here.run("tail", "--since", "start"))) == 301
        assert texts(await here.run("tail", "--since", "now")) == []
        assert texts(await here.run("tail", "--since", "9" * 18)) == []
        assert texts(await here.run("tail", "--since", "start", "-n", 1)) == ["<alice> text 299"]


async def test_wait_ends_with_a_message_or_a_status() -> None:
    async with scene() as here:
        await here.group.say("old")
        done = await here.run("tail", "--wait", "10ms", status=TEMPORARY)
        assert (done.out, done.err) == ("", "tchat: No message came in time.\n")
        assert texts(await here.run("tail", "--wait", 30, "--since", "start")) == ["<alice> old"]
        async with here.started("tail", "--wait", "30") as process:
            lines = lines_of(process)
            while not lines.all:
                await here.group.say("new")
                await lines.read_some()
            assert await process.wait() == 0


class _Output:
    """The lines of a process, read when asked for."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines = Lines()

    @property
    def all(self) -> list[str]:
        return self._lines.all

    async def read_some(self) -> None:
        """Read what there is within a moment."""
        assert self._process.stdout is not None
        with trio.move_on_after(0.2):
            self._lines.feed((await self._process.stdout.receive_some()).decode())


def lines_of(process: trio.Process) -> _Output:
    return _Output(process)


async def test_follow_goes_on_until_interrupted() -> None:
    async with scene() as here:
        await here.group.say("old")
        async with here.started("tail", "-f") as process:
            lines = lines_of(process)
            while len(lines.all) < 1:
                await lines.read_some()
            await here.group.say("new")
            while len(lines.all) < 2:
                await lines.read_some()
            assert [line.partition("] ")[2] for line in lines.all] == ["<alice> old", "<alice> new"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130


@pytest.mark.parametrize("words", [["-f"], ["--wait", "1h"], ["-f", "--events", "--json"]])
async def test_removed_reader_ends_with_status(words: list[str]) -> None:
    async with scene() as here, here.started("tail", *words, "--since", "start") as process:
        lines = lines_of(process)
        if "-f" in words:
            await here.group.say("old")
            while not any("old" in line for line in lines.all):
                await lines.read_some()
        else:
            while here.group.online.count("ci") < 1:
                await here.group.history(limit=1)
        await here.group.kick("ci")
        assert await process.wait() == PERMISSION
        assert process.stderr is not None
        (line,) = b"".join([bytes(data) async for data in process.stderr]).splitlines()
        # Without -f, it may have been removed before it was told that it is a member.
        assert line.startswith(b"tchat: You ")
        assert b" ops" in line
        assert b"invite" in line


async def test_reader_without_name_ends_with_status() -> None:
    async with scene() as here, here.started("tail", "-f") as process:
        while "ci" not in here.group.online:
            await here.group.history(limit=1)
        await here.run_bare("admin", "erase", "ci", "--data", here.server.directory / "server")
        assert await process.wait() == PERMISSION
        assert process.stderr is not None
        errors = b"".join([bytes(data) async for data in process.stderr])
        assert len(errors.splitlines()) == 1


async def test_a_reader_that_goes_ends_it_quietly() -> None:
    async with scene() as here:
        for number in range(200):
            await here.group.say(f"{number} " + "x" * 2000)
        done = await here.shell("tail", "-n", 200, end="| head -n 1")
        assert (done.status, done.err) == (OUTPUT, "")
        assert "<alice> 0 xxx" in done.out


@pytest.mark.parametrize(
    "words", [["--since", "yesterday"], ["-n", "x"], ["--wait", "soon"], ["more"], ["--nope"]]
)
async def test_wrong_arguments_are_one_line(words: list[str]) -> None:
    async with scene() as here:
        done = await here.run("tail", *words, status=USAGE)
        assert done.out == ""
        assert len(done.err.splitlines()) == 1
