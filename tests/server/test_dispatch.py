"""Frames of a chat connection: valid ones are answered, bad ones affect only their sender."""

from __future__ import annotations

import pytest
import trio

from tchat.core.group.feature import Event
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post, Posted
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Detach,
    Failed,
    Ok,
    Ping,
    Pong,
    Seen,
    encode,
)
from tchat.core.protocol.handshake import VERSION, TransferHello
from tchat.errors import Code
from tests.cddl import unchecked
from tests.helpers import (
    GROUP,
    RawClient,
    hello_of,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)

POST = Post(1, 1, GROUP, "hi").to_map()
TAGGED = b"\xd8\x23\x61\x61"  # a CBOR tag: a regular expression, to a decoder that obeys tags


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def nested(depth: int) -> object:
    return [] if depth == 0 else [nested(depth - 1)]


async def test_ping_is_answered_with_pong() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        await alice.send(Ping())
        assert await alice.receive() == Pong()


async def test_answer_names_its_request() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        await alice.send(Join(70, 1, GROUP), Attach(3, "nowhere", 0), Attach(5, GROUP, 0))
        numbers: list[int] = []
        while len(numbers) < 3:  # who is online comes in between
            if (number := getattr(await alice.receive(), "re", None)) is not None:
                numbers.append(number)
        assert sorted(numbers) == [3, 5, 70]


async def test_unknown_frame_type_is_refused_but_not_fatal() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        await alice.send_map({"type": "dance", "id": 9, "with": ["bob"]})
        failure = await alice.receive()
        assert isinstance(failure, Failed)
        assert (failure.code, failure.re) == (Code.UNKNOWN_TYPE, 9)
        await alice.send_map({"type": "sing"})
        failure = await alice.receive()
        assert isinstance(failure, Failed)
        assert (failure.code, failure.re) == (Code.UNKNOWN_TYPE, None)
        assert await alice.before_pong() == []


async def test_unknown_keys_are_ignored() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.send_map({**POST, "n": 9, "mood": "good", "edits": {"of": 1, "by": [None]}})
        (event,) = await alice.events(1)
        assert event.body == Posted("hi")
        assert b"mood" not in encode(event)


PING = encode(Ping())[4:]
BAD_FRAMES = {
    "empty": framed(b""),
    "cut short": framed(PING[:-1]),
    "not CBOR": framed(b"\xff\xff\xff"),
    "null": framed(b"\xf6"),
    "a list": unchecked(["type", "ping"]),
    "bytes behind its end": framed(PING + b"\x00"),
    "indefinite length": framed(b"\xbf\x64type\x64ping\xff"),
    "a key twice": framed(b"\xa2\x64type\x64ping\x64type\x64ping"),
    "a tag": framed(b"\xa2\x64type\x64ping\x61x" + TAGGED),
    "not UTF-8": framed(b"\xa1\x64type\x64p\xffng"),
    "nested too deep": unchecked({"type": "ping", "deep": nested(20)}),
    "type of bytes": unchecked({"type": b"ping"}),
    "no type": unchecked({"id": 1}),
    "a key missing": unchecked({"type": "post", "id": 1, "n": 1, "text": "hi"}),
    "id below 0": unchecked({**POST, "id": -1}),
    "id above the limit": unchecked({**POST, "id": 2**63}),
    "id of text": unchecked({**POST, "id": "1"}),
    "n of truth": unchecked({**POST, "n": True}),
    "n of a fraction": unchecked({**POST, "n": 1.0}),
    "text of bytes": unchecked({**POST, "text": b"hi"}),
    "text of nothing": unchecked({**POST, "text": None}),
    "a byte too long": (64 * 1024 + 1).to_bytes(4, "big"),
    "4 GiB": b"\xff\xff\xff\xff",
    "a second hello": encode(hello_of("alice")),
    "what belongs to a transfer": encode(TransferHello(VERSION, bytes(16))),
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_malformed_frame_ends_only_its_own_connection(bad: bytes) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "mallory") as (alice, bob, mallory),
    ):
        await mallory.post("still here")
        await mallory.stream.send_all(bad + encode(Post(99, 99, GROUP, "behind the bad frame")))
        *_, failure = await mallory.until_end()
        assert isinstance(failure, Failed)
        assert failure.re is None
        assert failure.code in (Code.MALFORMED, Code.FRAME_TOO_LARGE, Code.HANDSHAKE)
        await server.logged(f"mallory disconnected ({failure.code})")
        await bob.post("what was that?")
        for witness in (alice, bob):
            assert texts(await witness.events(2)) == ["still here", "what was that?"]
        assert "behind the bad frame" not in texts(await log_of(server.store))


async def test_incomplete_frame_delays_nobody() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.stream.send_all(encode(Post(9, 9, GROUP, "half"))[:-2])
        await alice.post("whole")
        assert texts(await alice.events(1)) == ["whole"]
    assert texts(await log_of(server.store)) == ["whole"]


async def test_control_characters_are_removed_from_messages() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("a\x1b[2Jb\u202ec\r\n\td")
        assert texts(await bob.events(1)) == ["a␛[2Jbc\n\td"]


async def test_detach_stops_events_and_attach_resumes_them() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.send(Detach(GROUP))
        assert await bob.before_pong() == []
        seq = await alice.post("while bob does not follow")
        assert not any(isinstance(frame, Event) for frame in await bob.before_pong())
        await bob.attach(after=seq - 1)
        assert texts(await bob.events(1)) == ["while bob does not follow"]


async def test_detaching_from_an_unfollowed_group_changes_nothing() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        await alice.send(Detach("nowhere"))
        assert await alice.before_pong() == []


async def test_attaching_twice_does_not_duplicate_events() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        head = (await bob.attach(after=2**62)).seq
        await bob.attach(after=head)
        await alice.post("once")
        assert texts(f for f in await bob.before_pong() if isinstance(f, Event)) == ["once"]


async def test_read_position_is_shared_by_all_devices() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        seqs = [await alice.post(text) for text in "abc"]
        await bob.send(Seen(GROUP, seqs[1]), Seen(GROUP, seqs[0]))
        async with raw_client(server.address, "bob") as elsewhere:
            # This request waits in the group's inbox behind the read receipt of bob's other device.
            await bob.before_pong()
            assert (await elsewhere.attach()).read == seqs[1]
            await bob.send(Seen(GROUP, 2**62))
            await bob.before_pong()
            assert (await elsewhere.attach()).read == seqs[2]


async def test_read_position_survives_a_restart() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.send(Seen(GROUP, await alice.post("a")))
        seen = await alice.post("b")
        await alice.send(Seen(GROUP, seen))
    async with running_server(server.store) as server, members(server, "alice") as (alice,):
        assert (await alice.attach()).read == seen


async def test_read_receipts_of_nonmembers_are_ignored() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "eve") as eve,
    ):
        await eve.send(Seen(GROUP, await alice.post("a")))
        await eve.command(Join)
        assert await eve.attach() == Attached(2, GROUP, "waiting", counted=1, admin="alice")


async def read_answers(client: RawClient, number: int) -> list[int]:
    answers: list[int] = []
    while len(answers) < number:
        frame = await client.receive()
        answers += [frame.re] if isinstance(frame, Ok) else []
    return answers


async def test_pipelined_requests_are_executed_in_order() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        posts = [Post(1000 + n, 1000 + n, GROUP, f"text {n}") for n in range(300)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.send, *posts)
            assert await read_answers(alice, 300) == [post.id for post in posts]
    assert texts(await log_of(server.store)) == [post.text for post in posts]
