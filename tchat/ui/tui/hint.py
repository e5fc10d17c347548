"""What depends on how long something is on the screen: hints, and the person whom F9 approves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model

HINT_SECONDS = 5.0
"""How long a hint covers the status bar, unless a key ends it earlier."""

CHANGED_SECONDS = 0.5
"""How long the first request is too new to have been read."""


class Hint:
    """A sentence that covers the status bar, for a few seconds or until there is new activity.

    The person may be away from the keyboard, and must not miss what the status bar has to say.
    """

    def __init__(self, text: str, model: Model, now: float) -> None:
        self._text = text
        self._activity = model.activity
        self._until = now + HINT_SECONDS

    def text_at(self, model: Model, now: float) -> str:
        """Return the text, or "" if it is not shown any more."""
        if now >= self._until or model.activity != self._activity:
            self._text = ""
        return self._text


class FirstRequest:
    """Whom the key that approves the first request means, and since when.

    If the first request is withdrawn just before the key is pressed, the person means another one.
    `approved` is whom the key has approved last.
    """

    def __init__(self) -> None:
        self.approved = ""
        self._place = ""
        self._name = ""
        self._since = float("-inf")

    def watch(self, place: str, name: str, now: float) -> None:
        """Note who is first in a window, "" if nobody is.

        Nobody can be confused with somebody in another window, or with nobody.
        """
        if name != self._name and self._name and place == self._place:
            self._since = now
        if place != self._place:
            self._since = float("-inf")
        self._place, self._name = place, name

    def is_new(self, now: float) -> bool:
        """Return whether somebody else was first a moment ago."""
        return now < self._since + CHANGED_SECONDS
