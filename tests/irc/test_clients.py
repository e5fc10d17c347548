"""Real irssi and WeeChat in tmux, where they are installed."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tests.irc.client import PASSWORD, Scene, scene
from tests.ui.tmux import Tmux, require_tmux

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


LOOK_SECONDS = 0.02
"""Seconds between two looks at a screen: each starts a program."""


class Terminal:
    """An IRC client in tmux, driven from threads, since the server runs in this process."""

    def __init__(self, tmux: Tmux) -> None:
        self._tmux = tmux

    async def sees(self, *texts: str) -> None:
        """Wait until the screen shows all of these texts."""
        while not await self.shows(*texts):
            pass

    async def shows(self, *texts: str) -> bool:
        """Return whether the screen shows all of these texts; if not, after a moment."""
        shown = await self._run("capture-pane", "-p")
        found = all(text in shown for text in texts)
        await trio.sleep(0 if found else LOOK_SECONDS)
        return found

    async def type(self, line: str) -> None:
        """Type a line and press Enter."""
        await self._run("send-keys", "-l", line)
        await self._run("send-keys", "Enter")

    async def press(self, *keys: str) -> None:
        """Press keys, by their names in tmux."""
        await self._run("send-keys", *keys)

    async def _run(self, *arguments: str) -> str:
        return await trio.to_thread.run_sync(self._tmux.run, *arguments)


@asynccontextmanager
async def in_tmux(place: Path, *command: str) -> AsyncIterator[Terminal]:
    """Run an IRC client in tmux; skip the test if it is not installed."""
    require_tmux()
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    tmux = Tmux(place, list(command), HOME=str(place), LC_ALL="C.UTF-8")
    try:
        yield Terminal(tmux)
    finally:
        tmux.end()


@asynccontextmanager
async def irssi(here: Scene, place: Path) -> AsyncIterator[Terminal]:
    """Run irssi, connected as the door prints it, with #ops in front."""
    async with in_tmux(place, "irssi", "--home", str(place / "irssi")) as terminal:
        await terminal.sees("[(status)]")
        # Its flood protection sends a line in two seconds, after five at once.
        await terminal.type("/set cmd_queue_speed 10msec")
        await terminal.type("/set cmds_max_at_once 100")
        await terminal.type(f"/connect 127.0.0.1 {here.door.port} {PASSWORD}")
        await terminal.sees("Welcome to tchat")
        # The channel's window exists once the door has joined it, which the status window does not
        # show; until then the command does nothing.
        while not await terminal.shows("[#ops]"):
            await terminal.type("/window goto #ops")
        yield terminal


@asynccontextmanager
async def weechat(here: Scene, place: Path) -> AsyncIterator[Terminal]:
    """Run WeeChat, connected as the door prints it, with #ops in front."""
    settings = (
        "/set weechat.look.paste_max_lines -1",  # lines as fast as these would count as a paste
        "/set irc.server_default.anti_flood 0",  # else it sends a line in two seconds
        "/set irc.server_default.anti_flood_prio_high 0",  # of versions before 4.0
    )
    options = ("--dir", str(place / "weechat"), *(w for one in settings for w in ("-r", one)))
    async with in_tmux(place, "weechat", *options) as terminal:
        await terminal.sees("Plugins loaded")
        server = f"127.0.0.1/{here.door.port}"
        await terminal.type(f"/server add tchat {server} -notls -password={PASSWORD}")
        await terminal.type("/connect tchat")
        await terminal.sees("#ops")
        await terminal.type("/buffer #ops")
        await terminal.sees("Channel #ops")
        yield terminal


async def said(events: tchat.Events, text: str) -> None:
    """Wait for a message with this text."""
    async for event in events:
        if isinstance(event, tchat.Message) and event.text == text:
            return


CLIENTS = pytest.mark.parametrize("client", [irssi, weechat], ids=["irssi", "weechat"])


@CLIENTS
async def test_chatting_with_a_real_client(client: type, tmp_path: Path) -> None:
    async with scene() as here:
        await here.ops.set_topic("servers")
        await here.ops.say("missed while away")
        async with client(here, tmp_path) as terminal, here.alice.events() as events:
            await terminal.sees("servers", "missed while away", "@alice")
            await terminal.type("hello from there")
            await said(events, "hello from there")
            await terminal.type("/me waves")
            await said(events, "waves")
            question = await here.ops.say("two\nlines, größer")
            await here.ops.say("/me nods")
            await here.ops.say("yes", reply_to=question)
            await terminal.sees("two", "lines, größer", "alice nods", "> alice: two lines", "yes")


@CLIENTS
async def test_moderation_with_a_real_client(client: type, tmp_path: Path) -> None:
    async with scene() as here, client(here, tmp_path) as terminal:
        await here.ops.transfer("bob")
        await here.ops.say("you are the admin")
        await terminal.sees("you are the admin")
        # Before the commands: what has happened when they begin is not among the events.
        async with here.alice.events() as events, here.server.connect("carol") as carol:
            await terminal.type("/topic by bob")
            await terminal.type("/mode #ops +i")
            async for event in events:
                if isinstance(event, tchat.PolicySet):
                    break
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carol.join, "ops")
                await terminal.sees("carol asks to join #ops")
                await terminal.type("/invite carol #ops")
            await terminal.type("/kick carol")
            async for event in events:
                if isinstance(event, tchat.Left):
                    assert event.name == "carol"
                    break
        assert here.ops.topic == "by bob"


@CLIENTS
async def test_conversations_with_a_real_client(client: type, tmp_path: Path) -> None:
    async with (
        scene() as here,
        client(here, tmp_path) as terminal,
        here.alice.events() as events,
    ):
        await terminal.type("/query alice")
        await terminal.type("psst")
        await said(events, "psst")
        await (await here.alice.talk_to("bob")).say("who is there?")
        await terminal.sees("psst", "who is there?")
        await terminal.type("/msg *tchat edit alice PSST")
        async for event in events:
            if isinstance(event, tchat.Edited):
                assert event.text == "PSST"
                break
