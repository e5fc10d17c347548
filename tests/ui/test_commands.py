"""Parsing of typed lines, and the table of commands, from which /help is made."""

from __future__ import annotations

import pytest

from tchat.errors import Code, Refused
from tchat.ui.chat.commands import Do, Say
from tchat.ui.commands.table import COMMANDS, TOPICS
from tests.ui.typist import two_typing


@pytest.mark.parametrize(
    ("line", "word", "argument"),
    [
        ("/1", "requests", ""),
        ("/2 bob", "approve", "bob"),
        ("/approve   bob ", "approve", "bob"),
        ("/APPROVE bob", "approve", "bob"),
        ("/9 ~/my file.pdf", "send", "~/my file.pdf"),
        ("/members ", "members", ""),
        ("/3", "quit", ""),
    ],
)
def test_a_slash_begins_a_command(line: str, word: str, argument: str) -> None:
    done = COMMANDS.parse(line)
    assert isinstance(done, Do)
    assert (done.command.word, done.argument) == (word, argument)


def test_commands_without_argument_take_no_words() -> None:
    with pytest.raises(Refused, match="/members stands alone, so nothing was done") as refused:
        COMMANDS.parse("/members and the rest")
    assert refused.value.code == Code.UNKNOWN_COMMAND


@pytest.mark.parametrize(
    ("line", "text"),
    [("hello", "hello"), (" /2 bob", " /2 bob"), ("//2 bob", "/2 bob"), ("//", "/")],
)
def test_two_slashes_begin_a_message_with_one(line: str, text: str) -> None:
    assert COMMANDS.parse(line) == Say(text)


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_a_blank_line_means_nothing(line: str) -> None:
    assert COMMANDS.parse(line) is None


@pytest.mark.parametrize("line", ["/nope", "/10", "/", "/ 2", "/none"])
def test_an_unknown_command_points_to_help(line: str) -> None:
    with pytest.raises(Refused, match="/help") as refusal:
        COMMANDS.parse(line)
    assert refusal.value.code == Code.UNKNOWN_COMMAND


def test_the_numbers_are_those_of_the_original() -> None:
    words = {command.number: command.word for command in COMMANDS.commands if command.number}
    assert words == {
        1: "requests",
        2: "approve",
        3: "quit",
        4: "members",
        5: "online",
        6: "transfer",
        7: "admin",
        8: "kick",
        9: "send",
    }


def test_required_arguments_have_a_question() -> None:
    assert all(
        command.question.endswith("?") for command in COMMANDS.commands if command.needs_argument
    )
    assert not any(command.question for command in COMMANDS.commands if not command.needs_argument)


def test_commands_with_arguments_have_an_example() -> None:
    for command in COMMANDS.commands:
        assert bool(command.example) == bool(command.argument), command.word
        assert COMMANDS.parse(f"/{command.word} {command.example}") == Do(command, command.example)


def test_wrong_usage_shows_an_example() -> None:
    (policy,) = [command for command in COMMANDS.commands if command.word == "policy"]
    assert policy.usage_sentence == "Usage: /policy [open|approval]; for example: /policy approval"


def test_the_arguments_of_invite_are_optional_and_explained() -> None:
    (invite,) = [command for command in COMMANDS.commands if command.word == "invite"]
    assert not invite.needs_argument
    assert COMMANDS.parse("/invite") == Do(invite, "")
    assert COMMANDS.parse("/invite --for bob") == Do(invite, "--for bob")
    (line,) = [line for line in COMMANDS.help_lines("people") if "/invite" in line]
    assert "--for NAME" in line
    assert "--expires 24h" in line


@pytest.mark.parametrize("line", ["/files", "/files 3", "/files all"])
def test_the_argument_of_files_is_optional(line: str) -> None:
    done = COMMANDS.parse(line)
    assert isinstance(done, Do)
    assert not done.command.needs_argument
    assert done.argument == line.partition(" ")[2]


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        ("/files", "/files [N|all]"),
        ("/get", "/get N [PATH]"),
        ("/send", "/send PATH"),
        ("/cancel", "/cancel N"),
        ("/remove", "/remove N"),
    ],
)
def test_usage_of_file_commands(line: str, usage: str) -> None:
    done = COMMANDS.parse(line)
    assert isinstance(done, Do)
    assert done.command.usage == usage


@pytest.mark.parametrize("word", ["invite", "requests", "approve", "transfer", "kick", "deny"])
def test_help_marks_admin_commands(word: str) -> None:
    tables = [line for topic in TOPICS for line in COMMANDS.help_lines(topic)]
    (line,) = [line for line in tables if f"/{word} " in line]
    assert line.endswith(" (admin)")


@pytest.mark.parametrize("topic", TOPICS)
def test_topic_help_has_one_line_per_command(topic: str) -> None:
    usages = [line.partition("  ")[0] for line in COMMANDS.help_lines(topic)]
    assert [line.split("/")[-1].split()[0] for line in usages] == [
        c.word for c in COMMANDS.topics[topic]
    ]


def test_help_names_all_commands_in_a_few_lines() -> None:
    lines = COMMANDS.help_lines()
    assert len(lines) <= 8
    named = [word.split()[-1].strip("/") for line in lines[:-1] for word in line.split(",")]
    assert named == [command.word for command in COMMANDS.commands]
    assert all(topic in lines[-1] for topic in TOPICS)


async def test_screen_is_told_when_a_command_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the command changed nothing, so that no event follows."""
    async with two_typing() as (alice, _):
        await alice.types("/topic release 2.4")
        unanswered: list[int] = []
        session = alice.chat.session
        monkeypatch.setattr(
            alice.frontend, "changed", lambda: unanswered.append(session.unanswered)
        )
        await alice.types("/topic release 2.4")
        assert unanswered[-1:] == [0]
