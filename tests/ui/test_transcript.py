"""Transcript of a window: what it keeps of messages that are not loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from tchat.client.replica import Replica
from tchat.core.group.feature import Event
from tchat.core.group.messages import Posted
from tchat.core.group.state import Group
from tchat.ui.chat import transcript as transcript_module
from tchat.ui.chat.lines import Line
from tchat.ui.chat.transcript import UNKNOWN_QUOTE, Transcript

if TYPE_CHECKING:
    import pytest

    from tchat.client.session import Session


def test_quoted_messages_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server could make a window keep ten thousand texts of 16 KiB; the pinned one stays."""
    monkeypatch.setattr(transcript_module, "_MOST_ELSEWHERE", 3)
    replica, asked = Replica("ops", 0), list[int]()
    replica.restore(Group("ops", 100, pinned=1))
    replica.name = "ops"
    session = cast("Session", SimpleNamespace(user="alice"))
    lines = Transcript(session, replica, (), (), lambda _: "", asked.append)
    for seq in range(1, 10):
        assert lines.quote_of(seq) == UNKNOWN_QUOTE
        lines.add_messages([Event("ops", seq, 1, "bob", bytes(8), seq, Posted(f"text {seq}"))])
    quotes = [lines.quote_of(seq) for seq in range(1, 10)]
    assert quotes == ["bob: text 1", *[UNKNOWN_QUOTE] * 5, *(f"bob: text {n}" for n in (7, 8, 9))]
    assert asked == list(range(1, 10))


def test_own_lines_follow_the_clock() -> None:
    """What the program said before it knew the server's time was dated by a wrong wall clock."""
    session = cast("Session", SimpleNamespace(user="alice"))
    lines = Transcript(session, Replica("ops", 0), (), (), lambda _: "", lambda _: None)
    lines.lines += [Line(5000, "notice", "no connection yet"), Line(900, "message", "hi", seq=1)]
    lines.redate_own(-4000)
    assert [line.at for line in lines.lines] == [1000, 900]
