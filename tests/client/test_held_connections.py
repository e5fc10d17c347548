"""Man in the middle and stalled connections: the client refuses or gives up."""

from __future__ import annotations

import shlex
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.cli import main, parser
from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.files import transfer as files_module
from tchat.client.files.transfer import fetch_file, send_file
from tchat.client.session import Session, open_session
from tchat.client.updates import Connected, Disconnected
from tchat.core.fingerprints import invite_text, pin_text, read_pin
from tchat.core.pace import Rate
from tchat.errors import Code, Refused, StartupError, root_of
from tchat.net.address import Address
from tchat.net.tcp import connect, port_of
from tchat.net.tls import Credentials, make_credentials
from tchat.ui.commands.access import make_invite
from tests.client.known_servers_file import File
from tests.client.receiving import next_update
from tests.fault_proxy import fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    NO_RATE_LIMITS,
    identity_of,
    log_of,
    running_server,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from tchat.client.replica import Replica
    from tests.fault_proxy import Side, Verdict

TOKEN, PIN, OTHER = bytes(range(16)), bytes(range(32)), bytes(32)


@pytest.fixture
def mine(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "mine")


@pytest.fixture
def others(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "others")


@pytest.fixture
def known(tmp_path: Path) -> File:
    return File(tmp_path / "known_servers")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.txt"
    path.write_text("the plan")
    return path


# ------------------------------------------------------------------ interception


