"""Direct conversations, unfollowed groups, and being away."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tchat.client.updates import Addressed, EventReceived, PresenceChanged
from tchat.core.protocol.frames import Activity, Attached, OnlineMember, PresenceUpdate
from tchat.errors import Code, Refused
from tests.client.impostor import Wire, event, impostor
from tests.client.receiving import next_update, pending_updates
from tests.helpers import GROUP, GUARD, session_at, session_of, until

TWO = "@alice,bob"


async def attach_all(wire: Wire, heard: list[dict[str, Any]]) -> None:
    """Answer every `attach` as for a member; record all frames."""
    while (frame := await wire.hear()) is not None:
        heard.append(frame)
        if frame["type"] == "attach":
            await wire.say(Attached(frame["id"], frame["group"], "member").to_map())


async def test_writing_to_somebody_follows_the_conversation() -> None:
    heard: list[dict[str, Any]] = []

    async def act(wire: Wire) -> None:
        await wire.greet()
        await attach_all(wire, heard)

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            bob = await alice.write_to("bob")
            assert await alice.write_to("BOB") is bob
        assert bob.name == TWO
        assert set(bob.state.members) == {"alice", "bob"}
        assert heard[0]["group"] == TWO
        assert list(alice.groups) == [TWO]


@pytest.mark.parametrize(
    ("name", "code"), [("Alice", Code.YOURSELF), ("b b", Code.BAD_NAME), ("", Code.BAD_NAME)]
)
async def test_direct_message_to_an_invalid_name_is_refused(name: str, code: Code) -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with pytest.raises(Refused) as caught:
            await alice.write_to(name)
        assert caught.value.code == code
        assert alice.groups == {}


async def test_refused_conversation_is_not_followed() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        refusal = {"code": "no_common_group", "text": "Bob is nobody you know."}
        await wire.say({"type": "error", "re": request["id"], **refusal})
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD), pytest.raises(Refused, match="nobody you know"):
            await alice.write_to("bob")
        assert alice.groups == {}


# ------------------------------------------------------------------ conversations started by others


@pytest.mark.parametrize("group", [TWO, "lab"])
async def test_activity_elsewhere_is_an_update(group: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        await wire.say(Activity(group, 7, "bob").to_map())
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, _):
        assert await next_update(alice, Addressed) == Addressed(group, 7, "bob")
        assert list(alice.groups) == [GROUP]


@pytest.mark.parametrize(
    "group",
    ["@bob,carol", "@alice", "@alice,", "@alice,alice", "@alice,b b", "@bob,alicia", ""],
)
async def test_foreign_conversations_are_not_followed(group: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        await wire.say(Activity(group, 1, "bob").to_map(), event(1))
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.last == 1)
        assert list(alice.groups) == [GROUP]
        assert not any(isinstance(update, Addressed) for update in pending_updates(alice))
        assert (alice.unanswered, server.connections) == (0, 1)


async def test_conversation_is_attached_when_it_starts() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        await wire.attach()
        await wire.say(Activity(TWO, 1, "bob").to_map())
        await wire.attach(seq=1, first=1)
        await wire.say(event(1, TWO), Activity(TWO, 1, "bob").to_map(), event(2, TWO))
        assert await wire.hear() is None

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            bob = await alice.write_to("bob")
        await until(alice, lambda: bob.last == 2)
        assert alice.unanswered == 0
        assert not any(isinstance(update, Addressed) for update in pending_updates(alice))


# ------------------------------------------------------------------ unfollowing


async def test_unfollowed_group_sends_no_updates() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        detach = await wire.hear_only("detach")
        await wire.say(event(1, detach["group"]), event(1, "dev"))
        await attach_all(wire, [])

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        alice.unfollow(ops)
        alice.unfollow(ops)
        assert alice.groups == {}
        pending_updates(alice)
        with trio.fail_after(GUARD):
            anew = await alice.enter(GROUP)
        assert anew is not ops
        assert not any(isinstance(update, EventReceived) for update in pending_updates(alice))


async def test_unfollowing_during_attach_is_final() -> None:
    heard: list[dict[str, Any]] = []

    async def act(wire: Wire) -> None:
        await wire.greet()
        heard.append(await wire.hear_only("attach"))
        while (frame := await wire.hear()) is not None:
            heard.append(frame)

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(enter_in_vain, alice)
                while not heard:
                    await trio.lowlevel.checkpoint()
                alice.unfollow(alice.groups[GROUP])
        assert alice.unanswered == 0
        while len(heard) < 2:
            await trio.lowlevel.checkpoint()
        assert heard[1] == {"type": "detach", "group": GROUP}


@pytest.mark.parametrize("answered", [True, False], ids=["attached", "not attached"])
async def test_late_events_count_unless_they_are_history(answered: bool) -> None:
    """What was said before the window opened does not open it again after it was closed."""
    asked = trio.Event()

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        asked.set()
        answer = Attached(request["id"], GROUP, "member", seq=2).to_map()
        if answered:
            await wire.say(answer, event(1))
            await wire.hear_only("detach")
        else:
            await wire.hear_only("detach")
            await wire.say(answer, event(1))
        await wire.say(*(event(seq, text="alice, look") for seq in (2, 3)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        await asked.wait()
        await until(alice, lambda: ops.last == 1 or not answered)
        alice.unfollow(ops)
        assert await next_update(alice, Addressed) == Addressed(GROUP, 3, "eve")


async def test_late_request_to_join_reaches_the_admin() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(event(1, kind="created", actor="alice"))
        await wire.hear_only("detach")
        await wire.say(event(2, kind="requested", actor="bob"))
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.caught_up)
        alice.unfollow(ops)
        assert await next_update(alice, Addressed) == Addressed(GROUP, 2, "bob")


async def enter_in_vain(alice: Any) -> None:  # noqa: ANN401
    with pytest.raises(Refused) as caught:
        await alice.enter(GROUP)
    assert caught.value.code == Code.CANCELLED


# ------------------------------------------------------------------ being away


async def test_away_is_set_again_after_reconnecting() -> None:
    said: list[str | None] = []
    back = trio.Event()

    async def listen(wire: Wire) -> None:
        away = await wire.hear_only("away")
        said.append(away.get("text"))
        await wire.say({"type": "ok", "re": away["id"]})

    async def once(wire: Wire) -> None:
        await wire.greet()
        await listen(wire)

    async def twice(wire: Wire) -> None:
        await wire.greet()
        await listen(wire)
        back.set()
        await listen(wire)

    async def silent(wire: Wire) -> None:
        await wire.greet()
        said.append((await wire.hear_only("ping"))["type"])

    async with impostor(once, once, twice, silent) as server:
        async with session_at(server.address, "alice") as alice:
            with trio.fail_after(GUARD):
                await alice.set_away("lunch")
                await back.wait()
                await alice.set_away(None)
                while server.connections < 4 or not alice.connected:
                    await alice.updates.receive()
                await alice._requests.wait_for_all()
        assert said == ["lunch", "lunch", "lunch", None]


async def test_refused_away_reason_is_not_resent() -> None:
    said: list[str] = []

    async def act(wire: Wire) -> None:
        await wire.greet()
        away = await wire.hear_only("away")
        said.append(away["text"])
        failure = {"code": "text_too_long", "text": "Too long.", "re": away["id"]}
        await wire.say({"type": "error", **failure})
        await wire.hear()

    async def silent(wire: Wire) -> None:
        await wire.greet()
        while (frame := await wire.hear()) is not None:
            assert frame["type"] != "away"
            await wire.say(Attached(frame["id"], GROUP, "member").to_map())

    async with impostor(act, silent) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            with pytest.raises(Refused, match="Too long"):
                await alice.set_away("x" * 1000)
            await alice.enter(GROUP)
        assert server.connections == 2


async def test_presence_update_sets_away_reasons() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        await wire.say(PresenceUpdate(GROUP, (OnlineMember("Bob", "lunch"),), ()).to_map())
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await next_update(alice, PresenceChanged)
        assert (ops.online, ops.away) == ({"bob": "Bob"}, {"bob": "lunch"})
