"""What typed lines mean, and the table that /help and the README are made from."""

from __future__ import annotations

import pytest

from tchat.errors import Code, Refused
from tchat.ui.chat.commands import COMMANDS, TOPICS, Do, Say, help_lines, parse


@pytest.mark.parametrize(
    ("line", "word", "argument"),
    [
        ("/1", "requests", ""),
        ("/2 bob", "approve", "bob"),
        ("/approve   bob ", "approve", "bob"),
        ("/APPROVE bob", "approve", "bob"),
        ("/9 ~/my file.pdf", "send", "~/my file.pdf"),
        ("/members and the rest", "members", ""),
        ("/3", "quit", ""),
    ],
)
def test_a_slash_begins_a_command(line: str, word: str, argument: str) -> None:
    done = parse(line)
    assert isinstance(done, Do)
    assert (done.command.word, done.argument) == (word, argument)


@pytest.mark.parametrize(
    ("line", "text"),
    [("hello", "hello"), (" /2 bob", " /2 bob"), ("//2 bob", "/2 bob"), ("//", "/")],
)
def test_anything_else_is_a_message_and_two_slashes_are_one(line: str, text: str) -> None:
    assert parse(line) == Say(text)


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_a_blank_line_means_nothing(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("line", ["/nope", "/10", "/", "/ 2", "/none"])
def test_an_unknown_command_is_refused_with_a_way_out(line: str) -> None:
    with pytest.raises(Refused, match="/help") as refusal:
        parse(line)
    assert refusal.value.code == Code.UNKNOWN_COMMAND


def test_the_numbers_are_those_of_the_original() -> None:
    words = {command.number: command.word for command in COMMANDS if command.number}
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


def test_what_needs_an_argument_has_a_question_for_it() -> None:
    assert all(command.question.endswith("?") for command in COMMANDS if command.needs_argument)
    assert not any(command.asks for command in COMMANDS if not command.needs_argument)


def test_an_invite_may_go_without_its_argument_and_the_help_says_what_it_may_be() -> None:
    (invite,) = [command for command in COMMANDS if command.word == "invite"]
    assert not invite.needs_argument
    assert parse("/invite") == Do(invite, "")
    assert parse("/invite --for bob") == Do(invite, "--for bob")
    (line,) = [line for line in help_lines("people") if "/invite" in line]
    assert "--for NAME" in line
    assert "--expires 24h" in line


@pytest.mark.parametrize("line", ["/files", "/files 3", "/files all"])
def test_files_may_go_without_its_argument(line: str) -> None:
    done = parse(line)
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
def test_commands_about_files_say_what_they_take(line: str, usage: str) -> None:
    done = parse(line)
    assert isinstance(done, Do)
    assert done.command.usage == usage


@pytest.mark.parametrize("word", ["invite", "requests", "approve", "transfer", "kick", "deny"])
def test_what_only_the_admin_may_do_says_so_in_the_help(word: str) -> None:
    tables = [line for topic in TOPICS for line in help_lines(topic)]
    (line,) = [line for line in tables if f"/{word} " in line]
    assert line.endswith(" (admin)")


@pytest.mark.parametrize("topic", TOPICS)
def test_help_has_a_line_for_each_command_of_a_topic(topic: str) -> None:
    said = [line.partition("  ")[0] for line in help_lines(topic)]
    assert [line.split("/")[-1].split()[0] for line in said] == [c.word for c in TOPICS[topic]]


def test_help_names_all_commands_in_a_few_lines() -> None:
    lines = help_lines()
    assert len(lines) <= 8
    named = [word.split()[-1].strip("/") for line in lines[:-1] for word in line.split(",")]
    assert named == [command.word for command in COMMANDS]
    assert all(topic in lines[-1] for topic in TOPICS)
