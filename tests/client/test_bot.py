"""Bots answer new messages, once, and never history or themselves."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tchat.bot import Handler, Message, run_bot, serve_bot
from tchat.client import backoff
from tchat.core.group.membership import Approve, Ban, Invite, Kick, Leave
from tchat.core.group.messages import Edit, Erased, Posted
from tchat.errors import Code, Refused
from tests.fault_proxy import fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    RawClient,
    log_of,
    members,
    running_server,
    session_at,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.fault_proxy import FaultProxy, Side, Verdict
    from tests.helpers import RunningServer

TOKEN = bytes(range(16))


async def echo(message: Message) -> None:
    await message.reply(f"{message.author} said: {message.text}")


async def run(proxy: FaultProxy, handler: Handler, create: bool = False) -> None:
    """Run a bot until it is cancelled."""
    async with session_at(proxy.address, "bot") as session:
        await serve_bot(session, GROUP, handler, create=create)


@asynccontextmanager
async def running_bot(
    server: RunningServer, handler: Handler, *, create: bool = False
) -> AsyncIterator[FaultProxy]:
    """Run a bot for the length of the block, behind a proxy."""
    async with fault_proxy(server.address) as proxy, trio.open_nursery() as nursery:
        nursery.start_soon(run, proxy, handler, create)
        yield proxy
        nursery.cancel_scope.cancel()


async def is_in(proxy: FaultProxy) -> None:
    """Wait until the bot is a member: later messages are new to it, not history."""
    await proxy.passes(type="attached", standing="member")


async def hears(person: RawClient, text: str) -> None:
    """Receive events until one is the message `text`."""
    while texts(await person.events(1)) != [text]:
        pass


async def test_approved_bot_answers_messages() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        running_bot(server, echo) as proxy,
    ):
        assert (await alice.events(1))[0].actor == "bot"
        await alice.command(Approve, "bot")
        await is_in(proxy)
        await alice.post("hello")
        await hears(alice, "alice said: hello")
        await alice.post("and")
        await hears(alice, "alice said: and")


async def test_bot_as_founder_hears_new_members() -> None:
    async with running_server() as server, running_bot(server, echo, create=True) as proxy:
        await is_in(proxy)
        async with members(server, "bot", "alice") as (_, alice):
            await alice.post("hello")
            await hears(alice, "alice said: hello")


async def test_bot_founds_no_group_unasked() -> None:
    """Its group's name was probably mistyped; nobody would ever come to the one it founded."""
    async with running_server() as server, session_at(server.address, "bot") as session:
        with pytest.raises(Refused, match="There is no group ops") as refused:
            await serve_bot(session, GROUP, echo)
        assert refused.value.code == Code.NO_SUCH_GROUP
        assert await log_of(server.store) == []


async def test_bot_ignores_history_and_its_own_messages() -> None:
    async with running_server() as server, members(server, "alice", "bot") as (alice, bot):
        await alice.post("yesterday's question")
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await bot.post("said by the same person elsewhere")
            await alice.post("today's question")
            await hears(alice, "alice said: today's question")
            await alice.post("another")
            await hears(alice, "alice said: another")
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: today's question", "alice said: another"]


async def test_messages_after_approval_are_not_history() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        running_bot(server, echo) as proxy,
    ):
        await alice.post("before it was let in")
        await proxy.passes(type="attached", standing="waiting")
        await trio.testing.wait_all_tasks_blocked()
        proxy.watch = no_second_attach()
        await alice.command(Approve, "bot")
        await alice.post("said at once")
        proxy.watch = lambda *_: "pass"
        proxy.cut()
        await hears(alice, "alice said: said at once")
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: said at once"]


def no_second_attach() -> Callable[[Side, dict[str, Any]], Verdict]:
    """Return a watch that drops every `attach`, such as the one after an approval."""
    return lambda side, frame: "drop" if frame["type"] == "attach" else "pass"


async def test_restarted_bot_ignores_messages_sent_meanwhile() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with running_bot(server, echo) as proxy:
            await alice.events(1)
            await alice.command(Approve, "bot")
            await is_in(proxy)
            await alice.post("first")
            await hears(alice, "alice said: first")
        await alice.post("while it was away")
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await alice.post("second")
            await hears(alice, "alice said: second")
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: first", "alice said: second"]


