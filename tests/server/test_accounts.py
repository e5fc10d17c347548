"""Names and their keys: claims, link codes, unlinking."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import Session
from tchat.core.fingerprints import fingerprint
from tchat.core.group.state import Author
from tchat.core.protocol.frames import (
    Failed,
    Goodbye,
    KeyAdded,
    KeyRemoved,
    Ok,
    Unlink,
)
from tchat.errors import Code, Refused, StartupError, root_of
from tchat.net import link
from tchat.net.link import Link
from tchat.server.accounts import (
    LINK_CODE_SECONDS,
    OPERATOR_CODE_SECONDS,
    AccountManager,
)
from tchat.server.control import perform
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore, Hold
from tests.helpers import GUARD, hello_of, identity_of, raw_client, running_server
from tests.memory_store import MemoryAccounts, MemoryStore
from tests.server.devices import Gate, device_of, handshake_result, introduce, keys_of, link_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tchat.store.base import Store
    from tests.helpers import RunningServer

PHONE = identity_of("alice", "phone")


async def session_refusal(session: Session) -> Refused:
    """Run a session that the server ends permanently; return the refusal."""
    with trio.fail_after(GUARD), pytest.raises((Refused, ExceptionGroup)) as caught:
        await session.run()
    refused = root_of(caught.value)
    assert isinstance(refused, Refused)
    return refused


def session_to(server: RunningServer, user: str, device: str = "") -> Session:
    connector = Connector(server.address, KnownServers(), plain=True)
    return Session(connector, Account(user, identity_of(user, device), ClientId()))


# ------------------------------------------------------------------ claiming names


async def test_name_belongs_to_the_first_key_claiming_it() -> None:
    async with running_server() as server:
        assert await handshake_result(server, "alice") == "alice"
        assert await handshake_result(server, "alice", owner="mallory") == Code.NAME_TAKEN
        assert await handshake_result(server, "alice", "phone") == Code.NAME_TAKEN
        assert await handshake_result(server, "alice") == "alice"


async def test_ownership_of_a_name_survives_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, running_server(store) as server:
        assert await handshake_result(server, "alice") == "alice"
    async with open_store(tmp_path) as store, running_server(store) as server:
        assert await handshake_result(server, "alice", owner="mallory") == Code.NAME_TAKEN
        assert await handshake_result(server, "alice") == "alice"


@pytest.mark.parametrize(
    ("first", "same"),
    [("Zoë", "ZOË"), ("Zoë", "zoe\u0308"), ("straße", "STRASSE"), ("K", "\u212a")],
)
async def test_names_are_compared_without_case(first: str, same: str) -> None:
    async with running_server() as server:
        assert await handshake_result(server, first) == first
        assert await handshake_result(server, same, owner="mallory") == Code.NAME_TAKEN
        assert await handshake_result(server, same, owner=first) == first


async def test_one_key_may_own_several_names() -> None:
    async with running_server() as server:
        assert await handshake_result(server, "alice") == "alice"
        assert await handshake_result(server, "bot", owner="alice") == "bot"
        assert await handshake_result(server, "bot") == Code.NAME_TAKEN


@pytest.mark.parametrize("lookalike", ["\u0430lice", "aIice", "a1ice"])
async def test_names_like_a_taken_one_are_refused(lookalike: str) -> None:
    async with running_server() as server:
        assert await handshake_result(server, "alice") == "alice"
        assert await handshake_result(server, lookalike, owner="mallory") == Code.LOOKALIKE
        await server.logged(f"The name {lookalike} looks like alice")
        assert await handshake_result(server, "alice") == "alice"


@pytest.mark.parametrize(
    ("name", "code"), [("server", Code.LOOKALIKE), ("--help", Code.BAD_NAME), ("..", Code.BAD_NAME)]
)
async def test_new_people_cannot_have_reserved_names(name: str, code: Code) -> None:
    """Somebody who has such a name from an earlier version keeps it."""
    async with running_server() as server:
        assert await handshake_result(server, name) == code
        await server.store.accounts.claim(name, name, identity_of(name).public, 1)
        assert await handshake_result(server, name) == name
        assert await handshake_result(server, name, owner="mallory") in (code, Code.NAME_TAKEN)


async def test_session_with_a_taken_name_ends() -> None:
    async with running_server() as server:
        await handshake_result(server, "alice")
        refused = await session_refusal(session_to(server, "alice", "phone"))
        await server.logged("The name alice belongs to another key")
    assert refused.code == Code.NAME_TAKEN
    assert "join here with --link CODE" in refused.sentence


# ------------------------------------------------------------------ link codes


async def test_link_code_adds_a_device_permanently() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await link_code(alice)
        assert await handshake_result(server, "alice", "phone", code) == "alice"
        assert await handshake_result(server, "alice", "phone") == "alice"
        assert await keys_of(alice) == [identity_of("alice").public, PHONE.public]


async def test_link_code_works_once() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await link_code(alice)
        assert await handshake_result(server, "alice", "phone", code) == "alice"
        assert await handshake_result(server, "alice", "laptop", code) == Code.BAD_LINK
        assert await handshake_result(server, "alice", "laptop") == Code.NAME_TAKEN
        assert (
            await handshake_result(server, "alice", "phone", code) == "alice"
        )  # a known key needs no code


async def test_link_code_works_for_its_own_name_only() -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob"),
    ):
        code = await link_code(alice)
        assert await handshake_result(server, "bob", "phone", code) == Code.BAD_LINK
        assert (
            await handshake_result(server, "carol", "phone", code) == Code.BAD_LINK
        )  # even though the name is free
        assert await handshake_result(server, "ALICE", "phone", code) == "alice"


async def test_new_link_code_voids_the_previous_one() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        older, newer = await link_code(alice), await link_code(alice)
        assert older != newer
        assert await handshake_result(server, "alice", "phone", older) == Code.BAD_LINK
        assert await handshake_result(server, "alice", "phone", newer) == "alice"


@pytest.mark.parametrize("typed", ["", "0", "0000-0000-0000", "ä" * 12, "\ud7ff" * 40, "-" * 12])
@pytest.mark.parametrize("asked", [True, False])
async def test_invalid_link_codes_are_refused(typed: str, asked: bool) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        if asked:
            await link_code(alice)
        assert await handshake_result(server, "alice", "phone", typed) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]


async def test_link_code_contains_no_ambiguous_letters() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        letters = "".join([await link_code(alice) for _ in range(60)])
    assert set(letters) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")


@pytest.mark.parametrize(
    "typed",
    ["01AB-10CD-0101", "01ab-10cd-0101", " 01AB 10CD 0101 ", "01AB10CD0101", "oIab-lOcd-oLo1"],
)
async def test_link_code_tolerates_typing_variants(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("01AB10CD0101")
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await link_code(alice) == "01AB-10CD-0101"
        assert await handshake_result(server, "alice", "phone", typed) == "alice"


@pytest.mark.parametrize(
    ("seconds", "valid"), [(LINK_CODE_SECONDS - 1, True), (LINK_CODE_SECONDS + 1, False)]
)
async def test_link_code_expires(
    mock_clock: trio.testing.MockClock, seconds: float, valid: bool
) -> None:
    accounts = AccountManager(MemoryAccounts(), lambda: 1000)
    await accounts.claim(hello_of("alice"), "alice", None)
    code = accounts.new_link_code(Author("alice", bytes(8), identity_of("alice").public))
    mock_clock.jump(seconds)
    hello = replace(hello_of("alice"), key=PHONE.public)
    if valid:
        assert await accounts.claim(hello, "alice", code) == "alice"
    else:
        with pytest.raises(Refused) as caught:
            await accounts.claim(hello, "alice", code)
        assert caught.value.code == Code.BAD_LINK


# ------------------------------------------------------------------ codes of the operator


@asynccontextmanager
async def operated_server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
    ):
        yield server


async def operator_code(tmp_path: Path, name: str, **options: str) -> str:
    return str((await perform(tmp_path, "link", name=name, **options))["code"])


async def test_operators_code_replaces_all_keys(tmp_path: Path) -> None:
    async with operated_server(tmp_path) as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        code = await operator_code(tmp_path, "ALICE")
        assert await handshake_result(server, "alice") == "alice"  # nothing has changed yet
        async with device_of(server, "alice", "new", code) as new:
            goodbye = (await alice.until_end())[-1]
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code == Code.KEY_REMOVED
            assert await keys_of(new) == [identity_of("alice", "new").public]
            for device in ("", "phone"):
                assert await handshake_result(server, "alice", device) == Code.KEY_REMOVED
                assert await handshake_result(server, "alice", device, code) == Code.BAD_LINK
        await server.end()
    log = "\n".join(server.console)
    assert "the operator made a link code for the name ALICE" in log
    assert f"linked a device to the name: its key is {digits_of('new')}" in log
    for device in ("", "phone"):
        assert f"the key {digits_of(device)} was removed from the name alice" in log


def digits_of(device: str) -> str:
    return fingerprint(identity_of("alice", device).public)


async def test_operators_code_may_keep_the_keys(tmp_path: Path) -> None:
    async with operated_server(tmp_path) as server, raw_client(server.address, "alice") as alice:
        code = await operator_code(tmp_path, "alice", keep_keys="yes")
        assert await handshake_result(server, "alice", "phone", code) == "alice"
        assert await keys_of(alice) == [identity_of("alice").public, PHONE.public]
        assert await handshake_result(server, "alice", "third", code) == Code.BAD_LINK


async def test_known_device_can_redeem_operators_code(tmp_path: Path) -> None:
    async with operated_server(tmp_path) as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        code = await operator_code(tmp_path, "alice")
        assert await handshake_result(server, "alice", "phone", code) == "alice"
        assert await handshake_result(server, "alice") == Code.KEY_REMOVED
        assert await handshake_result(server, "alice", "phone") == "alice"


async def test_lost_device_cannot_void_operators_code(tmp_path: Path) -> None:
    async with operated_server(tmp_path) as server, raw_client(server.address, "alice") as thief:
        code = await operator_code(tmp_path, "alice")
        own = await link_code(thief)
        assert await handshake_result(server, "alice", "new", code) == "alice"
        assert await handshake_result(server, "alice", "another", own) == Code.BAD_LINK


async def test_operators_code_needs_a_running_server(tmp_path: Path) -> None:
    async with operated_server(tmp_path) as server:
        await handshake_result(server, "alice")
    with pytest.raises(StartupError, match="Start the server first"):
        await perform(tmp_path, "link", name="alice")


async def test_unclaimed_name_gets_no_operators_code(tmp_path: Path) -> None:
    async with operated_server(tmp_path):
        with pytest.raises(Refused) as caught:
            await operator_code(tmp_path, "nobody")
    assert caught.value.code == Code.NO_SUCH_NAME


@pytest.mark.parametrize(
    ("seconds", "valid"), [(OPERATOR_CODE_SECONDS - 1, True), (OPERATOR_CODE_SECONDS + 1, False)]
)
async def test_operators_code_expires(
    mock_clock: trio.testing.MockClock, seconds: float, valid: bool
) -> None:
    accounts = AccountManager(MemoryAccounts(), lambda: 1000)
    await accounts.claim(hello_of("alice"), "alice", None)
    code = await accounts.new_operator_code("alice", keep_keys=False)
    mock_clock.jump(seconds)
    hello = replace(hello_of("alice"), key=PHONE.public)
    with nullcontext() if valid else pytest.raises(Refused, match="has expired"):
        assert await accounts.claim(hello, "alice", code) == "alice"


# ------------------------------------------------------------------ unlinking keys


async def test_other_devices_are_told_of_a_removal() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        async with device_of(server, "alice", "desk", await link_code(alice)) as desk:
            await alice.before_pong()
            await alice.ask(lambda i: Unlink(i, PHONE.public))
            assert await desk.before_pong() == [KeyRemoved(PHONE.public)]
            assert await alice.before_pong() == []
        await server.logged(f"the key {digits_of('phone')} was removed from the name alice")


async def test_unlinked_key_is_disconnected_and_stays_out() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await link_code(alice)
        async with device_of(server, "alice", "phone", code) as phone:
            assert await alice.ask(lambda i: Unlink(i, PHONE.public)) == Ok(1 + 1)
            (goodbye,) = await phone.until_end()
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code == Code.KEY_REMOVED
        assert await handshake_result(server, "alice", "phone") == Code.KEY_REMOVED
        assert await handshake_result(server, "alice", "phone", code) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]
        # The device that unlinked it stays.
        assert [type(frame) for frame in await alice.before_pong()] == [KeyAdded]


@pytest.mark.parametrize("operation", ["unlink", "take_over"])
async def test_committed_removal_takes_effect_though_cancelled(operation: str) -> None:
    """The connection that asks for it may break while it is written."""
    store, told = FaultyStore(), list[tuple[str, bytes]]()
    accounts = AccountManager(
        store.accounts, lambda: 1000, on_removed=lambda name, key, _: told.append((name, key))
    )
    alice = Author("alice", bytes(8), identity_of("alice").public)
    phone = replace(hello_of("alice"), key=PHONE.public)
    await accounts.claim(hello_of("alice"), "alice", None)
    change: Callable[[], Awaitable[object]]
    if operation == "unlink":
        await accounts.claim(phone, "alice", accounts.new_link_code(alice))
        change, removed = partial(accounts.unlink, alice, PHONE.public), PHONE
    else:
        code = await accounts.new_operator_code("alice", keep_keys=False)
        change, removed = partial(accounts.claim, phone, "alice", code), identity_of("alice")
    committed = store.hold(f"accounts.{operation}", after=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        await committed.reached.wait()
        nursery.cancel_scope.cancel()
        committed.release()
    assert told == [("alice", removed.public)]
    assert accounts.is_revoked(replace(alice, key=removed.public))


async def test_unlinked_key_can_be_linked_again() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        await alice.ask(lambda i: Unlink(i, PHONE.public))
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        assert await handshake_result(server, "alice", "phone") == "alice"


async def test_session_with_an_unlinked_key_ends() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"

        async def unlink() -> None:
            for _ in range(3):  # alice, the linked phone, the session
                await server.logged("alice connected")
            await alice.ask(lambda i: Unlink(i, PHONE.public))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(unlink)
            refused = await session_refusal(session_to(server, "alice", "phone"))
    assert refused.code == Code.KEY_REMOVED


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (identity_of("alice").public, Code.YOURSELF),
        (PHONE.public, Code.NO_SUCH_KEY),
        (identity_of("bob").public, Code.NO_SUCH_KEY),
    ],
    ids=["in use", "unknown", "bob's"],
)
async def test_own_unknown_and_foreign_keys_cannot_be_unlinked(key: bytes, code: Code) -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
    ):
        answer = await alice.ask(lambda i: Unlink(i, key))
        assert isinstance(answer, Failed)
        assert answer.code == code
        assert await keys_of(alice) == [identity_of("alice").public]
        assert await keys_of(bob) == [identity_of("bob").public]
        assert await bob.before_pong() == []


async def test_devices_unlinking_each_other_keep_the_name_owned(
    tmp_path: Path,
) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
        device_of(server, "alice", "phone", await link_code(alice)) as phone,
    ):
        await alice.send(Unlink(71, PHONE.public))
        await phone.send(Unlink(72, identity_of("alice").public))
        await alice.receive()
        await phone.receive()
        assert len(await store.accounts.keys("alice")) == 1
        assert await handshake_result(server, "alice", owner="mallory") == Code.NAME_TAKEN


# ------------------------------------------------------------------ unlinking during the handshake


async def unlinked_while_held(store: Store, close: Callable[[], Gate | Hold]) -> str:
    """Unlink a key while its handshake waits at what `close` returns; return the final code."""
    answers: list[object] = []

    async def connect(server: RunningServer) -> None:
        async with raw_client(server.address) as phone:
            answers.append(await introduce(phone, "alice", "phone"))
            answers.extend(await phone.until_end())

    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        gate = close()
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect, server)
                await gate.reached.wait()
                await alice.ask(lambda i: Unlink(i, PHONE.public))
                gate.release()
    assert isinstance(answers[-1], Failed | Goodbye)
    return answers[-1].code


async def test_key_unlinked_between_hello_and_proof_is_refused() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"
        async with raw_client(server.address) as phone:
            hello = replace(hello_of("alice", phone.client), key=PHONE.public)
            await phone.send(hello)
            proof = await phone.proof(hello, PHONE)
            await alice.ask(lambda i: Unlink(i, PHONE.public))
            await phone.send(proof)
            (answer,) = await phone.until_end()
    assert isinstance(answer, Failed)
    assert answer.code == Code.KEY_REMOVED


async def test_key_unlinked_during_proof_verification_is_refused() -> None:
    store = FaultyStore()
    code = await unlinked_while_held(store, lambda: store.hold("accounts.claim", after=True))
    assert code == Code.KEY_REMOVED


async def test_key_unlinked_during_the_welcome_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send, gates = Link.send, list[Gate]()

    async def send_slowly(link: Link, data: bytes) -> None:
        await send(link, data)
        if gates and b"welcome" in data:
            await gates[0].stop()

    def close() -> Gate:
        gates.append(Gate())
        return gates[0]

    monkeypatch.setattr(Link, "send", send_slowly)
    monkeypatch.setattr(link, "writer_of", lambda _: bytes)  # so that the writer sends it
    assert await unlinked_while_held(MemoryStore(), close) == Code.KEY_REMOVED
