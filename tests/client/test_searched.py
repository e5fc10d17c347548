"""Searched events are remembered for each server, person and group; no bad file is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.searched import MOST_GROUPS, Searched, Span

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")


def test_spans_outlast_the_program(tmp_path: Path) -> None:
    file = tmp_path / "state" / "searched.json"
    for user, span in (("Alice", Span(1, 9)), ("bob", Span(3, 5))):
        searched = Searched(file, SERVER, user)
        searched.add("Lab", span)
        searched.save()
    assert Searched(file, SERVER, "alice").span_of("lab") == Span(1, 9)
    assert Searched(file, SERVER, "bob").span_of("lab") == Span(3, 5)
    assert Searched(file, ("elsewhere:7777",), "bob").span_of("lab") == Span()


def test_spans_end_when_somebody_is_not_ignored(tmp_path: Path) -> None:
    file = tmp_path / "searched.json"
    searched = Searched(file, SERVER, "alice", {"eve"})
    searched.add("lab", Span(1, 9))
    searched.save()
    assert Searched(file, SERVER, "alice", {"eve", "bob"}).span_of("lab") == Span(1, 9)
    assert Searched(file, SERVER, "alice").span_of("lab") == Span()
    searched.forget()
    assert searched.span_of("lab") == Span()


def test_only_the_latest_groups_are_remembered(tmp_path: Path) -> None:
    """A server that listed other groups after each connection let the file grow without end."""
    file = tmp_path / "searched.json"
    searched = Searched(file, SERVER, "alice")
    for number in range(2 * MOST_GROUPS):
        searched.add(f"g{number}", Span(1, 9))
        searched.add("lab", Span(1, number + 1))
    searched.save()
    searched = Searched(file, SERVER, "alice")
    known = [number for number in range(2 * MOST_GROUPS) if searched.span_of(f"g{number}").last]
    assert known == list(range(MOST_GROUPS + 1, 2 * MOST_GROUPS))
    assert searched.span_of("lab") == Span(1, 2 * MOST_GROUPS)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 9000,
        b'{"sha256:abc": {"alice": {"ignored": [[]], "groups": 1}}}',
    ],
)
def test_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "searched.json"
    file.write_bytes(damage)
    searched = Searched(file, SERVER, "alice")
    searched.add("lab", Span(1, 9))
    searched.save()
    assert Searched(file, SERVER, "alice").span_of("lab") == Span(1, 9)
