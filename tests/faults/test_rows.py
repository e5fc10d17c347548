"""Short forms of the rows, and controls: a planted loss is found, and ends with status 1."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.faults import __main__ as program
from tests.faults.disk_model import MODES
from tests.faults.harness import Missing, Outcome, Row, Trial, run_row, settle, stored_log
from tests.faults.members import GROUP, Crew, crew_of, dialer
from tests.faults.power_cuts import Replay, plan, record
from tests.faults.recording import Create, Rename, Send, Write, read_traces, strace_words
from tests.faults.server_kills import episode_of_kills
from tests.faults.servers import serving, traces_in

if TYPE_CHECKING:
    from tests.faults.harness import Episode


def trial_in(place: Path) -> Trial:
    return Trial("test", 7, 0.0, place)


async def test_server_kills_lose_nothing(tmp_path: Path) -> None:
    trial = trial_in(tmp_path)
    await episode_of_kills(trial.episode(), 2)
    assert trial.is_clean, (trial.problems, trial.findings)
    assert trial.counts["kills"] == 2
    assert trial.counts["acknowledged"] > 3


@pytest.fixture
def strace() -> None:
    try:
        strace_words()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.usefixtures("strace")
async def test_power_cuts_lose_nothing_unless_disks_lie(tmp_path: Path) -> None:
    trial = trial_in(tmp_path)
    recording = await record(trial.episode(), 40)
    assert trial.is_clean, trial.problems
    promises = recording.promises
    assert promises.events
    assert promises.answers
    cuts = plan(recording, 12, random.Random(7))
    last = len(recording.steps)

    def replay() -> None:
        honest = Replay(recording, tmp_path)
        for step, mode in [*cuts, *((last, mode) for mode in MODES)]:
            honest.go_to(step)
            assert honest.cut(mode, 7).is_clean, (step, mode)
        lying = Replay(recording, tmp_path, obeys=False)
        lying.go_to(last)
        found = lying.cut("synced", 7)
        assert found.lost >= len({seq for _, seq, _ in promises.events})

    await trio.to_thread.run_sync(replay)


async def test_planted_loss_in_a_real_log_is_found(tmp_path: Path) -> None:
    trial = trial_in(tmp_path)
    episode = trial.episode()
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), 7)
        async with crew_of(crew):
            await crew.until(lambda: len(crew.ledger.operations) > 30, "commands are sent")
            await crew.quiesce()
    log = await stored_log(server.data, GROUP)
    posts = [one for one in crew.ledger.operations if one.kind == "post" and one.seq]
    seq = max(one.seq for one in posts if one.seq)
    assert crew.ledger.check(GROUP, log).is_clean
    assert crew.ledger.check(GROUP, {k: v for k, v in log.items() if k != seq}).lost
    assert crew.ledger.check(GROUP, {**log, len(log) + 1: log[seq]}).doubled
    await settle(episode, crew, server.data)
    assert trial.is_clean
    assert not episode.place.exists()


def test_trace_becomes_steps(tmp_path: Path) -> None:
    """Calls of two threads that interrupt each other, and one that failed."""

    def text(data: str) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in data.encode()) + '"'

    trace = tmp_path / "trace"
    trace.write_text(
        f"10 openat(AT_FDCWD, {text('/d/a')}, O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3\n"
        f"10 openat(AT_FDCWD, {text('/d/b')}, O_RDONLY) = -1 ENOENT (No such file)\n"
        f"10 pwrite64(3, {text('one')}, 3, 8 <unfinished ...>\n"
        f"11 sendto(9, {text('lost')}, 4, 0, NULL, 0) = 4\n"
        "11 accept4(5, NULL, NULL, SOCK_CLOEXEC) = 9\n"
        "10 <... pwrite64 resumed>) = 3\n"
        f"11 sendto(9, {text('hello')}, 5, 0, NULL, 0) = 4\n"
        f"10 rename({text('/d/a')}, {text('/d/c')}) = 0\n"
    )
    steps = read_traces([trace], Path("/d"))
    assert steps == [
        Create("/d/a", 2),
        Write(2, 8, b"one"),
        Send(3, b"hell"),
        Rename("/d/a", "/d/c", 2),
    ]


# ------------------------------------------------------------------ the program


async def _fail(trial: Trial) -> None:
    episode: Episode = trial.episode()
    episode.problem("something is wrong")
    episode.end(trial.findings)


async def _miss(trial: Trial) -> None:
    del trial
    raise Missing("there is no such thing here")


async def _raise(trial: Trial) -> None:
    trial.episode()
    raise ValueError("unexpected")


def test_failed_row_says_how_to_repeat_it() -> None:
    outcome = run_row(Row("bad", "", _fail), 41, 0.0)
    assert not outcome.held
    said = program.failure(outcome)
    assert "seed 41: something is wrong" in said
    assert "python -m tests.faults --only bad --seed 41" in said
    assert outcome.place
    _remove(outcome)


def test_exception_in_a_row_is_a_failure() -> None:
    outcome = run_row(Row("bad", "", _raise), 41, 0.0)
    assert not outcome.held
    assert "ValueError('unexpected')" in outcome.problems[0]
    _remove(outcome)


def test_row_that_cannot_run_says_why() -> None:
    outcome = run_row(Row("absent", "", _miss), 41, 0.0)
    assert outcome.held
    assert "| absent | | not run: there is no such thing here" in program.table([outcome])


def test_every_row_has_its_own_name() -> None:
    rows = program.all_rows()
    assert {"server-kills", "client-kills", "power-cuts", "io-errors", "soak"} <= set(rows)
    assert all(name == row.name and row.title for name, row in rows.items())


def test_tracebacks_are_found_in_output() -> None:
    said = "a\nTraceback (most recent call last):\n  File x\n    y\nValueError: z\nb\n"
    assert traces_in(said) == ["ValueError: z"]
    assert traces_in("all is well") == []


def _remove(outcome: Outcome) -> None:
    shutil.rmtree(outcome.place)
