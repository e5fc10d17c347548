"""Commands whose server goes away: none waits for ever, and each says why it ended."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from tchat.cli.place import PATIENCE, _give_up_waiting
from tchat.errors import Unavailable
from tchat.exits import TEMPORARY, UNAVAILABLE
from tests.cli.running import message_of, output_of, scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.session import Session
    from tests.cli.running import Scene

LOST = "tchat: connection lost ("


class Cable:
    """Forwards connections to the server of a scene until it is cut."""

    def __init__(self, here: Scene) -> None:
        self.address = ""
        self._server = here.server.address
        self._scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Forward connections until `cut`."""
        with self._scope:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            task_status.started()
            await trio.serve_listeners(self._forward, listeners)

    def cut(self) -> None:
        """Close the connections, and accept no more."""
        self._scope.cancel()

    async def _forward(self, client: trio.SocketStream) -> None:
        host, _, port = self._server.rpartition(":")
        async with (
            client,
            await trio.open_tcp_stream(host, int(port)) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_copy, client, server)
            nursery.start_soon(_copy, server, client)


async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    async for data in source:
        await target.send_all(data)


@asynccontextmanager
async def cable(here: Scene) -> AsyncIterator[Cable]:
    async with trio.open_nursery() as nursery:
        made = Cable(here)
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_question_times_out_without_the_server() -> None:
    async with scene() as here, cable(here) as line, here.alice.events(here.group) as events:
        words = ("deploy?", "--timeout", "2s")
        async with here.started("ask", *words, server=line.address) as process:
            await message_of(events)
            line.cut()
            status, out, err = await output_of(process)
    assert (status, out) == (TEMPORARY, "")
    _, lost, untold, late = err.splitlines()  # the first is about the server's key
    assert lost.startswith(LOST)
    assert untold == "tchat: The group was not told that the question is closed."
    assert late == "tchat: Nobody answered in time."


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("say", ["--lines"]),
        ("tail", ["--wait", "1h"]),
        ("tail", ["--follow"]),
        ("send", ["-", "--name", "a.txt"]),
    ],
)
async def test_a_command_gives_up_without_the_server(verb: str, words: list[str]) -> None:
    async with (
        scene() as here,
        cable(here) as line,
        here.alice.notices() as notices,
        here.started(verb, *words, "--patience", "300ms", server=line.address) as process,
    ):
        while "ci" not in here.group.online:
            await notices.receive()
        line.cut()
        if verb == "say":
            assert process.stdin is not None
            await process.stdin.send_all(b"hello\n")
        status, out, err = await output_of(process)
    assert (status, out) == (UNAVAILABLE, "")
    _, lost, reason = err.splitlines()  # the first is about the server's key
    assert "connection lost (" in lost
    assert reason == f"tchat: There was no connection to {line.address} for 0.3 s."


class Waiting:
    """A session that is connected, and waits for what `awaited` says."""

    connected = True
    connector = SimpleNamespace(address="localhost:7777")

    def __init__(self) -> None:
        self.awaited: object = None


async def answer_slowly(session: Waiting) -> None:
    """Answer ten requests, each just in time, and then no more."""
    for number in range(11):
        session.awaited = number
        await trio.sleep(PATIENCE - 5)


async def test_command_gives_up_without_an_answer(autojump_clock: trio.testing.MockClock) -> None:
    """A server that is stuck still answers pings: `say` and `ask --timeout` waited for ever."""
    session = Waiting()
    with trio.move_on_after(1000) as nothing_awaited:
        await _give_up_waiting(cast("Session", session), PATIENCE)
    assert nothing_awaited.cancelled_caught
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_slowly, session)
        with pytest.raises(Unavailable, match="localhost:7777 did not answer for 60 s"):
            await _give_up_waiting(cast("Session", session), PATIENCE)
    assert trio.current_time() - begun > 10 * (PATIENCE - 5)
