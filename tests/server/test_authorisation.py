"""Who may do what: every frame of the protocol, sent by every role, in groups and conversations.

The frames come from the vocabulary, and the values of their fields from `frame_samples`; so a new
frame fails here until it has a row that says who may send it. Each cell of the matrix is a group
(or a conversation) of its own. What is not allowed has to be refused with a code of authorisation,
to change nothing in the log, and to reveal nothing.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.direct import direct_name
from tchat.core.group.files import Share
from tchat.core.group.membership import Approve, Ban, Join, Kick
from tchat.core.group.messages import Pin
from tchat.core.protocol.frames import Attached, Failed, FileListRequest, SearchResults, Seen
from tchat.core.protocol.handshake import HELLOS, NONCE_SIZE, VERSION, Hello, Proof, TransferHello
from tchat.errors import Code
from tchat.machine_clocks import now_ms
from tests.frame_samples import DIGEST, FILE, SAMPLED, sample
from tests.helpers import identity_of, raw_client, running_server
from tests.server.requests import groups
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.core.protocol.schema import Frame
    from tests.helpers import RawClient, RunningServer

OUTSIDER, WAITING, KICKED, BANNED = "frank", "carol", "dave", "erin"
MEMBER, AUTHOR, ADMIN = "henry", "bob", "alice"
ROLES = (OUTSIDER, WAITING, KICKED, BANNED, MEMBER, AUTHOR, ADMIN)
PARTNER = "irene"
"""With the author, she has the conversation that is nobody else's."""

MEMBERS = {MEMBER, AUTHOR, ADMIN}

GROUP_ROWS: dict[str, set[str]] = {
    "join": {OUTSIDER, WAITING, KICKED, *MEMBERS},
    "leave": {WAITING, *MEMBERS},
    "approve": {ADMIN},
    "deny": {ADMIN},
    "deny_all": {ADMIN},
    "kick": {ADMIN},
    "ban": {ADMIN},
    "unban": {ADMIN},
    "transfer_admin": {ADMIN},
    "invite": {ADMIN},
    "set_topic": {ADMIN},
    "set_policy": {ADMIN},
    "pin": {ADMIN},
    "unpin": {ADMIN},
    "post": MEMBERS,
    "edit": {AUTHOR},
    "delete": {AUTHOR, ADMIN},
    "share": MEMBERS,
    "remove_file": {AUTHOR, ADMIN},
    "attach": MEMBERS,
    "seen": MEMBERS,
    "history_request": MEMBERS,
    "search": MEMBERS,
    "upload": MEMBERS,
    "download": MEMBERS,
    "file_list_request": MEMBERS,
}
"""Who may send a frame about a group. Whoever waits may attach, and learns only that they wait."""

DIRECT = {"post", "edit", "delete", "attach", "seen", "history_request", "search"}
"""What the two people of a conversation may do there."""

PERSONAL = ("detach", "groups_request", "away", "keys", "link", "unlink", "ping")
"""Frames about the sender alone, from whoever is authenticated."""

REFUSED = {
    *(Code.NOT_MEMBER, Code.NOT_APPROVED, Code.NOT_ADMIN, Code.NOT_AUTHOR, Code.BANNED),
    *(Code.DIRECT,),
}
"""The codes of authorisation."""

UNHEARD = "nobody else may read this"
_FIRST = 100