async def test_bot_joins_with_an_invite() -> None:
    async def run_invited(proxy: FaultProxy) -> None:
        async with session_at(proxy.address, "bot") as session:
            await serve_bot(session, GROUP, echo, TOKEN)

    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        fault_proxy(server.address) as proxy,
        trio.open_nursery() as nursery,
    ):
        await alice.post("history")
        await alice.command(Invite, hashlib.sha256(TOKEN).digest(), 60_000)
        nursery.start_soon(run_invited, proxy)
        await is_in(proxy)
        await alice.post("news")
        await hears(alice, "alice said: news")
        nursery.cancel_scope.cancel()
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: news"]


async def test_reconnected_bot_answers_missed_messages_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    async with running_server() as server, members(server, "alice", "bot") as (alice, other):
        await other.stream.aclose()
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await alice.post("before")
            await hears(alice, "alice said: before")
            proxy.refusing = True
            proxy.cut()
            await alice.post("meanwhile")
            proxy.refusing = False
            await hears(alice, "alice said: meanwhile")
            await alice.post("after")
            await hears(alice, "alice said: after")
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: before", "alice said: meanwhile", "alice said: after"]


async def test_a_refusal_reaches_the_handler() -> None:
    kicked, refused = trio.Event(), trio.Event()

    async def reply_too_late(message: Message) -> None:
        await kicked.wait()
        with pytest.raises(Refused) as caught:
            await message.reply("too late")
        assert caught.value.code == "not_member"
        refused.set()

    async with (
        running_server() as server,
        members(server, "alice", "bot") as (alice, _),
        running_bot(server, reply_too_late) as proxy,
    ):
        await is_in(proxy)
        await alice.post("hello")
        await alice.command(Kick, "bot")
        kicked.set()
        await refused.wait()


async def test_handler_exception_ends_the_bot() -> None:
    async def break_down(message: Message) -> None:
        raise ZeroDivisionError(message.text)

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with (
            running_server() as server,
            members(server, "alice", "bot") as (alice, _),
            running_bot(server, break_down) as proxy,
        ):
            await is_in(proxy)
            await alice.post("hello")
            await trio.sleep_forever()


@pytest.mark.parametrize("arguments", [[], ["host"], ["host", "port"], ["host", "4000"]])
def test_invalid_bot_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_bot(echo, arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


async def test_refused_reply_does_not_stop_the_bot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def parrot(message: Message) -> None:
        await message.reply(message.text.removeprefix("!"))

    async with (
        running_server() as server,
        members(server, "alice", "bot") as (alice, _),
        running_bot(server, parrot) as proxy,
    ):
        await is_in(proxy)
        await alice.post("!")
        await alice.post("!still here")
        await hears(alice, "still here")
    assert "refused (empty_text)" in capsys.readouterr().err


async def test_bot_reports_its_standing(capsys: pytest.CaptureFixture[str]) -> None:
    """Waiting, approval, a kick and a ban are logged, as they happen and at the next start."""
    reports: list[str] = []

    async def reported(text: str) -> None:
        with trio.fail_after(GUARD):
            while not any(text in line for line in reports):
                reports.extend(capsys.readouterr().err.splitlines())
                await trio.testing.wait_all_tasks_blocked()

    async with running_server() as server, members(server, "alice") as (alice,):
        async with running_bot(server, echo):
            await reported("bot in ops: waiting for alice to approve")
            await alice.command(Approve, "bot")
            await reported("bot in ops: a member")
            await alice.command(Kick, "bot")
            await reported("bot in ops: no longer a member (kicked by alice)")
        async with running_bot(server, echo):
            await reported("bot in ops: kicked; an invite lets the bot in again")
        await alice.command(Ban, "bot")
        async with running_bot(server, echo):
            await reported("bot in ops: banned; only the admin can lift the ban")


# ------------------------------------------------------------------ replies, edits, deletions


async def test_bot_answers_direct_messages() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bot") as (_, other),
        session_of(server.address, "alice") as (alice, _),
    ):
        await other.stream.aclose()
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await proxy.passes(type="group_list")
            with_bot = await alice.write_to("bot")
            await alice.post(with_bot, "psst").wait()
            await until(alice, lambda: "alice said: psst" in texts(with_bot.log))
            await alice.post(with_bot, "and").wait()
            await until(alice, lambda: "alice said: and" in texts(with_bot.log))
        await alice.post(with_bot, "while it was away").wait()
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await proxy.passes(type="attached", group=with_bot.name)
            await alice.post(with_bot, "again").wait()
            await until(alice, lambda: "alice said: again" in texts(with_bot.log))
    answers = [text for text in texts(await log_of(server.store, with_bot.name)) if ": " in text]
    assert answers == ["alice said: psst", "alice said: and", "alice said: again"]


