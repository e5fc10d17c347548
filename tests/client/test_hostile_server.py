"""A server may say what it likes: a session tries again or says why not, and nothing else.

The server here is made by hand: each connection that it gets is answered by the next of its
`acts`, and by the last of them for ever.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
import trio

from tchat.client import session as session_module
from tchat.client.files import fetch_file, send_file
from tchat.client.slot import Slot
from tchat.client.updates import Connected, Disconnected
from tchat.core.events import FileShared
from tchat.core.frames import Attached, KeyList, KeysRequest, Membership, Upload
from tchat.core.framing import HANDSHAKE_LIMIT, FrameBuffer, unpack
from tchat.errors import Refused, StartupError, TchatError, root_of
from tchat.net.address import Address, port_of
from tchat.net.tls import BUSY_ALERT
from tests.client.listening import told
from tests.core.examples import ANSWERS
from tests.helpers import (
    GROUP,
    GUARD,
    log_of,
    running_server,
    session_at,
    session_of,
    texts,
    until,
)
from tests.hostile_frames import LARGEST, WRONG_VALUES, Mutator, costly_answers, framed
from tests.protocol import unchecked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Act = Callable[["Wire"], Awaitable[None]]

FRAMES = int(os.environ.get("TCHAT_FUZZ_FRAMES", "2000")) // 2
A_CONNECTION = 20
"""How many frames one connection of the long run gets."""

EVIL = "\x1b]0;owned\x07\u202e\x00\nfake line"
FINAL = {"bad_name", "bad_version", "replaced", "name_taken", "bad_proof", "bad_link"}
FINAL |= {"key_removed", "not_encrypted"}


class Wire:
    """The hostile server's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()

    async def say(self, *items: dict[str, object]) -> None:
        """Send frames of anything."""
        await self.send(b"".join(map(unchecked, items)))

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.stream.send_all(data)

    async def hear(self) -> dict[str, Any] | None:
        """Return the client's next frame, None at its end."""
        while (body := self._buffer.pop()) is None:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._buffer.feed(data)
        return unpack(body)

    async def hear_only(self, kind: str) -> dict[str, Any]:
        """Return the client's next frame of this type."""
        while (frame := await self.hear()) is not None:
            if frame["type"] == kind:
                return frame
        raise trio.BrokenResourceError

    async def raw(self, size: int) -> None:
        """Take so many bytes that are not framed."""
        size -= len(self._buffer.rest())
        while size > 0 and (data := await self.stream.receive_some(size)):
            size -= len(data)

    async def greet(self, **changes: object) -> None:
        """Do a right handshake, but for these changes in the welcome."""
        await self.hear_only("hello")
        await self.say({"type": "challenge", "version": 2, "nonce": bytes(32)})
        await self.hear_only("proof")
        await self.say({"type": "welcome", "version": 2, "user": "alice", **changes})

    async def let_in(self, **changes: object) -> dict[str, object]:
        """Greet, and say that the client is a member of the group, but for these changes."""
        await self.greet()
        return await self.attach(**changes)

    async def attach(self, **changes: object) -> dict[str, object]:
        """Answer the next attach; return what was answered."""
        request = await self.hear_only("attach")
        answer = Attached(request["id"], request["group"], "member", seq=0).to_map() | changes
        await self.say(answer)
        return answer


