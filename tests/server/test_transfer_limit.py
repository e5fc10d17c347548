"""The limit of running transfers: at the limit, who has most makes room for who has few."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.protocol.handshake import VERSION, TransferHello
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.server.limits import Limits
from tchat.server.tickets import Permission, Tickets
from tests.helpers import NO_RATE_LIMITS, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    fetching,
    refusal_code,
    resume_upload,
    sending,
    share,
    ticket_to_send,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEAR, FAR, THIRD = "192.0.2.1", "198.51.100.1", "203.0.113.1"


class Transfers:
    """Transfers that run until they have to make room; at most four at once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.tickets = Tickets(replace(Limits(), transfers=4))
        self.ended: list[str] = []
        self._nursery = nursery

    async def begin(self, *people: tuple[str, str]) -> None:
        """Begin transfers of people at hosts. Raises `Refused`."""
        for name, host in people:
            await self._nursery.start(self._run, name, host)
            await trio.testing.wait_all_tasks_blocked()

    async def _run(self, name: str, host: str, task_status: trio.TaskStatus[None]) -> None:
        begun = False
        try:
            with self.tickets.running(Permission("upload", name, 10), Address(host, 4000)):
                begun = True
                task_status.started()
                await trio.sleep_forever()
        except Refused as refused:
            if not begun:
                raise
            self.ended.append(f"{name}: {refused.code}")


@asynccontextmanager
async def transfers() -> AsyncIterator[Transfers]:
    async with trio.open_nursery() as nursery:
        yield Transfers(nursery)
        nursery.cancel_scope.cancel()


async def assert_refused(running: Transfers, name: str, host: str) -> None:
    with pytest.raises(Refused) as caught:
        await running.begin((name, host))
    assert (caught.value.code, bool(caught.value.wait)) == (Code.BUSY, True)
    assert running.ended == []


async def test_below_the_limit_nobody_makes_room() -> None:
    async with transfers() as running:
        await running.begin(*[("alice", NEAR)] * 4)
        assert running.ended == []


async def test_the_network_with_most_makes_room() -> None:
    async with transfers() as running:
        await running.begin(("bob", FAR), ("mallory", NEAR), ("eve", NEAR), ("mallory", NEAR))
        await running.begin(("alice", THIRD))
        assert running.ended == ["mallory: busy"]
        assert running.tickets.running_count == 4


async def test_within_a_network_the_person_makes_room() -> None:
    async with transfers() as running:
        await running.begin(*[("mallory", NEAR)] * 3, ("eve", NEAR))
        await running.begin(("alice", NEAR))
        assert running.ended == ["mallory: busy"]


async def test_equal_shares_are_left_alone() -> None:
    async with transfers() as running:
        await running.begin(*[("alice", NEAR), ("bob", FAR)] * 2)
        await assert_refused(running, "alice", NEAR)
        await assert_refused(running, "bob", FAR)


async def test_other_names_at_one_host_gain_nothing() -> None:
    async with transfers() as running:
        await running.begin(("bob", FAR), *[(f"sybil{number}", NEAR) for number in range(3)])
        await assert_refused(running, "sybil3", NEAR)
        await running.begin(("bob", FAR))
        assert running.ended == ["sybil0: busy"]


async def test_an_ended_upload_can_be_resumed() -> None:
    limits = replace(NO_RATE_LIMITS, transfers=2)
    async with (
        running_server(limits=limits) as server,
        members(server, "mallory", "alice") as (mallory, alice),
        sending(server, mallory, DATA) as (oldest, _),
        sending(server, mallory, DATA[1:]),
    ):
        ticket = await ticket_to_send(alice, DATA)
        async with transfer(server, ticket, len(DATA)) as hers:
            (failure,) = await oldest.until_end()
            assert refusal_code(failure) == Code.BUSY
            again = await ticket_to_send(mallory, DATA)
            async with raw_client(server.address) as refused:
                await refused.send(TransferHello(VERSION, again))
                (failure,) = await refused.until_end()
                assert refusal_code(failure) == Code.BUSY
            await hers.stream.aclose()
        await resume_upload(server, mallory, DATA, 0)


async def test_an_ended_download_is_closed_without_an_error() -> None:
    limits = replace(NO_RATE_LIMITS, transfers=2)
    async with (
        running_server(limits=limits) as server,
        members(server, "mallory", "alice") as (mallory, alice),
    ):
        await share(server, alice, DATA)
        async with (
            fetching(server, mallory, 1, len(DATA)) as oldest,
            fetching(server, mallory, 1, len(DATA)),
            sending(server, alice, DATA[1:]),
        ):
            assert await oldest.until_end() == []