class Between:
    """Forwarder between a client and a server; `lead` decides where each connection goes."""

    def __init__(self, server: Address) -> None:
        self.address: Address
        self.lead = to(server)
        self._wires: set[trio.CancelScope] = set()

    async def carry(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as wire:
            self._wires.add(wire)
            await self.lead(client)
        self._wires.discard(wire)

    def cut(self) -> None:
        for wire in self._wires:
            wire.cancel()


def to(server: Address) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a `lead` that forwards connections to a server."""

    async def lead(client: trio.SocketStream) -> None:
        async with await connect(server) as up, trio.open_nursery() as pumps:
            pumps.start_soon(pump, client, up)
            pumps.start_soon(pump, up, client)

    return lead


async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await trio.aclose_forcefully(sink)


async def to_nobody(client: trio.SocketStream) -> None:
    """Accept a connection and say nothing."""
    await trio.sleep_forever()


async def to_a_web_server(client: trio.SocketStream) -> None:
    """Answer without TLS."""
    await client.receive_some()
    await client.send_all(b"HTTP/1.1 302 Found\r\n\r\n")


@asynccontextmanager
async def between(server: Address) -> AsyncIterator[Between]:
    """Run a forwarder in front of a server for the length of the block."""
    middle = Between(server)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    middle.address = Address("127.0.0.1", port_of(listeners[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, middle.carry, listeners)
        yield middle
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def alice_at(address: Address, known: File) -> AsyncIterator[Session]:
    account = Account("alice", identity_of("alice"), ClientId())
    async with open_session(Connector(address, known.servers()), account) as session:
        await next_update(session, Connected)
        yield session


@dataclass
class Asker:
    """Person who types /invite; `line` is the invite that is printed for copying."""

    session: Session
    replica: Replica
    line: str = ""

    def notice(self, text: str) -> None:
        """Show a line."""

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        """Show a line where it can be copied."""
        self.line = text


async def test_intercepted_transfer_does_not_change_the_invite_pin(
    mine: Credentials, others: Credentials, known: File, plan: Path
) -> None:
    async with (
        running_server(credentials=mine) as server,
        running_server(credentials=others) as evil,
        between(server.address) as middle,
        alice_at(middle.address, known) as alice,
    ):
        ops = await alice.enter(GROUP)
        middle.lead = to(evil.address)
        with pytest.raises(Refused) as caught:
            await send_file(alice, ops, plan)
        assert caught.value.code == Code.SERVER_CHANGED
        assert alice.connector.server_pin == mine.pin
        asker = Asker(alice, ops)
        await make_invite(asker, "")
        given = parser().parse_args(shlex.split(asker.line)[3:])
        assert given.invite[1] == mine.pin


async def loses_its_line(mine: Credentials, instead: Credentials, known: File) -> None:
    """Run Alice's session: her known-servers line is removed, and another server takes over."""
    async with (
        running_server(credentials=mine) as server,
        running_server(credentials=instead) as other,
        between(server.address) as middle,
        alice_at(middle.address, known) as alice,
    ):
        known.write("")
        middle.lead = to(other.address)
        middle.cut()
        await next_update(alice, Disconnected)
        await next_update(alice, Connected)
        await alice.enter(GROUP)


async def test_changed_key_is_refused_within_a_process(
    mine: Credentials, others: Credentials, known: File
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await loses_its_line(mine, others, known)
    refused = root_of(caught.value)
    assert isinstance(refused, Refused)
    assert refused.code == Code.SERVER_CHANGED
    assert known.entries == []


async def test_same_key_is_accepted_after_line_removal(mine: Credentials, known: File) -> None:
    await loses_its_line(mine, mine, known)
    assert len(known.entries) == 1


@pytest.mark.parametrize("kind", ["a web server", "a server without TLS"])
async def test_known_server_without_tls_is_retried(
    kind: str, mine: Credentials, known: File
) -> None:
    async with (
        running_server(credentials=mine) as server,
        running_server() as plain,
        between(server.address) as middle,
        alice_at(middle.address, known) as alice,
    ):
        middle.lead = to_a_web_server if kind == "a web server" else to(plain.address)
        middle.cut()
        await next_update(alice, Disconnected)
        update = await next_update(alice, Disconnected)
        assert isinstance(update, Disconnected)
        assert "somebody may be intercepting" in update.reason
        middle.lead = to(server.address)
        await next_update(alice, Connected)
        await alice.enter(GROUP)


async def test_known_server_without_tls_is_reported(mine: Credentials, known: File) -> None:
    async with running_server(credentials=mine) as server, between(server.address) as middle:
        async with alice_at(middle.address, known):
            pass
        middle.lead = to_a_web_server
        with pytest.raises(BaseExceptionGroup) as caught:
            async with alice_at(middle.address, known):
                pass
        error = root_of(caught.value)
        assert isinstance(error, StartupError)
        assert "somebody may be intercepting" in error.sentence
        assert "--no-tls" not in error.sentence


# ------------------------------------------------------------------ stalled transfers


async def test_transfer_to_a_silent_server_is_given_up(
    mine: Credentials, known: File, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_server(credentials=mine) as server,
        between(server.address) as middle,
        alice_at(middle.address, known) as alice,
    ):
        ops = await alice.enter(GROUP)
        await send_file(alice, ops, plan)
        await until(alice, lambda: 1 in ops.state.files)
        monkeypatch.setattr(files_module, "STALL_SECONDS", 0.01)
        middle.lead = to_nobody
        await trio.Path(plan).write_text("another plan")
        with trio.fail_after(GUARD):
            with pytest.raises(Refused):
                await send_file(alice, ops, plan)
            with pytest.raises(Refused):
                await fetch_file(alice, ops, ops.state.files[1], plan.parent / "in")
        assert list((plan.parent / "in").iterdir()) == []
        await alice.post(ops, "still here").wait()


@pytest.mark.parametrize("lost", [{"transfer"}, {"ready", "have"}, {"have"}])
async def test_transfer_without_ready_is_given_up(
    lost: set[str], plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        monkeypatch.setattr(files_module, "STALL_SECONDS", 0.01)
        proxy.watch = lambda _, frame: "drop" if frame["type"] in lost else "pass"
        with trio.fail_after(GUARD), pytest.raises(Refused, match="makes no progress") as caught:
            await send_file(alice, ops, plan)
        assert caught.value.code == Code.IDLE
        await alice.post(ops, "still here").wait()


# ------------------------------------------------------------------ the order after a reconnection


async def test_attach_precedes_resent_commands_after_a_break() -> None:
    words = [f"text {n}" for n in range(150)]
    sent = 0

    def cut_once(side: Side, frame: dict[str, Any]) -> Verdict:
        nonlocal sent
        sent += frame["type"] == "post"
        return "cut" if sent == 60 and frame["type"] == "post" else "pass"

    async with (
        running_server(limits=replace(NO_RATE_LIMITS, messages=Rate(200, 20))) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = cut_once
        with trio.fail_after(GUARD):
            for request in [alice.post(ops, word) for word in words]:
                await request.wait()
        said = [frame["type"] for side, frame in proxy.frames if side == "client"]
        again = len(said) - said[::-1].index("proof")
        assert said.count("proof") == 2
        assert said[again : again + 2] == ["attach", "post"]
        assert texts(await log_of(server.store)) == words


# ------------------------------------------------------------------ contradictory options


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the program, which ends at once; return its only output line."""
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


JOIN = ("join", "127.0.0.1", "1", "--user", "alice", "--group", "ops")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--no-tls", "--pin", pin_text(PIN)), "A pin cannot be checked without TLS"),
        (
            ("--no-tls", "--invite", invite_text(TOKEN, PIN)),
            "A pin cannot be checked without TLS",
        ),
        (("--pin", pin_text(OTHER), "--invite", invite_text(TOKEN, PIN)), "different servers"),
        (("--pin", pin_text(PIN), "--invite", invite_text(TOKEN, PIN)), "Cannot connect"),
        (("--no-tls", "--invite", invite_text(TOKEN, b"")), "Cannot connect"),
    ],
)
def test_contradicting_pins_are_refused_before_connecting(
    options: tuple[str, ...],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TCHAT_HOME", str(tmp_path))
    assert sentence in complaint(capsys, *JOIN, *options)


def test_certificate_options_without_tls_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    serve = ("serve", "127.0.0.1", "0", "--data", str(data))
    said = complaint(capsys, *serve, "--cert", "cert", "--key", "key", "--no-tls")
    assert "--cert cannot be combined with --no-tls" in said
    assert "given together" in complaint(capsys, *serve, "--cert", "cert")
    assert not data.exists()


@pytest.mark.parametrize("text", ["sha256:x", "sha256:", "x", "sha256:" + "ä" * 43, ""])
def test_invalid_pin_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="a pin is sha256: and 43 letters, digits"):
        read_pin(text)
    with pytest.raises(SystemExit):
        parser().parse_args([*JOIN, "--pin", text])
    assert "a pin is sha256: and 43 letters" in capsys.readouterr().err
