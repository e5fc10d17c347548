"""Refusals over real sockets: which commands are refused to whom, with which code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.core.group.files import Share
from tchat.core.group.membership import (
    AdminTransferred,
    Approve,
    Deny,
    Join,
    Kick,
    Kicked,
    Leave,
    TransferAdmin,
)
from tchat.core.group.messages import Post
from tchat.errors import Code
from tests.helpers import (
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)

if TYPE_CHECKING:
    from tchat.core.group.feature import Command

# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        (Approve, ["dave"], Code.NO_SUCH_REQUEST),
        (Approve, ["bob"], Code.ALREADY_MEMBER),
        (Deny, ["dave"], Code.NO_SUCH_REQUEST),
        (Deny, ["bob"], Code.ALREADY_MEMBER),
        (Kick, ["dave"], Code.NO_SUCH_MEMBER),
        (Kick, ["carol"], Code.NO_SUCH_MEMBER),
        (Kick, ["ALICE"], Code.YOURSELF),
        (TransferAdmin, ["dave"], Code.NO_SUCH_MEMBER),
        (TransferAdmin, ["alice"], Code.YOURSELF),
        (Post, [""], Code.EMPTY_TEXT),
        (Post, [" \n\t "], Code.EMPTY_TEXT),
        (Post, ["\u202e\u200b"], Code.EMPTY_TEXT),
        (Post, ["ä" * 8193], Code.TEXT_TOO_LONG),
        (Share, ["plan.txt", 3, bytes(32)], Code.NOT_UPLOADED),
        (Share, ["plan.txt", 3, bytes(31)], Code.BAD_FILE),
    ],
)
async def test_admin_is_refused_impossible_commands(
    command: type[Command], arguments: list[object], code: Code
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "carol") as carol,
    ):
        await carol.command(Join)
        before = await log_of(server.store)
        refusal = await alice.refusal(command, *arguments)
        assert refusal.code == code
        assert refusal.sentence.endswith(".")
        assert await log_of(server.store) == before
        await alice.post("goes on")
        assert texts(await bob.events(2)) == ["goes on"]


@pytest.mark.parametrize("command", [Approve, Deny, Kick, TransferAdmin])
async def test_only_the_admin_decides_about_others(command: type[Command]) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        raw_client(server.address, "carol") as carol,
        raw_client(server.address, "eve") as eve,
    ):
        await carol.command(Join)
        refusal = await bob.refusal(command, "carol")
        assert refusal.code == Code.NOT_ADMIN
        assert "alice" in refusal.sentence
        assert (await carol.refusal(command, "bob")).code == Code.NOT_APPROVED
        assert (await eve.refusal(command, "bob")).code == Code.NOT_MEMBER


@pytest.mark.parametrize(
    ("command", "arguments"), [(Post, ["hi"]), (Leave, []), (Share, ["f", 1, bytes(32)])]
)
async def test_outsider_may_only_join(command: type[Command], arguments: list[object]) -> None:
    async with (
        running_server() as server,
        members(server, "alice"),
        raw_client(server.address, "eve") as eve,
    ):
        assert (await eve.refusal(command, *arguments)).code == Code.NOT_MEMBER
        assert (await eve.refusal(command, *arguments, group="nowhere")).code == Code.NOT_MEMBER
        assert len(await log_of(server.store)) == 1


@pytest.mark.parametrize("group", ["", "two words", "#ops", "a" * 33, "\u202eops", "o\nps"])
async def test_invalid_group_names_are_refused_in_every_request(group: str) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert (await alice.refusal(Join, group=group)).code == Code.BAD_NAME
        with pytest.raises(AssertionError, match="bad_name"):
            await alice.attach(group=group)


@pytest.mark.parametrize("command", [Approve, Deny, Kick, TransferAdmin])
@pytest.mark.parametrize("letter", ["x", "\u0301\u0316"])
async def test_name_as_long_as_a_frame_is_refused(command: type[Command], letter: str) -> None:
    name = 65_470 // len(letter.encode()) * letter
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        refusal = await alice.refusal(command, name)
        assert refusal.code in (Code.BAD_NAME, Code.NO_SUCH_REQUEST, Code.NO_SUCH_MEMBER)
        await alice.post("nobody was harmed")
        assert texts(await bob.events(1)) == ["nobody was harmed"]
    assert not any("fault" in line for line in server.console)


async def test_longest_message_is_delivered_whole() -> None:
    text = "ä" * 8192
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post(text)
        assert texts(await bob.events(1)) == [text]


async def test_new_admin_gains_and_old_admin_loses_rights() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, _),
    ):
        await alice.command(TransferAdmin, "Bob")
        assert (await alice.refusal(Kick, "carol")).code == Code.NOT_ADMIN
        await bob.command(Kick, "carol")
        last = [event.body for event in await log_of(server.store)][-2:]
        assert last == [AdminTransferred("bob"), Kicked("carol")]
