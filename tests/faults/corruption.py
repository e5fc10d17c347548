"""Damage on the disk: flipped bits, garbled pages, cut files. Every answer is right or refused."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import cbor2
import trio

from tests.faults.harness import Row, count, run_episodes, stored_log
from tests.faults.ledger import Findings
from tests.faults.members import BROKEN, Crew, crew_of, dialer, read_log
from tests.faults.servers import OPTIONS, Server, nest, serving, traces_in
from tests.faults.wire import Refusal, Wire

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.harness import Episode, Trial

_GROUPS = ("ops", "dev", "lab")
_POSTS = 250
_COPIES = 20  # of one log
_PAGE = 4096
_SECONDS = 5.0  # for an answer


async def corruption(trial: Trial) -> None:
    """Damage a copy of the data of a server that was stopped, and read everything through it."""
    await run_episodes(trial, _damage_copies, os.cpu_count() or 1)


async def _damage_copies(episode: Episode) -> None:
    crews = await _write(episode)
    logs = {crew.group: await stored_log(episode.place / "data", crew.group) for crew in crews}
    for number in range(_COPIES):
        if number and episode.trial.is_over():
            break
        await _damage_and_read(episode, crews, logs, number)
    for crew in crews:
        count(episode.trial, crew)
    episode.end(Findings())


async def _write(episode: Episode) -> list[Crew]:
    """Let some groups be filled; stop the server."""
    crews: list[Crew] = []
    async with serving(episode) as server:
        for group in _GROUPS:
            crew = Crew(dialer(lambda: server.port), episode.seed, size=2, group=group)
            if crews:  # the same people, with the same keys
                crew.seed = crews[0].seed
            async with crew_of(crew):
                await crew.until(
                    lambda: len(crew.ledger.operations) > _POSTS,  # noqa: B023
                    "new commands",
                )
                await crew.quiesce()
            crews.append(crew)
    return crews


async def _damage_and_read(
    episode: Episode, crews: list[Crew], logs: dict[str, dict[int, bytes]], number: int
) -> None:
    trial, rng = episode.trial, random.Random(f"{episode.seed} {number}")
    copy = episode.place / f"damaged-{number}"
    shutil.copytree(episode.place / "data", copy, ignore=shutil.ignore_patterns("control*"))
    what = _damage(copy / "tchat.db", rng)
    trial.counts[what.split(" at ")[0]] += 1
    before = len(trial.problems)
    with nest(episode.place / f"damaged-{number}.log") as one:
        server = Server(one, copy, OPTIONS)
        server.start()
        try:
            await server.listening()
        except RuntimeError:
            trial.counts["start refused"] += 1
            await server.ended()
            if "tchat: " not in server.output:
                episode.problem(f"{what}: the server does not start, and does not say why")
        else:
            for crew in crews:
                await _read(episode, server, crew, logs[crew.group], what)
            if not await _accepts(server):
                episode.problem(f"{what}: nobody can connect: {server.output.splitlines()[-1:]}")
        for trace in traces_in(server.output):
            episode.problem(f"{what}: a traceback: {trace}")
    if len(trial.problems) == before:
        shutil.rmtree(copy, ignore_errors=True)


async def _accepts(server: Server) -> bool:
    """Return whether the server still answers: damage costs a group, not everybody."""
    try:
        with trio.fail_after(_SECONDS):
            stream = await dialer(lambda: server.port)()
            async with stream:
                await Wire(stream).send({"type": "transfer", "version": 5, "ticket": bytes(16)})
                return bool(await stream.receive_some(1))
    except (*BROKEN, trio.TooSlowError):
        return False


def _damage(file: Path, rng: random.Random) -> str:
    """Damage a database file; return what was done."""
    data = bytearray(file.read_bytes())
    place = rng.randrange(len(data))
    kind = rng.choice(["bit flipped", "bit flipped", "page garbled", "page zeroed", "file cut"])
    page = place - place % _PAGE
    match kind:
        case "bit flipped":
            data[place] ^= 1 << rng.randrange(8)
        case "page garbled":
            data[page : page + _PAGE] = rng.randbytes(_PAGE)
        case "page zeroed":
            data[page : page + _PAGE] = bytes(_PAGE)
        case _:
            del data[place:]
    file.write_bytes(data)
    return f"{kind} at {place}"


async def _read(
    episode: Episode, server: Server, crew: Crew, log: dict[int, bytes], what: str
) -> None:
    """Read a whole group; count how it was answered."""
    counts = episode.trial.counts
    try:
        with trio.fail_after(_SECONDS):
            answer = await read_log(server.port, crew.members[0], crew.group)
    except trio.TooSlowError:
        counts["no answer"] += 1
        episode.problem(f"{what}: no answer about {crew.group} within {_SECONDS:.0f} s")
        return
    except BROKEN as error:
        code = str(error) if isinstance(error, Refusal) else type(error).__name__
        counts[f"refused: {code}"] += 1
        return
    except cbor2.CBORDecodeError as error:
        counts["wrong answers"] += 1
        episode.problem(f"{what}: {crew.group} has a frame that is not CBOR: {error}")
        return
    wrong = [seq for seq, body in answer.items() if log.get(seq) != body]
    if wrong or len(answer) != len(log):
        counts["wrong answers"] += 1
        episode.problem(
            f"{what}: {crew.group} has {len(answer)} events of {len(log)}, {len(wrong)} are wrong"
        )
        return
    counts["right answers"] += 1


ROWS = [Row("corruption", "bits flipped, pages garbled, files cut", corruption, 4.0)]
