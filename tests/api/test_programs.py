"""Programs on the command line: options, settings, log lines, signals, exit statuses."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

import tchat
import tchat.testing
from tests.api.people import next_of
from tests.helpers import GROUP
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.testing import TestServer
    from tests.processes import Launcher, Process

ECHO = """
import tchat

async def echo(message):
    'Repeat every message.'
    await message.reply(message.text)

tchat.run_bot(echo)
"""

SAY = """
import tchat

async def main(client, groups):
    await groups[0].say(client.options.text)

tchat.run(main, user="script", add_options=lambda parser: parser.add_argument("--text"))
"""


async def run(launch: Launcher, source: str, *arguments: object) -> Process:
    program = launch.home / "program.py"
    program.write_text(source)
    return await launch.script(program, *arguments, user="program")


def at(server: TestServer) -> tuple[str, ...]:
    return (server.address, "--pin", server.pin)


async def test_bot_in_groups_is_approved_and_answers(tmp_path: Path) -> None:
    async with (
        launching(tmp_path) as launch,
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
    ):
        ops, lab = [await alice.join(name, create=True) for name in ("ops", "lab")]
        await lab.set_policy("open")
        async with alice.events() as events:
            bot = await run(launch, ECHO, *at(server), "--group", "ops", "--group", "lab")
            await bot.err.containing("echo in ops: waiting for alice to approve")
            await lab.say("already served here")
            answer = await next_of(events, tchat.Message)
            assert (answer.group.name, answer.text) == ("lab", "already served here")
            await ops.approve("echo")
            await bot.err.containing("echo in ops: a member")
            question = await ops.say("hello")
            answer = await next_of(events, tchat.Message)
            assert (answer.text, answer.reply_to) == ("hello", question.seq)
            await (await alice.talk_to("echo")).say("psst")
            assert (await next_of(events, tchat.Message)).direct
            await ops.kick("echo")
            await bot.err.containing("echo in ops: no longer a member (kicked by alice)")
        bot.running.send_signal(signal.SIGTERM)
        assert await bot.exit() == 143
        await ops.ban("echo")
        bot = await run(launch, ECHO, *at(server), "--group", "ops")
        assert await bot.exit() == 77
        assert "banned" in str(bot.err)


async def test_groups_and_server_of_the_settings(tmp_path: Path) -> None:
    async with (
        launching(tmp_path) as launch,
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        alice.events() as events,
    ):
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        host, _, port = server.address.rpartition(":")
        settings = f'[servers.work]\nhost = "{host}"\nport = {port}\nuser = "robot"\n'
        (tmp_path / "program").mkdir()
        (tmp_path / "program" / "config.toml").write_text(f'{settings}groups = ["ops"]\n')
        bot = await run(launch, ECHO, "work")
        assert (await next_of(events, tchat.Joined)).name == "robot"
        bot.running.send_signal(signal.SIGINT)
        assert await bot.exit() == 130


async def test_a_program_says_something_and_ends(tmp_path: Path) -> None:
    async with (
        launching(tmp_path) as launch,
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        alice.events() as events,
    ):
        await (await alice.join(GROUP, create=True)).set_policy("open")
        program = await run(launch, SAY, *at(server), "--group", GROUP, "--text", "deployed")
        message = await next_of(events, tchat.Message)
        assert (message.who, message.text) == ("script", "deployed")
        assert await program.exit() == 0
        assert program.lines == []


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ((), 64, "the following arguments are required: HOST"),
        (("127.0.0.1", "port"), 64, "'port' is not a port number"),
        (("127.0.0.1:1", "--wrong"), 64, "unrecognized arguments: --wrong"),
        (("127.0.0.1:1", "--group", "ops"), 69, "Cannot connect to 127.0.0.1:1: "),
        (("127.0.0.1:1", "--group", "ops", "--user", "no name"), 65, "letters, digits"),
    ],
)
async def test_wrong_command_line_has_line_and_status(
    tmp_path: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    async with launching(tmp_path) as launch:
        program = await run(launch, ECHO, *arguments)
        assert await program.exit() == status
        assert (len(program.err.all), program.lines) == (1, [])
        assert sentence in program.err.all[0]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ((), 64, "The group is missing: add --group NAME."),
        (("--group", "nowhere"), 65, "Check its name; --create founds it."),
        (("--group", "ops", "--pin", f"sha256:{43 * 'A'}"), 77, "is not the expected server"),
    ],
)
async def test_declined_program_has_a_status(
    tmp_path: Path, options: tuple[str, ...], status: int, sentence: str
) -> None:
    async with launching(tmp_path) as launch, tchat.testing.open_server() as server:
        program = await run(launch, ECHO, server.address, *options)
        assert await program.exit() == status
        assert sentence in program.err.all[-1]
