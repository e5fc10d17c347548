"""Short forms of the rows, and controls: a planted loss is found, and ends with status 1."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.faults import __main__ as program
from tests.faults.disk_model import MODES
from tests.faults.harness import (
    Missing,
    Outcome,
    Row,
    Trial,
    run_episodes,
    run_row,
    settle,
    stored_log,
)
from tests.faults.members import GROUP, Crew, Habits, Member, crew_of, dialer, ending_code
from tests.faults.power_cuts import Replay, plan, record
from tests.faults.recording import Create, Rename, Send, Write, read_traces, strace_words
from tests.faults.report import document, failure, figures, read, renew, table, write
from tests.faults.server_kills import episode_of_kills
from tests.faults.servers import TimedOut, nest, serving, traces_in, waiting_for

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
            await crew.until(lambda: len(crew.ledger.operations) > 30, "new commands")
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


@pytest.mark.usefixtures("autojump_clock")
async def test_given_up_commands_end_a_wait() -> None:
    """No frame arrives at the end: a member gives up its commands when it connects."""
    crew = Crew(dialer(lambda: 0), 7, habits=Habits(giving_up=1.0))
    member = Member(crew, 0)
    member._make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.until, lambda: not member.waiting, "answers")
        await trio.testing.wait_all_tasks_blocked()
        member._forget_some()


@pytest.mark.usefixtures("autojump_clock")
async def test_wait_that_is_too_long_says_for_what() -> None:
    crew = Crew(dialer(lambda: 0), 7)
    with pytest.raises(TimedOut, match="still waiting for answers; 0 commands are not answered"):
        await crew.until(lambda: False, "answers")


@pytest.mark.usefixtures("autojump_clock")
async def test_silent_connection_is_broken_off() -> None:
    """The other side accepts, and never answers: the member connects again, and goes on."""

    async def dial() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        dialed.append(theirs)
        return ours

    dialed: list[trio.abc.Stream] = []
    crew = Crew(dial, 7, habits=Habits(silence=1.5))
    with trio.move_on_after(5):
        await Member(crew, 0).run()
    assert len(dialed) == 4
    assert crew.broken["Refusal (silent)"] == 3


@pytest.mark.parametrize("kind", ["goodbye", "error", "subscription_ended"])
def test_frames_that_end_everything_have_a_code(kind: str) -> None:
    assert ending_code({"type": kind, "code": "log_damaged"}) == "log_damaged"
    assert not ending_code({"type": "error", "re": 1, "code": "log_damaged"})
    assert not ending_code({"type": "event", "group": GROUP})


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


async def _fail_first(trial: Trial) -> None:
    """Fail with an error in the first episode, and end each of the others."""

    async def one(episode: Episode) -> None:
        if episode.seed == trial.seed:
            with waiting_for("what never comes", 0):
                await trio.sleep_forever()
        trial.counts["episodes"] += 1
        trial.seconds = 0
        episode.end(trial.findings)

    await run_episodes(trial, one)


async def _miss(trial: Trial) -> None:
    del trial
    raise Missing("there is no such thing here")


async def _raise(trial: Trial) -> None:
    trial.episode()
    raise ValueError("unexpected")


def test_failed_row_says_how_to_repeat_it() -> None:
    outcome = run_row(Row("bad", "", _fail), 41, 0.0)
    assert not outcome.held
    said = failure(outcome)
    assert "seed 41: something is wrong" in said
    assert "python -m tests.faults --only bad --seed 41" in said
    assert outcome.place
    _remove(outcome)


def test_exception_in_a_row_is_a_failure() -> None:
    outcome = run_row(Row("bad", "", _raise), 41, 0.0)
    assert not outcome.held
    assert "ValueError('unexpected')" in outcome.problems[0]
    _remove(outcome)


def test_failed_episode_does_not_end_its_row() -> None:
    outcome = run_row(Row("bad", "", _fail_first), 41, 60.0)
    assert outcome.counts == {"episodes": 1}
    assert outcome.problems == ["seed 41: after 0 s, still waiting for what never comes"]
    assert outcome.again.endswith("--seed 41")
    assert (Path(outcome.place) / "41" / "traceback.txt").exists()
    assert not (Path(outcome.place) / "42").exists()
    _remove(outcome)


def test_report_is_quoted_from_a_file(tmp_path: Path) -> None:
    place = str(tmp_path / "row")
    kills = Outcome("server-kills", 1, 9.5, {"kills": 1234, "acknowledged": 56789}, place=place)
    chaos = Outcome("chaos", 1, 9.5, {"resets": 4321, "acknowledged": 1}, lost=2, place=place)
    chaos.problems = [f"seed 3: see {place}/3"]
    write([kills, chaos], 60.0, tmp_path / "faults.json")
    report = read(tmp_path / "faults.json")
    said = " ".join(figures(report).split())
    assert f"`python -m tests.faults --minutes 60` ({report.date}): 1,234 kills of the" in said
    assert "4,321 connection resets" in said
    assert "56,790 acknowledged operations 2 lost, 0 doubled, 0 reordered. Failed: chaos." in said
    assert "| chaos | 10 | 4,321 resets, 1 acknowledged | 2 | 0 | 0 | 0 | FAILED |" in document(
        report
    )
    assert str(tmp_path) not in (tmp_path / "faults.json").read_text()
    renew([replace(chaos, lost=0, problems=[])], 2.0, tmp_path / "faults.json")
    renewed = read(tmp_path / "faults.json")
    assert [row.held for row in renewed.rows] == [True, True]
    assert "4,321 resets, 1 acknowledged; run on its own, 2 minutes," in document(renewed)


def test_row_that_cannot_run_says_why() -> None:
    outcome = run_row(Row("absent", "", _miss), 41, 0.0)
    assert outcome.held
    assert "| absent | | not run: there is no such thing here" in table([outcome])


def test_every_row_has_its_own_name() -> None:
    rows = program.all_rows()
    assert {"server-kills", "client-kills", "power-cuts", "io-errors", "soak"} <= set(rows)
    assert all(name == row.name and row.title for name, row in rows.items())


def test_child_that_has_ended_can_be_killed(tmp_path: Path) -> None:
    with nest(tmp_path / "log") as one:
        one.start("--version")
        while Path(f"/proc/{one.child}").exists():
            pass
        assert one.kill() == 0


def test_tracebacks_are_found_in_output() -> None:
    said = "a\nTraceback (most recent call last):\n  File x\n    y\nValueError: z\nb\n"
    assert traces_in(said) == ["ValueError: z"]
    assert traces_in("all is well") == []


def _remove(outcome: Outcome) -> None:
    shutil.rmtree(outcome.place)
