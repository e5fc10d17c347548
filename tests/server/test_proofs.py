"""Authentication: a proof is good for one key, one server and one connection."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import Session
from tchat.core.protocol.frames import Failed, Ping
from tchat.core.protocol.handshake import (
    NONCE_SIZE,
    SIGNATURE_SIZE,
    VERSION,
    Challenge,
    Hello,
    Welcome,
    proof_text,
)
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.tcp import connect, port_of
from tchat.net.tls import accept_tls, client_context, make_credentials, open_tls, pin_seen
from tests.helpers import (
    GUARD,
    RawClient,
    hello_of,
    identity_of,
    running_server,
    without_time,
)
from tests.net.small_order import FORGED, accepted, small_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tchat.net.tls import Credentials
    from tests.helpers import RunningServer

    Sign = Callable[[Hello, Challenge, bytes], bytes]


@pytest.fixture(params=["tls", "plain"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> Credentials | None:
    return make_credentials(tmp_path / "server") if request.param == "tls" else None


@asynccontextmanager
async def unauthenticated_client(server: RunningServer, *, tls: bool) -> AsyncIterator[RawClient]:
    """Open a connection by hand."""
    async with await connect(server.address) as socket:
        if not tls:
            yield RawClient(socket)
            return
        context = client_context(verified=False)
        async with await open_tls(socket, context, server.address.host) as stream:
            yield RawClient(stream)


async def introduce(newcomer: RawClient, hello: Hello, sign: Sign) -> Failed | Welcome:
    """Do a handshake with a signature, valid or not; return the answer."""
    await newcomer.send(hello)
    signature = sign(hello, await newcomer.expect(Challenge), pin_seen(newcomer.stream))
    # As a raw map: our own code would not send a signature of another length.
    await newcomer.send_map({"type": "proof", "signature": signature})
    answer = await newcomer.receive()
    assert isinstance(answer, Failed | Welcome)
    if isinstance(answer, Failed):
        assert await newcomer.until_end() == []
    return answer


async def refused(credentials: Credentials | None, hello: Hello, sign: Sign) -> str:
    """Do a handshake with a worthless proof; return the server's answer."""
    async with running_server(credentials=credentials) as server:
        async with unauthenticated_client(server, tls=credentials is not None) as newcomer:
            answer = await introduce(newcomer, hello, sign)
        assert isinstance(answer, Failed)
        assert (answer.re, answer.code) == (None, Code.BAD_PROOF)
        await server.logged("refused 127.0.0.1:")
        assert await server.store.accounts.keys("alice") == []
    return answer.text


# ------------------------------------------------------------------ valid and invalid proofs


def honest(hello: Hello, challenge: Challenge, pin: bytes) -> bytes:
    return identity_of("alice").sign(proof_text(hello, challenge, pin))


async def test_valid_proof_is_welcomed(credentials: Credentials | None) -> None:
    async with (
        running_server(credentials=credentials) as server,
        unauthenticated_client(server, tls=credentials is not None) as alice,
    ):
        assert without_time(await introduce(alice, hello_of("alice"), honest)) == Welcome(
            VERSION, "alice"
        )
        assert await alice.before_pong() == []
        (key,) = await server.store.accounts.keys("alice")
        assert key.public == identity_of("alice").public


WRONG: dict[str, Sign] = {
    "random": lambda *_: os.urandom(SIGNATURE_SIZE),
    "zeros": lambda *_: bytes(SIGNATURE_SIZE),
    "neutral": lambda *_: FORGED,
    "empty": lambda *_: b"",
    "truncated": lambda *these: honest(*these)[:-1],
    "longer": lambda *these: honest(*these) + b"\0",
    "of another key": lambda h, c, pin: identity_of("mallory").sign(proof_text(h, c, pin)),
    "for another key": lambda h, c, pin: honest(
        replace(h, key=identity_of("mallory").public), c, pin
    ),
    "for another name": lambda h, c, pin: honest(replace(h, user="bob"), c, pin),
    "for the name in other letters": lambda h, c, pin: honest(replace(h, user="Alice"), c, pin),
    "for another client": lambda h, c, pin: honest(replace(h, client=b"another."), c, pin),
    "with another nonce": lambda h, c, pin: honest(replace(h, nonce=bytes(NONCE_SIZE)), c, pin),
    "for another challenge": lambda h, c, pin: honest(h, replace(c, nonce=bytes(NONCE_SIZE)), pin),
    "with the nonces exchanged": lambda h, c, pin: honest(
        replace(h, nonce=c.nonce), replace(c, nonce=h.nonce), pin
    ),
    "for another version": lambda h, c, pin: honest(h, replace(c, version=VERSION + 1), pin),
    "of a newer client": lambda h, c, pin: honest(replace(h, version=VERSION + 1), c, pin),
    "for another server": lambda h, c, _: honest(h, c, bytes(32)),
    "of the challenge alone": lambda _, c, __: identity_of("alice").sign(c.nonce),
}


@pytest.mark.parametrize("sign", WRONG.values(), ids=WRONG)
async def test_signature_covers_the_whole_handshake(
    credentials: Credentials | None, sign: Sign
) -> None:
    sentence = await refused(credentials, hello_of("alice"), sign)
    assert "The signature is not valid" in sentence


