"""How a connection begins, and how it ends when it does not begin properly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from tchat.core.group.commands import Join
from tchat.core.protocol.frames import Failed, Goodbye, Ping, Pong, encode
from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT
from tchat.core.protocol.handshake import VERSION, Challenge, TransferHello, Welcome
from tchat.errors import Code
from tests.helpers import UNHURRIED, hello_of, raw_client, running_server
from tests.protocol import unchecked

CLIENT = bytes(8)
HELLO = hello_of("alice")


async def answer_to(opening: bytes) -> Failed:
    """Return what a server answers to a bad beginning; it then ends the connection."""
    async with running_server() as server, raw_client(server.address) as stranger:
        await stranger.stream.send_all(opening)
        (failure,) = await stranger.until_end()
        await server.logged("refused 127.0.0.1:")
    assert isinstance(failure, Failed)
    assert failure.re is None
    return failure


async def test_hello_is_answered_with_welcome() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        assert await alice.hello("alice") == Welcome(VERSION, "alice")
        await server.logged("alice connected from 127.0.0.1:")


async def test_a_newer_client_is_spoken_to_in_the_servers_version() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        hello = hello_of("alice", version=VERSION + 41)
        await alice.send(hello)
        await alice.send(await alice.proof(hello))
        assert await alice.receive() == Welcome(VERSION, "alice")


async def test_hello_may_have_keys_of_a_newer_version() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        await alice.send_map({**HELLO.to_map(), "colour": "green", "proofs": [1, {"a": None}]})
        await alice.send(await alice.proof(HELLO))
        assert await alice.receive() == Welcome(VERSION, "alice")


async def test_a_person_is_known_as_whoever_came_first_wrote_the_name() -> None:
    async with running_server() as server:
        async with raw_client(server.address, "Zoë") as first:
            assert first.user == "Zoë"
        async with raw_client(server.address, "ZOË") as second:
            assert second.user == "Zoë"


@pytest.mark.parametrize(
    ("opening", "code"),
    [
        (encode(hello_of("alice", version=VERSION - 1)), Code.BAD_VERSION),
        (encode(TransferHello(VERSION - 1, bytes(16))), Code.BAD_VERSION),
        (encode(hello_of("")), Code.BAD_NAME),
        (encode(hello_of("al ice")), Code.BAD_NAME),
        (encode(hello_of("a\u202eb")), Code.BAD_NAME),
        (encode(hello_of("a" * 33)), Code.BAD_NAME),
        (unchecked({**HELLO.to_map(), "client": bytes(7)}), Code.HANDSHAKE),
        (encode(Ping()), Code.HANDSHAKE),
        (encode(Join(1, 1, "ops")), Code.HANDSHAKE),
        (unchecked({"type": "knock"}), Code.UNKNOWN_TYPE),
        (unchecked({**HELLO.to_map(), "type": 7}), Code.MALFORMED),
        (unchecked({"type": "hello", "version": 1, "user": "alice"}), Code.MALFORMED),
        (unchecked({**HELLO.to_map(), "version": True}), Code.MALFORMED),
        (b"\x00\x00\x00\x03abc", Code.MALFORMED),
        (b"\x00\x00\x00\x00", Code.MALFORMED),
        (b"GET / HTTP/1.1\r\n\r\n", Code.FRAME_TOO_LARGE),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", Code.FRAME_TOO_LARGE),
        ((HANDSHAKE_LIMIT + 1).to_bytes(4, "big"), Code.FRAME_TOO_LARGE),
        (encode(TransferHello(VERSION, bytes(16))), Code.BAD_TICKET),
        (unchecked({"type": "transfer", "version": VERSION, "ticket": b""}), Code.BAD_TICKET),
    ],
)
async def test_a_bad_beginning_is_answered_with_its_reason_and_the_end(
    opening: bytes, code: Code
) -> None:
    assert (await answer_to(opening)).code == code


async def test_a_long_hello_is_read_up_to_the_limit() -> None:
    filler = 3900 * "x"
    async with running_server() as server, raw_client(server.address) as alice:
        await alice.send_map({**HELLO.to_map(), "filler": filler})
        assert isinstance(await alice.receive(), Challenge)


async def test_a_hello_may_arrive_byte_by_byte() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        for byte in encode(hello_of("alice")):
            await alice.stream.send_all(bytes([byte]))
        assert isinstance(await alice.receive(), Challenge)


async def test_what_comes_in_the_same_packet_as_the_proof_is_not_lost() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        assert await alice.hello("alice", Ping(), Ping()) == Welcome(VERSION, "alice")
        assert [await alice.receive(), await alice.receive()] == [Pong(), Pong()]


async def test_after_welcome_a_frame_may_have_64_kib_and_no_more() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        empty = len(unchecked({"type": "ping", "filler": 60_000 * "x"})) - 4 - 60_000
        largest = unchecked({"type": "ping", "filler": (FRAME_LIMIT - empty) * "x"})
        assert len(largest) == 4 + FRAME_LIMIT
        await alice.stream.send_all(largest)
        assert await alice.receive() == Pong()
        await alice.stream.send_all((FRAME_LIMIT + 1).to_bytes(4, "big"))
        (failure,) = await alice.until_end()
        assert isinstance(failure, Failed)
        assert failure.code == Code.FRAME_TOO_LARGE


@pytest.mark.parametrize("beginning", [b"", b"\x00\x00", encode(Ping())[:-1]])
async def test_silence_is_not_waited_for_longer_than_the_limit(beginning: bytes) -> None:
    async with (
        running_server(limits=replace(UNHURRIED, handshake_seconds=0.05)) as server,
        raw_client(server.address) as stranger,
    ):
        await stranger.stream.send_all(beginning)
        (failure,) = await stranger.until_end()
        assert isinstance(failure, Failed)
        assert failure.code == Code.HANDSHAKE
        await server.logged("did not authenticate in time")


async def test_one_who_says_nothing_and_goes_leaves_no_line_in_the_log() -> None:
    async with running_server() as server:
        async with raw_client(server.address):
            pass
        async with raw_client(server.address, "alice"):
            await server.logged("alice connected")
        await server.logged("alice disconnected")
    assert len(server.console) == 4, server.console


async def test_the_deadline_is_for_the_introduction_only() -> None:
    limits = replace(UNHURRIED, handshake_seconds=0.5)
    async with (
        running_server(limits=limits) as server,
        raw_client(server.address, "alice") as alice,
    ):
        async with raw_client(server.address) as stranger:
            assert await stranger.until_end()  # so the deadline is over for alice as well
        assert await alice.before_pong() == []


async def test_a_stranger_costs_a_conversation_nothing() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with raw_client(server.address) as stranger:
            await stranger.stream.send_all(b"\xff" * 8192)
            await stranger.until_end()
        assert not any(isinstance(f, Goodbye | Failed) for f in await alice.before_pong())


async def test_a_connection_reset_in_the_middle_of_hello_is_survived() -> None:
    async with running_server() as server:
        for size in (1, 3, 4, 5, 20):
            async with raw_client(server.address) as stranger:
                await stranger.stream.send_all(encode(hello_of("alice"))[:size])
                await trio.aclose_forcefully(stranger.stream)
        async with raw_client(server.address, "alice") as alice:
            assert await alice.before_pong() == []
