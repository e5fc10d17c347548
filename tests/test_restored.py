"""Real processes: a server is restored from a backup; one client sleeps, another is awake."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

from tchat.client.updates import LOG_REPLACED
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path


async def test_sleeper_has_the_restored_log(tmp_path: Path) -> None:
    """11 of 25 messages are lost; then others write until the log is longer than the sleeper's."""
    data, backup, aside = (tmp_path / name for name in ("data", "backup", "aside"))
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        port = server.address.port
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(server.address, "bob")
        await alice.sees("bob asks to join")
        await alice.type("/2 bob")
        await bob.sees("in #ops with 1 other member")
        kept = [f"kept {number}" for number in range(14)]
        await alice.type(*kept)
        await bob.sees(*kept)
        assert await server.stop() == 0
        shutil.copytree(data, backup)
        server = await launch.serve(port=port)
        lost = [f"lost {number}" for number in range(11)]
        await alice.type(*lost)
        await bob.sees(*lost)
        bob.running.send_signal(signal.SIGSTOP)
        assert await server.stop() == 0
        data.rename(aside)
        backup.rename(data)
        server = await launch.serve(port=port)
        await alice.sees(LOG_REPLACED)
        new = [f"new {number}" for number in range(20)]
        await alice.type(*new)
        await alice.sees(*new)
        bob.running.send_signal(signal.SIGCONT)
        await bob.sees(LOG_REPLACED, *new)
        place = [line.endswith(LOG_REPLACED) for line in bob.lines].index(True)
        printed = [line.partition("> ")[2] for line in bob.lines[place:] if "] <alice>" in line]
        assert [text for text in printed if text not in kept] == new
        await bob.type("awake")
        await alice.sees("awake")
        told = [line for line in bob.lines if line.endswith(LOG_REPLACED)]
        assert len(told) == 1
        for person in (alice, bob):
            assert await person.end() == 0
        where = (server.address, "--user", "bob", "--group", "ops", "--no-tls", "--insecure")
        tail = await launch.tchat("tail", *where, "-n", "100", user="bob")
        assert await tail.exit() == 0, tail.err
        assert [line.partition("> ")[2] for line in tail.lines] == [*kept, *new, "awake"]
