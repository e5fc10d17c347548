"""What others send is painted at a bounded rate, and never delays a key."""

from __future__ import annotations

import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tchat.client.drafts import open_drafts
from tchat.client.updates import EventReceived
from tchat.core.group.feature import Event
from tchat.core.group.messages import Posted
from tchat.core.text import TEXT_LIMIT
from tchat.ui.chat.lines import Line, message_line
from tchat.ui.text import cells
from tchat.ui.text.cells import wrap
from tchat.ui.tui import app as app_module
from tchat.ui.tui import blocks
from tchat.ui.tui.app import App
from tchat.ui.tui.model import Model, WindowView
from tchat.ui.tui.view import draw
from tests.helpers import running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.ui.tui.screen import Screen
    from tchat.ui.tui.terminal import Notifier
    from tchat.ui.tui.view import Picture
    from tests.ui.typist import Typist

MANY = 1000


@dataclass
class FakeScreen:
    """A screen that counts how often it is painted."""

    size: tuple[int, int] = (80, 24)
    painted: list[Picture] = field(default_factory=list)

    def paint(self, picture: Picture) -> None:
        self.painted.append(picture)

    def title(self, _: str) -> None:
        pass

    def last_row(self) -> str:
        return "".join(text for text, _ in self.painted[-1].rows[-1])


@asynccontextmanager
async def painting() -> AsyncIterator[tuple[App, FakeScreen, Typist]]:
    """Alice's chat, painted on a screen that counts."""
    async with running_server() as server, typing(server) as alice:
        session, screen = alice.chat.session, FakeScreen()
        with open_drafts(None, session.user, session.connector.names()) as drafts:
            app = App(session, cast("Screen", screen), {}, cast("Notifier", None), drafts)
            app.chat, alice.chat.frontend = alice.chat, app
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app.paint)
                await trio.testing.wait_all_tasks_blocked()
                assert len(screen.painted) == 1
                yield app, screen, alice
                nursery.cancel_scope.cancel()


def arrive(alice: Typist, count: int) -> list[EventReceived]:
    """Add messages to the log of the group, and return their updates."""
    replica = alice.window.replica
    updates = []
    for _ in range(count):
        seq = replica.last + 1
        event = Event(replica.name, seq, 0, "bob", bytes(8), seq, Posted(f"message {seq}"))
        assert replica.apply_event(event)
        updates.append(EventReceived(replica, event, unseen=True))
    return updates


async def test_a_batch_of_events_is_painted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_FRAME_SECONDS", 0.0)
    async with painting() as (_, screen, alice):
        for update in arrive(alice, MANY):
            alice.chat.handle(update)
        await trio.testing.wait_all_tasks_blocked()
        assert len(screen.painted) == 2


async def test_only_keys_are_painted_within_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_FRAME_SECONDS", float("inf"))
    async with painting() as (app, screen, alice):
        for update in arrive(alice, 20):
            alice.chat.handle(update)
            await trio.testing.wait_all_tasks_blocked()
        assert len(screen.painted) == 1
        press(app, "x")
        await trio.testing.wait_all_tasks_blocked()
        assert len(screen.painted) == 2
        assert screen.last_row().rstrip().endswith("x")


def press(app: App, key: str) -> None:
    """Press a key, as `follow_keyboard` does."""
    app.press(key)
    app._pressed.set()
    app._changed.set()


async def test_keys_overtake_a_flood_of_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update is a step of its own, so that the keyboard's task has its turn in between."""
    monkeypatch.setattr(app_module, "_FRAME_SECONDS", float("inf"))
    async with painting() as (app, screen, alice), trio.open_nursery() as nursery:
        for update in arrive(alice, MANY):
            alice.chat.session.updates.put(update)
        nursery.start_soon(app.follow_session)
        press(app, "x")
        while not screen.last_row().rstrip().endswith("x"):
            await trio.lowlevel.checkpoint()
        assert len(alice.window.lines) < MANY / 10
        nursery.cancel_scope.cancel()


async def test_members_are_listed_again_only_when_changed() -> None:
    async with running_server() as server, typing(server) as alice:
        model, state = Model("", ""), alice.window.replica.state

        def people() -> object:
            model.refresh(alice.chat, WindowView(), asked_to_quit=False)
            return model.people

        before = people()
        assert people() is before
        state.members["bob"] = "bob"
        assert [person.name for person in model.people] == ["alice"]
        assert people() is not before
        alice.window.replica.away["alice"] = "lunch"
        people()
        assert [person.away for person in model.people] == ["lunch", ""]


def test_long_texts_with_tabs_are_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With forty of them on the screen, each key took 90 ms to be painted, for good."""
    lines = [Line(0, "message", f"http://{n}" + "\t" * 16_000, "eve", n) for n in range(1, 41)]
    model = Model("alice", "#ops", lines=lines)
    draw(model, 100, 60)
    monkeypatch.setattr(cells, "expand_tabs", pytest.fail)
    monkeypatch.setattr(blocks, "expand_tabs", pytest.fail)
    draw(model, 100, 60)


def test_wrapped_texts_take_bounded_memory() -> None:
    """A thousand messages of many short rows took 330 MB."""
    tracemalloc.start()
    try:
        for number in range(120):  # 40 MB of rows
            wrap(f"{number} " + "ab\n" * 5400, 80)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * cells.CACHED_BYTES


def test_what_no_valid_frame_has_is_cut() -> None:
    """A server may send anything; what is measured and wrapped is bounded."""
    event = Event("ops", 1, 0, "x" * 100_000, bytes(8), 1, Posted("y" * 100_000))
    line = message_line(event, "y" * 100_000, "alice")
    assert (len(line.who), len(line.text)) == (4096, TEXT_LIMIT)


URLS = st.lists(
    st.sampled_from(["http://a.b", "https://example.org/" + "long/" * 30, "ftp://x/漢字", "word"]),
    max_size=12,
)


@given(URLS, st.sampled_from([" ", "\n", "  "]), st.integers(4, 80))
def test_every_part_of_a_url_is_a_link(words: list[str], between: str, width: int) -> None:
    text = between.join(words)
    found = blocks._link_ranges(text, width, "none", "")
    rows = wrap(text, width, "none")
    linked = "".join(rows[n][a:b] for n, ranges in found.items() for a, b in ranges)
    assert linked == "".join(word for word in words if "://" in word)
