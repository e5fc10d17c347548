"""Text buffer of the input line: graphemes around a cursor, with undo and redo. Pure.

Whether there is a grapheme boundary before a code point depends only on this code point and on the
text since the previous boundary (Unicode TR 29). So text that is appended can only extend the last
grapheme. Text that is prepended can move the boundaries after it, but only until one of them stays
where it was; from there on, nothing changes. In both cases only a few graphemes have to be
segmented again, however long the text is. The exception is a row of flags: the rest of it changes.

The two sides of the cursor are segmented separately. A flag or a family of emoji is typed code
point by code point, and the cursor has to stay after the last of them, even while that code point
forms a grapheme with the text that follows. The two parts of the grapheme are joined when the
cursor moves away.

Undo counts in code points, because the graphemes of a text depend on the text around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.text.cells import graphemes

if TYPE_CHECKING:
    from collections.abc import Callable

_UNDO_LIMIT = 1000


class _Change(NamedTuple):
    """A replacement by `text` of `left` before the cursor and `right` after it."""

    left: str
    right: str
    text: str


class _Spot(NamedTuple):
    """The cursor's position in code points, and the `Buffer.text_id` of its text."""

    cursor: int
    text_id: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One undo step: a change, and where the cursor was before and after it."""

    change: _Change
    before: _Spot
    after: _Spot


class Buffer:
    """The graphemes `before` and `after` the cursor, and the undo history of their changes.

    `text_id` says which entry of the input history the text is a version of (see `LineEdit`); undo
    restores it with the text.
    """

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []
        self.text_id = 0
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.before) + "".join(self.after)

    @property
    def line_count(self) -> int:
        """The number of lines that the text has, at least one."""
        return self.before.count("\n") + self.after.count("\n") + 1

    @property
    def size(self) -> int:
        """The size of the text in bytes of UTF-8."""
        return len("".join((*self.before, *self.after)).encode())

    # ------------------------------------------------------------------ moving

    def move(self, count: int) -> None:
        """Move the cursor by `count` graphemes, to the left if it is negative."""
        if count < 0:
            *moved, last = self.before[count:] or [""]
            del self.before[count:]
            self._prepend_after(last)
            self.after[:0] = moved
        else:
            moved = self.after[:count]
            del self.after[:count]
            parts, used = _resegment("".join(self.before[-1:]), moved)
            self.before[-1:] = parts + moved[used:]

    def left(self) -> None:
        """Move left by one grapheme."""
        self.move(-1)

    def right(self) -> None:
        """Move right by one grapheme."""
        self.move(1)

    def word_left(self) -> None:
        """Move left to the start of a word."""
        self.move(-count_run(self.before[::-1], is_letter))

    def word_right(self) -> None:
        """Move right to the end of a word."""
        self.move(count_run(self.after, is_letter))

    def home(self) -> None:
        """Move to the start of the cursor's line."""
        self.move(-count_to_newline(self.before[::-1]))

    def end(self) -> None:
        """Move to the end of the cursor's line."""
        self.move(count_to_newline(self.after))

    # ------------------------------------------------------------------ changing

    def backspace(self) -> None:
        """Delete the grapheme before the cursor."""
        if self.before:
            self.replace(1, 0, "")

    def delete(self) -> None:
        """Delete the grapheme after the cursor."""
        if self.after:
            self.replace(0, 1, "")

    def clear(self) -> None:
        """Delete the whole text."""
        self.replace(len(self.before), len(self.after), "")

    def transpose(self) -> None:
        """Exchange the graphemes around the cursor; at the end of a line, the two before it."""
        ahead = 1 if count_to_newline(self.after) else 0
        back = 2 - ahead
        if count_to_newline(self.before[::-1]) >= back:
            pair = [*self.before[-back:], *self.after[:ahead]]
            self.replace(back, ahead, pair[1] + pair[0])

    # ------------------------------------------------------------------ replace, undo, redo

    def replace(
        self, back: int, ahead: int, text: str, *, text_id: int | None = None, joins: bool = False
    ) -> bool:
        """Replace `back` graphemes before the cursor and `ahead` after it with `text`.

        The cursor ends up after `text`. The change is a new undo step. With `joins`, it becomes
        part of the previous step instead; it has to be an insertion where that step left the
        cursor. Return whether the text changed.
        """
        was = self._spot()
        change = _Change(
            "".join(self.before[len(self.before) - back :]), "".join(self.after[:ahead]), text
        )
        self._apply(change)
        self.text_id = self.text_id if text_id is None else text_id
        if change.left + change.right == text:
            return False
        self._record(change, was, joins=joins)
        return True

    def undo(self) -> None:
        """Undo the last step: text and cursor."""
        if self._done:
            step = self._done.pop()
            self._move_to(step.after.cursor)
            self._cut_before(len(step.change.text))
            self._append_before(step.change.left)
            self._prepend_after(step.change.right)
            self.text_id = step.before.text_id
            self._undone.append(step)

    def retract(self) -> None:
        """Undo the last step as if it had never happened: nothing can be redone."""
        self.undo()
        self._undone.clear()

    def redo(self) -> None:
        """Repeat the step that was undone last, unless the text was changed since."""
        if self._undone:
            step = self._undone.pop()
            self._move_to(step.before.cursor)
            self._apply(step.change)
            self.text_id = step.after.text_id
            self._done.append(step)

    def _record(self, change: _Change, was: _Spot, *, joins: bool) -> None:
        self._undone.clear()
        if joins and self._done:
            step = self._done.pop()
            change, was = step.change._replace(text=step.change.text + change.text), step.before
        self._done.append(_Step(change, was, self._spot()))
        del self._done[:-_UNDO_LIMIT]

    def _forget(self) -> None:
        """Reset to an empty text without undo history."""
        self.before, self.after, self.text_id = [], [], 0
        self._done.clear()
        self._undone.clear()

    # ------------------------------------------------------------------ by code points

    def _spot(self) -> _Spot:
        return _Spot(len("".join(self.before)), self.text_id)

    def _move_to(self, cursor: int) -> None:
        """Move the cursor to a position in code points, even in the middle of a grapheme."""
        distance = cursor - self._spot().cursor
        count, beyond = _count_items(
            self.after if distance > 0 else self.before[::-1], abs(distance)
        )
        self.move(count if distance > 0 else -count)
        if distance > 0:
            self._prepend_after(self._cut_before(beyond))
        else:
            self._append_before(self._cut_after(beyond))

    def _apply(self, change: _Change) -> None:
        self._cut_before(len(change.left))
        self._cut_after(len(change.right))
        self._append_before(change.text)

    def _append_before(self, text: str) -> None:
        self.before[-1:] = graphemes("".join(self.before[-1:]) + text)

    def _prepend_after(self, text: str) -> None:
        parts, used = _resegment(text, self.after)
        self.after[:used] = parts

    def _cut_before(self, length: int) -> str:
        """Remove and return `length` code points before the cursor."""
        count, beyond = _count_items(self.before[::-1], length)
        taken = "".join(self.before[len(self.before) - count :])
        del self.before[len(self.before) - count :]
        self._append_before(taken[:beyond])
        return taken[beyond:]

    def _cut_after(self, length: int) -> str:
        """Remove and return `length` code points after the cursor."""
        count, beyond = _count_items(self.after, length)
        taken = "".join(self.after[:count])
        del self.after[:count]
        self._prepend_after(taken[length:] if beyond else "")
        return taken[:length]


