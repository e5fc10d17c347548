"""Demo: a temporary server, two bots and you, in one process.

Everything is real: a server on a port of this machine, with TLS and a log on disk, and three
clients that authenticate; but all of it is in one process and one directory, which is deleted at
the end. Ada founds a group, lets you join and makes you its admin; Bob asks to join, and shares a
file when you have approved him. Both answer when they are mentioned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

import tchat
import tchat.testing
from tchat.client.config.opening import find_server, open_user_session
from tchat.core.fingerprints import read_pin
from tchat.ui.chat.chat import Start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

GROUP = "lounge"
_TOPIC = "a demo on this machine; everything is deleted when you quit"
_NOTE = """\
/help            list all commands; /help keys explains the keys
/get 1 ~/        save this file where it stays when you quit
@ada or @bob     mention one of the bots, and it answers
/msg ada hello   send a direct message
/search file     search for messages
/quit            quit
"""
_SENTENCES = (
    "The server has every message on disk before anybody sees it.",
    "If the server crashed now, your client would reconnect and resume.",
    "You can /edit your last message, or /delete it: then it is deleted on disk, too.",
    "Try /msg with my name: a direct message is for the two of us only.",
    "A bot is one coroutine. I have about forty lines.",
)
_BOTS = ("ada", "bob")


async def run_demo(user: str, recent: int, frontend: Callable[[Start], Awaitable[int]]) -> int:
    """Run the demo until `user` quits; return the exit status of the front end."""
    async with tchat.testing.open_server() as server, trio.open_nursery() as bots:
        await bots.start(_ada, server, user, bots)
        home = server.home(user)
        found = replace(find_server(server.address, home), pin=read_pin(server.pin))
        async with open_user_session(found, user, home=home, recent=recent) as session:
            status = await frontend(Start(session, (GROUP,), server.directory / "downloads"))
        bots.cancel_scope.cancel()
    return status


async def _ada(
    server: tchat.testing.TestServer,
    user: str,
    bots: trio.Nursery,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run Ada: found an open group, make the user its admin when they join, and start Bob."""
    async with server.connect("ada") as ada:
        lounge = await ada.join(GROUP, create=True)
        await lounge.set_topic(_TOPIC)
        await lounge.set_policy("open")
        await lounge.say("Welcome! 欢迎 · أهلا · ようこそ 👋")
        async with ada.events() as events:
            task_status.started()
            sentences = iter(_SENTENCES)
            async for event in events:
                if isinstance(event, tchat.Joined) and event.name == user:
                    await _hand_over(lounge, user)
                    bots.start_soon(_bob, server, user)
                elif isinstance(event, tchat.Message):
                    await _answer(event, sentences)


async def _hand_over(lounge: tchat.Group, user: str) -> None:
    await lounge.set_policy("approval")
    await lounge.transfer(user)
    text = f"Hello {user}, you are the admin. Bob asks to join: /approve bob lets him in."
    await lounge.say(text)


async def _bob(server: tchat.testing.TestServer, user: str) -> None:
    """Run Bob: ask to join and, when approved, share a file."""
    async with server.connect("bob") as bob, bob.events() as events:
        lounge = await bob.join(GROUP)
        await _share(lounge, server.directory / "what-to-try.txt", user)
        sentences = iter(_SENTENCES[::-1])
        async for event in events:
            if isinstance(event, tchat.Message):
                await _answer(event, sentences)


async def _share(lounge: tchat.Group, note: Path, user: str) -> None:
    await trio.Path(note).write_text(_NOTE, encoding="utf-8")
    await lounge.say(f"Thank you, {user}! Here is a file with things to try:")
    await lounge.send_file(note)
    # The saved file is deleted with the demo, and a terminal that is busy with it shows no file.
    await lounge.say(f"It says:\n{_NOTE}".rstrip())
    await lounge.say("/me waves")


async def _answer(message: tchat.Message, sentences: Iterator[str]) -> None:
    """Answer a mention or a direct message with the next sentence, unless it comes from a bot."""
    if (message.direct or message.mentions_me) and message.who not in _BOTS:
        await message.say(next(sentences, "That is all I have to say. /help lists all commands."))
