"""Loading history, searching and unfollowing, with a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client.updates import Addressed
from tchat.core.group.membership import Ban
from tchat.core.group.messages import Delete, Edit, Erased, Posted
from tchat.core.group.settings import SetTopic
from tchat.core.protocol.frames import GroupSummary
from tchat.errors import Code, Refused
from tests.client.receiving import next_update
from tests.fault_proxy import fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    approve,
    log_of,
    members,
    running_server,
    seqs,
    session_at,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.fault_proxy import Side, Verdict
    from tests.helpers import RawClient

LONG = 3000 * "x"


async def talk(person: RawClient, amount: int, text: str = "text") -> int:
    """Post `amount` messages; return the seq of the last."""
    seq = 0
    for number in range(amount):
        seq = await person.post(f"{text} {number}")
    return seq


async def load_all(session: Session, replica: Replica) -> None:
    with trio.fail_after(GUARD):
        while await session.load_history(replica):
            assert seqs(replica.log) == list(range(replica.first, replica.last + 1))


async def test_newcomer_loads_history_to_the_beginning() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.command(SetTopic, "all and nothing")
        head = await talk(alice, 100, LONG)
        await see(alice, head)
        async with session_at(server.address, "alice", recent=5) as session:
            ops = await session.enter(GROUP)
            await until(session, lambda: ops.caught_up)
            assert seqs(ops.log) == list(range(head - 4, head + 1))
            assert (ops.state.topic, ops.state.admin_name) == ("all and nothing", "alice")
            await session.post(ops, "here I am").wait()
            await load_all(session, ops)
            assert ops.first == 1
            assert ops.log == await log_of(server.store)


async def see(person: RawClient, seq: int) -> None:
    """Send a read receipt for everything up to an event, and wait until it is processed."""
    await person.send_map({"type": "seen", "group": GROUP, "seq": seq})
    await person.before_pong()


@pytest.mark.parametrize("every", [3, 7, 11])
async def test_log_is_complete_despite_broken_connections(every: int) -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        members(server, "alice") as (alice,),
    ):
        head = await talk(alice, 60, LONG)
        await see(alice, head - 10)
        left = [every] * 12

        def cut(side: Side, frame: dict[str, Any]) -> Verdict:
            if side == "client" or not left or frame["type"] in ("challenge", "welcome"):
                return "pass"
            left[-1] -= 1
            return "cut" if left[-1] == 0 and left.pop() == 0 else "pass"

        proxy.watch = cut
        async with session_at(proxy.address, "alice", recent=3) as session:
            ops = session.follow(GROUP)
            await until(session, lambda: ops.caught_up)
            await load_all(session, ops)
            assert len(left) < 12, "nothing broke"
            assert ops.log == await log_of(server.store)


async def test_newcomers_see_edits_and_deletions() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        for text in ("first", "second", "third"):
            await alice.post(ops, text).wait()
        await alice.request(lambda i, n: Edit(i, n, GROUP, 2, "FIRST"))
        await alice.request(lambda i, n: Edit(i, n, GROUP, 3, "secret"))
        await alice.request(lambda i, n: Delete(i, n, GROUP, 3))
        await until(alice, lambda: 3 in ops.deleted)
        assert ops.texts == {2: "FIRST"}
        alice.mark_seen(ops, ops.last)
        async with session_at(server.address, "alice", recent=1) as later:
            there = later.follow(GROUP)
            await until(later, lambda: there.caught_up)
            await load_all(later, there)
            assert (there.texts, there.deleted) == ({2: "FIRST"}, {3})
            assert [there.log[2].body, there.log[5].body] == [Erased(), Erased()]
            assert there.log == ops.log == await log_of(server.store)


async def test_deletion_while_a_page_loads_is_respected() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        members(server, "alice") as (alice,),
    ):
        secret = await alice.post("secret")
        await see(alice, await talk(alice, 10))
        async with session_at(proxy.address, "alice", recent=1) as session:
            ops = session.follow(GROUP)
            await until(session, lambda: ops.caught_up)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.load_history, ops)
                nursery.start_soon(alice.command, Delete, secret)
            await until(session, lambda: secret in ops.deleted)
            assert "secret" not in texts(ops.log)


# ------------------------------------------------------------------ direct conversations


async def test_two_people_exchange_direct_messages_live() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, _),
        session_of(server.address, "bob") as (bob, _),
        session_at(server.address, "carol", recent=5) as carol,
    ):
        await approve(alice, "bob")
        await carol.enter(GROUP)
        with_bob = await alice.write_to("Bob")
        assert with_bob.standing == "member"
        pending = alice.post(with_bob, "hello bob")
        assert await next_update(bob, Addressed) == Addressed("@alice,bob", 1, "alice")
        with_alice = await bob.write_to("alice")
        await until(bob, lambda: with_alice.caught_up and with_alice.last == 1)
        await pending.wait()
        await until(alice, lambda: not with_bob.pending)
        await bob.post(with_alice, "hello alice").wait()
        await until(alice, lambda: texts(with_bob.log) == ["hello bob", "hello alice"])
        assert with_bob.log == with_alice.log == await log_of(server.store, "@alice,bob")
        with pytest.raises(Refused) as caught:
            await carol.write_to("alice")
        assert caught.value.code == Code.NO_COMMON_GROUP
        assert list(carol.groups) == [GROUP]
        with pytest.raises(Refused) as caught:
            await bob.request(lambda i, n: Ban(i, n, with_alice.name, "alice"))
        assert caught.value.code == Code.DIRECT


async def test_earlier_conversation_can_be_continued() -> None:
    async with running_server() as server, members(server, "alice", "bob"):
        async with session_of(server.address, "alice") as (alice, _):
            with_bob = await alice.write_to("bob")
            for number in range(10):
                await alice.post(with_bob, f"text {number}").wait()
            await until(alice, lambda: with_bob.last == 10)
            alice.mark_seen(with_bob, 10)
        async with session_at(server.address, "alice", recent=2) as alice:
            groups = {group.name: group for group in await alice.my_groups()}
            assert groups["@alice,bob"] == GroupSummary("@alice,bob", "member", 10, 10, 2)
            with_bob = await alice.write_to("bob")
            await until(alice, lambda: with_bob.last == 10)
            assert seqs(with_bob.log) == [9, 10]
            await load_all(alice, with_bob)
            assert with_bob.log == await log_of(server.store, "@alice,bob")


# ------------------------------------------------------------------ search, presence, unfollowing


async def test_search_finds_the_current_text() -> None:
    async with running_server() as server, session_of(server.address, "alice") as (alice, ops):
        await alice.post(ops, "where is the red umbrella").wait()
        await alice.post(ops, "the blue umbrella is here").wait()
        await alice.request(lambda i, n: Edit(i, n, GROUP, 3, "the green umbrella is here"))
        found = await alice.search("umbrella")
        assert [(hit.group, hit.seq) for hit in found.hits] == [(GROUP, 3), (GROUP, 2)]
        assert [hit.seq for hit in (await alice.search("green", group=GROUP)).hits] == [3]
        assert [hit.seq for hit in (await alice.search("umbrella", skip=1)).hits] == [2]
        assert [hit.seq for hit in (await alice.search("blue")).hits] == []
        with pytest.raises(Refused):
            await alice.search("umbrella", group="elsewhere")


async def test_others_see_who_is_away_and_why() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(server.address, "alice") as (alice, ops),
        session_of(proxy.address, "bob") as (bob, there),
    ):
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        await bob.set_away("lunch")
        await until(alice, lambda: ops.away == {"bob": "lunch"})
        proxy.cut()
        await until(alice, lambda: "bob" not in ops.online)
        await until(alice, lambda: ops.away == {"bob": "lunch"})
        await bob.set_away(None)
        await until(alice, lambda: ops.away == {} and "bob" in ops.online)


async def test_unfollowing_keeps_the_membership() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await until(alice, lambda: ops.caught_up)
        alice.unfollow(ops)
        pending = alice.post(ops, "said all the same")
        await pending.wait()
        assert ops.pending == []
        assert [f for f in proxy.of_type("event") if f.get("text")] == []
        anew = await alice.enter(GROUP)
        await until(alice, lambda: anew.caught_up)
        assert anew.log[-1].body == Posted("said all the same")
