"""Bad networks: resets and cuts, links that go dead, readers that stall, connection storms."""

from __future__ import annotations

import resource
import secrets
import socket
from itertools import count
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.bench.report import resident
from tests.faults.harness import Row, run_episodes, settle
from tests.faults.ledger import Operation
from tests.faults.members import BROKEN, Crew, Habits, crew_of, dialer
from tests.faults.raw_proxy import raw_proxy
from tests.faults.servers import HOST, PATIENCE, serving, waiting_for
from tests.faults.wire import Refusal, Wire, log_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.harness import Episode, Trial
    from tests.faults.servers import Server

_RESET_EVERY = 0.12  # seconds between the resets of one lane
_EPISODE = 25.0
_OF_AN_ADDRESS = 20  # people of a storm
_LANES = 2  # servers side by side; they wait most of the time
_SHORT = Habits(silence=1.5, giving_up=0.05)


async def chaos(trial: Trial) -> None:
    """Delay everything, and cut or reset a connection several times a second."""
    await run_episodes(trial, _cut_and_reset, _LANES)


async def _cut_and_reset(episode: Episode) -> None:
    async with (
        serving(episode) as server,
        raw_proxy(lambda: server.port, episode.random, 0.02) as proxy,
    ):
        crew = Crew(proxy.dial, episode.seed, size=5)
        async with crew_of(crew):
            end = trio.current_time() + episode.seconds(_EPISODE)
            while trio.current_time() < end:
                await trio.sleep(episode.random.uniform(0, 2 * _RESET_EVERY))
                if not proxy.links:
                    continue
                reset = episode.random.random() < 0.7
                episode.random.choice([*proxy.links]).cut(reset=reset)
                episode.trial.counts["resets" if reset else "cuts"] += 1
            await crew.quiesce()
    await settle(episode, crew, server.data)


async def half_open(trial: Trial) -> None:
    """Let links go dead without a word to either side."""
    await run_episodes(trial, _let_links_die, _LANES)


async def _let_links_die(episode: Episode) -> None:
    async with (
        serving(episode) as server,
        raw_proxy(lambda: server.port, episode.random) as proxy,
    ):
        crew = Crew(proxy.dial, episode.seed, size=5, habits=_SHORT)
        async with crew_of(crew):
            end = trio.current_time() + episode.seconds(_EPISODE)
            while trio.current_time() < end:
                await trio.sleep(episode.random.uniform(0, 0.5))
                alive = [link for link in proxy.links if not link.is_dead]
                if alive:
                    episode.random.choice(alive).is_dead = True
                    episode.trial.counts["dead links"] += 1
            await crew.quiesce()
    await settle(episode, crew, server.data)


def _narrow_dialer(server: Server) -> Callable[[], Awaitable[trio.abc.Stream]]:
    """Return a function that opens connections with a small receive buffer."""

    async def dial() -> trio.abc.Stream:
        plain = trio.socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await plain.connect((HOST, server.port))
        return trio.SocketStream(plain)

    return dial


async def stalled_readers(trial: Trial) -> None:
    """Let members stop reading for a while; the others go on, and all receive all."""
    await run_episodes(trial, _stall, _LANES)


async def _stall(episode: Episode) -> None:
    async with serving(episode) as server:
        habits = Habits(padding=4000, giving_up=0.0)
        crew = Crew(_narrow_dialer(server), episode.seed, size=6, habits=habits)
        async with crew_of(crew):
            await crew.until(lambda: len(crew.ledger.operations) > 100, "new commands")
            before = resident(server.nest.child)
            for _ in range(2):
                stalled = episode.random.sample(crew.members[1:], 2)
                for member in stalled:
                    member.freeze()
                episode.trial.counts["stalls"] += len(stalled)
                first = crew.members[0].view
                further = first.last + 600
                await crew.until(lambda: first.last >= further, "the others to go on")  # noqa: B023
                grown = (resident(server.nest.child) - before) >> 10
                episode.trial.counts["KiB grown at most"] = max(
                    episode.trial.counts["KiB grown at most"], grown
                )
                for member in stalled:
                    member.thaw()
            await crew.quiesce()
    await settle(episode, crew, server.data)


# ------------------------------------------------------------------ storms


async def storm(trial: Trial) -> None:
    """Let many people connect at once; each joins, posts once, and stays until all are in."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    number = max(100, min(2000, int(trial.seconds * 40), hard // 2 - 200))

    async def one(episode: Episode) -> None:
        options = ("--max-members", "10000", "--max-connections", "5000", "--network-share", "100")
        async with serving(episode, *options) as server:
            crew = Crew(dialer(lambda: server.port), episode.seed, size=1)
            async with crew_of(crew):
                await _storm(episode, crew, server, number)
                await crew.quiesce()
        await settle(episode, crew, server.data)

    await run_episodes(trial, one)


async def _storm(episode: Episode, crew: Crew, server: Server, number: int) -> None:
    """Let people arrive from many addresses, and try again ever more slowly, as clients do."""
    inside, all_in = 0, trio.Event()

    async def arrive(index: int) -> None:
        nonlocal inside
        private, client = Ed25519PrivateKey.generate(), secrets.token_bytes(8)
        text = f"storm {episode.seed} {index}"
        post = Operation(client, 2, crew.group, "post", text)
        crew.ledger.operations.append(post)
        dial = dialer(lambda: server.port, f"127.0.1.{1 + index // _OF_AN_ADDRESS}")
        for attempt in count():
            try:
                wire = Wire(await dial())
                async with wire.stream:
                    await log_in(wire, f"s{index}", private, client)
                    await _join_and_post(wire, crew.group, post)
                    inside += 1
                    if inside == number:
                        all_in.set()
                    await all_in.wait()
                    return
            except BROKEN as error:
                code = str(error) if isinstance(error, Refusal) else type(error).__name__
                episode.trial.counts[f"sent away: {code}"] += 1
                await trio.sleep(episode.random.uniform(0.05, min(0.5 * 2**attempt, 10.0)))

    with waiting_for("everybody to arrive", 3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            for index in range(number):
                nursery.start_soon(arrive, index)
    episode.trial.counts["arrivals"] += number


async def _join_and_post(wire: Wire, group: str, post: Operation) -> None:
    join = await wire.answer({"type": "join", "id": 1, "n": 1, "group": group})
    if join["type"] != "ok":
        raise Refusal(join["code"])
    answer = await wire.answer(
        {"type": "post", "id": 2, "n": post.n, "group": group, "text": post.text}
    )
    if answer["type"] != "ok":
        raise Refusal(answer["code"])
    post.fate, post.seq = "acknowledged", answer.get("seq")


ROWS = [
    Row("chaos", "a proxy that delays, cuts and resets connections", chaos, 9.0),
    Row("half-open", "links that go dead without a word to either side", half_open, 2.0),
    Row("stalled-readers", "members who stop reading for a while", stalled_readers, 2.0),
    Row("storm", "up to 2,000 people who connect at once", storm, 1.5),
]
