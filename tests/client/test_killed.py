"""Killed at any step, client and server: shown messages are stored exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.client.client_id import acquire_client_id
from tchat.net.address import Address
from tchat.store.open import open_store
from tests.helpers import GROUP, GUARD, kill_points, log_of, session_of, texts
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Launcher, Process, Server

PROGRAM = '''
"""Say two things; be killed before the step of that number that others could know of."""

import argparse
import os
import signal
from pathlib import Path

import trio

from tchat.client.config.options import add_server_options, session_for
from tchat.net.link import Link

parser = argparse.ArgumentParser()
add_server_options(parser)
parser.add_argument("run")
parser.add_argument("last", type=int)
given = parser.parse_args()
steps = 0


def counted(function):
    def step(*arguments, **options):
        global steps
        steps += 1
        if steps == given.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return step


os.write, os.fsync, os.ftruncate = counted(os.write), counted(os.fsync), counted(os.ftruncate)
Path.replace, Link.send = counted(Path.replace), counted(Link.send)


async def main():
    async with session_for(given, "alice", recent=0) as session:
        ops = session.follow("ops")
        for word in ("one", "two"):
            session.post(ops, f"{given.run} {word}")
            print(f"shown {given.run} {word}", flush=True)
            await session.enter("ops")
        while ops.pending:
            await session.updates.receive()
        print("done", flush=True)


trio.run(main)
'''


async def run(launch: Launcher, server: Server, program: Path, name: str, last: int) -> Process:
    """Run the program until it exits or is killed."""
    where = (server.address.host, server.address.port, "--no-tls")
    process = await launch.script(program, *where, name, last, user="alice")
    with trio.fail_after(GUARD):
        await process.running.wait()
        await process.out.ended()
        await process.err.ended()
    assert "Traceback" not in str(process.err), str(process.err)
    return process


async def founded(launch: Launcher) -> Server:
    """Start a server with a group whose admin is alice."""
    launch.install_identity("alice")
    server = await launch.serve()
    async with session_of(server.address, "alice"):
        return server


async def said(home: Path) -> list[str]:
    """Return the texts of the log on disk; no server may be running."""
    async with open_store(home / "data") as store:
        return texts(await log_of(store))


async def test_killed_anywhere_shown_messages_are_stored_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    shown: list[str] = []
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        for last in kill_points():
            process = await run(launch, server, program, f"run {last}", last)
            shown += [line.removeprefix("shown ") for line in process.lines if line != "done"]
            if "done" in process.lines:
                break
            if last % 4 == 0:  # also the server
                await server.kill()
                server = await launch.serve(port=server.address.port)
        assert last > 10, "there were hardly any steps to be killed at"
        await run(launch, server, program, "at last", 0)
        assert await server.stop() == 0
    stored = await said(tmp_path)
    assert len({*stored}) == len(stored), "something is there twice"
    assert [text for text in stored if text in shown] == shown


async def test_one_of_two_processes_sends_unsent_messages(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        with acquire_client_id(tmp_path / "alice") as client_id:
            place = f"{Address('127.0.0.1', server.address.port)} without TLS"
            client_id.journal.add("alice", place, GROUP, "left here", None, 1)
        async with trio.open_nursery() as nursery:
            for name in ("here", "there"):
                nursery.start_soon(run, launch, server, program, name, 0)
        assert await server.stop() == 0
    assert (await said(tmp_path)).count("left here") == 1
