"""The input line, as fingers know it from readline: cutting, undo, history, completion. Pure.

It is text of one or more lines. What it can do has names, which `bindings` gives keys: `do` does
what a name means. What is typed comes through `insert`.

Typing is undone a word at a time: a step is a word with the spaces behind it, or twenty
characters of one. Every other change is a step of its own, a paste or a completion too. Redo,
which readline has not, is undone by any change in between. What is cut goes to a ring; cuts that
follow each other directly are one entry. During a search in the history, the line shows what was
found, and what is typed goes to the pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.ui.text.cells import cells, graphemes
from tchat.ui.tui.buffer import Buffer, is_ink, is_letter, span, to_newline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LINE_LIMIT = 1 << 20
"""Longest text in the line, in code points: many times a message, so that no paste is cut."""

_HISTORY_LIMIT = 500
_RING_LIMIT = 60
_TYPED_AT_ONCE = 20


@dataclass(slots=True)
class _Completion:
    start: int
    offers: list[str]
    index: int
    changed: bool = False


@dataclass(slots=True)
class _Search:
    """A search through the history; `back` is the entry found, 0 before there is one."""

    draft: tuple[list[str], list[str]]
    pattern: str = ""
    back: int = 0
    failed: bool = False


class LineEdit(Buffer):
    """What is being typed. `before` and `after` are the graphemes around the cursor."""

    def __init__(self, history: Iterable[str] = ()) -> None:
        super().__init__()
        self.history = list(history)
        self._ring: list[str] = []
        self._last = ""
        self._typed = 0
        self._column: int | None = None
        self._drafts: dict[int, str] = {}
        self._completion: _Completion | None = None
        self._search: _Search | None = None
        self._sought = ""

    @property
    def searching(self) -> str | None:
        """What is searched for in the history; None while nothing is."""
        return None if self._search is None else self._search.pattern

    @property
    def search_failed(self) -> bool:
        """Whether nothing (more) was found: the line shows what was found before, or the draft."""
        return self._search is not None and self._search.failed

    def set(self, text: str) -> None:
        """Replace the line; the cursor goes to its end."""
        self._change("")
        self.replace(len(self.before), len(self.after), text)

    def insert(self, text: str) -> None:
        """Insert text at the cursor; a combining character joins what stands before it.

        Raises `Refused` (text_too_long) if the line had more than `LINE_LIMIT` code points then;
        nothing is changed.
        """
        if self._search is not None:
            self._seek(self._search, self._search.pattern + text, max(self._search.back, 1))
            return
        if len(self.text) + len(text) > LINE_LIMIT:
            raise Refused(
                Code.TEXT_TOO_LONG,
                "This is more than the input line holds, and none of it was taken; "
                "send it as a file.",
            )
        typing = len(text) == 1
        joins = typing and self._last == "type" and self._same_word(text)
        self._typed = self._typed + 1 if joins else 1
        self._change("type" if typing else "insert")
        self.replace(0, 0, text, joins=joins)

    def take(self) -> str:
        """Return the line, remember it, and begin a new one."""
        self._end_search(take=True)
        line = self.text
        if line.strip() and (not self.history or self.history[-1] != line):
            self.history.append(line)
            del self.history[:-_HISTORY_LIMIT]
        self._drafts.clear()
        self._forget()
        self._change("")
        return line

    def do(self, action: str) -> bool:
        """Do what an action of the table of bindings means here.

        Return False, with nothing done, for what is the window's: actions that the line does not
        know, and those that it leaves to the window while it is empty.
        """
        if self._search is not None and self._do_searching(self._search, action):
            return True
        doing = _ACTIONS.get(action)
        if doing is None or (action in _IF_NOT_EMPTY and not (self.before or self.after)):
            return False
        self._completion = None
        if doing(self) is not False:
            self._last = action
        return True

    def complete(
        self, offers_for: Callable[[str], tuple[int, list[str]]], *, back: bool = False
    ) -> None:
        """Complete the word before the cursor; again, to the next that fits, or `back` to the last.

        `offers_for` is called with the text before the cursor, and returns where in it the word
        begins, and what it could become.
        """
        self._end_search(take=True)
        state = self._completion
        if state is None:
            start, offers = offers_for("".join(self.before))
            if not offers:
                return
            state = _Completion(start, offers, -1 if back else 0)
        else:
            state.index += -1 if back else 1
            if state.changed:
                self.retract()
        self._change("complete")
        state.changed = self._put(state.start, state.offers[state.index % len(state.offers)])
        self._completion = state if len(state.offers) > 1 else None

    def _put(self, start: int, offer: str) -> bool:
        """Put an offer in the place of what is between `start`, in code points, and the cursor."""
        length, back = len("".join(self.before)), 0
        while length > start:
            back += 1
            length -= len(self.before[-back])
        kept = self.before[-back][: start - length] if length < start else ""
        return self.replace(back, 0, kept + offer)

    def _change(self, kind: str) -> None:
        """Know that the line is about to change by something other than an action."""
        self._end_search(take=False)
        self._completion = None
        self._last = kind

    def _same_word(self, character: str) -> bool:
        begins = bool(self.before) and self.before[-1].isspace() and not character.isspace()
        return self._typed < _TYPED_AT_ONCE and not begins

    # ------------------------------------------------------------------ moving

    def up(self) -> None:
        """Move to the line above; from the first, recall what was entered before this."""
        if "\n" not in self.before:
            self._recall(self.place + 1)
            return
        column = self._wanted_column()
        self.home()
        self.move(-1)
        self.home()
        self._to_column(column)

    def down(self) -> None:
        """Move to the line below; from the last, recall what was entered after this."""
        if "\n" not in self.after:
            self._recall(self.place - 1)
            return
        column = self._wanted_column()
        self.end()
        self.move(1)
        self._to_column(column)

    def _wanted_column(self) -> int:
        """Return the column, in cells, that a run of moves up and down began in."""
        if self._last not in ("up", "down") or self._column is None:
            length = to_newline(self.before[::-1])
            self._column = cells("".join(self.before[len(self.before) - length :]))
        return self._column

    def _to_column(self, column: int) -> None:
        for grapheme in self.after[: to_newline(self.after)]:
            column -= cells(grapheme)
            if column < 0:
                break
            self.right()

    # ------------------------------------------------------------------ changing

    def newline(self) -> None:
        """Begin a new line within the text."""
        self.insert("\n")

    def kill_to_end(self) -> bool:
        """Cut from the cursor to the end of its line, or the line break that it stands at."""
        return self._kill_ahead(to_newline(self.after) or 1)

    def kill_to_start(self) -> bool:
        """Cut from the start of the cursor's line, or the line break that it stands behind."""
        return self._kill_back(to_newline(self.before[::-1]) or 1)

    def kill_to_space(self) -> bool:
        """Cut back to a space."""
        return self._kill_back(span(self.before[::-1], is_ink))

    def kill_word_back(self) -> bool:
        """Cut back to the start of a word."""
        return self._kill_back(span(self.before[::-1], is_letter))

    def kill_word(self) -> bool:
        """Cut to the end of a word."""
        return self._kill_ahead(span(self.after, is_letter))

    def _kill_back(self, count: int) -> bool:
        killed = "".join(self.before[-count:] if count else ())
        if killed:
            self._ring.append(killed + self._open_entry())
            self.replace(min(count, len(self.before)), 0, "")
        return bool(killed)

    def _kill_ahead(self, count: int) -> bool:
        killed = "".join(self.after[:count])
        if killed:
            self._ring.append(self._open_entry() + killed)
            self.replace(0, min(count, len(self.after)), "")
        return bool(killed)

    def _open_entry(self) -> str:
        """Return what the next cut belongs to, taken from the ring, which has room then."""
        if self._last in _KILLS:
            return self._ring.pop()
        del self._ring[: 1 - _RING_LIMIT]
        return ""

    def yank(self) -> bool:
        """Insert what was cut last."""
        if self._ring:
            self._last = ""  # or it might join what was typed
            self.insert(self._ring[-1])
        return bool(self._ring)

    def yank_older(self) -> bool:
        """Directly after a yank: turn the ring, and insert what was cut before instead."""
        if self._last not in ("yank", "yank-older"):
            return False
        self.retract()
        self._ring.insert(0, self._ring.pop())
        return self.yank()

    # ------------------------------------------------------------------ the history

    def _recall(self, back: int) -> None:
        """Show the line `back` entries ago; 0 is the one that was being typed."""
        if 0 <= back <= len(self.history):
            text = self.history[-back] if back else ""
            self._show(back, self._drafts.get(back, text))

    def _show(self, back: int, text: str) -> None:
        self._drafts[self.place] = self.text
        self._column = None
        self.replace(len(self.before), len(self.after), text, place=back)

    def search_history(self) -> None:
        """Search what was entered, from the newest to the oldest; again: further back."""
        if self._search is None:
            self._search = _Search((self.before, self.after))
        else:
            search = self._search
            self._seek(search, search.pattern or self._sought, search.back + 1)

    def _do_searching(self, search: _Search, action: str) -> bool:
        """Do what an action means during a search; return False if it has its usual meaning."""
        if action in ("abort", "bottom", "interrupt"):
            self._end_search(take=False)
        elif action == "enter":
            self._end_search(take=True)
        elif action == "backspace":
            self._seek(search, "".join(graphemes(search.pattern)[:-1]), 1)
        else:
            if action in _ACTIONS and action != "search-history":
                self._end_search(take=True)
            return False
        return True

    def _seek(self, search: _Search, pattern: str, start: int) -> None:
        """Show the newest entry with `pattern` in it from `start` on, and not what is shown."""
        older, shown = start > search.back > 0, self.text
        search.pattern, search.failed = pattern, False
        if not pattern:
            search.back = 0
            self.before, self.after = search.draft
            return
        for back in range(start, len(self.history) + 1):
            entry = self.history[-back]
            if pattern.casefold() in entry.casefold() and (entry != shown or not older):
                search.back = back
                self.before, self.after = graphemes(entry), []
                return
        search.failed = True

    def _end_search(self, *, take: bool) -> None:
        """End a search: with what was found, or with the line as it was."""
        search, self._search = self._search, None
        if search is None:
            return
        self._sought = search.pattern or self._sought
        self.before, self.after = search.draft
        if take and search.back:
            self._show(search.back, self.history[-search.back])


