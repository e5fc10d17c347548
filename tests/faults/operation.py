"""What operators do, and clocks: orderly shutdowns, backups, wall clocks that jump, long runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.server.operations.verification import verify_server
from tests.bench.report import resident
from tests.faults.harness import Row, settle, stored_log
from tests.faults.ledger import Ledger
from tests.faults.members import Crew, Habits, crew_of, dialer
from tests.faults.servers import run_tchat, serving
from tests.faults.uploads import share_files

if TYPE_CHECKING:
    from tests.faults.harness import Episode, Trial
    from tests.faults.servers import Server

_YEAR = 365.25 * 86400
_CLOCKS = (0.0, 10 * _YEAR, -10 * _YEAR, 3600.0, -3600.0, 40 * 86400.0, -40 * 86400.0, 1.0, -1.0)
_MORE_FILES, _MORE_MEMORY = 40, 64 << 20
_SHUTDOWN_SECONDS = 10.0
_MIXED = Habits(pause=0.01)


def _verify(episode: Episode, data: Path, what: str) -> None:
    for fault in verify_server(data).faults:
        episode.problem(f"verify of {what}: {fault.where} {fault.subject}: {fault.sentence}")


# ------------------------------------------------------------------ shutdowns


async def shutdown(trial: Trial) -> None:
    """Send SIGTERM at any moment: while starting, under load, twice; then start again."""
    while not trial.is_over():
        episode = trial.episode()
        async with serving(episode) as server:
            crew = Crew(dialer(lambda: server.port), episode.seed, size=4)
            async with crew_of(crew):
                for _ in range(12):
                    await _stop_and_start(episode, server)
                await crew.quiesce()
        await settle(episode, crew, server.data)


async def _stop_and_start(episode: Episode, server: Server) -> None:
    rng = episode.random
    if rng.random() < 0.3:
        kind = "while starting"
        await trio.sleep(rng.uniform(0.05, 0.2))
    else:
        kind = "under load"
        await server.listening()
        await trio.sleep(rng.uniform(0, 0.5))
    begun = trio.current_time()
    status = await server.stop()
    took = trio.current_time() - begun
    episode.trial.counts[f"stopped {kind}"] += 1
    # Before the signal's handler is there, the signal itself ends the program.
    if status and not (kind == "while starting" and status == -15):
        episode.problem(f"SIGTERM {kind}: the server ended with status {status}")
    if took > _SHUTDOWN_SECONDS:
        episode.problem(f"SIGTERM {kind}: the server ended after {took:.1f} s")
    server.start()
    await server.listening()


# ------------------------------------------------------------------ clocks


async def clocks(trial: Trial) -> None:
    """Restart the server with a wall clock that is up to ten years ahead or behind."""
    trial.notes.append("the clock is that of the server's process, as Python sees it")
    while not trial.is_over():
        episode = trial.episode()
        async with serving(episode) as server:
            crew = Crew(dialer(lambda: server.port), episode.seed)
            async with crew_of(crew):
                for _ in range(8):
                    wanted = len(crew.ledger.operations) + 40
                    await crew.until(
                        lambda: len(crew.ledger.operations) > wanted,  # noqa: B023
                        "commands are sent",
                    )
                    server.kill()
                    server.start(clock=episode.random.choice(_CLOCKS))
                    trial.counts["jumps"] += 1
                    await server.listening()
                await crew.quiesce()
        _verify(episode, server.data, "the data")
        await settle(episode, crew, server.data)


# ------------------------------------------------------------------ backups


async def backup(trial: Trial) -> None:
    """Back up while the server works; verify and restore: nothing older is missing in it."""
    restores = "restore" in run_tchat("admin", "--help").stdout
    if not restores:
        trial.notes.append("not restored: there is no `tchat admin restore`")
    while not trial.is_over():
        episode = trial.episode()
        async with serving(episode) as server:
            crew = Crew(dialer(lambda: server.port), episode.seed, habits=_MIXED)
            async with crew_of(crew), trio.open_nursery() as nursery:
                nursery.start_soon(share_files, crew, episode.random)
                for number in range(2):
                    await trio.sleep(episode.random.uniform(0.2, 1.0))
                    await _back_up(episode, server, crew, number, restores=restores)
                await crew.quiesce()
                nursery.cancel_scope.cancel()
        await settle(episode, crew, server.data)


async def _back_up(
    episode: Episode, server: Server, crew: Crew, number: int, *, restores: bool
) -> None:
    target = episode.place / f"backup-{number}"
    known = [one for one in crew.ledger.operations if one.fate == "acknowledged"]
    made = await trio.to_thread.run_sync(
        lambda: run_tchat("admin", "backup", target, "--data", server.data)
    )
    episode.trial.counts["backups"] += 1
    if made.returncode:
        episode.problem(f"the backup failed: {made.stderr.strip()}")
        return
    if restores:
        restored = episode.place / f"restored-{number}"
        done = await trio.to_thread.run_sync(
            lambda: run_tchat("admin", "restore", target, "--data", restored)
        )
        episode.trial.counts["restored"] += 1
        if done.returncode:
            episode.problem(f"the restore failed: {done.stderr.strip()}")
        target = restored
    _verify(episode, target, "a backup")
    log = await stored_log(target, crew.group)
    # What was acknowledged meanwhile may be in it or not: only what is missing counts.
    ledger = Ledger()
    ledger.operations = known
    deletions = [one for one in crew.ledger.operations if one.kind == "delete" and one not in known]
    found = ledger.check(crew.group, log)
    if found.lost and not deletions:
        episode.problem(f"{found.lost} acknowledged commands are not in the backup")
    elif found.lost:
        erased = {one.target for one in deletions}
        lost = [one for one in known if one.seq not in log and one.seq is not None]
        if lost or any(one.seq not in erased for one in known if one.seq not in log and one.seq):
            episode.problem(f"{len(lost)} acknowledged commands are not in the backup")
    episode.trial.counts["found in backups"] += len(known)


# ------------------------------------------------------------------ long runs


async def soak(trial: Trial) -> None:
    """Mix everything for as long as there is time; memory and open files do not grow."""
    episode = trial.episode()
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed, size=8, habits=_MIXED)
        async with crew_of(crew), trio.open_nursery() as nursery:
            nursery.start_soon(share_files, crew, episode.random)
            await trio.sleep(trial.seconds / 4)  # until caches are warm
            before = _sample(server)
            while not trial.is_over():
                await trio.sleep(0.2)
                member = episode.random.choice(crew.members)
                if member.wire is not None and episode.random.random() < 0.2:
                    await trio.aclose_forcefully(member.wire.stream)
                    trial.counts["reconnects"] += 1
            after = _sample(server)
            await crew.quiesce()
            nursery.cancel_scope.cancel()
    trial.counts["MiB at the end"] = after[0] >> 20
    trial.notes.append(
        f"memory {before[0] >> 20} to {after[0] >> 20} MiB, open files {before[1]} to {after[1]}"
    )
    if after[0] - before[0] > _MORE_MEMORY or after[1] - before[1] > _MORE_FILES:
        episode.problem(f"the server grew: {trial.notes[-1]}")
    await settle(episode, crew, server.data)


def _sample(server: Server) -> tuple[int, int]:
    """Return the server's resident memory in bytes, and how many files it has open."""
    return resident(server.nest.child), len([*Path(f"/proc/{server.nest.child}/fd").iterdir()])


ROWS = [
    Row("clocks", "wall clocks that jump by up to ten years", clocks, 2.0),
    Row("shutdown", "SIGTERM at any moment, then a restart", shutdown, 2.0),
    Row("backup", "backups (and restores) under load", backup, 3.0),
    Row("soak", "mixed load; memory and open files", soak, 5.0),
]
