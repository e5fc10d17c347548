"""The input lines of the full screen, which belong to groups, not to windows."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast
from weakref import ref

from tchat.client.drafts import open_drafts
from tchat.ui.chat.window import reference_to
from tchat.ui.tui.app import App
from tests.helpers import running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.ui.tui.screen import Screen
    from tchat.ui.tui.terminal import Notifier
    from tests.ui.typist import Typist


@asynccontextmanager
async def app_of_two_groups() -> AsyncIterator[tuple[App, Typist]]:
    """Alice's chat in #ops and #lab, and an app for it that has no terminal."""
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        session = alice.chat.session
        with open_drafts(None, session.user, session.connector.names()) as drafts:
            app = App(session, cast("Screen", None), {}, cast("Notifier", None), drafts)
            app.chat = alice.chat
            yield app, alice


async def test_line_is_given_back_to_the_reopened_window() -> None:
    async with app_of_two_groups() as (app, alice):
        closed = alice.window_of("#lab")
        alice.chat.close(closed)
        kept = app.give_back(closed, "one")
        assert kept == "What you typed is kept: /join lab brings it back."
        alice.chat.open("lab")
        back = app.give_back(closed, "two")
        assert back == "What you typed is back in the input line of #lab."
        assert app.view_of(alice.window_of("#lab")).edit.unsent() == ["two", "one"]


async def test_closed_windows_are_freed_and_their_lines_kept() -> None:
    async with app_of_two_groups() as (app, alice):
        window = alice.window_of("#lab")
        app.view_of(window).edit.set("half a thought")
        closed = ref(window)
        alice.chat.close(window)
        del window
        alice.frontend.shown.clear()
        await alice.types("")
        gc.collect()
        assert closed() is None
        await alice.types("/join lab")
        assert app.view.edit.text == "half a thought"


async def test_line_in_a_closed_window_keeps_its_message() -> None:
    async with app_of_two_groups() as (app, alice):
        await alice.types("/window lab", "first", "/window ops")
        window = alice.window_of("#lab")
        (first,) = window.messages()
        edit = app.view_of(window).edit
        edit.set("/edit a new text")
        alice.chat.frontend = app
        alice.chat.close(window)
        assert edit.unsent() == [f"/edit {reference_to(first.seq, first.stamp)} a new text"]
