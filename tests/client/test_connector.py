"""A client verifies each server: pins, trust on first use, certificate authorities."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector, first_visit_notice
from tchat.client.files.transfer import fetch_file, send_file
from tchat.client.session import Session, open_session
from tchat.client.updates import Connected, Disconnected, NewServer
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, Refused, StartupError, root_of
from tchat.net.address import Address
from tchat.net.tls import Credentials, make_credentials
from tests.client.known_servers_file import File
from tests.client.receiving import next_update, pending_updates
from tests.helpers import GROUP, GUARD, approve, identity_of, running_server, until
from tests.net.authority import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.net.link import Link
    from tests.helpers import RunningServer

WRONG = bytes(32)


@pytest.fixture
def mine(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "mine")


@pytest.fixture
def others(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "others")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "state" / "known_servers")


class Reached(NamedTuple):
    """Result of a connection: what the client knows about the server."""

    new_pin: bytes | None
    server_pin: bytes
    ca_verified: bool


async def open_and_close(connector: Connector) -> bytes | None:
    with trio.fail_after(GUARD):
        link = await connector.open()
        try:
            return connector.remember()
        finally:
            await link.abort()


async def reach(address: Address, file: File, pin: bytes | None = None) -> Reached:
    """Open one connection as another process would, and close it."""
    connector = Connector(address, file.servers(), pin)
    new_pin = await open_and_close(connector)
    return Reached(new_pin, connector.server_pin, connector.ca_verified)


async def refused(address: Address, file: File, pin: bytes | None = None) -> str:
    """Connect to a server that must be refused; return the error's sentence."""
    connector = Connector(address, file.servers(), pin)
    with pytest.raises(Refused) as caught:
        await open_and_close(connector)
    assert caught.value.code == Code.SERVER_CHANGED
    return caught.value.sentence


@asynccontextmanager
async def session_over_tls(address: Address, user: str, file: File) -> AsyncIterator[Session]:
    account = Account(user, identity_of(user), ClientId())
    async with open_session(Connector(address, file.servers()), account) as session:
        yield session


# ------------------------------------------------------------------ trust on first use


