"""Handshake: how a connection begins, and how a bad beginning is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Join
from tchat.core.protocol.frames import Failed, Goodbye, Ping, Pong, encode
from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT
from tchat.core.protocol.handshake import VERSION, Challenge, TransferHello, Welcome
from tchat.errors import Code
from tests.cddl import unchecked
from tests.helpers import NO_RATE_LIMITS, hello_of, raw_client, running_server, without_time

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame

CLIENT = bytes(8)
HELLO = hello_of("alice")


async def answer_to(opening: bytes) -> Failed:
    """Return the server's answer to a bad first frame, which ends the connection."""
    async with running_server() as server, raw_client(server.address) as newcomer:
        await newcomer.stream.send_all(opening)
        (failure,) = await newcomer.until_end()
        await server.logged("refused 127.0.0.1:")
    assert isinstance(failure, Failed)
    assert failure.re is None
    return failure


async def test_hello_is_answered_with_welcome() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        assert without_time(await alice.hello("alice")) == Welcome(VERSION, "alice")
        await server.logged("alice connected from 127.0.0.1:")


async def test_newer_client_gets_the_servers_version() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        hello = hello_of("alice", version=VERSION + 41)
        await alice.send(hello)
        await alice.send(await alice.proof(hello))
        assert without_time(await alice.receive()) == Welcome(VERSION, "alice")


async def test_hello_may_have_keys_of_newer_versions() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        await alice.send_map({**HELLO.to_map(), "colour": "green", "proofs": [1, {"a": None}]})
        await alice.send(await alice.proof(HELLO))
        assert without_time(await alice.receive()) == Welcome(VERSION, "alice")


async def test_name_is_written_as_its_first_owner_did() -> None:
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
    # Not by its bytes, whose nonces are random: the processes of pytest-xdist have to agree.
    ids=lambda value: str(value) if isinstance(value, Code) else "opening",
)
async def test_bad_first_frame_is_refused_with_its_reason(opening: bytes, code: Code) -> None:
    assert (await answer_to(opening)).code == code


@pytest.mark.parametrize(
    "opening", [hello_of("alice", version=4), TransferHello(4, bytes(16))], ids=["chat", "file"]
)
async def test_client_of_version_4_is_refused_with_advice(opening: Frame) -> None:
    refusal = await answer_to(encode(opening))
    assert refusal.text == (
        "This client is too old for the server: it speaks version 4 of the protocol, and the"
        " server needs version 5. Install a newer tchat."
    )


async def test_long_hello_is_read_up_to_the_limit() -> None:
    filler = 3900 * "x"
    async with running_server() as server, raw_client(server.address) as alice:
        await alice.send_map({**HELLO.to_map(), "filler": filler})
        assert isinstance(await alice.receive(), Challenge)


async def test_hello_may_arrive_byte_by_byte() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        for byte in encode(hello_of("alice")):
            await alice.stream.send_all(bytes([byte]))
        assert isinstance(await alice.receive(), Challenge)


async def test_frames_sent_with_the_proof_are_not_lost() -> None:
    async with running_server() as server, raw_client(server.address) as alice:
        assert without_time(await alice.hello("alice", Ping(), Ping())) == Welcome(VERSION, "alice")
        assert [await alice.receive(), await alice.receive()] == [Pong(), Pong()]


async def test_frames_after_welcome_are_limited_to_64_kib() -> None:
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
async def test_silent_handshake_ends_at_the_deadline(beginning: bytes) -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, handshake_seconds=0.05)) as server,
        raw_client(server.address) as newcomer,
    ):
        await newcomer.stream.send_all(beginning)
        (failure,) = await newcomer.until_end()
        assert isinstance(failure, Failed)
        assert failure.code == Code.HANDSHAKE
        await server.logged("did not authenticate in time")


async def test_connection_closed_before_hello_is_not_logged() -> None:
    async with running_server() as server:
        async with raw_client(server.address):
            pass
        async with raw_client(server.address, "alice"):
            await server.logged("alice connected")
        await server.logged("alice disconnected")
    assert len(server.console) == 4, server.console


async def test_deadline_ends_with_the_handshake() -> None:
    limits = replace(NO_RATE_LIMITS, handshake_seconds=0.5)
    async with (
        running_server(limits=limits) as server,
        raw_client(server.address, "alice") as alice,
    ):
        async with raw_client(server.address) as newcomer:
            assert await newcomer.until_end()  # so the deadline has passed for alice as well
        assert await alice.before_pong() == []


async def test_slow_handshake_does_not_delay_a_chat() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with raw_client(server.address) as newcomer:
            await newcomer.stream.send_all(b"\xff" * 8192)
            await newcomer.until_end()
        assert not any(isinstance(f, Goodbye | Failed) for f in await alice.before_pong())


async def test_connection_reset_during_hello_is_survived() -> None:
    async with running_server() as server:
        for size in (1, 3, 4, 5, 20):
            async with raw_client(server.address) as newcomer:
                await newcomer.stream.send_all(encode(hello_of("alice"))[:size])
                await trio.aclose_forcefully(newcomer.stream)
        async with raw_client(server.address, "alice") as alice:
            assert await alice.before_pong() == []
