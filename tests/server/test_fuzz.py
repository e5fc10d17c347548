"""Fuzzing: whatever bytes arrive, the server survives, and other chats lose nothing.

`TCHAT_FUZZ_FRAMES=100000 pytest tests/server/test_fuzz.py` sends more frames; `tests.bench.hostile`
says what they cost.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.protocol.frames import Ping, encode_all
from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT, unpack
from tchat.errors import ProtocolError
from tchat.net.tls import make_credentials
from tests.helpers import NO_RATE_LIMITS, THOROUGH, RawClient, hello_of, raw_client, running_server
from tests.hostile_cbor import WRONG_VALUES, costly_requests, framed
from tests.hostile_clients import HostileClient, chatting, send_hostile_frames
from tests.hostile_frames import Mutator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers import RunningServer

FRAMES = int(os.environ.get("TCHAT_FUZZ_FRAMES", "7000" if THOROUGH else "3000"))
OVER_TLS = FRAMES // 20

WELCOMING = replace(
    NO_RATE_LIMITS, unauthenticated=1000, unauthenticated_per_address=1000, groups_per_user=20
)


def no_faults(server: RunningServer) -> None:
    assert not [line for line in server.console if "fault" in line]


async def newcomer(server: RunningServer) -> None:
    """Fail unless a well-behaved client is welcomed."""
    async with raw_client(server.address, "newcomer") as fresh:
        assert (await fresh.attach()).standing == "outsider"


# ------------------------------------------------------------------ random bytes

pieces = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=80).map(framed),
        st.sampled_from(WRONG_VALUES).map(lambda pair: framed(pair[1])),
        st.sampled_from(list(Mutator(3).take(300))).map(lambda frame: frame.data),
    ),
    max_size=6,
).map(b"".join)


async def dribble(stream: trio.abc.Stream, data: bytes, sizes: list[int]) -> None:
    """Send bytes in pieces of these sizes, then the rest, while the server takes them."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for size in sizes:
            await stream.send_all(data[:size])
            data = data[size:]
        await stream.send_all(data)
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()


async def read_to_the_end(client: RawClient, data: bytes, sizes: list[int]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble, client.stream, data, sizes)
        await client.until_end()


@given(pieces, st.lists(st.integers(1, 40), max_size=20))
async def test_random_bytes_before_authentication_harm_nobody(
    data: bytes, sizes: list[int]
) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with raw_client(server.address) as newcomer:
            await read_to_the_end(newcomer, data, sizes)
        async with raw_client(server.address) as newcomer:
            await newcomer.send(hello_of("mallory"))
            await read_to_the_end(newcomer, data, sizes)
        assert await alice.before_pong() == []
        no_faults(server)


@given(pieces, st.lists(st.integers(1, 40), max_size=20))
async def test_random_bytes_after_authentication_harm_nobody(data: bytes, sizes: list[int]) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with raw_client(server.address, "mallory") as mallory:
            await read_to_the_end(mallory, encode_all([Ping()]) + data, sizes)
        assert await alice.before_pong() == []
        no_faults(server)


# ------------------------------------------------------------------ many wrong frames


async def throw_beside_a_chat(server: RunningServer, number: int, pin: bytes | None) -> None:
    async with chatting(server.address, pin) as pair:
        hostile = HostileClient(server.address, pin)
        await send_hostile_frames(hostile, number, seed=number)
        assert hostile.sent == number
        assert hostile.ended > number // 2
        await trio.lowlevel.checkpoint()
        pair.leaving = True
        await pair.gone.wait()
        assert len(pair.said) > number // 1000
        await pair.check(server.store)


async def test_many_wrong_frames_do_not_disturb_a_chat() -> None:
    async with running_server(limits=WELCOMING) as server:
        await throw_beside_a_chat(server, FRAMES, None)
        await newcomer(server)
    no_faults(server)


async def test_many_wrong_frames_over_tls_are_survived(tmp_path: Path) -> None:
    credentials = make_credentials(tmp_path)
    async with running_server(limits=WELCOMING, credentials=credentials) as server:
        await throw_beside_a_chat(server, OVER_TLS, credentials.pin)
    no_faults(server)


async def test_most_expensive_frames_are_survived() -> None:
    frames = costly_requests()
    async with running_server(limits=WELCOMING) as server, chatting(server.address) as pair:
        hostile = HostileClient(server.address)
        await hostile.as_person("mallory", frames)
        await hostile.as_stranger(costly_requests(HANDSHAKE_LIMIT))
        assert hostile.sent == 2 * len(frames)
        pair.leaving = True
        await pair.gone.wait()
        await pair.check(server.store)
    no_faults(server)


# ------------------------------------------------------------------ the generator itself


def test_same_seed_makes_the_same_frames() -> None:
    assert list(Mutator(1).take(2000)) == list(Mutator(1).take(2000))
    assert list(Mutator(1).take(2000)) != list(Mutator(2).take(2000))


def test_generated_frames_respect_the_size_limit() -> None:
    for limit in (HANDSHAKE_LIMIT, FRAME_LIMIT):
        frames = list(Mutator(1, limit=limit, rarity=3).take(2000))
        assert limit * 0.99 < max(len(frame.data) - 4 for frame in frames) <= limit


@pytest.mark.parametrize("to_client", [False, True])
def test_most_generated_frames_are_invalid(to_client: bool) -> None:
    wrong = 0
    for frame in Mutator(5, to_client=to_client).take(5000):
        try:
            unpack(frame.data[4:])
        except ProtocolError:
            wrong += 1
    assert wrong > 2000
