"""Text with a cursor in it, cut into graphemes on both sides of it, and a way back. Pure.

Whether a grapheme ends in front of a code point depends on what stands before it, back to the
last end of one, and on that code point alone: no rule of Unicode TR 29 looks further. So text
that is put behind other text can only lengthen the last grapheme there, and text that is put in
front of other text moves the boundaries behind it only until one falls where there was one. Both
are found by cutting a few graphemes anew; in a row of flags, the rest of the row.

The two sides are cut each for itself. A flag or a family of emoji is typed code point by code
point, and the cursor has to stay behind the last of them, though it may for a moment stand in the
midst of one grapheme with what follows. It is put back together when the cursor moves away.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.text.cells import graphemes

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_STEPS = 1000


class _Change(NamedTuple):
    """At the cursor, text on its left and right gave way to other text on its left."""

    left: str
    right: str
    text: str


class _Spot(NamedTuple):
    """Where the cursor is, in code points, and in a version of which text."""

    cursor: int
    place: int


@dataclass(frozen=True, slots=True)
class _Step:
    """What is undone at once, and where the cursor was before and is now."""

    change: _Change
    was: _Spot
    now: _Spot


class Buffer:
    """The graphemes `before` and `after` the cursor, and the changes that made them.

    `place` says which of several texts this is one version of; it is undone with the text.
    """

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []
        self.place = 0
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.before) + "".join(self.after)

    # ------------------------------------------------------------------ moving

    def move(self, count: int) -> None:
        """Move the cursor by that many graphemes, to the left if it is negative."""
        if count < 0:
            *moved, last = self.before[count:] or [""]
            del self.before[count:]
            self._put_after(last)
            self.after[:0] = moved
        else:
            moved = self.after[:count]
            del self.after[:count]
            parts, used = _cut("".join(self.before[-1:]), moved)
            self.before[-1:] = parts + moved[used:]

    def left(self) -> None:
        """Move left by one grapheme."""
        self.move(-1)

    def right(self) -> None:
        """Move right by one grapheme."""
        self.move(1)

    def word_left(self) -> None:
        """Move left to the start of a word."""
        self.move(-span(self.before[::-1], is_letter))

    def word_right(self) -> None:
        """Move right to the end of a word."""
        self.move(span(self.after, is_letter))

    def home(self) -> None:
        """Move to the start of the line that the cursor is in."""
        self.move(-to_newline(self.before[::-1]))

    def end(self) -> None:
        """Move to the end of the line that the cursor is in."""
        self.move(to_newline(self.after))

    # ------------------------------------------------------------------ changing

    def backspace(self) -> None:
        """Delete what stands before the cursor."""
        if self.before:
            self.replace(1, 0, "")

    def delete(self) -> None:
        """Delete what stands behind the cursor."""
        if self.after:
            self.replace(0, 1, "")

    def clear(self) -> None:
        """Empty the line."""
        self.replace(len(self.before), len(self.after), "")

    def transpose(self) -> None:
        """Exchange the graphemes around the cursor; at the end of a line, the two before it."""
        ahead = 1 if to_newline(self.after) else 0
        back = 2 - ahead
        if to_newline(self.before[::-1]) >= back:
            pair = [*self.before[-back:], *self.after[:ahead]]
            self.replace(back, ahead, pair[1] + pair[0])

    # ------------------------------------------------------------------ the way back

    def replace(
        self, back: int, ahead: int, text: str, *, place: int | None = None, joins: bool = False
    ) -> bool:
        """Put text where `back` graphemes before the cursor and `ahead` behind it were.

        The cursor is behind it. That is one step to undo, or with `joins`, for an insertion where
        the step before left the cursor, part of that. Return whether the text is different now.
        """
        was = self._spot()
        change = _Change(
            "".join(self.before[len(self.before) - back :]), "".join(self.after[:ahead]), text
        )
        self._apply(change)
        self.place = self.place if place is None else place
        if change.left + change.right == text:
            return False
        self._record(change, was, joins=joins)
        return True

    def undo(self) -> None:
        """Take the last step back, text and cursor."""
        if self._done:
            step = self._done.pop()
            self._go(step.now.cursor)
            self._take_before(len(step.change.text))
            self._put_before(step.change.left)
            self._put_after(step.change.right)
            self.place = step.was.place
            self._undone.append(step)

    def retract(self) -> None:
        """Take the last step back as if it had never been taken: there is no redo of it."""
        self.undo()
        self._undone.clear()

    def redo(self) -> None:
        """Take the step again that was undone last, unless the text was changed since."""
        if self._undone:
            step = self._undone.pop()
            self._go(step.was.cursor)
            self._apply(step.change)
            self.place = step.now.place
            self._done.append(step)

    def _record(self, change: _Change, was: _Spot, *, joins: bool) -> None:
        self._undone.clear()
        if joins and self._done:
            step = self._done.pop()
            change, was = step.change._replace(text=step.change.text + change.text), step.was
        self._done.append(_Step(change, was, self._spot()))
        del self._done[:-_MOST_STEPS]

    def _forget(self) -> None:
        """Begin with nothing, and no way back."""
        self.before, self.after, self.place = [], [], 0
        self._done.clear()
        self._undone.clear()

    # ------------------------------------------------------------------ by code points

    def _spot(self) -> _Spot:
        return _Spot(len("".join(self.before)), self.place)

    def _go(self, cursor: int) -> None:
        """Move the cursor to where it was, be it in the midst of a grapheme."""
        way = cursor - self._spot().cursor
        count, beyond = _reach(self.after if way > 0 else self.before[::-1], abs(way))
        self.move(count if way > 0 else -count)
        if way > 0:
            self._put_after(self._take_before(beyond))
        else:
            self._put_before(self._take_after(beyond))

    def _apply(self, change: _Change) -> None:
        self._take_before(len(change.left))
        self._take_after(len(change.right))
        self._put_before(change.text)

    def _put_before(self, text: str) -> None:
        self.before[-1:] = graphemes("".join(self.before[-1:]) + text)

    def _put_after(self, text: str) -> None:
        parts, used = _cut(text, self.after)
        self.after[:used] = parts

    def _take_before(self, length: int) -> str:
        count, beyond = _reach(self.before[::-1], length)
        taken = "".join(self.before[len(self.before) - count :])
        del self.before[len(self.before) - count :]
        self._put_before(taken[:beyond])
        return taken[beyond:]

    def _take_after(self, length: int) -> str:
        count, beyond = _reach(self.after, length)
        taken = "".join(self.after[:count])
        del self.after[:count]
        self._put_after(taken[length:] if beyond else "")
        return taken[:length]


def _cut(head: str, rest: list[str]) -> tuple[list[str], int]:
    """Return the graphemes of `head` and of as much of `rest` as it changes, and how much that is.

    The first unchanged grapheme may be among them.
    """
    count = 1
    while head:
        chunk = rest[:count]
        parts = graphemes(head + "".join(chunk))
        if count >= len(rest) or parts[-1] == chunk[-1]:
            return parts, len(chunk)
        count *= 2
    return [], 0


def _reach(items: list[str], length: int) -> tuple[int, int]:
    """Return how many items have `length` code points or more, and by how many more."""
    count = 0
    while length > 0:
        length -= len(items[count])
        count += 1
    return count, -length


def span(items: list[str], inside: Callable[[str], bool]) -> int:
    """Return how many of `items` there are to the end of the first run that is inside."""
    outside = sum(1 for _ in takewhile(lambda item: not inside(item), items))
    return outside + sum(1 for _ in takewhile(inside, items[outside:]))


def is_letter(grapheme: str) -> bool:
    """Return whether a grapheme is of a word."""
    return grapheme[0].isalnum()


def is_ink(grapheme: str) -> bool:
    """Return whether a grapheme is not a space."""
    return not grapheme.isspace()


def to_newline(items: list[str]) -> int:
    """Return how many of `items` there are before the first line break."""
    return items.index("\n") if "\n" in items else len(items)
