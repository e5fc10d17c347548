"""Tab completion of commands, arguments, and names in messages."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Join
from tchat.ui.chat.completion import offers
from tchat.ui.commands.table import COMMANDS
from tests.helpers import members, raw_client, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.ui.typist import Typist


@asynccontextmanager
async def desk() -> AsyncIterator[Typist]:
    """Run a chat of Alice, admin of a group with Bob and Bärbel, which Yan asks to join.

    Another group has Zoe as its admin and Alice as a member.
    """
    async with (
        running_server() as server,
        members(server, "alice", "Bob", "Bärbel"),
        members(server, "zoe", "alice", group="zoo"),
        raw_client(server.address, "yan") as yan,
        typing(server, "alice", "ops", "zoo") as alice,
    ):
        await yan.command(Join)
        await alice.shows("yan asks to join")
        await alice.until(lambda: alice.window_of("#zoo").caught_up)
        yield alice


@pytest.mark.parametrize(
    ("before", "start", "found"),
    [
        # Commands, at the start only.
        ("/app", 0, ["/approve "]),
        ("/APP", 0, ["/approve "]),
        ("/un", 0, ["/unban ", "/unblock ", "/unignore ", "/unpin ", "/unmute ", "/unlink "]),
        ("/nope", 0, []),
        ("say /app", 4, []),
        ("/nope b", 6, []),
        # Names in messages: with a colon at the start.
        ("bo", 0, ["Bob: "]),
        ("B", 0, ["Bob: ", "Bärbel: "]),
        ("hello bo", 6, ["Bob "]),
        ("one\nbo", 4, ["Bob "]),
        ("z", 0, []),
        ("hello @b", 6, ["@Bob ", "@Bärbel "]),
        ("see #z", 4, ["#zoo "]),
        # ... and in a message that is the argument of a command.
        ("/me greets bo", 11, ["Bob "]),
        ("/me bo", 4, ["Bob "]),
        ("/topic of bä", 10, ["Bärbel "]),
        ("//b", 0, []),
        # Arguments of commands.
        ("/approve ", 9, ["yan"]),
        ("/2 y", 3, ["yan"]),
        ("/deny x", 6, []),
        ("/kick ", 6, ["Bob", "Bärbel"]),
        ("/6 bo", 3, ["Bob"]),
        ("/msg zo", 5, ["zoe "]),
        ("/msg zoe hello bo", 15, ["Bob "]),
        ("/query z", 7, ["zoe"]),
        ("/whois b", 7, ["Bob", "Bärbel"]),
        ("/reply bo", 7, ["Bob "]),
        ("/reply Bob thanks bä", 18, ["Bärbel "]),
        ("/policy ", 8, ["open", "approval"]),
        ("/policy a", 8, ["approval"]),
        ("/window z", 8, ["#zoo"]),
        ("/w #o", 3, ["#ops"]),
        ("/join z", 6, ["#zoo"]),
        ("/unban ", 7, []),
        ("/unignore ", 10, []),
        ("/jump ", 6, []),
        ("/help k", 6, ["keys", "kick"]),
        ("/help app", 6, ["approve"]),
        ("/members b", 9, []),
        ("/invite b", 8, []),
    ],
)
async def test_tab_completes_the_word_at_the_cursor(
    before: str, start: int, found: list[str]
) -> None:
    async with desk() as alice:
        where, offered = offers(alice.chat, before)
        assert (where, sorted(offered)) == (start, sorted(found))


async def test_every_command_is_offered_once() -> None:
    async with desk() as alice:
        _, offered = offers(alice.chat, "/")
        assert offered == [f"/{command.word} " for command in COMMANDS.commands]
        _, topics = offers(alice.chat, "/help ")
        assert len(topics) == len(set(topics))
        assert topics[0] == "keys"


async def test_results_ignored_and_banned_people_are_completed() -> None:
    async with desk() as alice:
        await alice.types("one", "one more", "/search one", "/ignore Bob", "/ban Bob")
        assert offers(alice.chat, "/jump ") == (6, ["1", "2"])
        assert offers(alice.chat, "/unignore ") == (10, ["bob"])
        assert offers(alice.chat, "/unban ") == (7, ["Bob"])


async def test_answers_and_commands_are_completed_at_a_question() -> None:
    async with desk() as alice:
        alice.chat.enter("/approve")
        assert offers(alice.chat, "") == (0, ["yan"])
        assert offers(alice.chat, "y") == (0, ["yan"])
        assert offers(alice.chat, "/he") == (0, ["/help "])


async def test_members_of_the_current_window_come_first() -> None:
    async with desk() as alice:
        await alice.types("/window zoo")
        assert offers(alice.chat, "/msg ")[1][0] == "zoe "
        assert offers(alice.chat, "/kick ") == (6, ["zoe"])


async def test_last_speakers_come_first_and_oneself_never() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol", "dora") as (_, bob, carol, _),
        typing(server, "alice") as alice,
    ):
        await bob.post("one")
        await carol.post("two")
        await alice.reads("carol: two")
        await alice.types("three")
        assert offers(alice.chat, "") == (0, ["carol: ", "bob: ", "dora: "])
        assert offers(alice.chat, "/kick ") == (6, ["carol", "bob", "dora"])
        assert offers(alice.chat, "/msg ") == (5, ["carol ", "bob ", "dora "])
        await bob.post("four")
        await alice.reads("bob: four")
        assert offers(alice.chat, "") == (0, ["bob: ", "carol: ", "dora: "])
        assert offers(alice.chat, "hello al") == (6, [])