async def test_reconnected_bot_finds_new_direct_conversations() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bot") as (_, other),
        session_of(server.address, "alice") as (alice, _),
    ):
        await other.stream.aclose()
        async with running_bot(server, echo) as proxy:
            await is_in(proxy)
            await proxy.passes(type="group_list")
            proxy.refusing = True
            proxy.cut()
            with_bot = await alice.write_to("bot")
            await alice.post(with_bot, "meanwhile").wait()
            proxy.refusing = False
            await until(alice, lambda: "alice said: meanwhile" in texts(with_bot.log))
    assert texts(await log_of(server.store, with_bot.name)) == [
        "meanwhile",
        "alice said: meanwhile",
    ]


async def test_bot_replies_edits_and_deletes() -> None:
    async def moderate(message: Message) -> None:
        if "!" in message.text:
            await message.delete()
            return
        seq = await message.answer("one moment")
        assert seq is not None
        text, group = f"{message.seq} it was", message.replica.name
        await message.session.request(lambda i, n: Edit(i, n, group, seq, text))

    async with (
        running_server() as server,
        members(server, "bot", "alice") as (other, alice),
        session_of(server.address, "alice") as (session, ops),
    ):
        await other.stream.aclose()
        async with running_bot(server, moderate) as proxy:
            await is_in(proxy)
            seq = await alice.post("what?")
            shout = await alice.post("what!")
            await until(session, lambda: shout in ops.deleted)
            (answer,) = [e for e in ops.log if e.body == Posted("one moment", seq)]
            assert ops.texts == {answer.seq: f"{seq} it was"}
            assert ops.log[shout - 1].body == Erased()


async def test_bot_starting_from_a_snapshot_ignores_history() -> None:
    async def run_light(proxy: FaultProxy) -> None:
        async with session_at(proxy.address, "bot", recent=0) as session:
            await serve_bot(session, GROUP, echo)

    @asynccontextmanager
    async def running_light() -> AsyncIterator[FaultProxy]:
        async with fault_proxy(server.address) as proxy, trio.open_nursery() as nursery:
            nursery.start_soon(run_light, proxy)
            yield proxy
            nursery.cancel_scope.cancel()

    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.post("before it came")
        async with running_light() as proxy:
            await proxy.passes(type="attached", standing="waiting")
            await trio.testing.wait_all_tasks_blocked()
            proxy.watch = no_second_attach()
            await alice.command(Approve, "bot")
            await alice.post("said at once")
            proxy.watch = lambda *_: "pass"
            proxy.cut()
            await hears(alice, "alice said: said at once")
        await alice.post("while it was away")
        async with running_light() as proxy:
            await is_in(proxy)
            await alice.post("today's question")
            await hears(alice, "alice said: today's question")
            assert "before it came" not in [f.get("text") for f in proxy.of_type("event")]
    answers = [text for text in texts(await log_of(server.store)) if " said: " in text]
    assert answers == ["alice said: said at once", "alice said: today's question"]


async def test_a_reply_that_is_refused_is_not_kept() -> None:
    refused = trio.Event()
    kept: list[int] = []

    async def reply_too_late(message: Message) -> None:
        await message.session.request(lambda i, n: Leave(i, n, GROUP))
        with pytest.raises(Refused):
            await message.reply("too late")
        kept.append(len(message.replica.pending))
        refused.set()

    async with (
        running_server() as server,
        members(server, "alice", "bot") as (alice, _),
        running_bot(server, reply_too_late) as proxy,
    ):
        await is_in(proxy)
        await alice.post("hello")
        await refused.wait()
    assert kept == [0]