async def test_proof_without_tls_is_invalid_with_tls(tmp_path: Path) -> None:
    await refused(make_credentials(tmp_path), hello_of("alice"), lambda h, c, _: honest(h, c, b""))


async def test_replayed_proof_is_refused(
    credentials: Credentials | None,
) -> None:
    hello, proofs = hello_of("alice"), []

    def listen(*these: object) -> bytes:
        proofs.append(honest(*these))  # type: ignore[arg-type]
        return proofs[0]

    async with running_server(credentials=credentials) as server:
        tls = credentials is not None
        async with unauthenticated_client(server, tls=tls) as alice:
            assert isinstance(await introduce(alice, hello, listen), Welcome)
        async with unauthenticated_client(server, tls=tls) as mallory:
            answer = await introduce(mallory, hello, lambda *_: proofs[0])
    assert isinstance(answer, Failed)
    assert answer.code == Code.BAD_PROOF


async def test_challenges_are_unique(credentials: Credentials | None) -> None:
    nonces: list[bytes] = []
    async with running_server(credentials=credentials) as server:
        for _ in range(5):
            async with unauthenticated_client(server, tls=credentials is not None) as newcomer:
                await newcomer.send(hello_of("alice"))
                nonces.append((await newcomer.expect(Challenge)).nonce)
    assert len({*nonces}) == 5


@pytest.mark.parametrize("frame", [Ping(), hello_of("alice")])
async def test_challenge_accepts_only_a_proof(frame: Ping | Hello) -> None:
    async with (
        running_server() as server,
        unauthenticated_client(server, tls=False) as newcomer,
    ):
        await newcomer.send(hello_of("alice"), frame)
        await newcomer.expect(Challenge)
        (answer,) = await newcomer.until_end()
    assert isinstance(answer, Failed)
    assert answer.code == Code.HANDSHAKE


# ------------------------------------------------------------------ weak keys


def test_plain_ed25519_accepts_small_order_keys() -> None:
    assert accepted(b"\1" + bytes(31), FORGED, b"anything")


@pytest.mark.parametrize("key", small_order(), ids=bytes.hex)
async def test_key_of_small_order_owns_no_name(key: bytes) -> None:
    hello = replace(hello_of("alice"), key=key)
    assert "can be forged" in await refused(None, hello, lambda *_: FORGED)


# ------------------------------------------------------------------ relays


@asynccontextmanager
async def relay(
    target: Address, to_victim: Credentials | None, *, tls: bool
) -> AsyncIterator[Address]:
    """Relay all bytes unchanged between a client and a server.

    Towards the victim with credentials of its own, if any; towards the server over TLS, or not.
    """

    async def serve(client: trio.SocketStream) -> None:
        try:
            victim = client if to_victim is None else await accept_tls(client, to_victim)
            server: trio.abc.Stream = await connect(target)
            if tls:
                assert isinstance(server, trio.SocketStream)
                server = await open_tls(server, client_context(verified=False), target.host)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(pump, victim, server)
                await pump(server, victim)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(client)

    async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        async for data in source:
            await sink.send_all(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield Address("127.0.0.1", port_of(listeners[0]))
        nursery.cancel_scope.cancel()


async def ended_by(connector: Connector) -> Refused:
    """Run a session as Alice until it ends; return the error."""
    session = Session(connector, Account("alice", identity_of("alice"), ClientId()))
    with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
        await session.run()
    return caught.value


@pytest.mark.parametrize(
    ("victims", "servers"), [("tls", "tls"), ("plain", "tls"), ("tls", "plain")]
)
async def test_relayed_proof_is_refused(tmp_path: Path, victims: str, servers: str) -> None:
    own = make_credentials(tmp_path / "relay") if victims == "tls" else None
    real = make_credentials(tmp_path / "server") if servers == "tls" else None
    async with (
        running_server(credentials=real) as server,
        relay(server.address, own, tls=real is not None) as between,
    ):
        connector = Connector(between, KnownServers(), plain=own is None)
        refusal = await ended_by(connector)
        await server.logged("The signature is not valid")
        assert await server.store.accounts.keys("alice") == []
    assert refusal.code == Code.BAD_PROOF


async def test_relay_is_not_detected_without_tls() -> None:
    """Control test: the relay works; only the proof stops it."""
    async with running_server() as server, relay(server.address, None, tls=False) as between:
        connector = Connector(between, KnownServers(), plain=True)
        session = Session(connector, Account("alice", identity_of("alice"), ClientId()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            await server.logged("alice connected")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["pin", "known"])
async def test_pinning_client_detects_a_relay(tmp_path: Path, how: str) -> None:
    own, real = (make_credentials(tmp_path / name) for name in ("relay", "server"))
    async with (
        running_server(credentials=real) as server,
        relay(server.address, own, tls=True) as between,
    ):
        known = KnownServers()
        if how == "known":
            known.add(between, real.pin)
        connector = Connector(between, known, real.pin if how == "pin" else None)
        refusal = await ended_by(connector)
    assert refusal.code == Code.SERVER_CHANGED
    assert not any("refused" in line or "alice" in line for line in server.console)
