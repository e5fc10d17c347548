"""Hostile server of the attacks on clients: behaves until it is told to attack.

It runs in a process of its own, so that its work does not delay the measurements. It prints its
port. At the first line of its standard input it begins to attack, at the second it stops, and at
the third it prints a tally and ends.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from tchat.core.group.snapshots import PIECE_LIMIT, freeze
from tchat.core.group.state import Group
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION
from tchat.net.tcp import port_of
from tests.bench.report import say
from tests.cddl import unchecked
from tests.client.impostor import CHALLENGE, Wire, event
from tests.helpers import GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
"""Where it listens."""

TICKET = bytes(16)
_SEQ = 1000  # of every group, when it is first attached


class Stage:
    """What the server has told a client, and what it answers.

    `snapshots` are the states of groups, as bytes; those of others have alice and eve as members.
    `listed` are the groups in the list of the person's groups; `file` is what transfers send.
    """

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self.snapshots: dict[str, bytes] = {}
        self.listed: tuple[str, ...] = (GROUP,)
        self.file = b""
        self.user = ""
        self.connected = trio.Event()
        self.attach_ids: dict[str, int] = {}
        self.seqs: dict[str, int] = {}
        self._wire: Wire | None = None
        self._writing = trio.Lock()

    async def say(self, *frames: dict[str, object]) -> None:
        """Send frames on the present chat connection; wait until there is one."""
        await self.send(b"".join(map(unchecked, frames)))

    async def send(self, data: bytes) -> None:
        """Send bytes on the present chat connection; wait until there is one."""
        while True:
            await self.connected.wait()
            wire = self._wire
            try:
                async with self._writing:
                    if wire is not None:
                        await wire.send(data)
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._disconnect(wire)

    async def tell(self, kind: str, group: str = GROUP, **body: object) -> None:
        """Send the next event of a group."""
        self.seqs[group] = seq = self.seqs.get(group, _SEQ) + 1
        self.tally[f"{kind} events"] += 1
        await self.say(event(seq, group, kind=kind, **body))

    # ------------------------------------------------------------------ connections

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection: of the chat, or of a transfer."""
        wire = Wire(stream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            first = await wire.hear()
            if first is not None and first["type"] == "transfer":
                await self._transfer(wire)
            elif first is not None:
                await self._chat(wire, str(first["user"]))
        self._disconnect(wire)
        await trio.aclose_forcefully(stream)

    def _disconnect(self, wire: Wire | None) -> None:
        if self._wire is wire:
            self._wire, self.connected = None, trio.Event()

    async def _chat(self, wire: Wire, user: str) -> None:
        self.tally["connections"] += 1
        self.user = user
        await wire.say(CHALLENGE)
        await wire.hear_only("proof")
        await wire.say({"type": "welcome", "version": VERSION, "user": user})
        self._wire = wire
        self.connected.set()
        while (request := await wire.hear()) is not None:
            frames = self._answer(request)
            async with self._writing:
                await wire.say(*frames)

    def _answer(self, request: dict[str, Any]) -> list[dict[str, object]]:
        """Return the answer to a request, and what follows it."""
        re = request.get("id")
        match request["type"]:
            case "ping":
                return [{"type": "pong"}]
            case "attach":
                return self._attached(int(request["id"]), request["group"], request["after"])
            case "groups_request":
                summary = {"standing": "member", "last": _SEQ, "read": _SEQ, "place": 1}
                groups = [{"name": name, **summary} for name in self.listed]
                return [{"type": "group_list", "re": re, "groups": groups}]
            case "post":
                self.tally["posts of the client"] += 1
                group = request["group"]
                self.seqs[group] = seq = self.seqs.get(group, _SEQ) + 1
                said = event(seq, group, actor=self.user, text=request["text"], n=request["n"])
                return [{"type": "ok", "re": re, "seq": seq}, said]
            case "history_request":
                page = {"first": 0, "last": 0, "frames": b""}
                return [{"type": "history_page", "re": re, **page}]
            case "download":
                self.tally["downloads"] += 1
                return [{"type": "ticket", "re": re, "ticket": TICKET}]
        if re is None:
            return []
        return [{"type": "error", "re": re, "code": "internal", "text": "no"}]

    def _attached(self, re: int, group: str, seen: int) -> list[dict[str, object]]:
        self.tally["attached groups"] += group not in self.attach_ids
        self.attach_ids[group] = re
        seq = self.seqs.setdefault(group, _SEQ)
        known = {"seq": seq, "counted": 0, "read": seq, "first": seq + 1, "kicked": False}
        answer = {"type": "attached", "re": re, "group": group, "standing": "member", **known}
        data = b"" if seen else self.snapshots.get(group) or self._small(group)
        parts = [data[n : n + PIECE_LIMIT] for n in range(0, len(data), PIECE_LIMIT)]
        return [
            answer,
            *(
                {"type": "snapshot", "group": group, "seq": seq, "data": part, "more": more}
                for number, part in enumerate(parts, start=1)
                for more in [number < len(parts)]
            ),
        ]

    def _small(self, group: str) -> bytes:
        members = {name: name for name in (self.user, "eve")}
        return freeze(Group(group, _SEQ, 1, floor=_SEQ, admin=self.user, members=members))

    async def _transfer(self, wire: Wire) -> None:
        await wire.say({"type": "ready", "version": VERSION, "size": len(self.file)})
        await wire.hear_only("have")
        await wire.say({"type": "from", "offset": 0})
        whole = hashlib.sha256()
        for start in range(0, len(self.file), PIECE_SIZE):
            piece = self.file[start : start + PIECE_SIZE]
            whole.update(piece)
            await wire.say({"type": "piece", "size": len(piece), "sha256": whole.digest()})
            await wire.send(piece)
        await wire.hear_only("stored")


async def stage(
    prepare: Callable[[Stage], None] | None, attack: Callable[[Stage], Awaitable[None]]
) -> None:
    """Serve until the third line of standard input; attack between the first and the second."""
    here = Stage()
    if prepare is not None:
        prepare(here)
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    say(json.dumps({"port": port_of(listeners[0])}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, here.serve, listeners)
        await trio.to_thread.run_sync(sys.stdin.readline)
        async with trio.open_nursery() as attacking:
            attacking.start_soon(attack, here)
            await trio.to_thread.run_sync(sys.stdin.readline)
            attacking.cancel_scope.cancel()
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()
    say(json.dumps(here.tally))
