"""A bot that is killed with SIGKILL, again and again, answers every message exactly once."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import trio

from tchat.core.group.messages import Posted
from tchat.store.open import open_store
from tests.helpers import GROUP, GUARD, approve, kill_points, log_of, session_of, until
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.processes import Launcher, Process, Server

BOT = '''
"""Answer every message; be killed before step `last`, and end at the message `stop`."""

import os
import signal
import sys
from pathlib import Path

import tchat
from tchat.client.program_state import ProgramState
from tchat.net.link import Link

stop = sys.argv.pop()
last = int(sys.argv.pop())
steps = 0


def counted(function):
    def step(*arguments, **options):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return step


async def bot(message):
    if message.text == stop:
        os.kill(os.getpid(), signal.SIGTERM)
    await message.reply(f"re {message.text}")


os.write, os.fsync, os.ftruncate = counted(os.write), counted(os.fsync), counted(os.ftruncate)
Path.replace, Link.send = counted(Path.replace), counted(Link.send)
ProgramState.record_posted = counted(ProgramState.record_posted)
ProgramState.save_cursor = counted(ProgramState.save_cursor)
tchat.run_bot(bot)
'''


async def start(launch: Launcher, server: Server, last: int = 0, stop: str = "") -> Process:
    program = launch.home / "bot.py"
    program.write_text(BOT)
    where = (server.address.host, server.address.port, "--no-tls", "--group", GROUP)
    return await launch.script(program, *where, last, stop, user="bot")


async def let_in(alice: Session, ops: Replica) -> None:
    """Approve the bot once it asks."""
    await until(alice, lambda: ops.state.requests)
    await approve(alice, "bot")


def answers_in(ops: Replica) -> int:
    return sum(isinstance(e.body, Posted) and e.actor == "bot" for e in ops.log)


async def check_log(home: Path, said: list[str]) -> None:
    """Check that each message has one answer, and that the answers are in order."""
    async with open_store(home / "data") as store:
        log = await log_of(store)
    posted = [(e.seq, e.actor, e.body) for e in log if isinstance(e.body, Posted)]
    questions = {seq: body.text for seq, who, body in posted if who == "alice"}
    replies = [(body.reply, body.text) for _, who, body in posted if who == "bot"]
    assert [*questions.values()] == said
    repeated = {reply: n for reply, n in Counter(replies).items() if n > 1}
    missed = set(questions) - {seq for seq, _ in replies if seq is not None}
    assert (repeated, missed) == ({}, set())
    assert replies == [(seq, f"re {text}") for seq, text in questions.items()]


async def test_bot_killed_under_load_answers_each_once(tmp_path: Path) -> None:
    random = Random(17)
    said = [f"message {n}" for n in range(300)]
    async with launching(tmp_path) as launch:
        launch.install_identity("alice")
        server = await launch.serve()
        async with session_of(server.address, "alice") as (alice, ops):
            bot = await start(launch, server)
            await let_in(alice, ops)
            for text in said:
                alice.post(ops, text)
            for _ in range(10):
                enough = answers_in(ops) + random.randrange(25)
                await until(alice, lambda enough=enough: answers_in(ops) >= enough)  # type: ignore[misc]
                await trio.sleep(random.random() / 50)  # any moment will do
                bot.running.kill()
                await bot.running.wait()
                bot = await start(launch, server)
            await until(alice, lambda: answers_in(ops) >= len(said))
            bot.running.terminate()
            assert await bot.exit() == 143
        assert await server.stop() == 0
    await check_log(tmp_path, said)


async def test_bot_killed_anywhere_answers_each_once(tmp_path: Path) -> None:
    said: list[str] = []
    async with launching(tmp_path) as launch:
        launch.install_identity("alice")
        server = await launch.serve()
        async with session_of(server.address, "alice") as (alice, ops):
            bot = await start(launch, server)
            await let_in(alice, ops)
            await until(alice, lambda: "bot" in ops.state.members)
            bot.running.kill()
            await bot.running.wait()
            for last in kill_points():
                if answers_in(ops) >= len(said):
                    new = [f"run {last}: {word}" for word in ("one", "two", "stop")]
                    said += new
                    for text in new:
                        await alice.post(ops, text).wait()
                # Not at an earlier one, which a bot that was killed handles again.
                bot = await start(launch, server, last, said[-1])
                with trio.fail_after(GUARD):
                    status = await bot.running.wait()
                if status == 143:
                    break
                assert status == -9, bot.err
            assert last > 10, "there were hardly any steps to be killed at"
            bot = await start(launch, server)
            await until(alice, lambda: answers_in(ops) >= len(said))
            bot.running.kill()
            await bot.running.wait()
        assert await server.stop() == 0
    await check_log(tmp_path, said)
