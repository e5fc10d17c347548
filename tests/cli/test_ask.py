"""`tchat ask`: who decides, with which exit status, and what the group is told."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.exits import PERMISSION, TEMPORARY, USAGE
from tests.cli.running import message_of, output_of, scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    import tchat
    from tests.cli.running import Scene

IN_TIME = "1500ms"
"""Long enough to post the question on a busy machine."""


@asynccontextmanager
async def asking(
    here: Scene, *words: object, question: str = "deploy?"
) -> AsyncIterator[tuple[trio.Process, tchat.Message, tchat.Events]]:
    """Ask a question; give the process, the question, and the group's events after it."""
    async with (
        here.alice.events(here.group) as events,
        here.started("ask", question, *words) as process,
    ):
        yield process, await message_of(events), events


async def asked(here: Scene, *words: object, question: str = "deploy?") -> None:
    """Ask a question, and interrupt the command when it is posted."""
    async with asking(here, *words, question=question) as (process, _, _):
        process.send_signal(signal.SIGINT)
        assert (await output_of(process))[0] == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("answer", "status", "printed"),
    [("yes", 0, "yes"), (" No! ", 1, "no"), ("`YES`", 0, "yes")],
)
async def test_the_answer_is_the_exit_status(answer: str, status: int, printed: str) -> None:
    async with scene() as here, asking(here) as (process, question, events):
        assert question.text == "deploy? (answer yes or no)"
        await here.group.say("let me see")
        await question.reply(answer)
        assert await output_of(process) == (status, f"{printed}\n", "answered by alice\n")
        closed = await message_of(events)
        assert closed.reply_to == question.seq
        assert closed.text == f"Closed: alice answered {answer.strip()}."


async def test_only_the_named_people_decide() -> None:
    options = ("--options", "red, green", "--from", "bob")
    async with (
        scene() as here,
        asking(here, *options) as (process, _, _),
        here.server.connect("bob") as bob,
    ):
        there = await bob.join("ops")
        await here.group.say("red")
        await there.say("green")
        assert await output_of(process) == (1, "green\n", "answered by bob\n")


async def test_ones_own_messages_are_no_answers() -> None:
    async with scene() as here, asking(here) as (process, _, _):
        await here.run("say", "yes")
        await here.group.say("no")
        assert (await output_of(process))[0] == 1


async def test_nobody_answers_in_time() -> None:
    async with scene() as here, asking(here, "--timeout", IN_TIME) as (process, _, events):
        status, out, err = await output_of(process)
        assert (status, out, err) == (TEMPORARY, "", "tchat: Nobody answered in time.\n")
        assert (await message_of(events)).text == "Closed: nobody answered in time."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_question_is_withdrawn(number: int) -> None:
    async with scene() as here, asking(here) as (process, _, events):
        process.send_signal(number)
        assert (await output_of(process))[0] == 128 + number
        assert (await message_of(events)).text == "Withdrawn."


async def test_a_closed_terminal_is_ignored_under_nohup() -> None:
    async with scene() as here, here.alice.events(here.group) as events:
        command = ["nohup", *here.command("ask", "deploy?")]
        async with here.program(command) as process:
            question = await message_of(events)
            process.send_signal(signal.SIGHUP)
            await question.reply("no")
            assert (await output_of(process))[0] == 1


async def test_a_killed_question_goes_on_with_its_key() -> None:
    async with scene() as here:
        async with asking(here, "--key", "7") as (process, question, _):
            process.kill()
            await process.wait()
        await question.reply("no")
        done = await here.run("ask", "deploy?", "--key", "7", status=1)
        assert (done.out, done.err) == ("no\n", "answered by alice\n")
        said = await here.said(9)
        assert said.count("deploy? (answer yes or no)") == 1
        await here.run("ask", "deploy?", "--key", "7", status=1)
        assert await here.said(9) == said


@pytest.mark.parametrize(
    "words", [["deploy?", "--options", "red,green"], ["release?"], ["/me deploys?"]]
)
async def test_key_of_another_question_is_refused(words: list[str]) -> None:
    async with scene() as here:
        await asked(here, "--key", "7")
        said = await here.said(9)
        done = await here.run("ask", *words, "--key", "7", status=USAGE)
        assert done.err == (
            'tchat: The key 7 is that of another question: "deploy? (answer yes or no)".'
            " Use another key.\n"
        )
        assert await here.said(9) == said


async def test_key_of_killed_question_is_refused() -> None:
    """It is not known where that question is: perhaps the server's answer was lost."""
    async with scene() as here:
        async with asking(here, "--key", "7") as (process, _, _):
            process.kill()
            await process.wait()
        done = await here.run("ask", "release?", "--key", "7", status=USAGE)
        assert done.err.startswith("tchat: The key 7 is that of another question")
        assert await here.said(9) == ["deploy? (answer yes or no)"]


async def test_key_goes_on_with_action_as_question() -> None:
    async with scene() as here:
        await asked(here, "--key", "7", question="/me deploys?")
        said = await here.said(9)
        words = ("/me deploys?", "--key", "7", "--timeout", IN_TIME)
        done = await here.run("ask", *words, status=TEMPORARY)
        assert done.err == "tchat: Nobody answered in time.\n"
        assert (await here.said(9))[: len(said)] == said


@pytest.mark.parametrize("words", [(), ("--timeout", "1h")])
async def test_removed_asker_ends_with_status(words: tuple[str, ...]) -> None:
    async with scene() as here, asking(here, *words) as (process, _, _):
        await here.group.ban("ci")
        assert await output_of(process) == (
            PERMISSION,
            "",
            "tchat: You were banned from this group; only its admin can lift the ban.\n",
        )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["deploy?", "--options", "yes,Yes"],
        ["deploy?", "--options", "yes,,no"],
        ["deploy?", "--options", ",".join(map(str, range(61)))],
        ["deploy?", "--timeout", "x"],
    ],
)
async def test_wrong_arguments_are_one_line(words: list[str]) -> None:
    async with scene() as here:
        done = await here.run("ask", *words, status=USAGE)
        assert done.out == ""
        assert len(done.err.splitlines()) == 1
