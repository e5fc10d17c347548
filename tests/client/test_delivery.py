"""Messages are pending until their events are in the log, and shown exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.client_id import ClientId, acquire_client_id
from tchat.client.journal import Journal
from tchat.client.updates import EventReceived, PendingChanged
from tchat.core.fingerprints import token_digest
from tchat.core.group.membership import Deny, Invite, Kick
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import MembershipChange
from tchat.errors import Code, Refused
from tests.client.impostor import Wire, event, impostor
from tests.client.receiving import pending_updates
from tests.client.unsent import delivered, drops, left_in, waiting
from tests.fault_proxy import FaultProxy, cut_off, fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    approve,
    log_of,
    running_server,
    session_at,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session


async def denied(alice: Session, bob: Session, replica: Replica) -> None:
    """Turn down Bob's request to join, as the admin, and wait until he knows."""
    await alice.request(lambda i, n: Deny(i, n, GROUP, "bob"))
    await until(bob, lambda: replica.standing == "outsider")


async def invited(alice: Session, bob: Session) -> None:
    """Let Bob in whose request was denied: he could ask again only later."""
    token = bytes(16)
    await alice.request(lambda i, n: Invite(i, n, GROUP, token_digest(token), 60_000))
    await bob.enter(GROUP, invite=token)


def shown(replica: Replica) -> list[str]:
    """Return the texts that a person sees: those of the log, then the pending ones."""
    return texts(replica.log) + waiting(replica)


# ------------------------------------------------------------------ a session while it is typed in


async def test_message_is_pending_until_logged() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        pending = alice.post(ops, "hello", reply=1)
        assert (pending.group, pending.text, pending.reply) == (GROUP, "hello", 1)
        assert pending.failure is None
        assert ops.pending == [pending]
        await delivered(alice, ops)
        assert texts(ops.log) == ["hello"]
        (stored,) = [e for e in await log_of(server.store) if e.body.kind == "posted"]
        assert stored == ops.log[-1]
        await pending.wait()


async def test_each_message_is_shown_exactly_once() -> None:
    words = [f"text {n}" for n in range(100)]
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        for word in words:
            alice.post(ops, word)
            assert shown(ops) == words[: len(shown(ops))]
        cuts = iter((20, 50, 70))
        cut = next(cuts)
        while ops.pending:
            await alice.updates.receive()
            assert shown(ops) == words
            if len(texts(ops.log)) > cut:
                cut = next(cuts, 1000)
                proxy.cut()
        assert texts(await log_of(server.store)) == words


