"""A server whose frames are well-formed, and lies: a client believes none that could harm it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client import session as session_module
from tchat.client.files import fetch_file, send_file
from tchat.client.slot import Slot
from tchat.core.events import FileShared
from tchat.core.frames import Attached, KeyList, KeysRequest, Membership, Upload
from tchat.errors import Refused
from tchat.net.tls import BUSY_ALERT
from tests.client.impostor import (
    CHALLENGE,
    EVIL,
    Wire,
    event,
    impostor,
    kindly,
)
from tests.core.examples import ANSWERS
from tests.helpers import (
    GROUP,
    GUARD,
    session_at,
    session_of,
    texts,
    until,
)
from tests.hostile_cbor import LARGEST
from tests.protocol import unchecked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.impostor import Act

# ------------------------------------------------------------------ what is well-formed, and a lie


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
async def test_whatever_pace_a_server_gives_something_is_sent(pace: dict[str, int]) -> None:
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
async def test_a_wait_of_any_length_is_borne_for_a_minute_at_most(
    wait: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session_module.LONGEST_WAIT_SECONDS == 60
    monkeypatch.setattr(session_module, "LONGEST_WAIT_SECONDS", 0.01)
    numbers: list[int] = []

    async def act(wire: Wire) -> None:
        await wire.let_in()
        for _ in range(5):
            post = await wire.hear_only("post")
            numbers.append(post["n"])
            slow = {"type": "error", "code": "rate_limited", "text": EVIL, "wait": wait}
            await wire.say({**slow, "re": post["id"]})
        await wire.say({"type": "ok", "re": (await wire.hear_only("post"))["id"], "seq": 1})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD):
            await alice.post(ops, "hello").wait()
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("counted", [2**41, 2**62, LARGEST])
async def test_a_count_out_of_all_proportion_is_not_taken_over(counted: int) -> None:
    slot = Slot()

    async def act(wire: Wire) -> None:
        await wire.let_in(counted=counted)
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice", slot) as (_, ops):
        assert ops.standing == "member"
    assert slot.count() < 2000


async def test_what_is_not_followed_or_was_said_already_changes_nothing() -> None:
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
            {"type": "presence", "group": "elsewhere", "online": ["eve"], "offline": []}
            | {"reset": True},
            Membership("elsewhere", "member", "joined", "eve").to_map(),
            Attached(77, "elsewhere", "member", 5, 5, 5).to_map(),
            {"type": "ok", "re": 99, "seq": 5},
            {"type": "error", "code": EVIL, "text": EVIL, "re": 99},
            {"type": "error", "code": "rate_limited", "text": EVIL, "re": 99, "wait": 2**62},
            event(2),
        )
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.state.seq == 2)
        assert texts(ops.log) == ["text 1", "text 2"]
        assert list(alice.groups) == [GROUP]
        assert server.connections == 1


async def test_a_gap_is_a_reason_to_ask_again() -> None:
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


async def test_a_log_that_jumps_to_the_end_of_numbers_is_survived() -> None:
    async def jumping(wire: Wire) -> None:
        await wire.let_in(seq=LARGEST)
        await wire.say(event(LARGEST, kind="created"))

    async with (
        impostor(jumping, kindly) as server,
        session_at(server.address, "alice") as alice,
    ):
        ops = alice.follow(GROUP)
        await until(alice, lambda: server.connections > 2 and ops.state.seq == 0)


@pytest.mark.parametrize("word", ["ok", "ticket", "link_code", "key_list", "attached"])
async def test_an_answer_of_another_kind_is_given_to_who_asked(word: str) -> None:
    (answer,) = [frame.to_map() for frame in ANSWERS if frame.type == word]

    async def act(wire: Wire) -> None:
        await wire.let_in()
        while (request := await wire.hear()) is not None:
            await wire.say({**answer, "re": request["id"]})

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD):
            for make in (KeysRequest, lambda i: Upload(i, GROUP, 1)):
                assert (await alice.ask(make)).type == word
            assert (await alice.post(ops, "hello").wait()).type == word


async def test_a_list_of_keys_need_not_be_as_long_as_that_of_their_times() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        request = await wire.hear_only("keys")
        lists = {"keys": [b"", bytes(32), bytes(99)], "since": [LARGEST]}
        await wire.say({"type": "key_list", "re": request["id"], **lists})
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, _):
        with trio.fail_after(GUARD):
            answer = await alice.ask(KeysRequest)
    assert isinstance(answer, KeyList)
    assert len(answer.keys) == 3


async def test_evil_text_in_a_refusal_is_made_harmless() -> None:
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


# ------------------------------------------------------------------ files

DATA = bytes(range(256)) * 300
GOOD = hashlib.sha256(DATA).digest()
READY: dict[str, object] = {"type": "ready", "version": 2, "size": len(DATA)}
FAILURE: dict[str, object] = {"type": "error", "code": EVIL, "text": EVIL, "wait": LARGEST}

DOWNLOADS: dict[str, tuple[bytes, bytes]] = {
    "another size": (unchecked({**READY, "size": 5}), DATA),
    "no size": (unchecked({"type": "ready", "version": 2}), DATA),
    "an error": (unchecked(FAILURE), b""),
    "garbage": (b"\xff" * 9000, b""),
    "nothing": (b"", b""),
    "an unknown frame": (unchecked({"type": "dance"}), DATA),
    "another frame": (unchecked({"type": "stored", "sha256": GOOD}), DATA),
    "too few bytes": (unchecked(READY), DATA[:-1]),
    "no bytes": (unchecked(READY), b""),
    "a wrong byte": (unchecked(READY), DATA[:-1] + b"!"),
    "an alert": (BUSY_ALERT, b""),
}

UPLOADS = DOWNLOADS | {
    "no confirmation": (unchecked(READY), b""),
    "garbage for a confirmation": (unchecked(READY), b"\xff" * 100),
    "an error for a confirmation": (unchecked(READY), unchecked(FAILURE)),
    "another frame for a confirmation": (unchecked(READY), unchecked({"type": "pong"})),
    "an unknown confirmation": (unchecked(READY), unchecked({"type": "dance"})),
}


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


def carrying(opening: bytes, rest: bytes, size: int) -> Act:
    """Return an act that chats, and on a transfer connection says `opening` and `rest`."""

    async def act(wire: Wire) -> None:
        first = await wire.hear()
        if first is not None and first["type"] == "transfer":
            await wire.send(opening)
            await wire.raw(size)
            await wire.send(rest)
            return
        await wire.say(CHALLENGE)
        await wire.hear_only("proof")
        await wire.say({"type": "welcome", "version": 2, "user": "alice"})
        await wire.attach()
        while (request := await wire.hear()) is not None:
            if request["type"] in ("upload", "download"):
                await wire.say({"type": "ticket", "re": request["id"], "ticket": bytes(16)})

    return act


@pytest.mark.parametrize(("opening", "rest"), DOWNLOADS.values(), ids=DOWNLOADS)
async def test_a_file_that_does_not_come_as_it_should_leaves_nothing(
    opening: bytes, rest: bytes, tmp_path: Path
) -> None:
    act = carrying(opening, rest, 0)
    file = FileShared(1, EVIL, len(DATA), GOOD)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await fetch_file(alice, ops, file, tmp_path / "received")
        assert caught.value.sentence.isprintable()
        assert left_in(tmp_path / "received") == []
        assert alice.connected


async def test_bytes_behind_a_file_are_not_of_it(tmp_path: Path) -> None:
    act = carrying(unchecked(READY), DATA + b"more" * 1000, 0)
    file = FileShared(1, EVIL, len(DATA), GOOD)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        place = await fetch_file(alice, ops, file, tmp_path)
    assert place.read_bytes() == DATA
    assert place.name.isprintable()
    assert place.parent == tmp_path


async def test_a_file_said_to_be_endless_ends_where_its_bytes_do(tmp_path: Path) -> None:
    act = carrying(unchecked({**READY, "size": LARGEST}), DATA, 0)
    file = FileShared(1, "big", LARGEST, GOOD)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused):
            await fetch_file(alice, ops, file, tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("opening", "rest"), UPLOADS.values(), ids=UPLOADS)
async def test_a_file_that_is_not_taken_as_it_should_be_is_not_shared(
    opening: bytes, rest: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "plan"
    path.write_bytes(DATA)
    act = carrying(opening, rest, len(DATA) + 48 if opening == unchecked(READY) else 0)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await send_file(alice, ops, path)
        assert caught.value.sentence.isprintable()
        assert alice.unanswered == 0
        assert alice.connected


@pytest.mark.parametrize("word", ["ok", "link_code", "attached"])
async def test_what_is_no_ticket_is_not_taken_for_one(word: str, tmp_path: Path) -> None:
    (answer,) = [frame.to_map() for frame in ANSWERS if frame.type == word]

    async def act(wire: Wire) -> None:
        await wire.let_in()
        while (request := await wire.hear()) is not None:
            await wire.say({**answer, "re": request["id"]})

    file = FileShared(1, "plan", 1, GOOD)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused):
            await fetch_file(alice, ops, file, tmp_path)
