"""Members of groups who post, edit and delete through any faults, with a ledger of all they do.

Each member is a task: it connects, logs in, attaches after the last event that it has, sends again
what is not answered, and goes on. While `busy` it sends new commands; otherwise it only waits for
answers. Nobody may post to the group but the members of one `Crew`.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cbor2
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.faults.ledger import Ledger, Operation, View
from tests.faults.servers import HOST, PATIENCE, TimedOut, waiting_for
from tests.faults.wire import Refusal, Wire, log_in, packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.faults.ledger import Kind

Map = dict[str, Any]
Dial = "Callable[[], Awaitable[trio.abc.Stream]]"

GROUP = "ops"
BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, Refusal)
_UNKNOWN = ("outcome_unknown", "internal")
"""Codes of answers after which a command may have been executed."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Habits:
    """What members do: commands in flight, in one write, the pause between writes in seconds.

    `giving_up` is how often a member forgets its unanswered commands after a broken connection, and
    goes on with a new client id. After `silence` seconds without an answer it reconnects.
    """

    in_flight: int = 16
    burst: int = 4
    pause: float = 0.004
    edits: float = 0.1
    deletions: float = 0.03
    giving_up: float = 0.1
    silence: float = PATIENCE
    padding: int = 60


@dataclass(slots=True)
class Crew:
    """The members of a group, who share a ledger. `dial` opens a connection for them."""

    dial: Callable[[], Awaitable[trio.abc.Stream]]
    seed: int
    size: int = 3
    group: str = GROUP
    habits: Habits = field(default_factory=Habits)
    ledger: Ledger = field(default_factory=Ledger)
    busy: bool = True
    sharing: int = 0  # tasks that share files
    connections: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    members: list[Member] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    heard: Counter[str] = field(default_factory=Counter)  # events that came, by their actor

    def notify(self) -> None:
        """Wake up whoever waits in `until`."""
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds. Raises `TimedOut`.

        A frame that was received ends the wait at once. A condition may depend on anything else,
        too, such as commands that a member gives up: so look again now and then.
        """
        try:
            with waiting_for(what):
                while not condition():
                    with trio.move_on_after(_LOOK_SECONDS):
                        await self.changed.wait()
        except TimedOut as late:
            raise TimedOut(f"{late}; {self.state()}") from None

    async def until_more(self, number: int) -> None:
        """Wait until there are more than `number` commands beyond the present ones."""
        wanted = len(self.ledger.operations) + number
        await self.until(lambda: len(self.ledger.operations) > wanted, "new commands")

    def state(self) -> str:
        """Return a sentence about the members."""
        waiting = sum(len(member.waiting) for member in self.members)
        views = [member.view.last for member in self.members]
        return f"{waiting} commands are not answered, views end at {views}, broken: {self.broken}"

    async def found(self) -> None:
        """Found the group and let all members join."""
        for member in self.members:
            wire = Wire(await self.dial())
            async with wire.stream:
                await member.log_in(wire)
                join = member.request("join", member.number())
                assert (await wire.answer(join))["type"] == "ok"
                if member is self.members[0]:
                    policy = member.request("set_policy", member.number(), policy="open")
                    assert (await wire.answer(policy))["type"] == "ok"

    async def quiesce(self) -> None:
        """Send nothing more; wait until all is answered, and all have received all."""
        self.busy = False
        await self.until(
            lambda: not self.sharing and not any(member.waiting for member in self.members),
            "an answer to everything",
        )
        last = await self.fresh_view()
        await self.until(
            lambda: all(member.view.last >= last for member in self.members),
            f"everybody to have the events up to {last}",
        )

    async def fresh_view(self) -> int:
        """Read the whole log through a new connection into a view; return its last seq."""
        member = self.members[0]
        view = self.ledger.views["reader", self.group] = View()
        wire = Wire(await self.dial())
        async with wire.stream:
            await log_in(wire, member.name, member.private, secrets.token_bytes(8))
            attached = await wire.answer(
                {"type": "attach", "id": 1, "group": self.group, "after": 0}
            )
            last: int = attached["seq"]
            with waiting_for(f"a reader's events up to {last}"):
                while view.last < last and (body := await wire.receive()) is not None:
                    frame = cbor2.loads(body)
                    if frame["type"] == "event":
                        view.add(frame["seq"], body)
        return last


class Member:
    """One person: keys, client id, numbers, unanswered commands, and what was received."""

    def __init__(self, crew: Crew, index: int) -> None:
        self.crew = crew
        self.name = f"m{index}"
        self.private = Ed25519PrivateKey.from_private_bytes(
            random.Random(f"{crew.seed} {index}").randbytes(32)
        )
        self.random = random.Random(f"{crew.seed} habits {index}")
        self.client = secrets.token_bytes(8)
        self.waiting: dict[int, Operation] = {}
        self.view = crew.ledger.view(self.name, crew.group)
        self.wire: Wire | None = None
        self.is_attached = False
        self._n = 0
        self._id = 0
        self._posts: list[int] = []
        self._room = trio.Event()
        self._frozen: trio.Event | None = None

    def number(self) -> int:
        """Return the next number of a command."""
        self._n += 1
        return self._n

    def request(self, kind: str, n: int | None = None, **keys: object) -> Map:
        """Return a request of this group, with a new id."""
        self._id += 1
        numbered = {} if n is None else {"n": n}
        return {"type": kind, "id": self._id, "group": self.crew.group, **numbered, **keys}

    def freeze(self) -> None:
        """Read nothing more from the connection, until `thaw`."""
        self._frozen = trio.Event()

    def thaw(self) -> None:
        """Read again."""
        if self._frozen is not None:
            self._frozen.set()
        self._frozen = None

    def wake(self) -> None:
        """Look again whether there is something to send."""
        self._room.set()

    async def log_in(self, wire: Wire) -> None:
        """Log in on a connection."""
        await log_in(wire, self.name, self.private, self.client)

    async def run(self) -> None:
        """Live until cancelled: reconnect whenever the connection breaks."""
        while True:
            try:
                wire = Wire(await self.crew.dial())
                async with wire.stream:
                    self.wire = wire
                    await self._on_connection(wire)
            except* BROKEN as errors:
                for error in errors.exceptions:
                    self.crew.broken[type(error).__name__ + _code_of(error)] += 1
            self.wire, self.is_attached = None, False
            await trio.sleep(self.random.uniform(0.005, 0.03))

    async def _on_connection(self, wire: Wire) -> None:
        with trio.move_on_after(self.crew.habits.silence) as patience:
            await self.log_in(wire)
            await self._attach(wire)
        if patience.cancelled_caught:
            raise Refusal("silent")
        self.crew.connections += 1
        self._forget_some()
        for operation in list(self.waiting.values()):
            await wire.send(self._frame_of(operation))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, wire)
            nursery.start_soon(self._notice_silence, wire)
            await self._receive(wire)
            raise Refusal("closed")

    async def _attach(self, wire: Wire) -> None:
        after = self.view.last if self.view.digests else 0
        attach = self.request("attach", after=after)
        await wire.send(attach)
        while (body := await wire.receive()) is not None:
            frame = cbor2.loads(body)
            if frame.get("re") == attach["id"]:
                if frame["type"] == "error":
                    raise Refusal(frame["code"])
                self.is_attached = True
                return
            self._on_frame(frame, body)
        raise Refusal("closed")

    def _forget_some(self) -> None:
        """Give up the unanswered commands now and then, and become another client."""
        if self.random.random() >= self.crew.habits.giving_up:
            return
        for operation in self.waiting.values():
            operation.fate = "unknown"
        self.waiting.clear()
        if self.wire is not None:
            self._next_client = secrets.token_bytes(8)

    _next_client: bytes | None = None

    async def _send(self, wire: Wire) -> None:
        habits = self.crew.habits
        if self._next_client is not None:  # the id is proved in the handshake: connect again
            self.client, self._next_client, self._n = self._next_client, None, 0
            raise Refusal("other client")
        while True:
            while not self.crew.busy or len(self.waiting) >= habits.in_flight:
                self._room = trio.Event()
                await self._room.wait()
            made = [self._make() for _ in range(self.random.randint(1, habits.burst))]
            await wire.stream.send_all(b"".join(packed(self._frame_of(one)) for one in made))
            await trio.sleep(self.random.uniform(0, 2 * habits.pause))

    async def _notice_silence(self, wire: Wire) -> None:
        """Break the connection if nothing comes for long; ping before."""
        silence = self.crew.habits.silence
        while True:
            await trio.sleep(silence / 3)
            quiet = trio.current_time() - wire.heard
            if quiet > silence:
                raise Refusal("silent")
            if quiet > silence / 3:
                with trio.move_on_after(silence):
                    await wire.send({"type": "ping"})

    def _make(self) -> Operation:
        """Make a new command."""
        n = self.number()
        text, kind, target = f"{self.name} {self.client.hex()} {n} ", "post", 0
        chance = self.random.random() - self.crew.habits.edits
        if self._posts and chance < 0:
            kind, target = "edit", self.random.choice(self._posts)
        elif self._posts and chance < self.crew.habits.deletions:
            kind, target = "delete", self._posts.pop(self.random.randrange(len(self._posts)))
        text += "." * self.random.randrange(self.crew.habits.padding + 1)
        made: Kind = kind  # type: ignore[assignment]
        operation = Operation(
            self.client, n, self.crew.group, made, text if kind != "delete" else "", target
        )
        self.waiting[n] = operation
        self.crew.ledger.operations.append(operation)
        return operation

    def _frame_of(self, operation: Operation) -> Map:
        keys: Map = {"target": operation.target} if operation.target else {}
        if operation.text:
            keys["text"] = operation.text
        return self.request(operation.kind, operation.n, **keys) | {"id": operation.n + (1 << 32)}

    async def _receive(self, wire: Wire) -> None:
        while (body := await wire.receive()) is not None:
            if self._frozen is not None:
                await self._frozen.wait()
            frame = cbor2.loads(body)
            if code := ending_code(frame):
                raise Refusal(code)
            self._on_frame(frame, body)

    def _on_frame(self, frame: Map, body: bytes) -> None:
        if frame["type"] == "event" and frame["group"] == self.crew.group:
            self.view.add(frame["seq"], body)
            self.crew.heard[frame["actor"]] += 1
        elif frame["type"] in ("ok", "error") and frame.get("re", 0) > 1 << 32:
            self._on_answer(frame)
        else:
            return
        self.crew.notify()

    def _on_answer(self, frame: Map) -> None:
        operation = self.waiting.pop(frame["re"] - (1 << 32), None)
        if operation is None:
            return
        if frame["type"] == "ok":
            operation.fate = "acknowledged"
            operation.seq = frame.get("seq")
            if operation.kind == "post" and operation.seq is not None:
                self._posts = [*self._posts[-20:], operation.seq]
        else:
            operation.fate = "unknown" if frame["code"] in _UNKNOWN else "refused"
            self.crew.refusals[frame["code"]] += 1
        self._room.set()


def ending_code(frame: Map) -> str:
    """Return why the connection, or the subscription, ends with this frame; "" if it goes on."""
    is_end = frame["type"] in ("goodbye", "subscription_ended")
    if is_end or (frame["type"] == "error" and "re" not in frame):
        return str(frame.get("code", frame["type"]))
    return ""


async def read_log(port: int, member: Member, group: str) -> dict[int, bytes]:
    """Return all events of a group that a server sends to a member. Raises `Refusal`."""
    events: dict[int, bytes] = {}
    wire = Wire(await dialer(lambda: port)())
    async with wire.stream:
        await log_in(wire, member.name, member.private, secrets.token_bytes(8))
        attached = await wire.answer({"type": "attach", "id": 1, "group": group, "after": 0})
        if attached["type"] == "error":
            raise Refusal(attached["code"])
        while len(events) < attached["seq"]:
            body = await wire.receive()
            if body is None:
                raise Refusal("closed")
            frame = cbor2.loads(body)
            if code := ending_code(frame):
                raise Refusal(code)
            if frame["type"] == "event" and frame["group"] == group:
                events[frame["seq"]] = body
    return events


def _code_of(error: BaseException) -> str:
    return f" ({error})" if isinstance(error, Refusal) else ""


def dialer(
    port: Callable[[], int], source: str | None = None
) -> Callable[[], Awaitable[trio.abc.Stream]]:
    """Return a function that opens a TCP connection to this machine, from a `source` address."""

    async def dial() -> trio.abc.Stream:
        return await trio.open_tcp_stream(HOST, port(), local_address=source)

    return dial


@asynccontextmanager
async def crew_of(crew: Crew) -> AsyncIterator[Crew]:
    """Let the members of a crew found their group, and live for the length of the block."""
    crew.members = [Member(crew, index) for index in range(crew.size)]
    await crew.found()
    async with trio.open_nursery() as nursery:
        for member in crew.members:
            nursery.start_soon(member.run)
        yield crew
        nursery.cancel_scope.cancel()
