"""Errors arrive as they are, in no exception group, and a bot outlives those of its handlers."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tchat.core.fingerprints import invite_text, pin_text
from tchat.core.protocol.frames import LinkCode, LinkRequest, Unlink
from tests.api.people import behind_proxy, group_of, next_of
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from pathlib import Path

PIN = pin_text(hashlib.sha256(b"another key").digest())


async def test_error_of_the_block_arrives_bare() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        async with tchat.testing.open_server() as server, server.connect("alice"):
            raise error
    assert raised.value is error


async def test_refusal_in_the_block_arrives_bare() -> None:
    async with tchat.testing.open_server() as server:
        with pytest.raises(tchat.Refused) as refused:
            async with server.connect("alice") as alice:
                await alice.join("nowhere")
        assert refused.value.code == tchat.Code.NO_SUCH_GROUP


async def test_declined_user_is_a_refusal(tmp_path: Path) -> None:
    async with tchat.testing.open_server() as server:
        async with server.connect("alice"):
            pass
        with pytest.raises(tchat.Refused) as refused:
            async with tchat.connect(
                server.address, user="alice", home=tmp_path / "another", pin=server.pin
            ):
                pytest.fail("connected")
    assert refused.value.code == tchat.Code.NAME_TAKEN


async def test_wrong_server_key_is_a_refusal(tmp_path: Path) -> None:
    async with tchat.testing.open_server() as server:
        with pytest.raises(tchat.Refused) as refused:
            async with tchat.connect(server.address, user="alice", home=tmp_path, pin=PIN):
                pytest.fail("connected")
    assert refused.value.code == tchat.Code.SERVER_CHANGED


async def test_an_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(tchat.Unavailable, match=r"Cannot connect to 127\.0\.0\.1:1: "):
        async with tchat.connect("127.0.0.1:1", user="alice", home=tmp_path):
            pytest.fail("connected")


@pytest.mark.parametrize(
    ("server", "options", "sentence"),
    [
        ("127.0.0.1:7777", {}, "The user name is missing"),
        ("127.0.0.1:7777", {"user": "alice", "pin": "sha256:short"}, "a pin is sha256:"),
        ("127.0.0.1:7777", {"user": "alice", "invite": "nothing"}, "an invite is the last word"),
        ("127.0.0.1:7777", {"user": "not a name"}, "letters, digits"),
        (
            "127.0.0.1:7777",
            {"user": "alice", "pin": PIN, "invite": invite_text(bytes(16), bytes(32))},
            "different servers",
        ),
        ("127.0.0.1:7777", {"user": "alice", "pin": PIN, "tls": False}, "cannot be checked"),
        ("elsewhere", {"user": "alice"}, "neither HOST:PORT nor the nickname"),
        ("example.org:7777", {"user": "alice", "tls": False}, "Without TLS, anybody"),
    ],
)
async def test_wrong_arguments_are_told(
    tmp_path: Path, server: str, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(tchat.TchatError, match=sentence):
        async with tchat.connect(server, home=tmp_path, **options):  # type: ignore[arg-type]
            pytest.fail("connected")


async def test_paths_may_be_strings(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    async with tchat.testing.open_server() as server:
        home = str(tmp_path / "home")
        async with tchat.connect(server.address, user="alice", home=home) as alice:
            ops = await alice.join(GROUP, create=True)
            file = await ops.send_file(str(tmp_path / "notes.txt"))
            saved = await file.save(str(tmp_path / "downloads"))
            assert saved.read_text() == "hello"
    assert (tmp_path / "home" / "identity").exists()


async def test_a_cancelled_client_ends_quietly() -> None:
    async with tchat.testing.open_server() as server:
        with trio.fail_after(GUARD), trio.CancelScope() as scope:
            async with server.connect("alice"):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_timeout_in_the_block_arrives_bare() -> None:
    async with tchat.testing.open_server() as server, server.connect("alice") as alice:
        with pytest.raises(trio.TooSlowError):  # noqa: PT012
            async with server.connect("bob") as bob:
                await alice.join(GROUP, create=True)
                with trio.fail_after(0.05):
                    await bob.join(GROUP)  # nobody approves it


async def test_removed_user_key_ends_the_client(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path, "alice") as (proxy, alice):
        session = alice._follower.session
        code = await session.ask(LinkRequest)
        assert isinstance(code, LinkCode)
        with pytest.raises(tchat.Refused) as refused:  # noqa: PT012
            async with tchat.connect(
                str(proxy.target), user="alice", home=tmp_path / "b", link=code.code, tls=False
            ) as other:
                key = other._follower.session.key
                await session.ask(lambda i: Unlink(i, key))
                await trio.sleep_forever()
        assert refused.value.code == tchat.Code.KEY_REMOVED


async def test_ended_client_raises_at_once() -> None:
    async with tchat.testing.open_server() as server:
        async with server.connect("alice") as alice:
            ops = await alice.join(GROUP, create=True)
        for call in (ops.say("hello"), alice.join(GROUP), ops.history(), alice.my_groups()):
            with pytest.raises(trio.ClosedResourceError):
                await call
        assert (ops.name, ops.members) == (GROUP, ["alice"])


# ------------------------------------------------------------------ messages that are cancelled


async def test_message_cancelled_offline_is_dropped(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path, "alice") as (proxy, alice):
        ops = await alice.join(GROUP, create=True)
        proxy.refusing = True
        async with alice.notices() as notices:
            proxy.cut()
            while alice.connected:
                await notices.receive()
        with trio.move_on_after(0.01):
            await ops.say("too late")
        with trio.move_on_after(0.01):
            await ops.say("kept", key="k")
        proxy.refusing = False
        await ops.say("later")
        said = [e.text for e in await ops.history() if isinstance(e, tchat.Message)]
    assert said == ["kept", "later"]


# ------------------------------------------------------------------ handlers


async def test_handler_exceptions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    answered = trio.Event()

    async def answer(message: tchat.Message) -> None:
        if message.text == "fail":
            raise ZeroDivisionError
        if message.text == "empty":
            await message.reply("")
        await message.reply("fine")
        answered.set()

    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(bob.for_each, answer, await bob.open(GROUP))
        await trio.testing.wait_all_tasks_blocked()
        with caplog.at_level(logging.WARNING, "tchat"), trio.fail_after(GUARD):
            for text in ("fail", "empty", "hello"):
                await ops.say(text)
            await answered.wait()
        nursery.cancel_scope.cancel()
    refusal, failure = sorted(caplog.records, key=lambda record: record.levelno)
    assert "was refused (empty_text)" in refusal.message
    assert "The handler failed for Message(" in failure.message
    assert failure.exc_info is not None
    assert failure.exc_info[0] is ZeroDivisionError


async def test_handler_gets_its_event_classes_only() -> None:
    greeted = trio.Event()

    async def greet(event: tchat.Joined) -> None:
        await event.say(f"welcome, {event.name}")
        greeted.set()

    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice") as (ops,),
        server.connect("alice") as alice,
        trio.open_nursery() as nursery,
    ):
        await alice.open(GROUP)
        nursery.start_soon(lambda: alice.for_each(greet, of=tchat.Joined))
        await trio.testing.wait_all_tasks_blocked()
        async with server.connect("bob") as bob:
            await ops.say("not this")
            bobs = await bob.join(GROUP)
            async with bob.events(bobs, since=0) as events:
                while (await next_of(events, tchat.Message)).text != "welcome, bob":
                    pass
        nursery.cancel_scope.cancel()
