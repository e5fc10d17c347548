"""The model of the screen, filled from a chat, and the scroll position of each window."""

from __future__ import annotations

import pytest

from tchat.core.group.membership import Ban, Kick
from tchat.ui.tui.model import Model, Position, Tab, WindowView
from tests.helpers import members, running_server
from tests.ui.typist import typing


def test_added_lines_do_not_move_the_view() -> None:
    view = WindowView(position=Position(3, 1))
    view.on_added(9)
    assert (view.position, view.below) == (Position(3, 1), 1)


def test_scroll_position_among_pending_messages_moves_down() -> None:
    view = WindowView(position=Position(8))
    view.on_added(9)
    assert view.position == Position(9)


def test_loading_history_does_not_move_the_view() -> None:
    view = WindowView(position=Position(3, 1))
    view.on_inserted(100)
    assert (view.position, view.below) == (Position(103, 1), 0)


def test_position_stays_when_lines_come_and_go_below() -> None:
    view = WindowView(position=Position(3, 1))
    view.on_inserted(1, at=4)
    assert view.position == Position(3, 1)
    view.on_inserted(1, at=3)
    assert view.position == Position(4, 1)
    view.on_inserted(-1, at=0)
    assert view.position == Position(3, 1)


def test_a_view_at_the_bottom_stays_there() -> None:
    view = WindowView()
    view.on_added(9)
    view.on_inserted(100)
    assert (view.position, view.below) == (None, 0)


def test_going_to_the_bottom_resets_the_counter() -> None:
    view = WindowView(position=Position(3), below=7)
    view.to_bottom()
    assert (view.position, view.below) == (None, 0)


async def test_the_model_shows_the_current_window() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/topic release\x1b", "hello")
        model, view = Model("", ""), WindowView(position=Position(1), below=4)
        view.edit.set("half a line")
        model.refresh(alice.chat, view, asked_to_quit=False)
        assert (model.user, model.title, model.topic) == ("alice", "#ops", "release␛")
        assert (model.admin, model.connection, model.security) == ("alice", "", "not encrypted")
        assert (model.position, model.below, model.edit.text) == (Position(1), 4, "half a line")
        assert model.lines is alice.window.lines
        assert model.tabs == [Tab(1, "#ops", current=True), Tab(2, "#lab")]
        assert model.question == ""


async def test_what_is_looked_at_or_loaded_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server() as server, typing(server) as alice:
        model = Model("", "")

        def is_held(view: WindowView) -> bool:
            model.refresh(alice.chat, view, asked_to_quit=False)
            return alice.window.replica.held

        assert is_held(WindowView(position=Position(1)))
        assert not is_held(WindowView())
        monkeypatch.setattr(alice.window, "_loads", 1)
        assert is_held(WindowView())


async def test_the_model_shows_the_question() -> None:
    async with running_server() as server, typing(server) as alice:
        model = Model("", "")
        model.refresh(alice.chat, WindowView(), asked_to_quit=True)
        assert model.question == "Quit? Ctrl-D again, or y Enter"
        await alice.types("/kick")
        model.refresh(alice.chat, WindowView(), asked_to_quit=False)
        assert model.question == "kick whom?"
        alice.chat.done.set()
        model.refresh(alice.chat, WindowView(), asked_to_quit=False)
        assert model.question.startswith("Quitting: up to 3 s for what is not sent yet; Ctrl-D")


def test_view_remembers_what_was_in_sight() -> None:
    view = WindowView()
    for rule, first, kept in [(5, 20, 20), (5, 31, 20), (5, 9, 9), (5, 12, 9), (40, 60, 60)]:
        view.on_shown(rule, first)
        assert (view.rule, view.shown_from) == (rule, kept)


@pytest.mark.parametrize(
    ("command", "notice", "standing"),
    [(Kick, "kicked you", "outsider"), (Ban, "banned you", "banned")],
)
async def test_the_model_tells_bans_from_kicks(
    command: type[Kick | Ban], notice: str, standing: str
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as bob,
    ):
        await alice.command(command, "bob")
        await bob.shows(notice)
        model = Model("", "")
        model.refresh(bob.chat, WindowView(), asked_to_quit=False)
        assert model.standing == standing
