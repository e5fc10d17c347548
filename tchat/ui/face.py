"""What a chat wants of whatever shows it: a full screen, lines of text, or a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tchat.ui.lines import Line
    from tchat.ui.room import Room


class Face(Protocol):
    """Shows rooms. One that `rewrites` shows again what it has shown, and so can change it."""

    rewrites: bool

    def show(self, room: Room, line: Line) -> None:
        """Show a line that a room has just got."""

    def changed(self) -> None:
        """Know that something is not as it was: a room, a transfer, the list of rooms."""

    def attends(self, room: Room) -> bool:
        """Return whether the person sees what comes to a room."""

    def hand_out(self, text: str) -> None:
        """Show a line where it can be copied whole, if that needs more than showing it."""

    def offer(self, text: str) -> bool:
        """Put a text where the person types, to be changed; return whether that can be done."""

    def reveal(self, room: Room, seq: int) -> None:
        """Bring a message of the room in front into sight."""

    def key_lines(self) -> list[str]:
        """Return what keys do here, a line each."""

    def notify(self, title: str, text: str) -> None:
        """Call for the person's attention."""
