"""A client that is killed at any write of its journals: each message is stored once.

Pure: the client is its client ids and journals on a real directory, the server a few lines. A
killed process is an exception from the write that it was killed at, of which a part may have been
written; the next process begins with the files that it has left.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import ExitStack, suppress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.client import journal as journal_module
from tchat.client.client_id import acquire_client_id, adopt_client_id
from tchat.errors import Code, Refused
from tests.helpers import kill_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId

PLACE = ("alice", "here:1", "ops")
SEEDS = range(3)
STEPS = 10


class Killed(BaseException):
    """The process has been killed."""


class Disk:
    """Kills at write number `last`; with `half`, a part of it is on the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int, half: random.Random) -> None:
        self.count = 0
        self._last = last
        self._half = half
        self._write = os.write
        patch.setattr(os, "write", self._cut_write)
        patch.setattr(os, "fsync", self._counted(lambda _: None))  # this disk loses nothing
        for owner, name in ((os, "ftruncate"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _cut_write(self, file: int, data: bytes) -> int:
        if self._is_last():
            self._write(file, bytes(data)[: self._half.randint(0, len(data))])
            raise Killed
        self._dead()
        return self._write(file, data)

    def _counted(self, function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if self._is_last():
                raise Killed
            self._dead()
            return function(*arguments, **options)

        return step

    def _is_last(self) -> bool:
        self.count += 1
        return self.count == self._last

    def _dead(self) -> None:
        """Let no clean-up reach the disk: a killed process has none."""
        if 0 < self._last < self.count:
            raise Killed


class World:
    """What is outside of the client: the server, and the person."""

    def __init__(self) -> None:
        self.counted: Counter[bytes] = Counter()
        self.stored: list[str] = []
        self.shown: list[str] = []
        self.discarded: set[str] = set()
        self.typed = 0

    def send(self, client: bytes, number: int, text: str) -> None:
        """Store a command, unless it is a repeat."""
        if number > self.counted[client]:
            self.counted[client] = number
            self.stored.append(text)


def flush(world: World, client_id: ClientId) -> None:
    """Send what is neither held nor refused, as the sender does: all numbers, then all messages."""
    journal = client_id.journal
    entries = [one for one in journal.entries("alice", ["here:1"]) if one.failure is None]
    fresh = [one for one in entries if one.number is None and not one.held]
    client_id.advance_past(world.counted[client_id.client])
    journal.record_numbers([(entry, client_id.next_number()) for entry in fresh])
    numbered = [(one.number, one) for one in entries if one.number is not None]
    for number, entry in sorted(numbered, key=itemgetter(0)):
        world.send(client_id.client, number, entry.text)
        journal.remove(entry)


def run_client(world: World, state: Path, choose: random.Random, steps: int) -> None:
    """Be a client for some steps, beside one that has left held and refused messages."""
    with acquire_client_id(state, "alice", ["here:1"]) as client_id, ExitStack() as stack:
        journal = client_id.journal
        for _ in range(steps):
            entries = journal.entries("alice", ["here:1"])
            match choose.choice(["type", "hold", "flush", "refuse", "resend", "discard", "adopt"]):
                case "type" | "hold" as how:
                    world.typed += 1
                    text = f"message {world.typed}"
                    journal.add(*PLACE, text, None, 1, held=how == "hold")
                    world.shown.append(text)
                case "flush":
                    flush(world, client_id)
                case "refuse" if entries and entries[-1].number is None:
                    journal.record_refusal(entries[-1], Refused(Code.BUSY, "Later."))
                case "resend":
                    for entry in [one for one in entries if one.failure is not None]:
                        journal.resubmit(entry)
                case "discard" if entries and entries[0].number is None:
                    world.discarded.add(entries[0].text)  # from here on, it may be gone
                    journal.remove(entries[0])
                case "adopt":
                    with acquire_client_id(state, "bob", ["here:1"]) as other:
                        world.typed += 1
                        text = f"message {world.typed}"
                        other.journal.add(*PLACE, text, None, 1, held=True)
                        world.shown.append(text)
                    adopt(stack, state, client_id)
                case _:
                    pass


def adopt(stack: ExitStack, state: Path, client_id: ClientId) -> None:
    """Move what another client has left here, as `Delivery.take_over` does."""
    found = stack.enter_context(adopt_client_id(state, "alice", ["here:1"]))
    if found is not None:
        for entry in found.journal.entries("alice", ["here:1"]):
            if entry.failure is not None or entry.held:
                client_id.journal.adopt(found.journal, entry)


def finish(world: World, state: Path) -> None:
    """Start clients until nothing is left; each enters the group and resends what was refused."""
    while True:
        with acquire_client_id(state, "alice", ["here:1"]) as client_id:
            entries = client_id.journal.entries("alice", ["here:1"])
            if not entries:
                return
            for entry in entries:
                entry.held = False
                if entry.failure is not None:
                    client_id.journal.resubmit(entry)
            flush(world, client_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_any_write_stores_each_message_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the person has discarded may be stored, since the kill may undo that."""
    monkeypatch.setattr(journal_module, "COMPACTION_LINES", 6)
    for last in kill_points():
        state, world = tmp_path / str(last), World()
        with monkeypatch.context() as patch:
            disk = Disk(patch, last, random.Random(f"{seed} {last}"))
            with suppress(Killed):
                run_client(world, state, random.Random(seed), STEPS)
            was_killed = disk.count >= last
            patch.undo()
            patch.setattr(os, "fsync", lambda _: None)
            finish(world, state)
        assert max(Counter(world.stored).values(), default=0) <= 1, (seed, last)
        lost = {*world.shown} - {*world.stored} - world.discarded
        assert not lost, (seed, last, lost)
        if not was_killed:
            break
    assert last > 10