class Impostor:
    """Listens, and plays its acts."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.connections = 0
        self.leave = trio.CancelScope()
        self.address: Address

    async def play(self, stream: trio.SocketStream) -> None:
        """Answer one connection, until the act is over or the client has gone."""
        self.connections += 1
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        with suppress(trio.BrokenResourceError):
            await act(Wire(stream))
            await stream.send_eof()
            async for _ in stream:
                pass
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def impostor(*acts: Act) -> AsyncIterator[Impostor]:
    """Be such a server for the length of the block."""
    server = Impostor(*acts)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.address = Address("127.0.0.1", port_of(listeners[0]))

    async def serve() -> None:
        with server.leave:
            await trio.serve_listeners(server.play, listeners)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield server
        nursery.cancel_scope.cancel()


async def kindly(wire: Wire) -> None:
    """Let the client in, and be silent from then on."""
    await wire.let_in()
    while await wire.hear():
        pass


async def ending_of(*acts: Act) -> TchatError:
    """Return why a session ends that has met these acts."""
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(GUARD):
        async with impostor(*acts) as server, session_at(server.address, "alice"):
            await trio.sleep_forever()
    error = root_of(caught.value)
    assert isinstance(error, TchatError), error
    return error


def event(seq: int, group: str = GROUP, **changes: object) -> dict[str, object]:
    """Return an event as a server would send it."""
    header = {
        "type": "event",
        "kind": "posted",
        "group": group,
        "seq": seq,
        "at": 1,
        "actor": "eve",
    }
    return {**header, "client": bytes(8), "n": seq, "text": f"text {seq}", **changes}


# ------------------------------------------------------------------ before anybody is welcome

CHALLENGE: dict[str, object] = {"type": "challenge", "version": 2, "nonce": bytes(32)}

OPENINGS: dict[str, bytes] = {
    "nothing": b"",
    "a byte": b"\x00",
    "garbage": b"\xff" * 9000,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a TLS alert": BUSY_ALERT,
    "an empty frame": framed(b""),
    "a frame that never ends": framed(b"\xa1", HANDSHAKE_LIMIT),
    "a frame above the limit": framed(bytes(HANDSHAKE_LIMIT + 1)),
    "a length above all limits": b"\xff\xff\xff\xff",
    "a nonce too short": unchecked({**CHALLENGE, "nonce": bytes(31)}),
    "a nonce too long": unchecked({**CHALLENGE, "nonce": bytes(33)}),
    "no nonce": unchecked({"type": "challenge", "version": 2}),
    "a nonce of text": unchecked({**CHALLENGE, "nonce": "x" * 32}),
    "a version below zero": unchecked({**CHALLENGE, "version": -1}),
    "a version above all": unchecked({**CHALLENGE, "version": 2**63}),
    "welcome at once": unchecked({"type": "welcome", "version": 2, "user": "alice"}),
    "an event at once": unchecked(event(1)),
    "an unknown frame at once": unchecked({"type": "dance"}),
    "two challenges": unchecked(CHALLENGE) * 2,
    "a challenge, and nothing": unchecked(CHALLENGE),
    "a challenge, and garbage": unchecked(CHALLENGE) + b"\xff" * 9000,
    "a challenge, and a wrong welcome": unchecked(CHALLENGE) + unchecked({"type": "welcome"}),
    "a challenge, and a nameless welcome": unchecked(CHALLENGE)
    + unchecked({"type": "welcome", "version": 2, "user": 7}),
    "a short nonce, and a welcome": unchecked({**CHALLENGE, "nonce": b""})
    + unchecked({"type": "welcome", "version": 2, "user": "alice"}),
    "an error of no code": unchecked({"type": "error", "code": "", "text": ""}),
    "an error of evil text": unchecked({"type": "error", "code": EVIL, "text": EVIL}),
    "goodbye": unchecked({"type": "goodbye", "code": EVIL, "text": EVIL}),
    **{
        f"a challenge with {what}": unchecked(CHALLENGE)[:4] + cbor2.dumps(CHALLENGE)[:-34] + value
        for what, value in WRONG_VALUES[:60:7]
    },
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
async def test_a_first_server_that_is_none_is_named_as_that(opening: bytes) -> None:
    async def act(wire: Wire) -> None:
        await wire.send(opening)

    error = await ending_of(act)
    assert isinstance(error, StartupError)
    assert not any(ord(character) < 32 or character == "\u202e" for character in error.sentence)


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
async def test_a_server_that_turns_into_none_is_tried_again(opening: bytes) -> None:
    async def turned(wire: Wire) -> None:
        await wire.send(opening)

    async def broken(wire: Wire) -> None:
        await wire.let_in()

    async with (
        impostor(broken, turned, turned, turned, kindly) as server,
        session_of(server.address, "alice") as (alice, _),
    ):
        for _ in range(3):
            await told(alice, Disconnected)
        assert await told(alice, Connected) == Connected("alice", again=True)
        assert server.connections == 5


@pytest.mark.parametrize("code", sorted(FINAL))
@pytest.mark.parametrize("kind", ["error", "goodbye"])
async def test_a_server_that_will_not_have_somebody_is_believed(code: str, kind: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        await wire.say({"type": kind, "code": code, "text": EVIL})

    error = await ending_of(act)
    assert isinstance(error, Refused)
    assert error.code == code
    assert "\x1b" not in error.sentence
    assert "\n" not in error.sentence


async def test_a_server_that_is_busy_is_asked_again_and_again() -> None:
    async def busy(wire: Wire) -> None:
        await wire.say({"type": "error", "code": "busy", "text": EVIL, "wait": LARGEST})

    async with (
        impostor(*[busy] * 5, kindly) as server,
        session_of(server.address, "alice"),
    ):
        assert server.connections == 6


# ------------------------------------------------------------------ very many wrong frames


def bearable(data: bytes) -> bool:
    """Return whether this is not a reason to leave for good, which is its server's to give."""
    try:
        code = unpack(data[4:]).get("code")
    except TchatError:
        return True
    return code not in FINAL


async def test_a_session_survives_very_many_wrong_frames() -> None:
    frames = [frame.data for frame in Mutator(11, to_client=True).take(FRAMES)]
    frames += [frame.data for frame in costly_answers()]
    frames = [data for data in frames if bearable(data)]
    waiting = list(frames)

    async def throw(wire: Wire) -> None:
        await wire.let_in()
        part = [waiting.pop() for _ in range(min(A_CONNECTION, len(waiting)))]
        await wire.send(b"".join(part))

    async with impostor(throw) as server, session_at(server.address, "alice") as alice:
        alice.follow(GROUP)
        while waiting:
            await told(alice, Disconnected)
        server.acts = [kindly]
        await told(alice, Connected)
        assert server.connections > len(frames) // A_CONNECTION


async def test_every_wrong_frame_alone_ends_no_session() -> None:
    waiting = [frame.data for frame in Mutator(12, to_client=True).take(300)]
    over = trio.Event()

    async def throw(wire: Wire) -> None:
        await wire.let_in()
        if not waiting:
            over.set()
        elif bearable(data := waiting.pop()):
            await wire.send(data)

    async with impostor(throw) as server, session_at(server.address, "alice") as alice:
        alice.follow(GROUP)
        with trio.fail_after(GUARD):
            await over.wait()


async def test_a_good_server_on_the_same_port_is_found_again() -> None:
    frames = [frame.data for frame in Mutator(13, to_client=True).take(60)]

    async def throw(wire: Wire) -> None:
        await wire.let_in(seq=3)
        await wire.say(event(1, kind="created"), event(2), event(3))
        await wire.send(b"".join(data for data in frames if bearable(data)))

    async with impostor(throw) as evil, session_at(evil.address, "alice") as alice:
        alice.follow(GROUP)
        while evil.connections < 5:
            await told(alice, Disconnected)
        evil.leave.cancel()
        async with running_server(port=evil.address.port) as good:
            with trio.fail_after(GUARD):
                haven = await alice.enter("haven")
                await alice.post(haven, "at last").wait()
            await until(alice, lambda: texts(haven.log) == ["at last"])
            assert haven.log == await log_of(good.store, "haven")


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
