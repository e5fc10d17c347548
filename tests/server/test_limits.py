"""Rate limits and quotas of a server, as clients see them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Approve, Deny, Invite, Join, Kick, Leave
from tchat.core.group.messages import Post
from tchat.core.pace import Rate
from tchat.core.protocol.frames import (
    Failed,
    Ok,
)
from tchat.errors import Code
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    RawClient,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.protocol.schema import Frame

TOKEN = bytes(16)
DIGEST = hashlib.sha256(TOKEN).digest()
HOUR = 3_600_000


class RateClock:
    """The clock of a server's rate limits, in seconds; the test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> RateClock:
    return RateClock()


async def failure(person: RawClient, make: Callable[[int], Frame]) -> Failed:
    """Send a request that is refused; return the refusal."""
    answer = await person.ask(make)
    assert isinstance(answer, Failed), answer
    return answer


def post(n: int, text: str) -> Callable[[int], Frame]:
    return lambda i: Post(i, n, GROUP, text)


# ------------------------------------------------------------------ rates

# So slow that a command above the rate is refused, because it would have to wait for too long.
SLOW = replace(NO_RATE_LIMITS, messages=Rate(0.1, 3))
QUICK = replace(NO_RATE_LIMITS, messages=Rate(100, 3))


async def test_messages_above_the_rate_are_delayed_in_order() -> None:
    async with running_server(limits=QUICK) as server, members(server, "alice") as (alice,):
        await alice.say(*map(str, range(30)))
        assert texts(await alice.events(30)) == [str(n) for n in range(30)]


