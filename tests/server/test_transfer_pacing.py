"""Pacing of transfers by the budgets of the person, the address and the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Kick
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Have
from tchat.net.address import Address
from tchat.server.connections.pacing import PORTION, TransferPacing
from tchat.server.costs import TRANSFER, cost_of_hashing, cost_of_transfer
from tchat.server.ledger import Ledger
from tchat.server.limits import Limits
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import NO_RATE_LIMITS, members, running_server
from tests.server.file_transfers import DATA, download, fetching, share

if TYPE_CHECKING:
    from trio.testing import MockClock

_COST = cost_of_transfer(PORTION)
LIMITS = replace(
    Limits(),
    transfers_work=Rate(10 * _COST, int(10 * _COST)),
    transfers_per_person=Rate(_COST, 1),
    transfers_per_address=Rate(5 * _COST, int(5 * _COST)),
)
"""One portion a second for each person, five for each address, ten for all."""


class Transfers:
    """Transfers of several people that run all the time; `moved` counts their portions."""

    def __init__(self) -> None:
        self.moved: dict[str, int] = {}
        self._ledger = Ledger(LIMITS.for_transfers)

    async def run(self, person: str, host: str) -> None:
        with self._ledger.account_of(person, Address(host, 1)) as account:
            pacing = TransferPacing(account)
            while True:
                size = await pacing.admit()
                await trio.lowlevel.checkpoint()
                pacing.settle(size)
                self.moved[person] = self.moved.get(person, 0) + 1


async def portions_of(people: dict[str, tuple[str, int]], seconds: float) -> dict[str, int]:
    """Return how many portions each person moves; `people` has their addresses and transfers."""
    transfers = Transfers()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for person, (host, count) in people.items():
                for _ in range(count):
                    nursery.start_soon(transfers.run, person, host)
    return transfers.moved


@pytest.mark.parametrize("count", [1, 30])
async def test_more_transfers_move_no_more(autojump_clock: MockClock, count: int) -> None:
    moved = await portions_of({"mallory": ("192.0.2.1", count)}, 60)
    assert 50 <= moved["mallory"] <= 65


async def test_others_are_not_slowed(autojump_clock: MockClock) -> None:
    people = {"mallory": ("192.0.2.1", 30), "alice": ("192.0.2.2", 1)}
    assert (await portions_of(people, 60))["alice"] >= 50


async def test_an_address_has_a_budget(autojump_clock: MockClock) -> None:
    people = {f"m{number}": ("192.0.2.1", 2) for number in range(20)}
    assert sum((await portions_of(people, 60)).values()) <= 5 * 65 + len(people)


async def test_unmoved_bytes_are_given_back(autojump_clock: MockClock) -> None:
    """A slow connection moves little in each slice, and is charged for no more than that."""
    limits = replace(LIMITS, transfers_per_person=Rate(_COST, int(_COST)))
    with Ledger(limits.for_transfers).account_of("alice", None) as account:
        pacing, began = TransferPacing(account), trio.current_time()
        for _ in range(100):
            await pacing.admit()
            pacing.settle(PORTION // 1000)
        assert trio.current_time() == began


async def test_hashing_is_charged_before_it_begins(autojump_clock: MockClock) -> None:
    with Ledger(LIMITS.for_transfers).account_of("alice", None) as account:
        began = trio.current_time()
        await TransferPacing(account).admit_hashing(100 * PORTION)
        await account.admit()
        expected = cost_of_hashing(100 * PORTION) / _COST
        assert expected <= trio.current_time() - began <= 1.5 * expected


def test_without_rates_transfers_have_none() -> None:
    limits = Limits().without_rates().for_transfers
    assert (limits.work, limits.work_per_person, limits.address_work) == (None, None, None)


# ------------------------------------------------------------------ on a server


async def test_transfers_in_debt_delay_only_their_owner() -> None:
    """The owner's chat goes on, and so do the transfers of others."""
    enough_for_two = int(2 * (TRANSFER + cost_of_transfer(len(DATA)))) - 1
    limits = replace(NO_RATE_LIMITS, transfers_per_person=Rate(0.001, enough_for_two))
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", "mallory") as (alice, mallory),
    ):
        await share(server, alice, DATA)
        for _ in range(2):
            await download(server, mallory, 1, DATA)
        async with fetching(server, mallory, 1, len(DATA)) as waiting:
            await waiting.send(Have(0, EMPTY_DIGEST))
            await mallory.before_pong()
            await download(server, alice, 1, DATA)
            with trio.move_on_after(0.05) as scope:
                await waiting.receive()
            assert scope.cancelled_caught
            await alice.command(Kick, "mallory")  # a waiting transfer ends like others
            assert await waiting.until_end() == []
