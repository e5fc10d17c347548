"""The whole of tchat in one command: a server that leaves nothing behind, two bots, and you.

Everything is as in earnest: a server on a port of this machine, with TLS and its log on disk, and
three clients that prove who they are; only that all of it is in one process and one directory,
which is removed at the end. Ada founds a group, lets you in and makes you its admin; Bob knocks,
and once you have let him in he shares a file. Both answer when their names are said.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.files.transfer import send_file
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.client.updates import CaughtUp, EventReceived
from tchat.core.group import commands as core
from tchat.core.group.events import Event, Joined, Posted
from tchat.core.text import fold
from tchat.net.address import Address
from tchat.net.identity import load_identity
from tchat.net.tls import make_credentials
from tchat.server.app import ServerConfig, serve
from tchat.server.log import Log
from tchat.store.sqlite.store import open_store
from tchat.ui.chat.chat import Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from tchat.client.replica import Replica
    from tchat.client.session import Session

GROUP = "lounge"
_TOPIC = "a demo: all of it on this machine, and gone when you leave"
_NOTE = """\
What there is to try
====================

/help            all commands; /help keys lists the keys
/get 1           this very file, which is on the group's shelf
@ada or @bob     say a name, and they answer
/msg ada hello   write to one person
/search file     find what was said
PageUp, Alt-1…9  read back; go to another window
Ctrl-D           leaves
"""
_WORDS = (
    "The server has every message on its disk before anybody sees it.",
    "If it died this moment, your client would go on where it was.",
    "You can /edit what you said last, or /delete it: then it is off the disk, too.",
    "Try /msg with my name: that is between the two of us.",
    "A bot is one coroutine. I am forty lines or so.",
)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where all this happens: a server with that pin, and a directory for everything."""

    address: Address
    pin: bytes
    directory: Path
    user: str

    @asynccontextmanager
    async def enter(self, user: str, recent: int | None = None) -> AsyncIterator[Session]:
        """Connect as somebody for the length of the block."""
        connector = Connector(self.address, KnownServers(), self.pin)
        identity = load_identity(self.directory / f"{user}.key")
        account = Account(user, identity, ClientId())
        async with open_session(connector, account, recent) as session:
            yield session


async def run_demo(user: str, recent: int, face: Callable[[Start], Awaitable[int]]) -> int:
    """Show everything to `user` until they leave; return the exit status of the face."""
    with tempfile.TemporaryDirectory(prefix="tchat-demo-") as name:
        directory = Path(name)
        async with _server(directory / "server", user) as stage, trio.open_nursery() as bots:
            await bots.start(_ada, stage, bots)
            async with stage.enter(user, recent) as session:
                status = await face(Start(session, (GROUP,), directory / "downloads"))
            bots.cancel_scope.cancel()
    return status


@asynccontextmanager
async def _server(directory: Path, user: str) -> AsyncIterator[_Stage]:
    """Run a server for the length of the block."""
    log, stop = Log(stream=StringIO()), trio.Event()
    async with open_store(directory) as store, trio.open_nursery() as nursery:
        credentials = make_credentials(directory)
        config = ServerConfig(Address("127.0.0.1", 0), directory)
        port: int = await nursery.start(serve, config, credentials, store, log, stop)
        yield _Stage(Address("127.0.0.1", port), credentials.pin, directory.parent, user)
        stop.set()
    log.close()


async def _ada(
    stage: _Stage,
    bots: trio.Nursery,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Found the group, let everybody in until the user is there, hand it over, and call Bob."""
    async with stage.enter("ada") as session:
        group = await session.enter(GROUP)
        await session.request(lambda i, n: core.SetTopic(i, n, GROUP, _TOPIC))
        await session.request(lambda i, n: core.SetPolicy(i, n, GROUP, "open"))
        await session.post(group, "Welcome! 欢迎 · أهلا · ようこそ 👋").wait()
        task_status.started()
        talk = _Talk(session, _WORDS)
        async for update in session.updates:
            match update:
                case EventReceived(_, Event(actor=actor, body=Joined())) if actor == stage.user:
                    await _hand_over(session, group, actor)
                    bots.start_soon(_bob, stage)
                case EventReceived():
                    await talk.take(update)


async def _hand_over(session: Session, group: Replica, user: str) -> None:
    await session.request(lambda i, n: core.SetPolicy(i, n, GROUP, "approval"))
    await session.request(lambda i, n: core.TransferAdmin(i, n, GROUP, user))
    text = f"Hello {user}, you are the admin now. Bob is at the door: F9 lets him in."
    await session.post(group, text).wait()


async def _bob(stage: _Stage) -> None:
    """Ask to join and, once let in, share a file."""
    async with stage.enter("bob") as session:
        group = await session.enter(GROUP)
        talk = _Talk(session, _WORDS[::-1])
        async for update in session.updates:
            match update:
                case CaughtUp(replica) if replica is group:
                    await _share(session, group, stage)
                case EventReceived():
                    await talk.take(update)


async def _share(session: Session, group: Replica, stage: _Stage) -> None:
    if group.state.files:
        return
    note = stage.directory / "what-to-try.txt"
    await trio.Path(note).write_text(_NOTE, encoding="utf-8")
    await session.post(group, f"Thank you, {stage.user}! I have brought something:").wait()
    await send_file(session, group, note)
    await session.post(group, "/me waves").wait()


class _Talk:
    """Says the next thing it knows when its name is said, or somebody writes to it alone."""

    def __init__(self, session: Session, words: Iterable[str]) -> None:
        self._session = session
        self._words = iter(words)

    async def take(self, update: EventReceived) -> None:
        """Answer a message, if it is meant for this one and not of a bot."""
        event, group, me = update.event, update.replica, fold(self._session.user)
        direct = group.state.direct
        if not isinstance(event.body, Posted) or (event.seq <= group.head and not direct):
            return
        meant = direct or me in event.body.text.casefold()
        if meant and fold(event.actor) not in ("ada", "bob"):
            words = next(self._words, "That is all I know. /help knows more.")
            await self._session.post(group, words).wait()
