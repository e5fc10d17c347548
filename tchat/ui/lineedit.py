"""The input line: text, a cursor between graphemes, and what was entered before. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.ui.cells import graphemes

if TYPE_CHECKING:
    from collections.abc import Callable

_HISTORY_LIMIT = 500


@dataclass(slots=True)
class _Completion:
    start: int
    offers: list[str]
    index: int


@dataclass(slots=True)
class LineEdit:
    """What is being typed. `before` and `after` are the graphemes around the cursor."""

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    killed: str = ""
    _recalled: int = 0
    _draft: str = ""
    _completion: _Completion | None = None

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(self.before) + "".join(self.after)

    def set(self, text: str) -> None:
        """Replace the line; the cursor goes to its end."""
        self.before, self.after = graphemes(text), []

    def insert(self, text: str) -> None:
        """Insert text at the cursor; a combining character joins what stands before it."""
        # Only the last graphemes can grow by what follows them.
        self.before[-2:] = graphemes("".join(self.before[-2:]) + text)

    def take(self) -> str:
        """Return the line, remember it, and begin a new one."""
        line = self.text
        if line.strip() and (not self.history or self.history[-1] != line):
            self.history.append(line)
            del self.history[:-_HISTORY_LIMIT]
        self._recalled, self._draft, self._completion = 0, "", None
        self.set("")
        return line

    def press(self, key: str) -> bool:
        """Do what `key` means here; return whether it means anything."""
        if key != "Tab":
            self._completion = None
        action = _ACTIONS.get(key)
        if action is None:
            return False
        action(self)
        return True

    def complete(self, offers_for: Callable[[str], tuple[int, list[str]]]) -> None:
        """Complete the word before the cursor; again, to the next that fits."""
        state = self._completion
        if state is None:
            start, offers = offers_for("".join(self.before))
            if not offers:
                return
            self._completion = state = _Completion(start, offers, 0)
        else:
            state.index = (state.index + 1) % len(state.offers)
        kept = "".join(self.before)[: state.start]
        self.before = graphemes(kept + state.offers[state.index])
        if len(state.offers) == 1:
            self._completion = None

    # ------------------------------------------------------------------ what keys do

    def left(self) -> None:
        """Move left by one grapheme."""
        if self.before:
            self.after.insert(0, self.before.pop())

    def right(self) -> None:
        """Move right by one grapheme."""
        if self.after:
            self.before.append(self.after.pop(0))

    def home(self) -> None:
        """Move to the start of the line."""
        self.after = self.before + self.after
        self.before = []

    def end(self) -> None:
        """Move to the end of the line."""
        self.before += self.after
        self.after = []

    def backspace(self) -> None:
        """Delete what stands before the cursor."""
        if self.before:
            self.before.pop()

    def delete(self) -> None:
        """Delete what stands behind the cursor."""
        if self.after:
            self.after.pop(0)

    def kill_to_end(self) -> None:
        """Cut from the cursor to the end."""
        self.killed, self.after = "".join(self.after), []

    def kill_to_start(self) -> None:
        """Cut from the start to the cursor."""
        self.killed, self.before = "".join(self.before), []

    def word_left(self) -> None:
        """Move left by one word."""
        for _ in range(self._word_length()):
            self.left()

    def word_right(self) -> None:
        """Move right by one word."""
        while self.after and not self.after[0].isalnum():
            self.right()
        while self.after and self.after[0].isalnum():
            self.right()

    def kill_word(self) -> None:
        """Cut the word before the cursor."""
        length = self._word_length()
        if length:
            self.killed = "".join(self.before[-length:])
            del self.before[-length:]

    def _word_length(self) -> int:
        """Return how many graphemes before the cursor are spaces and then one word."""
        length = 0
        while length < len(self.before) and self.before[-1 - length].isspace():
            length += 1
        while length < len(self.before) and not self.before[-1 - length].isspace():
            length += 1
        return length

    def yank(self) -> None:
        """Insert what was cut last."""
        self.insert(self.killed)

    def clear(self) -> None:
        """Empty the line."""
        self.set("")

    def older(self) -> None:
        """Recall the line entered before this one."""
        self._recall(self._recalled + 1)

    def newer(self) -> None:
        """Recall the line entered after this one."""
        self._recall(self._recalled - 1)

    def _recall(self, back: int) -> None:
        """Show the line `back` entries ago; 0 is the one that was being typed."""
        if not 0 <= back <= len(self.history):
            return
        if self._recalled == 0:
            self._draft = self.text
        self._recalled = back
        self.set(self.history[-back] if back else self._draft)


_ACTIONS: dict[str, Callable[[LineEdit], None]] = {
    "Left": LineEdit.left,
    "C-b": LineEdit.left,
    "Right": LineEdit.right,
    "C-f": LineEdit.right,
    "Home": LineEdit.home,
    "C-a": LineEdit.home,
    "End": LineEdit.end,
    "C-e": LineEdit.end,
    "Backspace": LineEdit.backspace,
    "C-h": LineEdit.backspace,
    "Delete": LineEdit.delete,
    "C-d": LineEdit.delete,
    "C-k": LineEdit.kill_to_end,
    "C-u": LineEdit.kill_to_start,
    "C-w": LineEdit.kill_word,
    "M-Backspace": LineEdit.kill_word,
    "M-b": LineEdit.word_left,
    "M-f": LineEdit.word_right,
    "C-y": LineEdit.yank,
    "C-c": LineEdit.clear,
    "Up": LineEdit.older,
    "Down": LineEdit.newer,
}
