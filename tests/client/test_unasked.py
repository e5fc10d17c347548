"""Unasked frames: a session believes only what it has asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client import session as session_module
from tchat.client.client_id import ClientId
from tchat.client.request_tracker import MOST_WRONG_ANSWERS
from tchat.client.session import MOST_KEY_CHANGES
from tchat.client.updates import Disconnected, EventReceived, KeyLinked, StandingChanged
from tchat.core import vocabulary
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import (
    Attached,
    KeysRequest,
    MembershipChange,
    OnlineMember,
    PresenceUpdate,
    ReadPosition,
)
from tchat.errors import Code, Refused
from tests.client.impostor import Wire, event, impostor, kindly, snapshot
from tests.client.receiving import next_update, pending_updates
from tests.core.examples import ANSWERS
from tests.helpers import GROUP, GUARD, seqs, session_at, session_of, until

if TYPE_CHECKING:
    from tchat.client.session import Session


async def test_unasked_attached_changes_no_counter() -> None:
    """Each told number used to move the counter, as far as 2**63 in many steps."""
    client_id = ClientId()

    async def act(wire: Wire) -> None:
        answer = await wire.let_in(seq=0)
        for step in range(1, 300):
            await wire.say({**answer, "counted": step * 2**38})
        await wire.say(event(1))
        await wire.hear()

    async with (
        impostor(act) as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        await until(alice, lambda: ops.last == 1)
    assert client_id.upcoming == 1


LIES = {frame.type: frame.to_map() for frame in ANSWERS if type(frame) in vocabulary.ANSWERS}


@pytest.mark.parametrize("word", LIES)
async def test_answer_to_no_request_ends_the_connection(word: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        await wire.say({**LIES[word], "re": 1000})
        await wire.hear()

    async with impostor(act, kindly) as server, session_of(server.address, "alice") as (alice, _):
        update = await next_update(alice, Disconnected)
    assert isinstance(update, Disconnected)
    assert "never sent" in update.reason


@pytest.mark.parametrize("word", sorted(LIES.keys() - {"key_list", "error"}))
async def test_wrong_answers_fail_the_request_at_last(word: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("keys")
        await wire.say({**LIES[word], "re": request["id"]})
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await alice.ask(KeysRequest)
        assert server.connections == MOST_WRONG_ANSWERS
    assert caught.value.code == Code.MALFORMED


async def test_attached_of_another_group_ends_the_connection() -> None:
    async def lying(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        await wire.say(Attached(request["id"], "lab", "member", 5, 5, 5).to_map())
        await wire.hear()

    async with impostor(lying, kindly) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        await next_update(alice, Disconnected)
        await until(alice, lambda: ops.standing == "member")
        assert (ops.name, ops.head) == (GROUP, 0)


async def test_events_before_the_attach_are_ignored() -> None:
    """After a reconnection, a group is believed only once it is attached again."""

    async def first(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(event(1))

    async def second(wire: Wire) -> None:
        await wire.greet()
        presence = PresenceUpdate(GROUP, (OnlineMember("eve"),), (), reset=True)
        await wire.say(event(2, text="unasked"), presence.to_map(), *snapshot(9))
        await wire.attach(seq=2)
        await wire.say(event(2))
        await wire.hear()

    async with (
        impostor(first, second) as server,
        session_of(server.address, "alice") as (alice, ops),
    ):
        await until(alice, lambda: ops.last == 2)
        assert ops.log[-1].body.to_map()["text"] == "text 2"
        assert not ops.online
        assert not [one for one in pending_updates(alice) if isinstance(one, Disconnected)]


async def test_read_position_beyond_the_log_is_limited() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=1, read=2**40, joined=2**40)
        await wire.say(event(1), ReadPosition(GROUP, 2**50).to_map(), event(2))
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.last == 2)
        assert (ops.read, ops.position) == (1, 1)


async def test_lists_lose_entries_with_impossible_groups() -> None:
    """A list with "@" used to end bots, which asked for the other person of a conversation.

    One with a conversation of other people made them wait forever until it was loaded.
    """
    names = ["@", "@,", "@alice", "", "\x1b[2J", "x" * 200, "@alice,alice"]
    names += ["@bob,eve", GROUP, "@alice,bob"]
    summary: dict[str, object] = {"standing": "member", "last": 1, "read": 0, "place": 1}
    hit: dict[str, object] = {"seq": 1, "at": 1, "actor": "bob", "text": "x"}
    answers: dict[str, dict[str, Any]] = {
        "groups_request": {"type": "group_list", "groups": [{"name": n, **summary} for n in names]},
        "search": {
            "type": "search_results",
            "older": False,
            "hits": [{"group": n, **hit} for n in names],
        },
    }

    async def act(wire: Wire) -> None:
        await wire.greet()
        while (request := await wire.hear()) is not None:
            await wire.say({**answers[request["type"]], "re": request["id"]})

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            groups = await alice.my_groups()
            found = await alice.search("x")
    assert [one.name for one in groups] == [GROUP, "@alice,bob"]
    assert [one.group for one in found.hits] == [GROUP, "@alice,bob"]


async def test_unending_kicks_are_told_once() -> None:
    kick = MembershipChange(GROUP, "outsider", "kicked", "eve").to_map()

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(*[kick] * 50, event(1))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        alice.follow(GROUP)
        told = 0
        with trio.fail_after(GUARD):
            while not isinstance(update := await alice.updates.receive(), EventReceived):
                told += isinstance(update, StandingChanged)
    assert told == 2


async def delays_of(alice: Session, count: int) -> list[float]:
    """Return the delays before the next attempts to connect."""
    delays: list[float] = []
    while len(delays) < count:
        update = await next_update(alice, Disconnected)
        assert isinstance(update, Disconnected)
        delays.append(update.retry_in)
    return delays


async def test_server_that_kills_at_once_is_retried_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends before makes no difference; a connection that lasts does."""
    monkeypatch.setattr("tchat.client.backoff.FIRST_SECONDS", 0.001)
    monkeypatch.setattr("tchat.client.backoff.LONGEST_SECONDS", 0.064)

    async def killing(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(event(1), {"type": "pong"})

    async with impostor(killing) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        delays = await delays_of(alice, 8)
        assert seqs(ops.log) == [1]
        assert min(delays[6:]) >= 0.032
        monkeypatch.setattr(session_module, "STABLE_SECONDS", 0.0)
        assert max((await delays_of(alice, 3))[1:]) <= 0.004


async def test_flood_of_key_changes_ends_the_connection() -> None:
    """Each change is told to the person, and written to a file."""

    async def act(wire: Wire) -> None:
        await wire.let_in()
        for number in range(1000):
            await wire.say({"type": "key_added", "key": number.to_bytes(32, "big"), "since": 1})
        await wire.hear()

    async with impostor(act, kindly) as server, session_of(server.address, "alice") as (alice, _):
        await until(alice, lambda: server.connections > 1)
        changes = [one for one in pending_updates(alice) if isinstance(one, KeyLinked)]
    assert len(changes) <= MOST_KEY_CHANGES


async def test_session_tells_whether_answers_are_awaited() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=2)
        await wire.say(event(1))
        await asked.wait()
        await wire.say(event(2))
        await wire.hear()

    asked = trio.Event()
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.last == 1)
        awaited = [alice.awaited]
        asked.set()
        await until(alice, lambda: ops.last == 2)
        awaited.append(alice.awaited)
        alice.submit(lambda i, n: Post(i, n, GROUP, "hi"))
        awaited.append(alice.awaited)
    events, nothing, answers = awaited
    assert nothing is None
    assert None not in (events, answers)
    assert events != answers


async def test_other_tasks_run_while_frames_are_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of frames may arrive together, each of which takes long in a large group."""
    monkeypatch.setattr(session_module, "_SLICE_SECONDS", -1.0)  # always over

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=500)
        await wire.say(*map(event, range(1, 501)))
        await wire.hear()

    seen: set[int] = set()
    async with impostor(act) as server, session_of(server.address, "alice") as (_, ops):
        with trio.fail_after(GUARD):
            while ops.last < 500:
                seen.add(ops.last)
                await trio.lowlevel.checkpoint()
    assert len(seen) > 250
