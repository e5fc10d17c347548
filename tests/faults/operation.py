"""What operators do, and clocks: orderly shutdowns, backups, wall clocks that jump, long runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.server.operations.verification import verify_server
from tests.bench.report import resident
from tests.faults.harness import Row, run_episodes, settle, stored_log
from tests.faults.ledger import Ledger
from tests.faults.members import Crew, Habits, crew_of, dialer, read_log
from tests.faults.servers import Server, nest, run_tchat, serving, waiting_for
from tests.faults.uploads import share_files

if TYPE_CHECKING:
    from tests.faults.harness import Episode, Trial

_YEAR = 365.25 * 86400
_CLOCKS = (0.0, 10 * _YEAR, -10 * _YEAR, 3600.0, -3600.0, 40 * 86400.0, -40 * 86400.0, 1.0, -1.0)
_MORE_FILES, _MORE_MEMORY = 40, 64 << 20
_SHUTDOWN_SECONDS = 10.0
_MIXED = Habits(pause=0.01)
_LANES = 2  # servers side by side
_INTERRUPTED = 0.3  # of the backups are killed first
_BACKUP_SECONDS = 0.4  # about as long as one takes


async def _verify(episode: Episode, data: Path, what: str) -> None:
    found = await trio.to_thread.run_sync(verify_server, data)
    for fault in found.faults:
        episode.problem(f"verify of {what}: {fault.where} {fault.subject}: {fault.sentence}")


# ------------------------------------------------------------------ shutdowns


async def shutdown(trial: Trial) -> None:
    """Send SIGTERM at any moment: while starting, under load, twice; then start again."""
    await run_episodes(trial, _stop_often, _LANES)


async def _stop_often(episode: Episode) -> None:
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
    await run_episodes(trial, _let_clocks_jump, _LANES)


async def _let_clocks_jump(episode: Episode) -> None:
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed)
        async with crew_of(crew):
            for _ in range(8):
                await crew.until_more(40)
                server.kill()
                server.start(clock=episode.random.choice(_CLOCKS))
                episode.trial.counts["jumps"] += 1
                await server.listening()
            await crew.quiesce()
    await _verify(episode, server.data, "the data")
    await settle(episode, crew, server.data)


# ------------------------------------------------------------------ backups


async def backup(trial: Trial) -> None:
    """Back up while the server works; verify, restore and serve: nothing older is missing in it."""
    await run_episodes(trial, _work_and_back_up, _LANES)


async def _work_and_back_up(episode: Episode) -> None:
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed, habits=_MIXED)
        async with crew_of(crew), trio.open_nursery() as nursery:
            nursery.start_soon(share_files, crew, episode.random)
            for number in range(2):
                await trio.sleep(episode.random.uniform(0.2, 1.0))
                await _back_up(episode, server, crew, number)
            await crew.quiesce()
            nursery.cancel_scope.cancel()
    await settle(episode, crew, server.data)


async def _back_up(episode: Episode, server: Server, crew: Crew, number: int) -> None:
    target, restored = (episode.place / f"{name}-{number}" for name in ("backup", "restored"))
    known = {id(one) for one in crew.ledger.operations if one.fate == "acknowledged"}
    if episode.random.random() < _INTERRUPTED:
        await _begin_backup(episode, server.data, target)
    if not target.exists():  # what was killed may have been complete
        await _admin(episode, "backup", target, "--data", server.data)
    await _admin(episode, "verify", target)
    await _admin(episode, "restore", target, "--data", restored)
    if not restored.exists():
        return
    await _verify(episode, restored, "what was restored")
    log = await stored_log(restored, crew.group)
    found = _expected(crew, known).check(crew.group, log)
    if not found.is_clean:
        episode.trial.findings.add(found)
        episode.problem(f"a backup is not what was acknowledged: {found.examples[0]}")
    episode.trial.counts["acknowledged, found in backups"] += len(known)
    await _serve_restored(episode, restored, crew, log)


async def _admin(episode: Episode, command: str, *arguments: object) -> None:
    """Run a command of the operator."""
    done = await trio.to_thread.run_sync(lambda: run_tchat("admin", command, *arguments))
    episode.trial.counts[f"admin {command}"] += 1
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        episode.problem(f"admin {command} ended with {done.returncode}: {said}")


async def _begin_backup(episode: Episode, data: Path, target: Path) -> None:
    """Begin a backup, and kill it with SIGKILL."""
    with nest(episode.place / "killed-backup.log") as one:
        one.start("admin", "backup", target, "--data", data)
        await trio.sleep(episode.random.uniform(0, _BACKUP_SECONDS))
        one.kill()
    episode.trial.counts["backups killed"] += 1


def _expected(crew: Crew, known: set[int]) -> Ledger:
    """Return what a backup has to have: all that was known before. Other commands may be in it."""
    ledger = Ledger()
    ledger.operations = [
        one if id(one) in known else replace(one, fate="unknown", seq=None)
        for one in crew.ledger.operations
    ]
    return ledger


async def _serve_restored(
    episode: Episode, restored: Path, crew: Crew, log: dict[int, bytes]
) -> None:
    """Start a server on a restored directory; a member gets exactly what is in its log."""
    with nest(episode.place / "restored.log") as one:
        server = Server(one, restored)
        server.start()
        await server.listening()
        with waiting_for("the log of a restored server"):
            received = await read_log(server.port, crew.members[0], crew.group)
        if status := await server.stop():
            episode.problem(f"the restored server ended with status {status}")
    if received != log:
        episode.problem(f"a restored server sends {len(received)} events of {len(log)}")


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
    Row("backup", "backups under load, killed ones too; verify, restore, serve", backup, 3.0),
    Row("soak", "mixed load; memory and open files", soak, 4.0),
]