async def test_message_far_above_the_rate_is_refused(clock: RateClock) -> None:
    async with (
        running_server(limits=SLOW, rate_clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        for word in ("one", "two", "three"):
            await alice.post(word)
        refused = await failure(alice, post(10, "four"))
        assert (refused.code, refused.wait) == (Code.RATE_LIMITED, 10_000)
        clock.now += 10
        await alice.command(Post, "four, again", n=10)
        assert (await failure(alice, post(11, "five"))).wait == 10_000
    assert texts(await log_of(server.store)) == ["one", "two", "three", "four, again"]


async def test_repeated_command_is_never_refused_for_speed(
    clock: RateClock,
) -> None:
    async with (
        running_server(limits=SLOW, rate_clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        for n in (11, 12, 13):
            await alice.command(Post, f"text {n}", n=n)
        await failure(alice, post(14, "text 14"))
        for n in (11, 12, 13):
            assert (await alice.command(Post, f"text {n}", n=n)).seq is None
    assert texts(await log_of(server.store)) == ["text 11", "text 12", "text 13"]


async def test_refused_commands_count_towards_the_rate(clock: RateClock) -> None:
    async with (
        running_server(limits=SLOW, rate_clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        for _ in range(3):
            assert (await alice.refusal(Kick, "nobody")).code == Code.NO_SUCH_MEMBER
        assert (await alice.refusal(Post, "one")).code == Code.RATE_LIMITED


async def test_rate_is_shared_by_devices_and_groups(clock: RateClock) -> None:
    async with (
        running_server(limits=SLOW, rate_clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "ALICE") as desk,
    ):
        await desk.command(Join, group="dev")
        await alice.post("by phone")
        await desk.post("at the desk", group="dev")
        for device in (alice, desk):
            assert (await device.refusal(Post, "too much")).code == Code.RATE_LIMITED
        await bob.post("by somebody else")


async def test_reconnecting_does_not_reset_the_rate(clock: RateClock) -> None:
    async with running_server(limits=SLOW, rate_clock=clock) as server:
        async with members(server, "alice") as (alice,):
            for word in ("one", "two", "three"):
                await alice.post(word)
        async with raw_client(server.address, "alice") as alice:
            assert (await alice.refusal(Post, "four")).code == Code.RATE_LIMITED
            clock.now += 10
            await alice.post("four")


async def test_joins_and_new_groups_have_their_own_rate(clock: RateClock) -> None:
    limits = replace(NO_RATE_LIMITS, joins=Rate(0.1, 2))
    async with (
        running_server(limits=limits, rate_clock=clock) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join, group="dev")
        await bob.command(Join, n=2)
        refused = await failure(bob, lambda i: Join(i, 99, "new"))
        assert (refused.code, refused.wait) == (Code.RATE_LIMITED, 10_000)
        assert await log_of(server.store, "new") == []
        assert (await bob.command(Join, n=2)).seq is None
        await bob.command(Join, group="dev")
        await bob.post("still free", group="dev")
        await alice.command(Join, group="hers")
        clock.now += 10
        await bob.command(Join, group="new")


async def test_join_without_effect_takes_no_token(clock: RateClock) -> None:
    limits = replace(NO_RATE_LIMITS, joins=Rate(0.1, 2))
    async with (
        running_server(limits=limits, rate_clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        for _ in range(10):
            assert (await alice.command(Join)).seq is None
        await alice.command(Join, group="dev")


# ------------------------------------------------------------------ group quota

TWO_GROUPS = replace(NO_RATE_LIMITS, groups_per_user=2)


async def test_group_quota_is_enforced() -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        raw_client(server.address, "alice") as alice,
    ):
        for group in ("one", "two"):
            await alice.command(Join, group=group)
        assert (await alice.refusal(Join, group="three")).code == Code.GROUPS_FULL
        await alice.command(Join, group="ONE")
        await alice.command(Leave, group="one")
        await alice.command(Join, group="three")
        refusal = await alice.refusal(Join, group="one")
        assert refusal.code == Code.GROUPS_FULL
        assert str(refusal).startswith("You are in 2 groups, or ask to join them; ")
    assert await server.store.groups_of("alice") == {"two": "member", "three": "member"}


async def test_group_quota_holds_across_devices_and_reconnects() -> None:
    async with running_server(limits=TWO_GROUPS) as server:
        async with raw_client(server.address, "alice") as phone:
            await phone.command(Join, group="one")
            async with raw_client(server.address, "alice") as desk:
                await desk.command(Join, group="two")
                assert (await phone.refusal(Join, group="three")).code == Code.GROUPS_FULL
            await server.logged("alice disconnected")
        await server.logged("alice disconnected")
        async with raw_client(server.address, "alice") as again:
            assert (await again.refusal(Join, group="three")).code == Code.GROUPS_FULL


@pytest.mark.parametrize("end", [Deny, Kick, Leave])
async def test_denied_kicked_and_leaving_members_regain_quota(
    end: type[Deny | Kick | Leave],
) -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        if end is Kick:
            await alice.command(Approve, "bob")
        await bob.command(Join, group="his")
        assert (await bob.refusal(Join, group="another")).code == Code.GROUPS_FULL
        if end is Leave:
            await bob.command(Leave)
        else:
            await alice.command(end, "bob")
        await bob.command(Join, group="another")
        assert (await bob.refusal(Join, group="one-more")).code == Code.GROUPS_FULL


async def test_closed_group_gives_quota_back() -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        for group in (GROUP, "his"):
            await bob.command(Join, group=group)
        await alice.command(Leave)
        await bob.command(Join, group="another")


async def test_invite_cannot_exceed_quota_and_stays_valid() -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
        raw_client(server.address, "carol") as carol,
    ):
        await alice.command(Invite, DIGEST, HOUR)
        for group in ("one", "two"):
            await bob.command(Join, group=group)
        assert (await bob.refusal(Join, TOKEN)).code == Code.GROUPS_FULL
        await carol.command(Join, TOKEN)


async def test_simultaneous_joins_cannot_exceed_the_quota() -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await alice.send(*(Join(n, n, f"group-{n}") for n in range(1, 21)))
        answers = [await alice.receive() for _ in range(20)]
        refused = [answer for answer in answers if isinstance(answer, Failed)]
        assert {answer.code for answer in refused} == {Code.GROUPS_FULL}
        assert len(refused) == 18
        assert sum(isinstance(answer, Ok) for answer in answers) == 2
    assert len(await server.store.groups_of("alice")) == 2


async def test_refused_join_uses_no_quota() -> None:
    async with (
        running_server(limits=TWO_GROUPS) as server,
        members(server, "alice"),
        raw_client(server.address, "bob") as bob,
    ):
        assert (await bob.refusal(Join, TOKEN)).code == Code.BAD_INVITE
        for group in ("one", "two"):
            await bob.command(Join, group=group)


async def test_group_size_is_limited_by_the_server() -> None:
    limits = replace(NO_RATE_LIMITS, group_members=2, group_requests=1, group_invites=1)
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "carol") as carol,
        raw_client(server.address, "dave") as dave,
    ):
        await alice.command(Invite, DIGEST, HOUR)
        assert (await alice.refusal(Invite, bytes(32), HOUR)).code == Code.GROUP_FULL
        await carol.command(Join)
        assert (await dave.refusal(Join)).code == Code.GROUP_FULL
        assert (await dave.refusal(Join, TOKEN)).code == Code.GROUP_FULL
        assert (await alice.refusal(Approve, "carol")).code == Code.GROUP_FULL
        await bob.command(Leave)
        await dave.command(Join, TOKEN)
