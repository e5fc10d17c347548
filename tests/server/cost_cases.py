"""Frames of every type that a server allows, and the people and things that they need."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import count, cycle
from typing import TYPE_CHECKING, TypeVar

from tchat.core.group.membership import Join
from tchat.core.protocol.frames import (
    Have,
    LinkCode,
    LinkRequest,
    Ok,
    Piece,
    StartAt,
    Stored,
    Ticket,
)
from tchat.core.protocol.handshake import VERSION, Ready, TransferHello, Welcome
from tests.frame_samples import DIGEST, FILE, sample
from tests.helpers import RawClient, hello_of, identity_of, raw_client
from tests.server.file_transfers import TransferConnection, offer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from tchat.core.group.state import Policy
    from tchat.core.protocol.schema import Frame
    from tchat.net.address import Address

T = TypeVar("T")

TIMES = 8
"""How many frames are measured together."""

MANY = 50
"""How many, if they cost little."""


def unknown_group() -> str:
    """Return the name of a group that does not exist."""
    return f"group-{random.getrandbits(60):x}"


async def all_answers(person: RawClient, frames: list[Frame]) -> list[Frame]:
    """Send frames, and return their answers."""
    await person.send(*frames)
    wanted = {number for frame in frames if (number := getattr(frame, "id", None)) is not None}
    answers: list[Frame] = []
    while wanted:
        answer = await person.receive()
        assert answer is not None, "the server has closed the connection"
        if (number := getattr(answer, "re", None)) in wanted:
            wanted.discard(number)
            answers.append(answer)
    return answers


class Scene:
    """Alice, the admin of a group and subscribed to it, and frames that she is allowed to send.

    The method with the name of a frame's type prepares what such frames need, and returns some.
    """

    def __init__(self, address: Address, alice: RawClient) -> None:
        self._address = address
        self._alice = alice
        self._numbers = count(1000)
        self._people = count()
        self._shared = 0
        self._policies: Iterator[Policy] = cycle(("open", "approval"))

    async def frames(self, word: str) -> list[Frame]:
        """Return some frames of a type."""
        make: Callable[[], Awaitable[list[Frame]]] = getattr(self, word)
        frames = await make()
        assert {frame.type for frame in frames} == {word}
        return frames

    # ------------------------------------------------------------------ helpers

    def _some(self, make: Callable[[int], Frame], times: int = TIMES) -> list[Frame]:
        """Return frames, each made from a number of its own."""
        return [make(next(self._numbers)) for _ in range(times)]

    def _each(self, things: Iterable[T], make: Callable[[int, T], Frame]) -> list[Frame]:
        """Return a frame for each thing."""
        return [make(next(self._numbers), thing) for thing in things]

    async def _do(self, frames: list[Frame]) -> list[int]:
        """Execute commands; return the numbers of their events."""
        answers = await all_answers(self._alice, frames)
        return [answer.seq or 0 for answer in answers if isinstance(answer, Ok)]

    async def _waiting(self) -> list[str]:
        """Return the names of people who wait for approval."""
        await self._do([sample("set_policy", next(self._numbers), policy="approval")])
        names = [f"person-{next(self._people)}" for _ in range(TIMES)]
        for name in names:
            async with raw_client(self._address, name, tls=True) as person:
                await person.command(Join)
        return names

    async def _members(self) -> list[str]:
        names = await self._waiting()
        await self._do(self._each(names, lambda n, name: sample("approve", n, name=name)))
        return names

    async def _groups(self) -> list[str]:
        """Found groups that anybody may join; return their names."""
        groups = [unknown_group() for _ in range(TIMES)]
        await self._do(self._each(groups, lambda n, group: sample("join", n, group=group)))
        await self._do(self._each(groups, lambda n, group: sample("set_policy", n, group=group)))
        return groups

    async def _messages(self) -> list[int]:
        return await self._do(
            self._some(lambda n: sample("post", n, text=f"message {n} " + "x" * 200))
        )

    async def _upload(self) -> None:
        """Upload a file, unless the server has it."""
        asked = await offer(self._alice, FILE, DIGEST)
        if not isinstance(asked, Ticket):
            return
        async with raw_client(self._address, tls=True) as raw:
            wire = TransferConnection(raw.stream)
            await wire.send(TransferHello(VERSION, asked.ticket))
            await wire.expect(Ready)
            await wire.expect(Have)
            await wire.send(StartAt(0), Piece(len(FILE), DIGEST), raw=FILE)
            await wire.expect(Stored)

    async def _files(self) -> list[int]:
        """Share files; return their numbers."""
        await self._do(await self.share())
        return list(range(self._shared - TIMES + 1, self._shared + 1))

    # ------------------------------------------------------------------ commands

    async def join(self) -> list[Frame]:
        return self._some(lambda n: sample("join", n, group=unknown_group()))

    async def leave(self) -> list[Frame]:
        return self._each(await self._groups(), lambda n, group: sample("leave", n, group=group))

    async def approve(self) -> list[Frame]:
        return self._each(await self._waiting(), lambda n, name: sample("approve", n, name=name))

    async def deny(self) -> list[Frame]:
        return self._each(await self._waiting(), lambda n, name: sample("deny", n, name=name))

    async def deny_all(self) -> list[Frame]:
        """Each finds the requests that were not denied before; the requesters paid for them."""
        await self._waiting()
        return self._some(lambda n: sample("deny_all", n))

    async def kick(self) -> list[Frame]:
        return self._each(await self._members(), lambda n, name: sample("kick", n, name=name))

    async def ban(self) -> list[Frame]:
        return self._each(await self._members(), lambda n, name: sample("ban", n, name=name))

    async def unban(self) -> list[Frame]:
        names = [f"person-{next(self._people)}" for _ in range(TIMES)]
        await self._do(self._each(names, lambda n, name: sample("ban", n, name=name)))
        return self._each(names, lambda n, name: sample("unban", n, name=name))

    async def transfer_admin(self) -> list[Frame]:
        groups, name = await self._groups(), f"person-{next(self._people)}"
        async with raw_client(self._address, name, tls=True) as person:
            for group in groups:
                await person.command(Join, group=group)
        return self._each(
            groups, lambda n, group: sample("transfer_admin", n, group=group, name=name)
        )

    async def invite(self) -> list[Frame]:
        return self._some(lambda n: sample("invite", n, digest=os.urandom(32)))

    async def post(self) -> list[Frame]:
        return self._some(lambda n: sample("post", n))

    async def edit(self) -> list[Frame]:
        return self._each(
            await self._messages(), lambda n, seq: sample("edit", n, target=seq, text=f"v {n}")
        )

    async def delete(self) -> list[Frame]:
        return self._each(await self._messages(), lambda n, seq: sample("delete", n, target=seq))

    async def pin(self) -> list[Frame]:
        return self._each(await self._messages(), lambda n, seq: sample("pin", n, target=seq))

    async def unpin(self) -> list[Frame]:
        groups = await self._groups()
        posted = await self._do(self._each(groups, lambda n, group: sample("post", n, group=group)))
        targets = zip(groups, posted, strict=True)
        await self._do(
            self._each(targets, lambda n, one: sample("pin", n, group=one[0], target=one[1]))
        )
        return self._each(groups, lambda n, group: sample("unpin", n, group=group))

    async def share(self) -> list[Frame]:
        await self._upload()
        self._shared += TIMES
        return self._some(lambda n: sample("share", n))

    async def remove_file(self) -> list[Frame]:
        return self._each(
            await self._files(), lambda n, file: sample("remove_file", n, number=file)
        )

    async def set_topic(self) -> list[Frame]:
        return self._some(lambda n: sample("set_topic", n, text=f"topic {n}"))

    async def set_policy(self) -> list[Frame]:
        return self._some(lambda n: sample("set_policy", n, policy=next(self._policies)))

    # ------------------------------------------------------------------ requests

    async def attach(self) -> list[Frame]:
        return self._some(lambda n: sample("attach", n))

    async def detach(self) -> list[Frame]:
        return self._some(lambda n: sample("detach", n), MANY)

    async def seen(self) -> list[Frame]:
        last = (await self._messages())[-1]
        return self._each(range(last - MANY, last), lambda n, seq: sample("seen", n, seq=seq))

    async def history_request(self) -> list[Frame]:
        return self._some(lambda n: sample("history_request", n))

    async def search(self) -> list[Frame]:
        return self._some(lambda n: sample("search", n, text="message", group=None))

    async def groups_request(self) -> list[Frame]:
        return self._some(lambda n: sample("groups_request", n))

    async def away(self) -> list[Frame]:
        return self._some(lambda n: sample("away", n, text=f"lunch {n}"), MANY)

    async def ping(self) -> list[Frame]:
        return self._some(lambda n: sample("ping", n), MANY)

    async def upload(self) -> list[Frame]:
        return self._some(lambda n: sample("upload", n, size=1, head=os.urandom(32), sha256=None))

    async def download(self) -> list[Frame]:
        return self._each(await self._files(), lambda n, file: sample("download", n, number=file))

    async def file_list_request(self) -> list[Frame]:
        await self._files()
        return self._some(lambda n: sample("file_list_request", n))

    async def link(self) -> list[Frame]:
        return self._some(lambda n: sample("link", n), MANY)

    async def keys(self) -> list[Frame]:
        return self._some(lambda n: sample("keys", n))

    async def unlink(self) -> list[Frame]:
        code = await self._alice.ask(LinkRequest)
        assert isinstance(code, LinkCode)
        device = identity_of("alice", os.urandom(4).hex())
        async with raw_client(self._address, tls=True) as wire:
            hello = replace(hello_of("alice", os.urandom(8)), key=device.public)
            await wire.send(hello)
            await wire.send(await wire.proof(hello, device, code.code))
            await wire.expect(Welcome)
        return [sample("unlink", next(self._numbers), key=device.public)]
