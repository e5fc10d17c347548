"""Servers that announce more than they send: a command ends, and does not claim to be complete."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.cli.place import PATIENCE, _give_up_waiting
from tchat.core.protocol.frames import Attached
from tchat.errors import Unavailable
from tchat.exits import UNAVAILABLE
from tests.client.impostor import Wire, events, impostor, page, snapshot
from tests.helpers import GROUP, GUARD, session_at, until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.client.impostor import Act

LAST = 300
ENORMOUS = 2**53 - 1
JOINED: dict[str, object] = {
    "type": "membership",
    "group": GROUP,
    "standing": "member",
    "reason": "approved",
    "by": "eve",
}


async def export(act: Act, home: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run `tchat export` at a scripted server."""
    with trio.fail_after(GUARD):
        async with impostor(act) as server:
            place = [str(server.address), "--user", "alice", "--group", GROUP, "--no-tls"]
            return await trio.run_process(
                [sys.executable, "-m", "tchat", "export", *place, *words],
                env={**os.environ, "TCHAT_HOME": str(home)},
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    raise AssertionError


def with_pages(last: int, least: int) -> Act:
    """Return a server with a log up to `last` that sends no events before `least`."""

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        await wire.say(
            Attached(request["id"], GROUP, "member", seq=last, first=last + 1).to_map(),
            *snapshot(last),
        )
        while request := await wire.hear() or {}:
            if request["type"] == "history_request":
                before = request["before"]
                first = max(least, before - 50)
                await wire.say(page(request, *events(first, before - 1)) | {"last": before - 1})

    return act


async def test_export_of_an_honest_log_succeeds(tmp_path: Path) -> None:
    done = await export(with_pages(LAST, 1), tmp_path, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    seqs = [json.loads(line)["seq"] for line in done.stdout.splitlines()]
    assert seqs == list(range(1, LAST + 1))


@pytest.mark.parametrize("least", [LAST - 20, LAST + 1])
async def test_export_says_that_events_are_missing(tmp_path: Path, least: int) -> None:
    """It ended with status 0, as if there were none."""
    done = await export(with_pages(LAST, least), tmp_path)
    assert done.returncode == UNAVAILABLE
    said = done.stderr.decode().splitlines()[-1]
    assert "did not send all events up to 300" in said
    assert "Traceback" not in done.stderr.decode()


async def test_announced_events_alone_are_no_progress() -> None:
    """Each frame was taken for progress, so that a command waited for ever."""

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=ENORMOUS)
        await wire.say(*events(1, 10))
        await go.wait()
        for announced in (ENORMOUS, ENORMOUS - 1, 10):
            absent = {"type": "presence", "group": GROUP, "reset": False, "online": []}
            await wire.say({**absent, "offline": []}, JOINED)
            await wire.attach(seq=announced)
        await wire.hear()

    go = trio.Event()
    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        with trio.fail_after(GUARD):
            await until(alice, lambda: ops.last == 10)
            before = alice.awaited
            go.set()
            seen = [alice.awaited]
            while not ops.caught_up:
                await alice.updates.receive()
                seen.append(alice.awaited)
            assert set(seen) <= {before, None}


async def test_moving_target_is_no_progress() -> None:
    """Events come, but each time the server announces as many again."""

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=100)
        await wire.say(*events(1, 99))
        await go.wait()
        await wire.say(JOINED)
        await wire.attach(seq=1000)
        await wire.say(*events(100, 900))
        await wire.hear()

    go = trio.Event()
    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        with trio.fail_after(GUARD):
            await until(alice, lambda: ops.last == 99)
            before = alice.awaited
            go.set()
            await until(alice, lambda: ops.last == 900)
            assert alice.awaited == before is not None


async def test_events_after_a_reconnect_are_progress() -> None:
    """More are missing than before, since the log was complete when the connection was lost."""

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=10 if server.connections == 1 else 1000)
        if server.connections == 1:
            await wire.say(*events(1, 10))
            return
        await wire.say(*events(11, 500))
        await go.wait()
        await wire.say(*events(501, 900))
        await wire.hear()

    go = trio.Event()
    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        with trio.fail_after(GUARD):
            await until(alice, lambda: ops.last == 500)
            before = alice.awaited
            go.set()
            await until(alice, lambda: ops.last == 900)
            assert alice.awaited != before is not None


async def test_command_gives_up_on_broken_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that accepts a connection now and then, and ends it, is no better than none."""

    class Flapping:
        awaited = "events", 1
        connector = type("Connector", (), {"address": "localhost:7777"})

        @property
        def connected(self) -> bool:
            return trio.current_time() % 20 < 0.5

    with pytest.raises(Unavailable, match="did not answer"):
        await _give_up_waiting(Flapping(), PATIENCE)  # type: ignore[arg-type]
    assert trio.current_time() <= 2 * PATIENCE + 2
