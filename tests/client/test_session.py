"""Sessions: groups, read positions, failing first connections, keepalive."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client import session as session_module
from tchat.client.updates import (
    AllAnswered,
    CaughtUp,
    Connected,
    Disconnected,
    EventReceived,
    PendingChanged,
    PositionMoved,
    StandingChanged,
)
from tchat.core.fingerprints import token_digest
from tchat.core.group.feature import Unknown
from tchat.core.group.membership import Approved, Deny, Invite, Kick
from tchat.core.group.messages import Post, Posted
from tchat.core.protocol.frames import (
    Attached,
    Failed,
    Goodbye,
    MembershipChange,
    Ok,
    OnlineMember,
    PresenceUpdate,
    Seen,
    Upload,
    encode,
    encode_all,
)
from tchat.core.protocol.framing import FrameBuffer, unpack
from tchat.core.protocol.handshake import NONCE_SIZE, VERSION, Challenge, Welcome
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import Address
from tchat.net.tcp import port_of
from tests.cddl import unchecked
from tests.client.receiving import next_update, pending_updates
from tests.fault_proxy import FaultProxy, Side, Verdict, fault_proxy
from tests.helpers import (
    GROUP,
    approve,
    created_by,
    log_of,
    members,
    raw_client,
    requested_by,
    running_server,
    session_at,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# ------------------------------------------------------------------ groups and standing


async def test_entering_an_unknown_group_founds_it() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.caught_up)
        assert (ops.standing, ops.state.admin_name) == ("member", "alice")
        assert [event.body for event in ops.log] == [created_by("alice")]


async def test_approval_is_reported_at_once() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        assert (ops.standing, ops.admin) == ("waiting", "alice")
        alice.post(alice.groups[GROUP], "before bob came")
        await approve(alice, "bob")
        await until(bob, lambda: ops.caught_up)
        assert ops.standing == "member"
        assert ops.online == {"alice": "alice", "bob": "bob"}
        assert ops.log == await log_of(server.store)


async def test_updates_arrive_in_order() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        session_of(server.address, "bob") as (bob, ops),
    ):
        await bob.post(ops, "hello").wait()
        updates = pending_updates(bob)
    assert updates[0] == Connected("bob", again=False)
    assert [u.event.body for u in updates if isinstance(u, EventReceived)] == [
        created_by("alice"),
        requested_by("bob"),
        Approved("bob"),
        Posted("hello"),
    ]
    assert CaughtUp in map(type, updates)
    others = [type(u) for u in updates if not isinstance(u, EventReceived | PendingChanged)]
    assert others[:3] == [Connected, StandingChanged, PositionMoved]


async def test_server_decides_the_spelling_of_the_name() -> None:
    async with running_server() as server:
        async with raw_client(server.address, "Alice"):
            pass
        async with session_of(server.address, "ALICE") as (session, _):
            assert session.user == "Alice"


async def test_refusals_are_raised_where_the_request_was_made() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        with pytest.raises(Refused) as caught:
            await alice.request(lambda i, n: Kick(i, n, GROUP, "alice"))
        assert caught.value.code == Code.YOURSELF
        with pytest.raises(Refused) as caught:
            alice.post(ops, "   ")
        assert caught.value.code == Code.EMPTY_TEXT
        with pytest.raises(Refused) as caught:
            await alice.ask(lambda i: Upload(i, "elsewhere", 1, bytes(32)))
        assert caught.value.code == Code.NOT_MEMBER
        with pytest.raises(Refused) as caught:
            await alice.enter("no such name!")
        assert caught.value.code == Code.BAD_NAME
        await alice.post(ops, "goes on").wait()


async def test_settle_waits_for_every_answer() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        for n in range(50):
            alice.post(ops, f"text {n}")
        assert alice.unanswered == 50
        await alice.wait_for_answers()
        assert alice.unanswered == 0
        assert len(texts(await log_of(server.store))) == 50


async def test_end_of_the_last_request_is_an_update() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, _):
        await alice.wait_for_answers()
        pending_updates(alice)
        with pytest.raises(Refused):
            await alice.request(lambda i, n: Kick(i, n, GROUP, "bob"))
        assert AllAnswered() in pending_updates(alice)
        await alice.my_groups()
        assert pending_updates(alice) == [AllAnswered()]


async def test_kick_and_denial_are_reported_at_once() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        await alice.request(lambda i, n: Deny(i, n, GROUP, "bob"))
        update = await next_update(bob, StandingChanged)
        while isinstance(update, StandingChanged) and update.news is None:
            update = await next_update(bob, StandingChanged)
        assert update == StandingChanged(
            ops, MembershipChange(GROUP, "outsider", "denied", "alice")
        )
        invite = Invite(0, 0, GROUP, token_digest(bytes(16)), 60_000)
        await alice.request(lambda i, n: replace(invite, id=i, n=n))
        await bob.enter(GROUP, invite=bytes(16))
        await until(bob, lambda: ops.caught_up)
        await alice.request(lambda i, n: Kick(i, n, GROUP, "bob"))
        await until(bob, lambda: ops.standing == "outsider")
        assert ops.online == {}
        with pytest.raises(Refused):
            await bob.post(ops, "but").wait()
        await bob.enter(GROUP)
        assert ops.kicked
        assert ops.standing == "outsider"  # a kicked person does not rejoin automatically
        await bob.enter(GROUP, although_kicked=True)
        await approve(alice, "bob")
        await until(bob, lambda: ops.standing == "member" and ops.caught_up)
        assert ops.log == await log_of(server.store)


# ------------------------------------------------------------------ read positions


async def test_events_seen_on_another_device_are_not_unseen() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        seen = await alice.post("seen by bob elsewhere")
        await bob.send(Seen(GROUP, seen))
        await bob.before_pong()
        await alice.post("new to bob")
        async with session_of(server.address, "bob") as (session, ops):
            assert ops.read == seen
            await session.post(ops, "a moment later").wait()
            updates = [
                update for update in pending_updates(session) if isinstance(update, EventReceived)
            ]
            assert [update.event.seq for update in updates if not update.unseen] == [1, 2, 3, seen]
            assert [update.event.seq for update in updates if update.unseen] == [seen + 1, seen + 2]


async def test_read_positions_reach_the_next_session() -> None:
    async with running_server() as server:
        async with session_of(server.address, "alice") as (alice, ops):
            await alice.post(ops, "one").wait()
            alice.mark_seen(ops, 2)
        await server.logged("alice disconnected")
        async with session_of(server.address, "alice") as (alice, ops):
            assert ops.read == 2


# ------------------------------------------------------------------ failing first connections


def is_one_sentence(error: StartupError | Refused) -> bool:
    """Return whether the error is one sentence on one line."""
    return error.sentence.endswith(".") and "\n" not in error.sentence


async def test_failed_first_connection_is_reported() -> None:
    nowhere = Address("127.0.0.1", await free_port())
    expected = pytest.RaisesExc(StartupError, match="Cannot connect.*connection refused")
    with pytest.RaisesGroup(expected, flatten_subgroups=True):
        async with session_at(nowhere, "alice") as session:
            await session.enter(GROUP)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", "ex ample", 70 * "a", ""])
async def test_invalid_host_is_reported(host: str) -> None:
    expected = pytest.RaisesExc(StartupError, check=is_one_sentence)
    with pytest.RaisesGroup(expected, flatten_subgroups=True):
        async with session_at(Address(host, 4000), "alice") as session:
            await session.enter(GROUP)


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return port_of(listener)


async def test_invalid_name_is_refused_before_sending() -> None:
    with pytest.raises(Refused) as caught:
        async with session_at(Address("127.0.0.1", 1), "not a name"):
            raise AssertionError("unreachable")
    assert caught.value.code == Code.BAD_NAME


class Impostor:
    """Server that sends the bytes that the test sets."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.sends: list[bytes] = []
        self.heard: list[dict[str, Any]] = []
        self.connections = 0
        self._news = trio.Event()

    async def hears(self, kind: str) -> None:
        """Wait until a frame of this type has arrived."""
        while not any(frame["type"] == kind for frame in self.heard):
            self._news = trio.Event()
            await self._news.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Receive the first frame, send all bytes, then only receive."""
        self.connections += 1
        buffer = FrameBuffer()
        said = False
        try:
            async for data in stream:
                buffer.feed(data)
                self.heard += map(unpack, buffer)
                self._news.set()
                if not said:
                    said = True
                    await stream.send_all(b"".join(self.sends))
        except trio.BrokenResourceError:
            return


@asynccontextmanager
async def impostor(*sends: bytes) -> AsyncIterator[Impostor]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Impostor(Address("127.0.0.1", port_of(listener)))
    server.sends += sends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        unchecked({"hello": "world"}),
        unchecked(["welcome"]),
        encode(Ok(1)),
        encode(Failed(Code.HANDSHAKE, "Not like this.")),
        encode(Goodbye(Code.SHUTTING_DOWN, "We are closing.")),
    ],
)
async def test_other_kind_of_server_is_reported(answer: bytes) -> None:
    expected = pytest.RaisesExc(StartupError, check=is_one_sentence)
    with pytest.RaisesGroup(expected, flatten_subgroups=True):
        async with impostor(answer) as other, session_at(other.address, "a") as session:
            await session.enter(GROUP)


async def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", 0.05)
    with pytest.RaisesGroup(StartupError, flatten_subgroups=True):
        async with impostor() as other, session_at(other.address, "alice") as session:
            await session.enter(GROUP)


@pytest.mark.parametrize("code", [Code.BAD_NAME, Code.BAD_VERSION])
async def test_final_refusal_is_not_retried(code: Code) -> None:
    expected = pytest.RaisesExc(Refused, match="Not you")
    async with impostor(encode(Failed(code, "Not you."))) as other:
        with pytest.RaisesGroup(expected, flatten_subgroups=True):
            async with session_at(other.address, "alice") as session:
                await session.enter(GROUP)
        assert other.connections == 1


@pytest.mark.parametrize(("wait", "least"), [(None, 0), (5000, 5), (10**9, 60)])
async def test_busy_server_says_how_long_to_wait(wait: int | None, least: float) -> None:
    answer = encode(Failed(Code.BUSY, "Too many logins.", None, wait))
    async with impostor(answer) as other, session_at(other.address, "alice") as session:
        update = await next_update(session, Disconnected)
        assert isinstance(update, Disconnected)
        assert least < update.retry_in < least + 1


WELCOME = encode_all([Challenge(VERSION, bytes(NONCE_SIZE)), Welcome(VERSION, "alice")])


async def test_unknown_frames_of_a_server_are_ignored() -> None:
    newer = unchecked({"type": "weather", "forecast": ["rain", None]})
    presence = encode(PresenceUpdate("elsewhere", (OnlineMember("x"),), ()))
    async with (
        impostor(WELCOME, newer, presence) as other,
        session_at(other.address, "alice") as session,
    ):
        await next_update(session, Connected)
        other.sends[:] = [WELCOME]
        session.submit(lambda i, n: Post(i, n, GROUP, "hi"))
        await other.hears("attach")  # the server's count comes before the number of a command
        assert session.connected


async def test_unknown_event_types_are_counted_only() -> None:
    head = {"type": "event", "group": GROUP, "at": 1, "actor": "alice", "client": bytes(8)}
    answers = [
        encode(Attached(1, GROUP, "member", seq=3)),
        unchecked({**head, "kind": "created", "seq": 1, "n": 1}),
        unchecked({**head, "kind": "danced", "seq": 2, "n": 2, "with": "bob"}),
        unchecked({**head, "kind": "posted", "seq": 3, "n": 3, "text": "hi"}),
    ]
    async with (
        impostor(WELCOME, *answers) as other,
        session_of(other.address, "alice") as (session, replica),
    ):
        await until(session, lambda: replica.caught_up)
        assert replica.log[1].body == Unknown("danced")
        assert (replica.state.seq, replica.state.admin_name) == (3, "alice")


async def test_protocol_error_leads_to_a_reconnection() -> None:
    async with (
        impostor(WELCOME, unchecked({"type": "event"})) as other,
        session_at(other.address, "alice") as session,
    ):
        update = await next_update(session, Disconnected)
        assert isinstance(update, Disconnected)
        assert update.reason
        while other.connections < 3:
            await session.updates.receive()


# ------------------------------------------------------------------ keepalive


async def test_a_silent_connection_is_kept_alive_by_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SILENCE_SECONDS", 0.02)
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await proxy.passes(type="pong")
        await alice.post(ops, "still the same connection").wait()
        assert not any(isinstance(update, Disconnected) for update in pending_updates(alice))


async def test_silent_connection_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(session_module, "PATIENCE_SECONDS", 0.05)
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = swallow
        update = await next_update(alice, Disconnected)
        assert isinstance(update, Disconnected)
        assert update.reason == "the server does not answer any more"
        proxy.watch = FaultProxy(server.address).watch
        await alice.post(ops, "heard again").wait()
        assert texts(await log_of(server.store)) == ["heard again"]


def swallow(side: Side, frame: dict[str, Any]) -> Verdict:
    return "drop" if side == "server" else "pass"
