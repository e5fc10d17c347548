"""Plain mode whose output is read slowly, as by a pager that nobody scrolls."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

import trio
import trio.testing

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.ui.chat.chat import Start
from tchat.ui.plain.frontend import PlainOptions, run_plain
from tchat.ui.plain.output import print_patiently, wait_writable
from tchat.ui.plain.typed import TypedLines
from tests.helpers import GROUP, identity_of, members, running_server

LINES = [f"{number} {'x' * 100}" for number in range(3000)]
PRINTED = "".join(f"{line}\n" for line in LINES)


async def test_slow_reader_does_not_stop_other_tasks() -> None:
    reading, writing = os.pipe()
    data, finished = b"", trio.Event()

    async def write() -> None:
        await print_patiently(LINES)
        finished.set()

    with os.fdopen(writing, "w") as output, redirect_stdout(output):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            # The pipe is full: this returns only because the writer waits without blocking.
            await trio.testing.wait_all_tasks_blocked()
            assert not finished.is_set()
            while len(data) < len(PRINTED):
                await trio.lowlevel.wait_readable(reading)
                data += os.read(reading, 1 << 16)
    os.close(reading)
    assert data.decode() == PRINTED


async def test_missed_messages_wait_for_a_slow_reader() -> None:
    """The server runs in the same thread here, so it would stop as well."""
    reading, writing = os.pipe()
    typed, typing = os.pipe()  # nothing is typed
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        for number in range(300):
            await alice.post(f"{number} {'x' * 500}")
        connector = Connector(server.address, KnownServers(), plain=True)
        account = Account("bob", identity_of("bob"), ClientId())
        async with open_session(connector, account) as session, trio.open_nursery() as nursery:
            start = Start(session, (GROUP,), downloads=Path("nowhere"))
            with os.fdopen(writing, "w") as output, redirect_stdout(output):
                options = PlainOptions(history=300)
                nursery.start_soon(run_plain, start, TypedLines(typed), options)
                data = b""
                while b" 299 x" not in data:
                    await trio.testing.wait_all_tasks_blocked()
                    await alice.post("still there")
                    await trio.lowlevel.wait_readable(reading)
                    data += os.read(reading, 1 << 14)
                nursery.cancel_scope.cancel()
    for descriptor in (reading, typing):
        os.close(descriptor)


async def test_other_tasks_run_while_many_lines_are_printed(tmp_path: Path) -> None:
    """Also if the output takes everything at once, as a file does."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    file = tmp_path / "output"
    with file.open("w") as output, redirect_stdout(output):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await print_patiently(LINES)
            nursery.cancel_scope.cancel()
    assert file.read_text() == PRINTED
    assert turns >= len(LINES) // 100


async def test_output_without_a_descriptor_is_writable() -> None:
    with redirect_stdout(io.StringIO()):
        await wait_writable()
