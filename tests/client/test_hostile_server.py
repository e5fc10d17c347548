"""Hostile server: whatever it sends, a session reconnects or ends with an error.

The server is scripted (`impostor`): each connection runs the next of its `acts`, and the last act
serves all further connections.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import cbor2
import pytest
import trio

from tchat.client import session as session_module
from tchat.client.updates import Connected, Disconnected
from tchat.core.protocol.framing import HANDSHAKE_LIMIT, unpack
from tchat.core.protocol.handshake import VERSION
from tchat.errors import Code, Refused, StartupError, TchatError, Unavailable
from tchat.net.tls import BUSY_ALERT
from tests.cddl import unchecked
from tests.client.impostor import (
    CHALLENGE,
    EVIL,
    FINAL,
    Wire,
    ending_of,
    event,
    impostor,
    kindly,
)
from tests.client.receiving import next_update
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
from tests.hostile_cbor import LARGEST, WRONG_VALUES, costly_answers, framed
from tests.hostile_frames import Mutator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.session import Session
    from tests.client.impostor import Act, Impostor

FRAMES = int(os.environ.get("TCHAT_FUZZ_FRAMES", "2000")) // 2
A_CONNECTION = 20
"""How many frames one connection of the long run gets."""


# ------------------------------------------------------------------ during the handshake


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
    "no nonce": unchecked({"type": "challenge", "version": VERSION}),
    "a nonce of text": unchecked({**CHALLENGE, "nonce": "x" * 32}),
    "a version below zero": unchecked({**CHALLENGE, "version": -1}),
    "a version above all": unchecked({**CHALLENGE, "version": 2**63}),
    "welcome at once": unchecked({"type": "welcome", "version": VERSION, "user": "alice"}),
    "an event at once": unchecked(event(1)),
    "an unknown frame at once": unchecked({"type": "dance"}),
    "two challenges": unchecked(CHALLENGE) * 2,
    "a challenge, and nothing": unchecked(CHALLENGE),
    "a challenge, and garbage": unchecked(CHALLENGE) + b"\xff" * 9000,
    "a challenge, and a wrong welcome": unchecked(CHALLENGE) + unchecked({"type": "welcome"}),
    "a challenge, and a nameless welcome": unchecked(CHALLENGE)
    + unchecked({"type": "welcome", "version": VERSION, "user": 7}),
    "a short nonce, and a welcome": unchecked({**CHALLENGE, "nonce": b""})
    + unchecked({"type": "welcome", "version": VERSION, "user": "alice"}),
    "an error of no code": unchecked({"type": "error", "code": "", "text": ""}),
    "an error of evil text": unchecked({"type": "error", "code": EVIL, "text": EVIL}),
    "goodbye": unchecked({"type": "goodbye", "code": EVIL, "text": EVIL}),
    **{
        f"a challenge with {what}": unchecked(CHALLENGE)[:4] + cbor2.dumps(CHALLENGE)[:-34] + value
        for what, value in WRONG_VALUES[:60:7]
    },
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
async def test_first_server_of_another_kind_is_reported(opening: bytes) -> None:
    async def act(wire: Wire) -> None:
        await wire.send(opening)

    error = await ending_of(act)
    assert isinstance(error, StartupError)
    assert not any(ord(character) < 32 or character == "\u202e" for character in error.sentence)


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
async def test_later_server_of_another_kind_is_retried(opening: bytes) -> None:
    async def turned(wire: Wire) -> None:
        await wire.send(opening)

    async def broken(wire: Wire) -> None:
        await wire.let_in()

    async with (
        impostor(broken, turned, turned, turned, kindly) as server,
        session_of(server.address, "alice") as (alice, _),
    ):
        for _ in range(3):
            await next_update(alice, Disconnected)
        assert await next_update(alice, Connected) == Connected("alice", again=True)
        assert server.connections == 5


@pytest.mark.parametrize("code", sorted(FINAL))
@pytest.mark.parametrize("kind", ["error", "goodbye"])
async def test_final_refusal_ends_the_session(code: str, kind: str) -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        await wire.say({"type": kind, "code": code, "text": EVIL})

    error = await ending_of(act)
    assert isinstance(error, Refused)
    assert error.code == code
    assert "\x1b" not in error.sentence
    assert "\n" not in error.sentence


async def old_challenge(wire: Wire) -> None:
    """Answer as a server of version 4, which answers a newer client with its own version."""
    await wire.hear_only("hello")
    await wire.say({**CHALLENGE, "version": VERSION - 1})


async def old_welcome(wire: Wire) -> None:
    """Send an older version in the welcome than in the challenge."""
    await wire.greet(version=VERSION - 1)


@pytest.mark.parametrize("user", ["bob", "", "alice bob", "alice" * 100])
async def test_welcome_of_another_user_is_refused(user: str) -> None:
    """A client that believed it tried to open its conversations without end."""

    async def act(wire: Wire) -> None:
        await wire.greet(user=user)

    error = await ending_of(act)
    assert isinstance(error, Unavailable)
    assert "welcomes somebody else" in error.sentence


@pytest.mark.parametrize("act", [old_challenge, old_welcome])
async def test_server_of_an_older_version_is_refused(act: Act) -> None:
    error = await ending_of(act)
    assert isinstance(error, Refused)
    assert error.code == Code.BAD_VERSION
    assert error.sentence == (
        "This server is too old for the client: it speaks version 4 of the protocol, and the"
        " client needs version 5. Ask the server's operator to update it."
    )


async def test_server_downgraded_meanwhile_ends_the_session() -> None:
    async def broken(wire: Wire) -> None:
        await wire.greet()

    error = await ending_of(broken, old_challenge)
    assert isinstance(error, Refused)
    assert error.code == Code.BAD_VERSION


async def test_busy_server_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LONGEST_WAIT_SECONDS", 0.01)

    async def busy(wire: Wire) -> None:
        await wire.say({"type": "error", "code": "busy", "text": EVIL, "wait": LARGEST})

    async with (
        impostor(*[busy] * 5, kindly) as server,
        session_of(server.address, "alice"),
    ):
        assert server.connections == 6


# ------------------------------------------------------------------ many invalid frames


@asynccontextmanager
async def following(server: Impostor) -> AsyncIterator[Session]:
    """Open a session that follows the group, and enters it again whenever it is given up."""

    async def enter() -> None:
        with suppress(Refused):
            await alice.enter(GROUP, join=False)

    async def follow() -> None:
        while True:
            replica = alice.groups.get(GROUP)
            if replica is None or replica.unusable:
                if replica is not None:
                    alice.unfollow(replica)
                nursery.start_soon(enter)
            await trio.sleep(0.001)

    async with session_at(server.address, "alice") as alice, trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        yield alice
        nursery.cancel_scope.cancel()


def bearable(data: bytes) -> bool:
    """Return whether the frame is anything but a final refusal, which may end a session."""
    try:
        code = unpack(data[4:]).get("code")
    except TchatError:
        return True
    return not (isinstance(code, str) and code in FINAL)


async def test_a_session_survives_very_many_wrong_frames() -> None:
    frames = [frame.data for frame in Mutator(11, to_client=True).take(FRAMES)]
    frames += [frame.data for frame in costly_answers()]
    frames = [data for data in frames if bearable(data)]
    waiting = list(frames)

    async def throw(wire: Wire) -> None:
        await wire.let_in()
        part = [waiting.pop() for _ in range(min(A_CONNECTION, len(waiting)))]
        await wire.send(b"".join(part))

    async with impostor(throw) as server, following(server) as alice:
        while waiting:
            await next_update(alice, Disconnected)
        server.acts = [kindly]
        await next_update(alice, Connected)
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

    async with impostor(throw) as server, following(server):
        with trio.fail_after(GUARD):
            await over.wait()


async def test_good_server_on_the_same_port_is_found() -> None:
    frames = [frame.data for frame in Mutator(13, to_client=True).take(60)]

    async def throw(wire: Wire) -> None:
        await wire.let_in(seq=3)
        await wire.say(event(1, kind="created"), event(2), event(3))
        await wire.send(b"".join(data for data in frames if bearable(data)))

    async with impostor(throw) as evil, following(evil) as alice:
        while evil.connections < 5:
            await next_update(alice, Disconnected)
        evil.leave.cancel()
        async with running_server(port=evil.address.port) as good:
            with trio.fail_after(GUARD):
                haven = await alice.enter("haven")
                await alice.post(haven, "at last").wait()
            await until(alice, lambda: texts(haven.log) == ["at last"])
            assert haven.log == await log_of(good.store, "haven")