def _resegment(head: str, rest: list[str]) -> tuple[list[str], int]:
    """Segment `head` together with the items of `rest` whose boundaries it changes.

    Return the graphemes, and how many items of `rest` they replace; the last ones may be unchanged.
    """
    count = 1
    while head:
        chunk = rest[:count]
        parts = graphemes(head + "".join(chunk))
        # If the last grapheme is unchanged, so is the boundary before it, and all text after it.
        if count >= len(rest) or parts[-1] == chunk[-1]:
            return parts, len(chunk)
        count *= 2
    return [], 0


def _count_items(items: list[str], length: int) -> tuple[int, int]:
    """Return how many items cover `length` code points, and by how many they exceed it."""
    count = 0
    while length > 0:
        length -= len(items[count])
        count += 1
    return count, -length


def count_run(items: list[str], inside: Callable[[str], bool]) -> int:
    """Return the number of items up to the end of the first run for which `inside` is true."""
    outside = sum(1 for _ in takewhile(lambda item: not inside(item), items))
    return outside + sum(1 for _ in takewhile(inside, items[outside:]))


def is_letter(grapheme: str) -> bool:
    """Return whether a grapheme is part of a word."""
    return grapheme[0].isalnum()


def is_not_space(grapheme: str) -> bool:
    """Return whether a grapheme is not a space."""
    return not grapheme.isspace()


def count_to_newline(items: list[str]) -> int:
    """Return the number of items before the first line break."""
    return items.index("\n") if "\n" in items else len(items)
