"""Kill real clients with SIGKILL: `say`, plain mode, a bot, and the full-screen client.

What a client has confirmed is in the log once, in its order: `say` by ending with status 0, plain
mode and the full-screen client by showing the message, which they do as soon as it is in their
journal. The next run of the same client sends what the killed one has left there. What was typed
and never shown may be there or not. A bot answers every message exactly once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise
from typing import TYPE_CHECKING

import cbor2
import trio

from tests.faults.harness import Row, count, run_episodes, stored_log
from tests.faults.ledger import Operation
from tests.faults.members import GROUP, Crew, Habits, crew_of, dialer
from tests.faults.servers import HOST, PATIENCE, nest, run_tchat, serving, waiting_for
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.harness import Episode, Trial
    from tests.faults.ledger import Findings
    from tests.faults.servers import Server

_BOT = """
import tchat


async def answer(message):
    if message.who == "m0":
        await message.reply(f"re {message.text}")


tchat.run_bot(answer)
"""
_QUIET = Habits(edits=0.0, deletions=0.0, giving_up=0.0, pause=0.02)
_LANES = 2  # servers side by side
_KILLS = 6  # of each kind, in an episode
_PAUSE = "\x1b[34~"  # F20: has no meaning, and ends a line as a pause does


@dataclass(slots=True)
class Person:
    """A person at a real client: a name, a home directory, and what they have said."""

    episode: Episode
    server: Server
    name: str
    said: list[Operation] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Their home directory."""
        return self.episode.place / self.name

    def arguments(self) -> list[str]:
        """Return the options that name the group and the person."""
        return ["--group", GROUP, "--user", self.name, "--no-tls"]

    def text(self) -> Operation:
        """Return a new message; nobody has confirmed it yet."""
        n = len(self.said) + 1
        one = Operation(self.name.encode(), n, GROUP, "post", f"{self.name} says {n}.")
        self.said.append(one)
        one.fate = "unknown"
        return one

    def become_member(self) -> None:
        """Join the group, and quit."""
        where = ("join", HOST, self.server.port, "--plain", *self.arguments())
        done = run_tchat(*where, TCHAT_HOME=str(self.home))
        assert not done.returncode, done.stderr


def _confirm(said: list[Operation], shown: str) -> None:
    """Mark what a client has shown as confirmed."""
    for one in said:
        if one.fate == "unknown" and one.text in shown:
            one.fate = "acknowledged"


async def _say(person: Person) -> None:
    """Run `tchat say` again and again, and kill half of the runs."""
    await trio.to_thread.run_sync(person.become_member)
    with nest(person.episode.place / f"{person.name}.log") as one:
        for number in range(2 * _KILLS + 1):
            text = person.text()
            where = ("say", f"{HOST}:{person.server.port}", text.text, *person.arguments())
            one.start(*where, TCHAT_HOME=str(person.home))
            if number % 2:
                await trio.sleep(person.episode.random.uniform(0, 0.3))
                one.kill()
                person.episode.trial.counts["say killed"] += 1
                continue
            with waiting_for("the end of `tchat say`"):
                if not await trio.to_thread.run_sync(one.wait):
                    text.fate = "acknowledged"


async def _type_in_plain_mode(person: Person) -> None:
    """Type into plain mode, and kill it; the last run is ended in an orderly way."""
    await trio.to_thread.run_sync(person.become_member)
    command = [sys.executable, "-m", "tchat", "join", HOST, str(person.server.port), "--plain"]
    for number in range(_KILLS + 1):
        process = await trio.lowlevel.open_process(
            [*command, "--commands", *person.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TCHAT_HOME": str(person.home)},
        )
        shown = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, process, shown)
            await _type_lines(person, process)
            if number < _KILLS:
                await trio.sleep(person.episode.random.uniform(0, 0.6))
                process.kill()
                person.episode.trial.counts["plain mode killed"] += 1
            else:
                assert process.stdin is not None
                await process.stdin.aclose()
            await process.wait()
        _confirm(person.said, shown.decode(errors="replace"))


async def _type_lines(person: Person, process: trio.Process) -> None:
    assert process.stdin is not None
    for _ in range(person.episode.random.randint(1, 12)):
        await process.stdin.send_all(f"{person.text().text}\n".encode())
        await trio.sleep(person.episode.random.uniform(0, 0.15))


async def _collect(process: trio.Process, shown: bytearray) -> None:
    assert process.stdout is not None
    async for data in process.stdout:
        shown += data


