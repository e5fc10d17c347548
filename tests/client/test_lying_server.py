"""Lying server: valid frames with false content do no harm to a client."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tchat.client import request_tracker as requests_module
from tchat.client.bounds import NUMBER_LIMIT
from tchat.client.client_id import ClientId
from tchat.core.protocol.frames import (
    Attached,
    KeyList,
    KeysRequest,
    MembershipChange,
    OnlineMember,
    PresenceUpdate,
)
from tchat.errors import Refused
from tests.client.impostor import (
    EVIL,
    Wire,
    event,
    impostor,
    kindly,
)
from tests.helpers import (
    GROUP,
    GUARD,
    session_at,
    session_of,
    texts,
    until,
)
from tests.hostile_cbor import LARGEST

# ------------------------------------------------------------------ well-formed lies


@pytest.mark.parametrize(
    "pace",
    [
        {},
        {"interval": 0, "burst": 0},
        {"interval": 0, "burst": 5},
        {"interval": 1, "burst": 0},
        {"interval": LARGEST, "burst": LARGEST},
        {"interval": 1, "burst": LARGEST},
        {"interval": LARGEST, "burst": 1},
    ],
    ids=str,
)
async def test_extreme_paces_do_not_stop_the_client(pace: dict[str, int]) -> None:
    heard: list[str] = []

    async def act(wire: Wire) -> None:
        await wire.greet(**pace)
        await wire.attach()
        post = await wire.hear_only("post")
        heard.append(post["text"])
        await wire.say({"type": "ok", "re": post["id"], "seq": 1})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD):
            await alice.post(ops, "hello").wait()
    assert heard == ["hello"]


@pytest.mark.parametrize("wait", [0, 1, 2**62, LARGEST])
async def test_rate_limit_waits_are_capped(wait: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers before the ledger of work refuse requests that come too fast."""
    assert requests_module.LONGEST_WAIT_SECONDS == 60
    monkeypatch.setattr(requests_module, "LONGEST_WAIT_SECONDS", 0.01)
    asked: list[int] = []

    async def act(wire: Wire) -> None:
        await wire.greet()
        for _ in range(5):
            request = await wire.hear_only("attach")
            asked.append(request["id"])
            slow = {"type": "error", "code": "rate_limited", "text": EVIL, "wait": wait}
            await wire.say({**slow, "re": request["id"]})
        await wire.attach()
        await wire.hear()

    async with impostor(act) as server:
        with trio.fail_after(GUARD):
            async with session_of(server.address, "alice") as (_, ops):
                assert ops.standing == "member"
    assert asked == 5 * asked[:1]


async def test_command_refused_for_speed_has_failed() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        for n in range(2):
            post = await wire.hear_only("post")
            slow = {"type": "error", "code": "rate_limited", "text": "Too fast.", "wait": 1}
            answer = slow if n == 0 else {"type": "ok", "seq": 1}
            await wire.say({**answer, "re": post["id"]})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD):
            with pytest.raises(Refused, match="Too fast"):
                await alice.post(ops, "one").wait()
            assert [message.entry.text for message in ops.pending] == ["one"]  # and is not lost
            await alice.post(ops, "two").wait()


@pytest.mark.parametrize("counted", [2**41, 2**62, LARGEST])
async def test_absurd_command_number_is_ignored(counted: int) -> None:
    client_id = ClientId()

    async def act(wire: Wire) -> None:
        await wire.let_in(counted=counted)
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice", client_id) as (_, ops):
        assert ops.standing == "member"
    assert client_id.next_number() < 2000


async def test_unfollowed_groups_and_duplicates_are_ignored() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(
            event(1, "elsewhere"),
            event(0),
            event(1),
            event(1, text="another"),
            event(0, kind="created"),
            event(0, kind="danced"),
            {"type": "dance"},
            PresenceUpdate("elsewhere", (OnlineMember("eve"),), (), reset=True).to_map(),
            MembershipChange("elsewhere", "member", "joined", "eve").to_map(),
            Attached(1, "elsewhere", "member", 5, 5, 5).to_map(),
            {"type": "ok", "re": 1, "seq": 5},
            {"type": "error", "code": EVIL, "text": EVIL, "re": 1},
            {"type": "error", "code": "rate_limited", "text": EVIL, "re": 1, "wait": 2**62},
            event(2),
        )
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.state.seq == 2)
        assert texts(ops.log) == ["text 1", "text 2"]
        assert list(alice.groups) == [GROUP]
        assert server.connections == 1


async def test_gap_in_the_log_causes_a_new_attach() -> None:
    asked: list[int] = []

    async def with_a_gap(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        asked.append(request["after"])
        await wire.say(Attached(request["id"], GROUP, "member", 9).to_map(), event(1), event(3))

    async def whole(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        asked.append(request["after"])
        await wire.say(Attached(request["id"], GROUP, "member", 3).to_map(), event(2), event(3))
        await wire.hear()

    async with impostor(with_a_gap, whole) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        await until(alice, lambda: ops.state.seq == 3)
    assert asked == [0, 1]
    assert texts(ops.log) == ["text 1", "text 2", "text 3"]


async def test_log_jumping_to_the_largest_seq_is_survived() -> None:
    async def jumping(wire: Wire) -> None:
        await wire.let_in(seq=NUMBER_LIMIT - 1)
        await wire.say(event(NUMBER_LIMIT - 1, kind="created"))

    async with (
        impostor(jumping, kindly) as server,
        session_at(server.address, "alice") as alice,
    ):
        ops = alice.follow(GROUP)
        await until(alice, lambda: server.connections > 1 and ops.state.seq == 0)


async def test_key_list_with_odd_keys_is_survived() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        request = await wire.hear_only("keys")
        keys = [{"key": bytes(size), "since": NUMBER_LIMIT - 1} for size in (0, 32, 64)]
        await wire.say({"type": "key_list", "re": request["id"], "keys": keys})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, _):
        with trio.fail_after(GUARD):
            answer = await alice.ask(KeysRequest)
    assert isinstance(answer, KeyList)
    assert len(answer.keys) == 3


async def test_other_answer_for_keys_is_requested_again() -> None:
    """Otherwise the name would seem to have no keys, and all of them would be new the next time."""
    answers: list[dict[str, Any]] = [
        {"type": "group_list", "groups": []},
        {"type": "key_list", "keys": [{"key": bytes(32), "since": 1}]},
    ]

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("keys")
        await wire.say({"re": request["id"], **answers.pop(0)})
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            keys = await alice.my_keys()
    assert [key.since for key in keys] == [1]


async def test_malformed_key_list_is_requested_again() -> None:
    """Versions below 5 had parallel lists; a record without one of its keys is malformed."""
    old = {"keys": [bytes(32)], "since": [LARGEST]}
    without_since = {"keys": [{"key": bytes(32)}]}
    answers: list[dict[str, Any]] = [old, without_since, {"keys": []}]

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("keys")
        await wire.say({"type": "key_list", "re": request["id"], **answers.pop(0)})
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            answer = await alice.ask(KeysRequest)
    assert isinstance(answer, KeyList)
    assert answer.keys == ()
    assert answers == []


async def test_hostile_text_in_a_refusal_is_sanitized() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        post = await wire.hear_only("post")
        await wire.say({"type": "error", "code": EVIL, "text": EVIL, "re": post["id"]})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await alice.post(ops, "hello").wait()
    for said in (caught.value.code, caught.value.sentence):
        assert said.isprintable()
