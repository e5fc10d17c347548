"""Fair queue: one piece of slow work of each person at a time, whatever their connections."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.errors import Code, Refused
from tchat.server.fair_queue import FairQueue


class Worker:
    """Work in a fair queue; `order` has who began, and each piece lasts until `finish`."""

    def __init__(self, nursery: trio.Nursery, people: int = 10, each: int = 10) -> None:
        self.queue = FairQueue("searches", people, each)
        self.order: list[str] = []
        self._nursery = nursery
        self._ends: dict[str, trio.Event] = {}

    def start(self, person: str) -> None:
        self._nursery.start_soon(self._work, person)

    async def _work(self, person: str) -> None:
        async with self.queue.admit(person):
            self.order.append(person)
            self._ends[person] = trio.Event()
            await self._ends[person].wait()

    async def finish(self, person: str) -> None:
        """End the work that a person has begun."""
        self._ends[person].set()
        await wait_all_tasks_blocked()

    async def started(self, *people: str) -> list[str]:
        for person in people:
            self.start(person)
            await wait_all_tasks_blocked()
        return self.order


async def test_person_has_one_piece_of_work() -> None:
    async with trio.open_nursery() as nursery:
        worker = Worker(nursery)
        assert await worker.started("a", "a", "a", "b") == ["a", "b"]
        await worker.finish("a")
        assert worker.order == ["a", "b", "a"]
        nursery.cancel_scope.cancel()


async def test_too_many_pieces_of_one_person_are_refused() -> None:
    async with trio.open_nursery() as nursery:
        worker = Worker(nursery, each=2)
        await worker.started("a", "a", "b")
        with pytest.raises(Refused, match="You have 2 searches at once") as caught:
            await worker.queue.admit("a").__aenter__()
        assert (caught.value.code, caught.value.wait) == (Code.BUSY, 2000)
        await worker.finish("a")
        assert await worker.started("a") == ["a", "b", "a"]
        await worker.finish("a")
        assert worker.order == ["a", "b", "a", "a"]
        nursery.cancel_scope.cancel()


async def test_too_many_people_are_refused_until_one_ends() -> None:
    async with trio.open_nursery() as nursery:
        worker = Worker(nursery, people=2)
        await worker.started("a", "b")
        with pytest.raises(Refused, match="too many searches"):
            await worker.queue.admit("c").__aenter__()
        await worker.finish("b")
        assert await worker.started("c") == ["a", "b", "c"]
        nursery.cancel_scope.cancel()


async def test_cancelled_work_makes_room_in_the_queue() -> None:
    async with trio.open_nursery() as nursery:
        worker = Worker(nursery, people=1)
        await worker.started("a", "a")
        nursery.cancel_scope.cancel()
    async with worker.queue.admit("b"):
        pass