async def test_answer_before_the_event_keeps_message_pending() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=1)
        await wire.say(event(1))
        post = await wire.hear_only("post")
        await wire.say({"type": "ok", "re": post["id"], "seq": 3})
        await wire.say(event(2))
        await wire.hear_only("seen")
        own = {"client": client, "n": post["n"], "actor": "alice", "text": post["text"]}
        await wire.say(event(3, **own))
        await wire.hear()

    client_id = ClientId()
    client = client_id.client
    async with (
        impostor(act) as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        pending = alice.post(ops, "mine")
        await pending.wait()
        await until(alice, lambda: ops.last == 2)
        assert ops.pending == [pending]
        alice.mark_seen(ops, 2)
        await delivered(alice, ops)
        assert texts(ops.log) == ["text 1", "text 2", "mine"]


async def test_event_alone_confirms_a_pending_message() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = drops(type="ok")
        pending = alice.post(ops, "hello")
        with trio.fail_after(GUARD):
            await pending.wait()
        assert ops.pending == []
        assert alice.unanswered == 0


@pytest.mark.parametrize(
    "changes",
    [{"actor": "eve"}, {"client": b"another!"}, {"n": 99}, {"group": "elsewhere"}],
    ids=str,
)
async def test_foreign_events_confirm_no_pending_message(changes: dict[str, object]) -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=0)
        post = await wire.hear_only("post")
        own = {"client": client_id.client, "n": post["n"], "actor": "alice", "text": post["text"]}
        await wire.say(event(1, **{**own, **changes}), event(1), event(2))
        await wire.hear()

    client_id = ClientId()
    async with (
        impostor(act) as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        pending = alice.post(ops, "mine")
        await until(alice, lambda: ops.last == 2)
        assert ops.pending == [pending]


async def test_messages_typed_offline_are_sent_later() -> None:
    async with running_server() as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        alice.post(ops, "first of all")
        assert not alice.connected
        assert waiting(ops) == ["first of all"]
        with trio.fail_after(GUARD), pytest.raises(Refused):
            await ops.pending[0].wait()  # nobody has founded the group yet
        await alice.enter(GROUP)
        await alice.resend(ops.pending[0]).wait()
        await delivered(alice, ops)
        assert texts(ops.log) == ["first of all"]


async def test_messages_typed_while_disconnected_keep_their_order() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await cut_off(proxy, alice)
        for word in ("one", "two", "three"):
            alice.post(ops, word)
        assert waiting(ops) == ["one", "two", "three"]
        proxy.refusing = False
        await delivered(alice, ops)
        assert texts(ops.log) == ["one", "two", "three"]


async def test_every_change_of_pending_messages_is_reported() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        await until(alice, lambda: ops.caught_up)
        pending = alice.post(ops, "hello")
        assert PendingChanged(ops) in pending_updates(alice)
        await pending.wait()
        updates = pending_updates(alice)
        assert PendingChanged(ops) in updates
        assert [u.event.body.kind for u in updates if isinstance(u, EventReceived)] == ["posted"]


async def test_invalid_message_is_not_saved(client_id: ClientId, tmp_path: Path) -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        for text in ("", "\u200b", 20_000 * "x"):
            with pytest.raises(Refused):
                alice.post(ops, text)
        with pytest.raises(ValueError, match="surrogates"):
            alice.post(ops, "a\ud800")
        assert ops.pending == []
        assert left_in(tmp_path, server.address) == []


# ------------------------------------------------------------------ refusals


async def test_refused_message_stays_until_resent_or_discarded() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        await denied(alice, bob, ops)
        one, two = bob.post(ops, "one"), bob.post(ops, "two")
        for pending in (one, two):
            with pytest.raises(Refused):
                await pending.wait()
            assert pending.failure is not None
            assert pending.failure.code == Code.NOT_MEMBER
        assert ops.pending == [one, two]
        await invited(alice, bob)
        await until(bob, lambda: ops.caught_up)
        assert ops.pending == [one, two]
        bob.discard(two)
        assert bob.resend(one) is one
        assert (one.failure, ops.pending) == (None, [one])
        await delivered(bob, ops)
        assert texts(await log_of(server.store)) == ["one"]
        for pending in (one, two):
            with pytest.raises(Refused):
                bob.discard(pending)


async def test_messages_before_approval_are_sent_with_it() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        for pending in (bob.post(ops, "one"), bob.post(ops, "two")):
            with pytest.raises(Refused):
                await pending.wait()
            assert pending.awaits_approval
        await approve(alice, "bob")
        await until(bob, lambda: ops.caught_up and not ops.pending)
        assert texts(await log_of(server.store)) == ["one", "two"]


async def test_later_messages_do_not_overtake_unapproved_ones() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        one, two = bob.post(ops, "one"), bob.post(ops, "two")
        await approve(alice, "bob")  # Bob does not know it yet
        assert ops.standing == "waiting"
        three = bob.post(ops, "three")
        for pending in (one, two, three):
            assert pending.awaits_approval
        await delivered(bob, ops)
        assert texts(await log_of(server.store)) == ["one", "two", "three"]


async def test_new_message_waits_behind_an_earlier_one(tmp_path: Path) -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, _):
        with acquire_client_id(tmp_path) as client_id:
            async with session_of(server.address, "bob", client_id) as (bob, ops):
                bob.post(ops, "one")
        await approve(alice, "bob")
        with acquire_client_id(tmp_path) as client_id:
            async with session_at(server.address, "bob", client_id) as bob:
                ops = bob.follow(GROUP)
                assert bob.post(ops, "two").awaits_approval
                await bob.enter(GROUP)
                await delivered(bob, ops)
        assert texts(await log_of(server.store)) == ["one", "two"]


async def test_held_message_waits_behind_unapproved_ones(tmp_path: Path) -> None:
    """A person types on after a restart, before the client knows whether they are a member."""
    async with running_server() as server, session_of(server.address, "alice") as (alice, _):
        with acquire_client_id(tmp_path) as client_id:
            async with session_of(server.address, "bob", client_id) as (bob, ops):
                bob.post(ops, "one")
                bob.post(ops, "two")
        await approve(alice, "bob")
        with acquire_client_id(tmp_path) as client_id:
            async with session_at(server.address, "bob", client_id) as bob:
                ops = bob.follow(GROUP)
                bob.post(ops, "three", held=True)
                await bob.enter(GROUP)
                await delivered(bob, ops)
        assert texts(await log_of(server.store)) == ["one", "two", "three"]


