"""How long a hint covers the status bar, and whom F9 approves when the first request changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio

from tchat.core.group.membership import Leave
from tchat.ui.tui.hint import CHANGED_SECONDS, HINT_SECONDS, FirstRequest, Hint
from tchat.ui.tui.keymap import approve_next
from tchat.ui.tui.model import Tab
from tests.helpers import running_server
from tests.ui.pictures import message, model, shown
from tests.ui.typist import typing

if TYPE_CHECKING:
    from tchat.ui.tui.keymap import KeyContext

HINT = "Press Ctrl-D twice to quit, or type /quit; you stay a member."


def test_hint_ends_after_some_seconds() -> None:
    made = model(message("x"))
    hint = Hint(HINT, made, now=100)
    assert hint.text_at(made, 100 + HINT_SECONDS - 0.1) == HINT
    assert hint.text_at(made, 100 + HINT_SECONDS) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"tabs": [Tab(1, "#ops", current=True), Tab(2, "#dev", unread=1)]},
        {"tabs": [Tab(1, "#ops", current=True), Tab(2, "#dev"), Tab(3, "@bob")]},
        {"requests": ["frank"]},
        {"below": 1},
    ],
)
def test_hint_gives_way_to_activity(changes: dict[str, object]) -> None:
    made = model(message("x"), tabs=[Tab(1, "#ops", current=True), Tab(2, "#dev")])
    hint = Hint(HINT, made, now=100)
    before = dict.fromkeys(changes)
    for name, value in changes.items():
        before[name] = getattr(made, name)
        setattr(made, name, value)
    assert hint.text_at(made, 101) == ""
    for name, value in before.items():
        setattr(made, name, value)
    assert hint.text_at(made, 102) == ""  # it does not come back


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (80, HINT),
        (60, "Press Ctrl-D twice to quit, or type /quit"),
        (40, "Press Ctrl-D twice to quit"),
        (20, "Press Ctrl-D tw…"),
    ],
)
def test_narrow_screen_keeps_the_first_clauses(width: int, text: str) -> None:
    assert shown(model(message("x"), hint=HINT), width)[-2].strip("─ ") == text


def test_only_another_first_request_is_too_new() -> None:
    first = FirstRequest()
    first.watch("#ops", "", 0)
    first.watch("#ops", "frank", 10)
    assert not first.is_new(10)  # nobody else can have been meant
    first.watch("#ops", "gina", 20)
    first.watch("#ops", "gina", 20 + CHANGED_SECONDS / 2)
    assert first.is_new(20 + CHANGED_SECONDS / 2)
    assert not first.is_new(20 + CHANGED_SECONDS)
    first.watch("#lab", "hugo", 30)  # the person has switched windows
    assert not first.is_new(30)


async def test_key_approves_nobody_twice() -> None:
    """Pressed again before the server has answered, it says so."""
    async with (
        running_server() as server,
        typing(server, "alice", until="nobody else") as alice,
        typing(server, "frank", until="Waiting for alice"),
    ):
        await alice.until(lambda: alice.window.waiting_for_approval == 1)
        hints: list[str] = []
        app = SimpleNamespace(
            chat=alice.chat,
            first_request=FirstRequest(),
            refreshed=lambda: None,
            show_hint=hints.append,
        )
        for _ in range(2):
            approve_next(cast("KeyContext", app))
        assert await alice.chat.finish(5)
        assert hints == ["frank is approved already; the server has not answered."]
        assert "frank" in alice.window.replica.state.members
        assert alice.chat.refusals == 0


async def test_key_does_not_approve_somebody_else() -> None:
    async with (
        running_server() as server,
        typing(server, "alice", until="nobody else") as alice,
        typing(server, "frank", until="Waiting for alice") as frank,
        typing(server, "gina", until="Waiting for alice"),
    ):
        await alice.until(lambda: alice.window.waiting_for_approval == 2)
        hints: list[str] = []
        request = FirstRequest()

        def refreshed() -> None:
            first = next(iter(alice.window.requests), "")
            request.watch(alice.window.title, first, trio.current_time())

        app = SimpleNamespace(
            chat=alice.chat,
            first_request=request,
            refreshed=refreshed,
            show_hint=hints.append,
        )
        refreshed()
        await frank.chat.session.request(lambda i, n: Leave(i, n, "ops"))
        await alice.shows("frank no longer asks to join")
        approve_next(cast("KeyContext", app))
        assert await alice.chat.finish(5)
        assert hints == ["Nothing was done: gina was not first until now; F9 approves gina."]
        assert "gina" not in alice.window.replica.state.members
