"""A wrong clock: nothing is deleted or dated ahead for it, and invites last as promised."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import COOL_DOWN_MS, Deny, Invite, Join
from tchat.errors import Code
from tchat.machine_clocks import DAY_MS, now_ms
from tchat.net.address import Address
from tchat.server import retention
from tchat.server.control import perform
from tchat.server.operations import expiry
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import NO_RATE_LIMITS, log_of, members, raw_client, running_server, texts
from tests.processes import launching
from tests.server.file_transfers import (
    DATA,
    download,
    interrupt_upload,
    partial_files,
    share,
    trashed_names,
)
from tests.wrong_clock import faked_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient, RunningServer

MINUTE, HOUR = 60_000, 3_600_000
YEARS = 3652 * DAY_MS  # ten
NOON = 1_795_341_720_000
KEEP = replace(NO_RATE_LIMITS, keep_files=90 * DAY_MS, keep_messages=365 * DAY_MS)
TOKEN = bytes(16)


class Machine:
    """A machine with a true time, and a wall clock that may be ahead of it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.true, self.ahead = NOON, 0

    @asynccontextmanager
    async def server(self) -> AsyncIterator[RunningServer]:
        """Run a server on the data, which looks for what has expired all the time."""
        async with open_store(self.data) as opened:
            store = FaultyStore(opened)
            async with running_server(
                store,
                KEEP,
                clock=lambda: self.true + self.ahead,
                steady_clock=lambda: self.true,
                data=self.data,
            ) as server:
                await swept(server)
                yield server


async def swept(server: RunningServer) -> None:
    """Wait until the server has looked for what has expired since this was called."""
    assert isinstance(server.store, FaultyStore)
    await server.store.wait_done("files.sweep", server.store.count("files.sweep") + 2)


async def dates(server: RunningServer) -> list[int]:
    """Return the dates of all events; they never decrease."""
    found = [event.at for event in await log_of(server.store)]
    assert found == sorted(found)
    return found


async def invite(admin: RawClient, minutes: int) -> None:
    await admin.command(Invite, hashlib.sha256(TOKEN).digest(), minutes * MINUTE)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose servers look for what has expired all the time."""
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.005)
    return Machine(tmp_path)


@pytest.mark.parametrize("saved", [True, False], ids=["time saved", "time not saved"])
@pytest.mark.parametrize("jump", [YEARS, -YEARS])
async def test_start_with_a_wrong_clock_destroys_nothing(
    machine: Machine, jump: int, saved: bool
) -> None:
    async with machine.server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        await interrupt_upload(server, alice, b"begun", 3)
        await alice.post("before")
    if not saved:
        (machine.data / "clock").unlink()
    machine.true += HOUR
    machine.ahead = jump
    async with machine.server() as server, raw_client(server.address, "alice") as alice:
        await server.logged("the clock shows 20")
        await alice.command(Join)
        await alice.post("meanwhile")
        await download(server, alice, 1, DATA)
        assert len(partial_files(server)) == 1
        assert trashed_names(server) == set()
        assert texts(await log_of(server.store)) == ["before", "meanwhile"]
        assert max(await dates(server)) <= machine.true
        machine.ahead = 0
        await swept(server)
        machine.true += 2 * MINUTE  # as long as it takes to believe in an hour of downtime
        await server.logged("the clock is right again")
        await alice.post("after")
        assert max(await dates(server)) == machine.true
    assert verify_server(machine.data).faults == []


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
async def test_jump_of_a_running_server_destroys_nothing(machine: Machine, jump: int) -> None:
    async with machine.server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        await interrupt_upload(server, alice, b"begun", 3)
        machine.true += HOUR
        machine.ahead = jump
        await swept(server)
        await alice.post("meanwhile")
        await download(server, alice, 1, DATA)
        assert (len(partial_files(server)), trashed_names(server)) == (1, set())
        assert max(await dates(server)) == machine.true
        machine.ahead = 0
        await swept(server)
        machine.true += 91 * DAY_MS
        await server.logged("moved 1 expired files to the trash")
        machine.true += 300 * DAY_MS
        await server.logged("removed the messages of ops")
    assert [line for line in server.console if "the clock shows" in line][1:] == []


async def test_invite_expires_though_the_clock_went_back(machine: Machine) -> None:
    machine.ahead = 2 * HOUR
    async with (
        machine.server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await invite(alice, 30)
        machine.ahead = 0
        machine.true += 29 * MINUTE
        await perform(machine.data, "trust-clock")
        await alice.post("set right")
        machine.true += 2 * MINUTE
        assert (await bob.refusal(Join, TOKEN)).code == Code.BAD_INVITE
        await invite(alice, 30)
        machine.true += 29 * MINUTE
        await bob.command(Join, TOKEN)
        await dates(server)


async def test_denial_ends_though_the_clock_went_back(machine: Machine) -> None:
    """The dates of events stand still then: it took as long as the clock had been ahead."""
    machine.ahead = 12 * HOUR
    async with (
        machine.server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await alice.command(Deny, "bob")
        machine.ahead = 0
        await perform(machine.data, "trust-clock")
        machine.true += COOL_DOWN_MS - MINUTE
        assert (await bob.refusal(Join)).code == Code.DENIED
        assert (await bob.attach()).wait == MINUTE
        machine.true += MINUTE
        await bob.command(Join)
        await dates(server)


async def test_invite_survives_a_clock_that_jumped_ahead(machine: Machine) -> None:
    async with machine.server() as server, members(server, "alice") as (alice,):
        await invite(alice, 30)
    machine.true += MINUTE
    machine.ahead = 2 * HOUR
    async with machine.server() as server, raw_client(server.address, "bob") as bob:
        machine.ahead = 0
        await bob.command(Join, TOKEN)


async def test_operator_confirms_the_time_of_a_stopped_server(machine: Machine) -> None:
    machine.true -= 2 * 365 * DAY_MS
    async with machine.server() as server, members(server, "alice"):
        pass
    report = await perform(machine.data, "trust-clock")  # of the real time
    machine.true = int(datetime.fromisoformat(str(report["now"])).timestamp() * 1000)
    async with machine.server() as server, raw_client(server.address, "alice") as alice:
        await alice.command(Join)
        await alice.post("now")
        assert max(await dates(server)) == machine.true
    assert not any("the clock shows" in line for line in server.console)


async def test_process_with_a_faked_clock_destroys_nothing(tmp_path: Path) -> None:
    faked = faked_program(tmp_path, YEARS // 1000)
    data = tmp_path / "data"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.type(f"/send {faked}")
        await alice.sees(faked.name)
        assert (await alice.end(), await server.stop()) == (0, 0)
        stored = sorted((data / "files").glob("??/*"))
        options = ("--no-tls", "--keep-files", "1d", "--keep-messages", "1d")
        wrong = await launch.script(
            faked, "serve", "127.0.0.1", 0, "--data", data, *options, user="server"
        )
        await wrong.sees("the clock shows 203")
        port = int((await wrong.out.containing("listening on ")).rpartition(":")[2])
        alice = await launch.join(Address("127.0.0.1", port), "alice")
        await alice.type("still here")
        await alice.sees("<alice> still here")
        assert await alice.end() == 0
        wrong.running.terminate()
        assert await wrong.exit() == 0
    assert sorted((data / "files").glob("??/*")) == stored != []
    async with open_store(data) as store:
        log = await log_of(store)
        assert texts(log) == ["still here"]
        assert log[-1].at <= now_ms()