async def test_messages_before_approval_survive_a_restart(tmp_path: Path) -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, _):
        with acquire_client_id(tmp_path) as client_id:
            async with session_of(server.address, "bob", client_id) as (bob, ops):
                with pytest.raises(Refused):
                    await bob.post(ops, "let me in").wait()
        await approve(alice, "bob")
        with acquire_client_id(tmp_path) as client_id:
            async with session_of(server.address, "bob", client_id) as (bob, ops):
                await until(bob, lambda: ops.caught_up and not ops.pending)
        assert texts(await log_of(server.store)) == ["let me in"]


async def test_messages_before_approval_fail_when_denied() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, ops),
    ):
        pending = bob.post(ops, "let me in")
        with pytest.raises(Refused):
            await pending.wait()
        await denied(alice, bob, ops)
        assert pending.failure is not None
        assert (pending.failure.code, pending.awaits_approval) == (Code.NOT_MEMBER, False)
        await invited(alice, bob)
        await until(bob, lambda: ops.caught_up)
        assert ops.pending == [pending]


async def test_only_unsent_messages_can_be_discarded() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = drops(type="post")
        sent = alice.post(ops, "on its way")
        await proxy.passes(type="post")
        with pytest.raises(Refused) as caught:
            alice.discard(sent)
        assert caught.value.code == Code.NO_SUCH_MESSAGE
        await cut_off(proxy, alice)
        alice.discard(alice.post(ops, "not meant so"))
        proxy.watch = FaultProxy(server.address).watch
        proxy.refusing = False
        await alice.post(ops, "but so").wait()
        assert texts(await log_of(server.store)) == ["on its way", "but so"]


async def test_resent_message_goes_to_the_end() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, _):
        async with session_of(server.address, "bob") as (bob, ops):
            await denied(alice, bob, ops)
            refused = bob.post(ops, "refused")
            with pytest.raises(Refused):
                await refused.wait()
            await invited(alice, bob)
            await until(bob, lambda: ops.caught_up)
            bob.post(ops, "typed since")
            bob.resend(refused)
            assert waiting(ops) == ["typed since", "refused"]
            await delivered(bob, ops)
        assert texts(await log_of(server.store)) == ["typed since", "refused"]


async def test_acknowledgement_is_enough_for_unfollowed_groups() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in()
        post = await wire.hear_only("post")
        await wire.say({"type": "ok", "re": post["id"], "seq": 3})
        await wire.hear_only("post")
        await wire.say(MembershipChange(GROUP, "outsider", "kicked", "eve").to_map())
        await wire.hear()

    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        stored = alice.post(ops, "stored")
        await stored.wait()
        assert ops.pending == [stored]
        other = alice.post(ops, "not answered")
        await until(alice, lambda: ops.standing == "outsider")
        assert ops.pending == [other]


async def test_acknowledgement_is_enough_after_a_kick() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(server.address, "alice") as (alice, _),
        session_of(proxy.address, "bob") as (bob, ops),
    ):
        await approve(alice, "bob")
        await until(bob, lambda: ops.caught_up)
        proxy.watch = lambda side, frame: "drop" if side == "server" else "pass"
        bob.post(ops, "goodbye")
        await proxy.passes(type="event", text="goodbye")
        await alice.request(lambda i, n: Kick(i, n, GROUP, "bob"))
        proxy.watch = FaultProxy(server.address).watch
        proxy.cut()
        await until(bob, lambda: ops.standing == "outsider" and not ops.pending)
        assert texts(await log_of(server.store)) == ["goodbye"]


# ------------------------------------------------------------------ full disks


async def test_message_that_cannot_be_saved_is_refused(
    client_id: ClientId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise Refused(Code.FILE_UNREADABLE, "No space left on device. Nothing was sent.")

    async with (
        running_server() as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        await alice.post(ops, "before").wait()
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "add", full)
            with pytest.raises(Refused, match="No space left"):
                alice.post(ops, "never")
            assert ops.pending == []
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "record_numbers", full)
            pending = alice.post(ops, "typed, but not sent")
            with pytest.raises(Refused, match="No space left"):
                await pending.wait()
            assert pending.failure is not None
        alice.resend(pending)
        await delivered(alice, ops)
        assert texts(await log_of(server.store)) == ["before", "typed, but not sent"]


async def test_other_commands_are_not_in_the_journal(client_id: ClientId, tmp_path: Path) -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice", client_id) as (alice, ops),
    ):
        await alice.request(lambda i, n: Post(i, n, ops.name, "as a command"))
        await until(alice, lambda: texts(ops.log) == ["as a command"])
    assert not (tmp_path / "slots" / "0.outbox").exists()
