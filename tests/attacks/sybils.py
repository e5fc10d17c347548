"""Sybils: many names of one person, who together do what each may do."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.core.group.direct import direct_name, is_direct
from tchat.core.group.membership import Deny, Join
from tchat.core.group.messages import Post
from tchat.core.group.settings import SetPolicy
from tchat.core.protocol.frames import GroupList, GroupsRequest
from tests.attacks.harness import Attack

if TYPE_CHECKING:
    from tests.attacks.target import Target

WRITERS = 260
ASKING = 100
WORKERS = 8
VICTIM = "victim"
GROUP = "club"


async def write_to_one_person(target: Target) -> None:
    """Write to a person in private from as many names as possible; count the conversations."""
    async with target.member(VICTIM, "127.0.0.67") as victim:
        await victim.command(Join, GROUP)
        await victim.command(SetPolicy, GROUP, "open")
        numbers = iter(range(WRITERS))

        async def write(_: int) -> None:
            for number in numbers:
                with suppress(Busy, trio.BrokenResourceError, OSError):
                    async with target.member(f"writer{number}") as writer:
                        await writer.command(Join, GROUP)  # one has to share a group with people
                        group = direct_name(writer.name, VICTIM)
                        target.tally.answer(await writer.command(Post, group, "hello"))
                        continue
                target.tally.add("busy")

        async with trio.open_nursery() as nursery:
            for worker in range(WORKERS):
                nursery.start_soon(write, worker)
        listed = await victim.ask(GroupsRequest)
        groups = listed.groups if isinstance(listed, GroupList) else ()
        conversations = sum(is_direct(group.name) for group in groups)
        target.tally.add("conversations in the victim's list", conversations)
        await trio.sleep_forever()


async def ask_again_when_denied(target: Target) -> None:
    """Fill a group's requests from many names; ask again as soon as the admin denies one."""
    async with target.member(VICTIM, "127.0.0.67") as admin, trio.open_nursery() as nursery:
        await admin.command(Join, GROUP)
        denying = trio.CapacityLimiter(1)

        async def ask(number: int) -> None:
            name = f"asking{number}"
            while True:
                with suppress(Busy, trio.BrokenResourceError, OSError):
                    async with target.member(name) as stranger:
                        while True:
                            answer = await stranger.command(Join, GROUP)
                            target.tally.answer(answer)
                            if answer is None:
                                break
                            async with denying:
                                await admin.command(Deny, GROUP, name)
                            target.tally.add("denials")
                            await trio.sleep(0.5)
                await trio.sleep(1)

        for number in range(ASKING):
            nursery.start_soon(ask, number)


ATTACKS = [
    Attack(
        "sybil-messages",
        f"{WRITERS} names of one address write to one person",
        write_to_one_person,
        "--name-limit",
    ),
    Attack(
        "sybil-requests",
        f"{ASKING} names of one address ask to join a group, and again when they are denied",
        ask_again_when_denied,
        "--join-limit, for each name",
    ),
]
