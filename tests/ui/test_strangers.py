"""What strangers cause is bounded and gathered: direct messages, and requests to join."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Ban, Join, Leave, Unban
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.ui.chat import chat as chat_module
from tchat.ui.tui.bars import status_row
from tchat.ui.tui.keymap import next_activity
from tchat.ui.tui.model import Model, WindowView
from tests.helpers import GUARD, members, raw_client, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.helpers import RawClient, RunningServer
    from tests.ui.typist import Typist

NAMES = ("carol", "dave", "erin", "frank", "grace", "heidi", "ivan")


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "_UNINVITED_WINDOWS", 2)
    monkeypatch.setattr(chat_module, "_UNINVITED_PRINTED", 3)


@asynccontextmanager
async def strangers(server: RunningServer, *names: str) -> AsyncIterator[list[RawClient]]:
    """Connect people who have joined the open group of Alice and Bob."""
    async with members(server, "alice", "bob") as (alice, _), AsyncExitStack() as stack:
        await alice.command(SetPolicy, "open")
        people = [await stack.enter_async_context(raw_client(server.address, n)) for n in names]
        for person in people:
            await person.command(Join)
        yield people


async def write(*people: RawClient) -> None:
    """Let each of the people write to Bob alone."""
    for person in people:
        await person.post(f"hello from {person.user}", group="@bob," + person.user)


def status(bob: Typist) -> str:
    """Return the status bar of the full screen."""
    model = Model("", "")
    model.refresh(bob.chat, WindowView(), asked_to_quit=False)
    return "".join(text for text, _ in status_row(model, 120, scrolled=False))


async def waits(bob: Typist, *names: str) -> None:
    """Wait until the conversations with these people wait, and no others."""
    groups = [f"@bob,{name}" for name in names]
    await bob.until(lambda: bob.chat.elsewhere.waiting == groups, str(groups))


async def test_strangers_use_up_no_windows() -> None:
    """Further ones wait: they are told in one line, counted, listed, and opened on demand."""
    async with (
        running_server() as server,
        strangers(server, *NAMES) as people,
        typing(server, "bob", recent=50) as bob,
    ):
        await write(*people)
        await waits(bob, *NAMES[2:])
        assert bob.titles == ["#ops", "@carol", "@dave"]
        assert await bob.chat.finish(GUARD)
        told = [line.text for line in bob.lines if "/query" in line.text]
        gathered = "/query NAME opens a conversation, /list lists all"
        assert told == [
            "new for you in @erin; /query erin opens it",
            f"4 people wrote to you: frank, grace, heidi, ivan; {gathered}",
        ]
        assert ("@ivan", "ivan wrote to you") in bob.frontend.calls
        assert "5 direct: Alt-A" in status(bob)
        listed = await bob.types("/list")
        assert "notice: new for you, without a window (5): @erin, @frank, @grace" in listed[-1]
        assert set(bob.chat.session.groups) == {"ops", "@bob,carol", "@bob,dave"}
        await bob.types("/query erin")
        await bob.reads("erin: hello from erin", "@erin")
        await bob.types("/window frank")
        await bob.reads("frank: hello from frank", "@frank")
        await waits(bob, "grace", "heidi", "ivan")


async def test_looking_into_a_window_makes_room() -> None:
    async with (
        running_server() as server,
        strangers(server, *NAMES[:4]) as people,
        typing(server, "bob", recent=50) as bob,
    ):
        await write(*people[:3])
        await waits(bob, "erin")
        await bob.until(lambda: bob.window_of("@dave").unread == 1)
        await bob.types("/window @carol")
        await write(people[3])
        await bob.until(lambda: "@frank" in bob.titles)
        await waits(bob, "erin")


async def test_alt_a_opens_what_waits_after_mentions() -> None:
    async with (
        running_server() as server,
        strangers(server, *NAMES[:3]) as people,
        typing(server, "bob", recent=50) as bob,
    ):
        await write(*people)
        await waits(bob, "erin")
        await bob.until(lambda: all(w.mentions for w in bob.chat.windows[1:]))
        seen = []
        for _ in range(3):
            next_activity(_Keys(bob))  # type: ignore[arg-type]
            seen.append(bob.window.title)
            await bob.until(lambda: bob.window.caught_up)
            await bob.until(lambda: not bob.window.unread)
        assert seen == ["@carol", "@dave", "@erin"]


async def test_alt_a_shows_each_news_once() -> None:
    """Requests that the person leaves undecided, for example, do not hide all other windows."""
    async with (
        running_server() as server,
        typing(server, "alice", "ops", "lab") as alice,
        asking(server, "bob", "carol") as (bob, carol),
    ):
        keys = _Keys(alice)

        def press() -> str:
            next_activity(keys)  # type: ignore[arg-type]
            return alice.window.title

        await carol.command(Join, group="lab")
        await alice.types("/window lab", "/approve carol", "/join new", "/window ops")
        for _ in range(2):  # the second time, the person asks again
            await bob.command(Join, group="new")
            await carol.post("hello", group="lab")
            await alice.until(lambda: alice.window_of("#new").waiting_for_approval == 1)
            await alice.until(lambda: alice.window_of("#lab").unread == 1)
            assert [press() for _ in range(4)] == ["#new", "#lab", "#lab", "#lab"]
            assert keys.hints == 2 * ["Nothing is new in any other window."]
            keys.hints.clear()
            await alice.types("/window ops")
            await bob.command(Leave, group="new")
            await alice.until(lambda: not alice.window_of("#new").waiting_for_approval)


class _Keys:
    def __init__(self, person: Typist) -> None:
        self.chat = person.chat
        self.hints: list[str] = []
        self.show_hint = self.hints.append


async def test_known_people_open_by_themselves() -> None:
    """Known is who was written to, or looked at, on any device."""
    async with running_server() as server, strangers(server, *NAMES[:5]) as people:
        async with typing(server, "bob") as before:
            await before.types("/msg grace hello")
        async with typing(server, "bob", recent=50) as bob:
            await bob.types("/window @grace", "/part")
            await write(*people[:3])
            await waits(bob, "erin")
            await write(people[4])
            await bob.until(lambda: "@grace" in bob.titles)
            await waits(bob, "erin")


@pytest.mark.parametrize(("rewrites", "most"), [(True, 2), (False, 3)], ids=["screen", "plain"])
async def test_strangers_wait_still_after_a_restart(rewrites: bool, most: int) -> None:
    async with running_server() as server, strangers(server, *NAMES) as people:
        await write(*people)
        for _ in range(2):
            async with typing(server, "bob", recent=50, rewrites=rewrites) as bob:
                bob.frontend.looks = False
                await bob.until(lambda b=bob: len(b.chat.elsewhere.waiting) == 7 - most)  # type: ignore[misc]
                assert len(bob.titles) == 1 + most
                assert bob.frontend.calls == []


async def test_read_elsewhere_waits_no_more() -> None:
    async with (
        running_server() as server,
        strangers(server, *NAMES[:3]) as people,
        typing(server, "bob", recent=50) as here,
        typing(server, "bob", recent=50) as there,
    ):
        await write(*people)
        for bob in (here, there):
            await waits(bob, "erin")
        await there.types("/query erin")
        with trio.fail_after(GUARD):
            while here.chat.elsewhere.waiting:
                await here.types("/list")


async def test_blocked_strangers_wait_no_more() -> None:
    async with (
        running_server() as server,
        strangers(server, *NAMES[:3]) as people,
        typing(server, "bob", recent=50) as bob,
    ):
        await write(*people)
        await waits(bob, "erin")
        await bob.types("/block erin")
        await waits(bob)
        await bob.types("/unblock erin")
        await bob.until(lambda: "@erin" in bob.titles)


async def test_scripts_are_sent_every_line_of_a_few() -> None:
    """A printed conversation counts as looked into once it is answered."""
    async with (
        running_server() as server,
        strangers(server, *NAMES[:5]) as people,
        typing(server, "bob", recent=50, rewrites=False) as bob,
    ):
        for person in people:
            await write(person)
            await bob.shows(f"hello from {person.user}")
            await bob.types(f"/msg {person.user} welcome")
        assert bob.chat.elsewhere.waiting == []


# ------------------------------------------------------------------ requests to join


@asynccontextmanager
async def asking(server: RunningServer, *names: str) -> AsyncIterator[list[RawClient]]:
    """Let people ask to join the group."""
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(raw_client(server.address, n)) for n in names]
        for person in people:
            await person.command(Join)
        yield people


def told_requests(alice: Typist) -> list[str]:
    return [line.text for line in alice.window.lines if "to join" in line.text]


async def test_requests_are_one_line_of_the_screen() -> None:
    many = "7 people have asked to join: carol, dave, erin and 4 more; /requests lists who waits"
    async with running_server() as server:
        async with typing(server) as alice:
            async with asking(server, *NAMES[:1]):
                await alice.shows("carol asks to join (key ")
            async with asking(server, *NAMES[1:]):
                await alice.until(lambda: alice.window.waiting_for_approval == 7)
            assert told_requests(alice) == [many]
            (listed,) = await alice.types("/requests")
            assert "asking to join (7): carol (key " in listed
            await alice.types("/block carol", "/block ivan")
            assert told_requests(alice)[0].startswith("5 people have asked to join: dave, erin")
        async with typing(server) as alice:
            assert many in told_requests(alice)


async def test_requests_are_printed_together() -> None:
    async with running_server() as server, typing(server, rewrites=False) as alice:
        async with asking(server, *NAMES):
            await alice.until(lambda: alice.window.waiting_for_approval == 7)
        assert await alice.chat.finish(GUARD)
        first, rest = (line.text for line in alice.lines if "to join" in line.text)
        assert first.startswith("carol asks to join (key ")
        assert rest == (
            "6 people have asked to join: dave, erin, frank and 3 more; /requests lists who waits"
        )


# ------------------------------------------------------------------ an admin in a loop


@pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])
async def test_changes_in_a_loop_are_gathered(rewrites: bool) -> None:
    """The latest is told, and how many there were."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", rewrites=rewrites) as bob,
    ):
        for number in range(30):
            await alice.command(SetTopic, f"topic {number}")
        await bob.until(lambda: bob.window.replica.state.topic == "topic 29")
        await bob.until(lambda: bob.window.shown == bob.window.replica.last)
        assert await bob.chat.finish(GUARD)
        source = bob.window.lines if rewrites else bob.lines
        told = [line.text for line in source if "topic" in line.text]
        assert told[:4] == [f"alice set the topic: topic {number}" for number in range(4)]
        assert told[4:] == ["26 changes, the last: alice set the topic: topic 29"]


async def test_bans_in_a_loop_are_gathered() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as bob,
    ):
        for _ in range(10):
            await alice.command(Ban, "bob")
            await alice.command(Unban, "bob")
        await alice.command(Ban, "bob")
        await bob.types("/keys")  # its answer comes after all of them
        told = [line.text for line in bob.lines if "alice" in line.text and "you" in line.text]
        assert len(told) == 5
        assert told[-1] == (
            "alice banned you from this group; only its admin can lift the ban."
            " Before that, your standing changed 16 times."
        )


async def test_programs_get_each_request() -> None:
    async with running_server() as server, typing(server, rewrites=False) as alice:
        alice.frontend.itemizes = True
        async with asking(server, *NAMES):
            await alice.until(lambda: alice.window.waiting_for_approval == 7)
        assert len([line for line in alice.lines if "asks to join" in line.text]) == 7
