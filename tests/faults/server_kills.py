"""Kill servers under load with SIGKILL, at random and at chosen moments, and start them again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from tests.faults.harness import Row, run_episodes, settle
from tests.faults.members import Crew, crew_of, dialer
from tests.faults.servers import Server, nest

if TYPE_CHECKING:
    from random import Random

    from tests.faults.harness import Episode, Trial

KILLS_EACH = 25
"""Kills of one episode, on one data directory."""

_LONGEST = 0.4  # until a kill, in seconds
_START = 0.12  # about how long a start takes


async def _kill_at_a_moment(server: Server, crew: Crew, rng: Random) -> str:
    """Wait for a moment of some kind, and kill the server; return the kind."""
    kind = rng.choice(["start", "while starting", "acknowledged", "sent", "received"])
    if kind == "while starting":
        await trio.sleep(rng.uniform(0, _START))
        server.kill()
        return kind
    await server.listening()
    before = len(crew.ledger.operations), crew.members[0].view.last
    if kind == "start":
        await trio.sleep(rng.uniform(0, _LONGEST))
    elif kind == "acknowledged":
        answered = crew.ledger.fates()["acknowledged"] + rng.randrange(1, 60)
        await crew.until(lambda: crew.ledger.fates()["acknowledged"] >= answered, "answers")
    elif kind == "sent":
        some = before[0] + rng.randrange(1, 40)
        await crew.until(lambda: len(crew.ledger.operations) >= some, "new commands")
    else:
        last = before[1] + rng.randrange(1, 80)
        await crew.until(lambda: crew.members[0].view.last >= last, "events")
    server.kill()
    return kind


async def episode_of_kills(episode: Episode, kills: int = KILLS_EACH) -> None:
    """Kill a server `kills` times; then compare everything."""
    data = episode.place / "data"
    with nest(episode.place / "server.log") as one:
        server = Server(one, data)
        server.start()
        await server.listening()
        crew = Crew(dialer(lambda: server.port), episode.seed)
        async with crew_of(crew):
            for _ in range(kills):
                kind = await _kill_at_a_moment(server, crew, episode.random)
                episode.trial.counts["kills"] += 1
                episode.trial.counts[f"killed: {kind}"] += 1
                server.start()
            await server.listening()
            await crew.quiesce()
        if status := await server.stop():
            episode.problem(f"the server ended with {status}")
    await settle(episode, crew, data)


async def run(trial: Trial) -> None:
    """Run episodes side by side, one for each processor."""
    await run_episodes(trial, episode_of_kills, os.cpu_count() or 1)


ROWS = [Row("server-kills", "kill -9 of the server under load, then a restart", run, 9.0)]
