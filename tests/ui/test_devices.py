"""One person on two devices, at random: every count equals the one computed from the server's log.

A real server, two real clients of Bob with a window for each of two groups, and Alice and Carol,
who post, edit and delete. Bob switches windows, looks away, answers, ignores people; his clients
are closed, started again and cut off.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Delete, Edit, Edited, Posted
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.helpers import log_of, members, running_server
from tests.ui.typist import Typist, typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.core.group.feature import Event
    from tests.helpers import RawClient, RunningServer

GROUPS = ("ops", "lab")
TEXTS = ("hello", "bob, hello", "bobby")
STEPS = 30
WHAT_HAPPENS = (
    *("post", "post", "post", "post", "post", "edit", "edit", "delete"),
    *("switch", "switch", "look", "answer", "ignore", "restart", "reconnect"),
)


class Device:
    """A client of Bob that can be closed and started again."""

    def __init__(self, server: RunningServer, proxy: FaultProxy, nursery: trio.Nursery) -> None:
        self._server = replace(server, address=proxy.address)
        self._proxy = proxy
        self._nursery = nursery
        self._stop = trio.Event()
        self._stopped = trio.Event()
        self.bob: Typist

    async def start(self) -> None:
        self.bob = await self._nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[Typist]) -> None:
        self._stop, self._stopped = trio.Event(), trio.Event()
        async with typing(self._server, "bob", *GROUPS, recent=5) as bob:
            task_status.started(bob)
            await self._stop.wait()
        self._stopped.set()

    async def restart(self) -> None:
        self._stop.set()
        await self._stopped.wait()
        await self.start()

    async def reconnect(self) -> None:
        """Lose the connection, and wait until there is another."""
        before = len(self.bob.lines)
        self._proxy.cut()
        await self.bob.until(
            lambda: any(line.text == "connected again" for line in self.bob.lines[before:])
        )

    @property
    def attends(self) -> str:
        """The group that Bob sees here; empty if he looks away."""
        return self.bob.window.replica.name if self.bob.frontend.looks else ""


@dataclass
class Story:
    """What happens, and what should be unread after each step."""

    server: RunningServer
    people: dict[str, dict[str, RawClient]]
    devices: list[Device]
    dice: random.Random
    said: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: {g: [] for g in GROUPS})
    read: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GROUPS, 0))

    async def step(self) -> str:
        """Let one thing happen, and return what it was."""
        does = self.dice.choice(WHAT_HAPPENS)
        group, device = self.dice.choice(GROUPS), self.dice.choice(self.devices)
        if does in ("post", "edit", "delete"):
            await self._somebody_does(does, group)
        else:
            await self._bob_does(does, group, device)
        return f"{does} in {group} or on device {self.devices.index(device)}"

    async def _somebody_does(self, does: str, group: str) -> None:
        text = self.dice.choice(TEXTS)
        if does == "post" or not self.said[group]:
            name = self.dice.choice(("alice", "carol"))
            self.said[group].append((name, await self.people[group][name].post(text, group=group)))
            return
        name, seq = self.dice.choice(self.said[group])
        if does == "edit":
            await self.people[group][name].command(Edit, seq, text, group=group)
        else:
            self.said[group].remove((name, seq))
            await self.people[group][name].command(Delete, seq, group=group)

    async def _bob_does(self, does: str, group: str, device: Device) -> None:
        bob = device.bob
        match does:
            case "switch":
                await bob.types(f"/window {group}")
            case "look":
                bob.frontend.looks = not bob.frontend.looks
                if bob.frontend.looks:
                    bob.window.attend()
            case "answer":
                there = bob.window.replica.name
                self.read[there] = len(await log_of(self.server.store, there))
                await bob.types("yes")
            case "ignore":
                name = self.dice.choice(("alice", "carol"))
                await bob.types(f"/{'un' * (name in bob.chat.ignored)}ignore {name}")
            case "restart":
                await device.restart()
            case "reconnect":
                await device.reconnect()

    async def check(self, what: str) -> None:
        """Wait until both devices show what the log says."""
        for group in GROUPS:
            log = await log_of(self.server.store, group)
            if any(device.attends == group for device in self.devices):
                self.read[group] = len(log)
            for device in self.devices:
                await _shows(device.bob, group, log, self.read[group], what)


async def _shows(bob: Typist, group: str, log: list[Event], read: int, what: str) -> None:
    """Wait until a device has counted what is unread in a log after the position `read`."""
    window, others = bob.window_of(f"#{group}"), {"alice", "carol"} - bob.chat.ignored
    await bob.until(lambda: window.caught_up and window.shown == len(log), what)
    texts = {
        event.seq: event.body.text
        for event in log[read:]
        if isinstance(event.body, Posted) and event.actor in others
    }
    for event in log:
        if isinstance(event.body, Edited) and event.body.target in texts:
            texts[event.body.target] = event.body.text
    expected = len(texts), sum(is_mention(text, "bob") for text in texts.values())
    await bob.until(
        lambda: (window.unread, window.mentions) == expected, f"{expected} in {group} after {what}"
    )


@asynccontextmanager
async def story(seed: int) -> AsyncIterator[Story]:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol", group="ops") as ops,
        members(server, "alice", "bob", "carol", group="lab") as lab,
        fault_proxy(server.address) as here,
        fault_proxy(server.address) as there,
        trio.open_nursery() as nursery,
    ):
        people = {
            group: {"alice": clients[0], "carol": clients[2]}
            for group, clients in zip(GROUPS, (ops, lab), strict=True)
        }
        devices = [Device(server, proxy, nursery) for proxy in (here, there)]
        for device in devices:
            await device.start()
        yield Story(server, people, devices, random.Random(seed))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(4))
async def test_two_devices_count_what_the_log_says(seed: int) -> None:
    async with story(seed) as told:
        # Bob has seen neither group before; what came before his admission is not unread.
        told.read = {group: len(await log_of(told.server.store, group)) for group in GROUPS}
        for number in range(STEPS):
            await told.check(f"step {number}, {await told.step()}")