class Scene:
    """A server with a connection of each person, on which places are made."""

    def __init__(self, server: RunningServer, people: dict[str, RawClient]) -> None:
        self.server = server
        self.people = people
        self._places = count(1)

    async def new_group(self) -> tuple[str, int]:
        """Found a group with every role, a message and a file; return it and the message."""
        group = f"group{next(self._places)}"
        await self.people[ADMIN].command(Join, group=group)
        for name in (AUTHOR, MEMBER, KICKED, BANNED, WAITING):
            await self.people[name].command(Join, group=group)
            if name != WAITING:
                await self.people[ADMIN].command(Approve, name, group=group)
        await self.people[ADMIN].command(Kick, KICKED, group=group)
        await self.people[ADMIN].command(Ban, BANNED, group=group)
        author = self.people[AUTHOR]
        await author.command(Share, "report.txt", len(FILE), DIGEST, group=group)
        message = await author.post(UNHEARD, group)
        await self.people[ADMIN].command(Pin, message, group=group)
        return group, message

    async def is_allowed(self, name: str, word: str, place: str, target: int) -> bool:
        """Send a frame as somebody; return whether it was done, or check that nothing was."""
        before = await last_seq(self.server.store, place)
        client = self.people[name]
        if word == "seen":
            return await self._marks_as_read(client, place)
        await client.before_pong()
        answer = await client.ask(
            # The helpers of a raw client count its commands from 1.
            lambda i: sample(
                word, i, n=_FIRST + i, group=place, target=target, text=UNHEARD, recent=10
            )
        )
        if isinstance(answer, Failed) and answer.code in REFUSED:
            assert UNHEARD not in answer.text
        elif isinstance(answer, Attached) and answer.standing != "member":
            assert [f for f in await client.before_pong() if f.type != "presence"] == []
        else:
            assert not isinstance(answer, Failed), f"{name} cannot {word}: {answer}"
            return not (isinstance(answer, SearchResults) and not answer.hits)
        assert await last_seq(self.server.store, place) == before
        return False

    async def _marks_as_read(self, client: RawClient, group: str) -> bool:
        await client.send(Seen(group, 1))
        await client.ask(lambda i: FileListRequest(i, group))  # answered behind it, or refused
        found = (await groups(client)).get(group)
        return found is not None and found[2] > 0

    async def conversation(self) -> tuple[str, int]:
        """Return the conversation of the author and the partner, and a message of the author."""
        conversation = direct_name(AUTHOR, PARTNER)
        return conversation, await self.people[AUTHOR].post(UNHEARD, conversation)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server())
        people = {
            name: await stack.enter_async_context(raw_client(server.address, name))
            for name in (*ROLES, PARTNER)
        }
        for name in sorted(MEMBERS):
            await server.store.files.add(name, DIGEST, len(FILE), DIGEST, now_ms())
        yield Scene(server, people)


def test_every_frame_has_a_row() -> None:
    assert set(SAMPLED) == {*GROUP_ROWS, *PERSONAL}
    assert set(GROUP_ROWS) >= DIRECT


@pytest.mark.parametrize("word", GROUP_ROWS)
async def test_group_obeys_those_who_may(word: str) -> None:
    async with scene() as on_stage:
        allowed = set()
        for name in ROLES:
            group, message = await on_stage.new_group()
            if await on_stage.is_allowed(name, word, group, message):
                allowed.add(name)
    assert allowed == GROUP_ROWS[word]


@pytest.mark.parametrize("word", GROUP_ROWS)
async def test_conversation_belongs_to_two_people(word: str) -> None:
    """Whoever else shares a group with them gets nothing, not even whether it exists."""
    async with scene() as on_stage:
        group, _ = await on_stage.new_group()
        await on_stage.people[PARTNER].command(Join, group=group)
        await on_stage.people[ADMIN].command(Approve, PARTNER, group=group)
        allowed = set()
        for name in (*ROLES, PARTNER):
            place, message = await on_stage.conversation()
            if await on_stage.is_allowed(name, word, place, message):
                allowed.add(name)
    both = {AUTHOR} if word in ("edit", "delete") else {AUTHOR, PARTNER}
    assert allowed == (both if word in DIRECT else set())


@pytest.mark.parametrize("word", SAMPLED)
async def test_strangers_may_send_no_request(word: str) -> None:
    async with running_server() as server, raw_client(server.address) as stranger:
        await stranger.send(sample(word, 1))
        (last,) = await stranger.until_end()
        assert isinstance(last, Failed)
        assert last.code == Code.HANDSHAKE


@pytest.mark.parametrize("kind", HELLOS, ids=lambda kind: kind.type)
async def test_handshake_cannot_begin_again(kind: type[Frame]) -> None:
    made = {
        Hello: Hello(VERSION, ADMIN, bytes(8), identity_of(ADMIN).public, bytes(NONCE_SIZE)),
        Proof: Proof(bytes(64)),
        TransferHello: TransferHello(VERSION, bytes(16)),
    }
    async with running_server() as server, raw_client(server.address, MEMBER) as member:
        await member.send(made[kind])
        *_, last = await member.until_end()
        assert isinstance(last, Failed)
        assert last.code == Code.HANDSHAKE
