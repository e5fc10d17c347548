"""`since="seen"`: a durable cursor, with which a restart loses and repeats nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

import pytest
import trio

import tchat
import tchat.testing
from tests.api.people import connected, group_of, next_of, texts
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, GUARD, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.address import Address
    from tchat.testing import TestServer


async def heard_after_restart(server: TestServer, number: int, cursor: str = "") -> list[str]:
    """Return the first messages that a new run of Bob's program hears."""
    async with server.connect("bob") as bob:
        await bob.open(GROUP)
        async with bob.events(since="seen", cursor=cursor) as events:
            return await texts(events, number)


async def test_restart_continues_after_the_acknowledged_event() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        async with server.connect("bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since="seen") as events:
                for text in ("one", "two", "three"):
                    await ops.say(text)
                await events.ack(await next_of(events, tchat.Message))
                assert await texts(events, 1) == ["two"]
        await ops.say("while it was away")
        assert await heard_after_restart(server, 3) == ["two", "three", "while it was away"]


async def test_each_cursor_has_its_place() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        for text in ("one", "two"):
            await ops.say(text)
        async with server.connect("bob") as bob:
            await bob.open(GROUP)
            async with (
                bob.events(since="seen", cursor="a") as first,
                bob.events(since="seen", cursor="b") as second,
            ):
                await first.ack(await next_of(first, tchat.Message))
                await second.ack(await next_of(second, tchat.Message))
                await second.ack(await next_of(second, tchat.Message))
        await ops.say("three")
        assert await heard_after_restart(server, 2, "a") == ["two", "three"]
        assert await heard_after_restart(server, 1, "b") == ["three"]


async def test_reading_elsewhere_does_not_move_the_cursor() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        async with server.connect("bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since="seen"):
                pass  # ends before it has heard anything
        await ops.say("for the bot")
        async with server.connect("bob") as person:
            await person.open(GROUP)
            async with person.events(since="start") as events:
                await events.ack(await next_of(events, tchat.Message))
        assert await heard_after_restart(server, 1) == ["for the bot"]


async def test_an_answer_is_posted_once_over_runs() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        question = await ops.say("question")
        for _ in range(2):  # it ends before it has acknowledged the question
            async with server.connect("bob") as bob:
                await bob.open(GROUP)
                async with bob.events(since="seen") as events:
                    message = await next_of(events, tchat.Message)
                    assert message.text == "question"
                    answers = [await message.reply("yes"), await message.say("and no")]
        said = [e for e in await ops.history() if isinstance(e, tchat.Message)]
    assert [(m.seq, m.text, m.reply_to) for m in said] == [
        (question.seq, "question", None),
        (answers[0].seq, "yes", question.seq),
        (answers[1].seq, "and no", None),
    ]


async def test_restored_server_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Its new messages have the numbers of messages that the bot has seen and answered."""
    data, backup = tmp_path / "server", tmp_path / "backup"
    async with (
        tchat.testing.open_server(tmp_path) as server,
        group_of(server, "alice", "bob") as who,
    ):
        await who[0].say("kept")
    shutil.copytree(data, backup)
    async with (
        tchat.testing.open_server(tmp_path) as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
    ):
        ops, _ = await alice.open(GROUP), await bob.open(GROUP)
        async with bob.events(since="seen") as events:
            for text in ("lost 1", "lost 2", "lost 3"):
                await ops.say(text)
            for _ in range(4):
                message = await next_of(events, tchat.Message)
                await message.reply(f"re {message.text}")
                await events.ack(message)
    shutil.rmtree(data)
    backup.rename(data)
    async with tchat.testing.open_server(tmp_path) as server, server.connect("alice") as alice:
        ops = await alice.open(GROUP)
        news = [f"new {number}" for number in range(9)]
        for text in news:
            await ops.say(text)
        async with server.connect("bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since="seen") as events:
                for text in news:
                    message = await next_of(events, tchat.Message)
                    assert message.text == text
                    await message.reply(f"re {text}")
        said = [e.text for e in await ops.history() if isinstance(e, tchat.Message)]
    assert said == ["kept", *news, *(f"re {text}" for text in news)]


@pytest.mark.parametrize("since", ["now", "seen"])
async def test_server_restored_under_a_running_bot(
    tmp_path: Path, since: Literal["now", "seen"]
) -> None:
    """The bot goes on through a proxy, behind which the second server has a shorter log."""
    old = [str(number) for number in range(6)]
    async with (
        running_server() as before,
        running_server() as after,
        fault_proxy(before.address) as proxy,
    ):
        await say(before.address, tmp_path, "first")
        async with connected(proxy.address, tmp_path, "bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since=since) as events:
                await say(before.address, tmp_path, *old)
                assert (await texts(events, len(old) + (since == "seen")))[-6:] == old
                await say(after.address, tmp_path, "a", "b")
                proxy.target = after.address
                proxy.cut()
                assert await texts(events, 2) == ["a", "b"]


@pytest.mark.parametrize("since", ["now", "seen", "unread"])
async def test_restored_server_repeats_nothing_unheard(
    tmp_path: Path, since: Literal["now", "seen", "unread"]
) -> None:
    """The bot has received no event yet, and so none tells where it was in the log."""
    async with (
        running_server() as before,
        running_server() as after,
        fault_proxy(before.address) as proxy,
    ):
        await say(after.address, tmp_path, "old")
        await say(before.address, tmp_path, "old", "lost 1", "lost 2")
        async with connected(proxy.address, tmp_path, "bob") as bob:
            bobs = await bob.open(GROUP)
            bobs.mark_read(bobs.last)
            async with bob.events(since=since) as events:
                proxy.target = after.address
                proxy.cut()
                with trio.fail_after(GUARD):
                    while not (bobs.replica.resets and bobs.replica.caught_up):
                        await trio.lowlevel.checkpoint()
                await say(after.address, tmp_path, "new")
                assert await texts(events, 1) == ["new"]


async def test_new_cursor_outlives_restored_server(tmp_path: Path) -> None:
    """Nothing was acknowledged, and the shorter log has grown past the cursor since."""
    news = [str(number) for number in range(9)]
    async with (
        running_server() as before,
        running_server() as after,
        fault_proxy(after.address) as proxy,
    ):
        await say(after.address, tmp_path, "kept")
        async with connected(before.address, tmp_path, "alice") as alice:
            ops = await alice.join(GROUP, create=True)
            for text in ("lost 1", "lost 2", "lost 3", "lost 4"):
                await ops.say(text)
        await say(before.address, tmp_path)  # bob joins, and so begins here
        proxy.target = before.address
        async with connected(proxy.address, tmp_path, "bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since="seen"):
                pass
        proxy.target = after.address
        await say(after.address, tmp_path, *news)
        async with connected(proxy.address, tmp_path, "bob") as bob:
            await bob.open(GROUP)
            async with bob.events(since="seen") as events:
                assert await texts(events, len(news)) == news


async def say(address: Address, homes: Path, *words: str) -> None:
    """Let Alice say some words, after she has founded the group, and Bob has joined it."""
    async with connected(address, homes, "alice") as alice:
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        async with connected(address, homes, "bob") as bob:
            await bob.join(GROUP)
        for text in words:
            await ops.say(text)