def _type_in_terminal(person: Person) -> None:
    """Type into the full-screen client, and kill it; the last run quits."""
    arguments = ["join", HOST, str(person.server.port), *person.arguments()]
    for number in range(_KILLS + 1):
        with Terminal(arguments, str(person.home), height=40, pause=_PAUSE) as terminal:
            terminal.sees(f"{person.name} ▸")
            texts = [person.text() for _ in range(person.episode.random.randint(1, 4))]
            for one in texts:
                terminal.type(f"{one.text}\r")
            if number < _KILLS:
                last = texts[person.episode.random.randrange(len(texts))]
                terminal.until(lambda: last.text in _transcript(terminal), last.text)  # noqa: B023
                terminal.signal(9)
                person.episode.trial.counts["full screen killed"] += 1
            else:
                terminal.until(
                    lambda: all(one.text in _transcript(terminal) for one in texts),  # noqa: B023
                    "the last texts",
                )
                terminal.type("/quit\r")
                terminal.end()
            _confirm(person.said, _transcript(terminal))


def _transcript(terminal: Terminal) -> str:
    """Return what the screen shows above the line that is typed."""
    rows: list[str] = terminal.text.splitlines()
    prompt = max((index for index, row in enumerate(rows) if " ▸" in row), default=len(rows))
    return "\n".join(rows[:prompt])


async def _answer_as_bot(person: Person, crew: Crew) -> None:
    """Kill a bot that answers what the first member posts."""
    program = person.episode.place / "bot.py"
    program.write_text(_BOT)
    await trio.to_thread.run_sync(person.become_member)
    command = [sys.executable, str(program), HOST, str(person.server.port), *person.arguments()]
    environment = {**os.environ, "TCHAT_HOME": str(person.home)}
    for number in range(_KILLS + 1):
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        logins = _logins(person)
        crew.busy = True
        for member in crew.members:
            member.wake()
        if not number:  # it answers what comes after its first start
            await crew.until(lambda: bool(crew.heard[person.name]), "the bot's first answer")
        await trio.sleep(person.episode.random.uniform(0.3, 1.2))
        if number < _KILLS:
            process.kill()
            person.episode.trial.counts["bot killed"] += 1
        else:
            crew.busy = False
            await crew.until(lambda: _logins(person) > logins, "the bot's last login")  # noqa: B023
            await _wait_for_answers(crew)
            process.terminate()
        await process.wait()


def _logins(person: Person) -> int:
    """Return how often a person has logged in, as the server's log says."""
    said = f'"event": "user_connected", "user": "{person.name}"'
    return person.server.output.count(said)


async def _wait_for_answers(crew: Crew) -> None:
    """Wait until nothing new has come for a while: a lost answer shall end the wait, too."""
    last = -1
    with trio.move_on_after(PATIENCE):
        while last != crew.members[0].view.last:
            last = crew.members[0].view.last
            await trio.sleep(3)


async def client_kills(trial: Trial) -> None:
    """Kill all kinds of clients side by side."""
    await run_episodes(trial, _kill_clients, _LANES)


async def _kill_clients(episode: Episode) -> None:
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed, size=1, habits=_QUIET)
        crew.busy = False
        people = {name: Person(episode, server, name) for name in ("sue", "paul", "cora", "bo")}
        async with crew_of(crew):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_say, people["sue"])
                nursery.start_soon(_type_in_plain_mode, people["paul"])
                nursery.start_soon(trio.to_thread.run_sync, _type_in_terminal, people["cora"])
                nursery.start_soon(_answer_as_bot, people["bo"], crew)
            await crew.quiesce()
    log = await stored_log(server.data, GROUP)
    _enter(crew, people, log)
    if not people["bo"].said:
        episode.problem("the bot has answered nothing")
    found = crew.ledger.check(GROUP, log)
    _check_texts(people, log, found)
    count(episode.trial, crew)
    episode.end(found)


def _enter(crew: Crew, people: dict[str, Person], log: dict[int, bytes]) -> None:
    """Enter into the ledger what people have said, and what the bot should have answered.

    A bot answers what was posted after its first start, when that was.
    """
    texts = {cbor2.loads(body).get("text") for body in log.values()}
    posts = [one for one in crew.ledger.operations if one.fate == "acknowledged"]
    for post in dropwhile(lambda one: f"re {one.text}" not in texts, posts):
        answer = Operation(b"bo", post.n, GROUP, "post", f"re {post.text}")
        answer.fate = "acknowledged"
        people["bo"].said.append(answer)
    for person in people.values():
        crew.ledger.operations += person.said


def _check_texts(people: dict[str, Person], log: dict[int, bytes], found: Findings) -> None:
    """Check that what each person has said is there in their order."""
    events = [cbor2.loads(log[seq]) for seq in sorted(log)]
    said = [event["text"] for event in events if event["kind"] == "posted"]
    places = {text: place for place, text in enumerate(said)}
    for person in people.values():
        at = [places[one.text] for one in person.said if one.text in places]
        for one, other in pairwise(at):
            if other < one:
                found.reordered += 1
                found.note(f"{said[other]!r} is there before {said[one]!r}")


ROWS = [
    Row("client-kills", "kill -9 of say, plain mode, a bot and the full screen", client_kills, 6.0)
]