_KILLS = frozenset({"kill-to-end", "kill-to-start", "kill-to-space", "kill-word-back", "kill-word"})
_IF_NOT_EMPTY = frozenset({"delete-or-leave", "end-or-bottom", "interrupt"})


def _nothing(_: LineEdit) -> None:
    """Mean nothing, but as a key: what ends by any other key has ended."""


_ACTIONS: dict[str, Callable[[LineEdit], bool | None]] = {
    "abort": _nothing,
    "backspace": LineEdit.backspace,
    "delete": LineEdit.delete,
    "delete-or-leave": LineEdit.delete,
    "down": LineEdit.down,
    "end-or-bottom": LineEdit.end,
    "interrupt": LineEdit.clear,
    "kill-to-end": LineEdit.kill_to_end,
    "kill-to-space": LineEdit.kill_to_space,
    "kill-to-start": LineEdit.kill_to_start,
    "kill-word": LineEdit.kill_word,
    "kill-word-back": LineEdit.kill_word_back,
    "left": LineEdit.left,
    "line-end": LineEdit.end,
    "line-start": LineEdit.home,
    "newline": LineEdit.newline,
    "redo": LineEdit.redo,
    "right": LineEdit.right,
    "search-history": LineEdit.search_history,
    "transpose": LineEdit.transpose,
    "undo": LineEdit.undo,
    "up": LineEdit.up,
    "word-left": LineEdit.word_left,
    "word-right": LineEdit.word_right,
    "yank": LineEdit.yank,
    "yank-older": LineEdit.yank_older,
}
