"""Demo: a temporary server, two bots and you, in one process.

Everything is real: a server on a port of this machine, with TLS and a log on disk, and three
clients that authenticate; but all of it is in one process and one directory, which is deleted at
the end. Ada founds a group, lets you join and makes you its admin; Bob asks to join, and shares a
file when you have approved him. Both answer when they are mentioned.
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
from tchat.client.updates import Addressed, CaughtUp, EventReceived
from tchat.core.group.feature import Event
from tchat.core.group.membership import Joined, TransferAdmin
from tchat.core.group.messages import Posted
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.text import fold
from tchat.net.address import Address
from tchat.net.identity import load_identity
from tchat.net.tls import make_credentials
from tchat.server.app import ServerConfig, serve
from tchat.server.log import Log
from tchat.store.open import open_store
from tchat.ui.chat.chat import Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from tchat.client.replica import Replica
    from tchat.client.session import Session

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


@dataclass(frozen=True, slots=True)
class _Demo:
    """The demo's server, with its pin, its directory and the name of the user."""

    address: Address
    pin: bytes
    directory: Path
    user: str

    @asynccontextmanager
    async def enter(self, user: str, recent: int | None = None) -> AsyncIterator[Session]:
        """Run a session of a user for the length of the block."""
        connector = Connector(self.address, KnownServers(), self.pin)
        identity = load_identity(self.directory / f"{user}.key")
        account = Account(user, identity, ClientId())
        async with open_session(connector, account, recent) as session:
            yield session


async def run_demo(user: str, recent: int, frontend: Callable[[Start], Awaitable[int]]) -> int:
    """Run the demo until `user` quits; return the exit status of the front end."""
    with tempfile.TemporaryDirectory(prefix="tchat-demo-") as name:
        directory = Path(name)
        async with _server(directory / "server", user) as demo, trio.open_nursery() as bots:
            await bots.start(_ada, demo, bots)
            async with demo.enter(user, recent) as session:
                status = await frontend(Start(session, (GROUP,), directory / "downloads"))
            bots.cancel_scope.cancel()
    return status


@asynccontextmanager
async def _server(directory: Path, user: str) -> AsyncIterator[_Demo]:
    """Run a server for the length of the block."""
    log, stop = Log(stream=StringIO()), trio.Event()
    async with open_store(directory) as store, trio.open_nursery() as nursery:
        credentials = make_credentials(directory)
        config = ServerConfig(Address("127.0.0.1", 0), directory)
        port: int = await nursery.start(serve, config, credentials, store, log, stop)
        yield _Demo(Address("127.0.0.1", port), credentials.pin, directory.parent, user)
        stop.set()
    log.close()


async def _ada(
    demo: _Demo,
    bots: trio.Nursery,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run Ada: found an open group, make the user its admin when they join, and start Bob."""
    async with demo.enter("ada") as session:
        group = await session.enter(GROUP)
        await session.request(lambda i, n: SetTopic(i, n, GROUP, _TOPIC))
        await session.request(lambda i, n: SetPolicy(i, n, GROUP, "open"))
        await session.post(group, "Welcome! 欢迎 · أهلا · ようこそ 👋").wait()
        task_status.started()
        answers = _Answers(session, _SENTENCES)
        async for update in session.updates:
            match update:
                case EventReceived(_, Event(actor=actor, body=Joined())) if actor == demo.user:
                    await _hand_over(session, group, actor)
                    bots.start_soon(_bob, demo)
                case Addressed(name):
                    await session.enter(name, join=False)
                case EventReceived():
                    await answers.handle(update)


async def _hand_over(session: Session, group: Replica, user: str) -> None:
    await session.request(lambda i, n: SetPolicy(i, n, GROUP, "approval"))
    await session.request(lambda i, n: TransferAdmin(i, n, GROUP, user))
    text = f"Hello {user}, you are the admin. Bob asks to join: /approve bob lets him in."
    await session.post(group, text).wait()


async def _bob(demo: _Demo) -> None:
    """Run Bob: ask to join and, when approved, share a file."""
    async with demo.enter("bob") as session:
        group = await session.enter(GROUP)
        answers = _Answers(session, _SENTENCES[::-1])
        async for update in session.updates:
            match update:
                case CaughtUp(replica) if replica is group:
                    await _share(session, group, demo)
                case Addressed(name):
                    await session.enter(name, join=False)
                case EventReceived():
                    await answers.handle(update)


async def _share(session: Session, group: Replica, demo: _Demo) -> None:
    if group.state.files:
        return
    note = demo.directory / "what-to-try.txt"
    await trio.Path(note).write_text(_NOTE, encoding="utf-8")
    await session.post(group, f"Thank you, {demo.user}! Here is a file with things to try:").wait()
    await send_file(session, group, note)
    # The saved file is deleted with the demo, and a terminal that is busy with it shows no file.
    await session.post(group, f"It says:\n{_NOTE}".rstrip()).wait()
    await session.post(group, "/me waves").wait()


class _Answers:
    """Answers mentions and direct messages with the next of its sentences."""

    def __init__(self, session: Session, sentences: Iterable[str]) -> None:
        self._session = session
        self._sentences = iter(sentences)

    async def handle(self, update: EventReceived) -> None:
        """Answer a message that mentions this bot, or is direct, unless it comes from a bot."""
        event, group, me = update.event, update.replica, fold(self._session.user)
        direct = group.state.direct
        if not isinstance(event.body, Posted) or (event.seq <= group.head and not direct):
            return
        addressed = direct or me in event.body.text.casefold()
        if addressed and fold(event.actor) not in ("ada", "bob"):
            last = "That is all I have to say. /help lists all commands."
            sentence = next(self._sentences, last)
            await self._session.post(group, sentence).wait()