async def test_first_visit_accepts_and_saves_the_server(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        connector = await reach(server.address, file)
    assert connector.new_pin == mine.pin
    assert connector.server_pin == mine.pin
    assert not connector.ca_verified
    assert file.entries == [f"{server.address} {pin_text(mine.pin)}"]
    assert pin_text(mine.pin) in first_visit_notice(mine.pin)


async def test_new_server_is_identified_by_its_first_connection(
    mine: Credentials, file: File
) -> None:
    async with running_server(credentials=mine) as server:
        connector = Connector(server.address, file.servers())
        async with connector.identified(GUARD):
            assert connector.names() == [pin_text(mine.pin)]
            link = await connector.open()
            assert connector.remember() == mine.pin
            await link.abort()
        again = Connector(server.address, file.servers())
        async with again.identified(GUARD):
            assert again.names() == [pin_text(mine.pin), str(server.address)]
        # What is kept under the address may be about the server that was there before.
        assert connector.names() == [pin_text(mine.pin)]


async def test_failed_identification_is_the_first_failure(mine: Credentials, file: File) -> None:
    async with running_server() as server:  # without TLS
        connector = Connector(server.address, file.servers())
        async with connector.identified(GUARD):
            assert connector.names() == [str(server.address)]
            with pytest.raises(Refused) as caught:
                await connector.open()
            assert caught.value.code == Code.NOT_ENCRYPTED


async def test_unused_identification_is_closed(mine: Credentials, file: File) -> None:
    class Watched(Connector):
        async def open(self) -> Link:
            self.link = await super().open()
            return self.link

    async with running_server(credentials=mine) as server:
        connector = Watched(server.address, file.servers())
        async with connector.identified(GUARD):
            assert connector.link.server_pin() == mine.pin
        with pytest.raises(trio.ClosedResourceError):
            await connector.link.receive()


async def test_known_server_is_not_reported_again(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        await reach(server.address, file)
        before = file.text
        again = await reach(server.address, file)
    assert again.new_pin is None
    assert again.server_pin == mine.pin
    assert file.text == before


async def test_changed_key_is_refused_until_line_is_removed(
    mine: Credentials, others: Credentials, file: File
) -> None:
    async with running_server(credentials=mine) as server:
        await reach(server.address, file)
    before = file.text
    async with running_server(credentials=others, port=server.address.port):
        sentence = await refused(server.address, file)
        for part in (pin_text(mine.pin), pin_text(others.pin), f"line 3 of {file}"):
            assert part in sentence
        assert await refused(server.address, file) == sentence
        assert file.text == before
        file.write("".join(before.splitlines(keepends=True)[:2]))
        connector = await reach(server.address, file)
        assert connector.new_pin == others.pin
    assert file.entries == [f"{server.address} {pin_text(others.pin)}"]


async def test_known_server_is_never_used_without_tls(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        await reach(server.address, file)
    async with running_server(port=server.address.port):
        with pytest.raises(trio.BrokenResourceError, match="somebody may be intercepting"):
            await reach(server.address, file)


async def test_server_that_cannot_be_saved_is_not_used(mine: Credentials, file: File) -> None:
    file.path.parent.symlink_to(file.path.parent.parent / "gone")
    async with running_server(credentials=mine) as server:
        with pytest.raises(StartupError, match=r"known_servers cannot be used: "):
            await reach(server.address, file)
        gc.collect()  # a connection that was left open would be found here


async def test_other_host_name_is_another_server(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        await reach(server.address, file)
        elsewhere = Address("LocalHost", server.address.port)
        assert (await reach(elsewhere, file)).new_pin
        assert (await reach(Address("localhost", server.address.port), file)).new_pin is None
    assert [line.split()[0] for line in file.entries] == [
        str(server.address),
        f"localhost:{server.address.port}",
    ]


async def test_invalid_line_prevents_connecting(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        file.write(f"{server.address} sha256:I-forgot\n")
        with pytest.raises(StartupError, match=r"Line 1 of .* is not valid"):
            await reach(server.address, file)


# ------------------------------------------------------------------ given pins


async def test_given_pin_is_saved_without_a_notice(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        connector = await reach(server.address, file, mine.pin)
        assert connector.new_pin is None
        assert file.entries == [f"{server.address} {pin_text(mine.pin)}"]
        assert (await reach(server.address, file)).new_pin is None
        assert (await reach(server.address, file, mine.pin)).new_pin is None


async def test_wrong_pin_is_refused_and_not_saved(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        sentence = await refused(server.address, file, WRONG)
    assert pin_text(WRONG) in sentence
    assert pin_text(mine.pin) in sentence
    assert not file.exists


async def test_given_pin_contradicting_the_known_one_is_refused(
    mine: Credentials, others: Credentials, file: File
) -> None:
    async with running_server(credentials=mine) as server:
        await reach(server.address, file)
        assert pin_text(WRONG) in await refused(server.address, file, WRONG)
    async with running_server(credentials=others, port=server.address.port):
        # Whoever pastes a new pin still has to remove the line: it may have been pasted to them.
        assert f"line 3 of {file}" in await refused(server.address, file, others.pin)
    assert file.entries == [f"{server.address} {pin_text(mine.pin)}"]


# ------------------------------------------------------------------ certificate authorities


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    return Authority(tmp_path / "authority", monkeypatch)


def named(server: RunningServer) -> Address:
    """Return a server's address with the host name of its certificate."""
    return Address("localhost", server.address.port)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1"])
async def test_ca_verified_server_is_saved_as_ca(
    authority: Authority, file: File, host: str
) -> None:
    credentials = authority.certify("localhost", "127.0.0.1")
    assert not credentials.self_signed
    async with running_server(credentials=credentials) as server:
        address = Address(host, server.address.port)
        connector = await reach(address, file)
        assert connector.new_pin is None
        assert connector.ca_verified
        assert file.entries == [f"{host.lower()}:{server.address.port} ca"]
        assert (await reach(address, file)).ca_verified


async def test_ca_verified_server_may_change_its_key(authority: Authority, file: File) -> None:
    async with running_server(credentials=authority.certify("localhost")) as server:
        before = (await reach(named(server), file)).server_pin
    renewed = authority.certify("localhost")
    async with running_server(credentials=renewed, port=server.address.port):
        after = (await reach(named(server), file)).server_pin
    assert before != after
    assert file.entries == [f"{named(server)} ca"]


async def test_lost_ca_verification_is_refused(
    authority: Authority, mine: Credentials, file: File
) -> None:
    async with running_server(credentials=authority.certify("localhost")) as server:
        await reach(named(server), file)
    for impostor in [mine, authority.certify("example.org")]:
        async with running_server(credentials=impostor, port=server.address.port):
            sentence = await refused(named(server), file)
        assert "used to have a certificate that your system trusts" in sentence
        assert f"remove line 3 of {file}" in sentence
    assert file.entries == [f"{named(server)} ca"]


async def test_expired_certificate_may_mean_a_wrong_clock(authority: Authority, file: File) -> None:
    async with running_server(credentials=authority.certify("localhost")) as server:
        await reach(named(server), file)
    expired = authority.certify("localhost", days=-1)
    async with running_server(credentials=expired, port=server.address.port):
        sentence = await refused(named(server), file)
    assert "the date of this machine's clock" in sentence
    assert file.entries == [f"{named(server)} ca"]


@pytest.mark.parametrize(("name", "days"), [("example.org", 30), ("localhost", -1)])
async def test_expired_or_foreign_certificate_is_not_verified(
    authority: Authority, file: File, name: str, days: int
) -> None:
    async with running_server(credentials=authority.certify(name, days=days)) as server:
        connector = await reach(named(server), file)
        assert connector.new_pin == connector.server_pin
    assert file.entries == [f"{named(server)} {pin_text(connector.server_pin)}"]


async def test_pin_holds_despite_ca_verification(
    authority: Authority, mine: Credentials, file: File
) -> None:
    async with running_server(credentials=mine) as server:
        await reach(named(server), file)
    ca_verified = authority.certify("localhost")
    async with running_server(credentials=ca_verified, port=server.address.port):
        assert pin_text(mine.pin) in await refused(named(server), file)
        file.write("")
        assert pin_text(WRONG) in await refused(named(server), file, WRONG)


async def test_given_pin_holds_for_ca_verified_server(authority: Authority, file: File) -> None:
    async with running_server(credentials=authority.certify("localhost")) as server:
        right = (await reach(named(server), file)).server_pin
        assert pin_text(WRONG) in await refused(named(server), file, WRONG)
        assert (await reach(named(server), file, right)).new_pin is None


# ------------------------------------------------------------------ sessions


async def test_session_reports_a_new_server_once(mine: Credentials, file: File) -> None:
    async with running_server(credentials=mine) as server:
        async with session_over_tls(server.address, "alice", file) as alice:
            update = await next_update(alice, NewServer)
            assert update == NewServer(mine.pin)
            await next_update(alice, Connected)
        async with session_over_tls(server.address, "alice", file) as alice:
            assert await alice.updates.receive() == Connected("alice", again=False)
            await alice.enter(GROUP)
            assert not [
                update for update in pending_updates(alice) if isinstance(update, NewServer)
            ]


async def test_transfers_verify_the_same_key(mine: Credentials, file: File, tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    (tmp_path / "plan.bin").write_bytes(data)
    async with (
        running_server(credentials=mine) as server,
        session_over_tls(server.address, "alice", file) as alice,
        session_over_tls(server.address, "bob", file) as bob,
    ):
        ops = await alice.enter(GROUP)
        there = await bob.enter(GROUP)
        await approve(alice, "bob")
        await send_file(alice, ops, tmp_path / "plan.bin")
        await until(bob, lambda: 1 in there.state.files)
        shared = there.state.files[1]
        place = await fetch_file(bob, there, shared, tmp_path / "in")
        assert place.read_bytes() == data
        # As if another server answered from now on: the session stays open, transfers fail.
        (tmp_path / "plan.bin").write_bytes(data[::-1])
        file.write(f"{server.address} {pin_text(WRONG)}\n")
        with pytest.raises(Refused) as sending:
            await send_file(alice, ops, tmp_path / "plan.bin")
        with pytest.raises(Refused) as fetching:
            await fetch_file(bob, there, shared, tmp_path / "again")
        assert sending.value.code == fetching.value.code == Code.SERVER_CHANGED
        assert list((tmp_path / "again").iterdir()) == []
        await alice.post(ops, "still here").wait()


async def loses_its_server(
    server: RunningServer, instead: Credentials, file: File, again: trio.Event
) -> None:
    """Run Alice's session while another server replaces hers."""
    async with session_over_tls(server.address, "alice", file) as alice:
        await next_update(alice, Connected)
        await server.end()
        await next_update(alice, Disconnected)
        async with running_server(credentials=instead, port=server.address.port):
            await next_update(alice, Connected)
            again.set()


async def test_session_ends_when_the_key_changes(
    mine: Credentials, others: Credentials, file: File
) -> None:
    again = trio.Event()
    async with running_server(credentials=mine) as server:
        with pytest.raises(BaseExceptionGroup) as caught:
            await loses_its_server(server, others, file, again)
    error = root_of(caught.value)
    assert isinstance(error, Refused)
    assert error.code == Code.SERVER_CHANGED
    assert not again.is_set()


async def test_session_resumes_when_the_key_is_the_same(mine: Credentials, file: File) -> None:
    again = trio.Event()
    async with running_server(credentials=mine) as server:
        await loses_its_server(server, mine, file, again)
    assert again.is_set()
