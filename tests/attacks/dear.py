"""Members whose requests are allowed, but dear: texts, searches and deletions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.group.membership import Join
from tchat.core.group.messages import Delete, Post
from tchat.core.protocol.frames import Ok, Search
from tests.attacks.harness import Attack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.attacks.target import Member, Target

    Work = Callable[[Target, Member, str], Awaitable[None]]

_FULL = 16_380
_EXPANDING = "\ufdfa" * (_FULL // 3)  # NFKC makes eighteen characters of each
_WORDS = "hello " * (_FULL // 6)
_MESSAGES = 25
_PAUSE = 0.05
_MEMORY = 8 << 20


async def post(target: Target, me: Member, group: str) -> None:
    """Post long texts that take long to normalize, at the rate of messages."""

    async def count_answers() -> None:
        while (answer := await me.receive()) is not None:
            target.tally.answer(answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_answers)
        while True:
            await me.send(Post(next(me.ids), next(me.numbers), group, _EXPANDING))
            await trio.sleep(_PAUSE)


async def search(target: Target, me: Member, group: str) -> None:
    """Search, one after the other, for a word of long messages."""
    for _ in range(_MESSAGES):
        await me.command(Post, group, _WORDS)
    while True:
        target.tally.answer(await me.ask(lambda i: Search(i, "hello")))


async def delete(target: Target, me: Member, group: str) -> None:
    """Post long texts, let them be indexed, and delete them."""
    while True:
        answers = [await me.command(Post, group, _EXPANDING) for _ in range(10)]
        await me.ask(lambda i: Search(i, "hello"))
        for answer in answers:
            if isinstance(answer, Ok):
                target.tally.answer(await me.command(Delete, group, answer.seq))


def by_people(count: int, work: Work) -> Callable[[Target], Awaitable[None]]:
    """Return the attack of some people, each in a group of their own."""

    async def one(target: Target, number: int) -> None:
        async with target.member(f"mallory{number}") as me:
            await me.command(Join, f"lair{number}")
            await work(target, me, f"lair{number}")

    async def attack(target: Target) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, target, number)

    return attack


_BY_TEXT = "the cost of a text by its script"
_BY_TIME = "the cost of a search by its time"

ATTACKS = (
    Attack("dear-texts", "long texts of U+FDFA", by_people(4, post), _BY_TEXT, _MEMORY),
    Attack("dear-searches", "searches of long texts", by_people(2, search), _BY_TIME, _MEMORY),
    Attack("dear-deletions", "indexed and deleted", by_people(4, delete), _BY_TEXT, _MEMORY),
)
