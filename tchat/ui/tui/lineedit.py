"""Line editing as in readline: kill ring, undo, input history and its search, completion. Pure.

The input line is text of one or more lines. Its commands are the actions of `keymap`, which binds
keys to them; `do` runs one. Typed and pasted text comes through `insert`.

Typing is undone a word at a time: a step is a word with the spaces after it, or twenty characters
of one. Every other change is a step of its own, also a paste or a completion. A new change discards
the steps that could be redone (readline has no redo). Cut text goes to the kill ring; cuts that
follow each other directly are one entry. During a search in the history, the line shows the entry
found, and typed text goes to the search pattern.

No draft is lost: a line that is cleared goes into the history, and one that makes room for another
(a command that a key begins, an entry of the history that is sent) is put aside and comes back. A
line that comes back because something in it was refused is `selected`: it can be sent again or
edited, but typed or pasted text replaces it, since people go on typing as if the line were empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.ui.text.cells import cells, expand_tabs, graphemes, tab_width
from tchat.ui.tui.buffer import Buffer, count_run, count_to_newline, is_letter, is_not_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LINE_LIMIT = 1 << 20
"""Longest text in the line, in code points: many times a message, so that no paste is cut."""

_HISTORY_LIMIT = 500
_KILL_RING_LIMIT = 60
_TYPED_STEP_LIMIT = 20


@dataclass(slots=True)
class _Completion:
    """A word being completed; `changed` says that the next completion has to undo this one."""

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
    """The line being typed, with its history, newest entry last.

    In `text_id` terms, 0 is the line that is being typed, and n the n-th newest history entry.
    `selected` says that inserted text replaces the line, which then goes into the history.
    """

    def __init__(self, history: Iterable[str] = ()) -> None:
        super().__init__()
        self.history = list(history)
        self.selected = False
        self._kill_ring: list[str] = []
        self._last = ""
        self._typed = 0
        self._column: int | None = None
        self._drafts: dict[int, str] = {}
        self._completion: _Completion | None = None
        self._search: _Search | None = None
        self._last_pattern = ""
        self._aside: list[str] = []
        self.meaning: Callable[[str], str] = str
        """Completes a text that leaves the line, so that it means the same when it comes back."""

    @property
    def searching(self) -> str | None:
        """The pattern being searched for in the history; None if there is no search."""
        return None if self._search is None else self._search.pattern

    @property
    def search_failed(self) -> bool:
        """Whether there was no (further) match: the line shows the last one, or the draft."""
        return self._search is not None and self._search.failed

    def unsent(self) -> list[str]:
        """Return the texts that were typed and not sent, the one in the input line last."""
        search = self._search
        line = self.text if search is None else "".join(search.draft[0] + search.draft[1])
        texts = [*self._aside, *self._edited().values()]
        if self._is_edited(self.text_id, line):
            texts.append(line)
        return [self.meaning(text) for text in dict.fromkeys(texts) if text.strip()]

    def _edited(self) -> dict[int, str]:
        """Return the drafts that are not shown: the line being typed, edited history entries."""
        return {
            back: text
            for back, text in self._drafts.items()
            if back != self.text_id and self._is_edited(back, text)
        }

    def _is_edited(self, back: int, text: str) -> bool:
        """Return whether a text is a draft, not an unchanged entry of the history."""
        return not back or text != self.history[-back]

    def restore(self, texts: list[str]) -> None:
        """Begin with unsent texts: the last one in the line, the others put aside."""
        self._aside = texts[:-1]
        if texts:
            self.set(texts[-1])

    def put_aside(self, text: str) -> None:
        """Put the line aside, until `bring_back`, and begin another one with `text`."""
        self._end_search(accept=False)
        if self.text.strip():
            self._aside.append(self.meaning(self.text))
        self.set(text)

    def make_complete(self) -> None:
        """Replace the line, and the one put aside by the history, with what they mean.

        Undo would bring back a text without its meaning, so its steps are forgotten.
        """
        self._end_search(accept=False)
        text = self.meaning(self.text) if self.text.strip() else ""
        self._settle("")
        self._forget()
        self.set(text)

    @property
    def waiting(self) -> int:
        """How many texts are put aside, and come back when the line is sent or cleared."""
        return len(self._aside)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being typed or searched."""
        return self._search is None and not self.text

    def keep_for_later(self, text: str) -> None:
        """Make `bring_back` return this text before any text that was put aside earlier."""
        self._aside.append(text)

    def bring_back(self) -> None:
        """Continue the line that was put aside last, if the present one is empty."""
        if self._aside and not self.text:
            self.set(self._aside.pop())

    def set(self, text: str) -> None:
        """Replace the line; the cursor goes to its end."""
        self._begin_change("")
        self.replace(len(self.before), len(self.after), text)

    def insert(self, text: str) -> None:
        """Insert text at the cursor, or in place of the line if it is selected.

        A combining character joins the one before it. Raises `Refused` (text_too_long), with
        nothing changed, if the line would have more than `LINE_LIMIT` code points.
        """
        if self._search is not None:
            self._find(self._search, self._search.pattern + text, max(self._search.back, 1))
            return
        kept = "" if self.selected else self.text
        if len(kept) + len(text) > LINE_LIMIT:
            raise Refused(
                Code.TEXT_TOO_LONG,
                "This text is too long for the input line, and nothing was inserted; "
                "send it as a file.",
            )
        typing = len(text) == 1
        joins = typing and self._last == "type" and self._continues_word(text)
        self._typed = self._typed + 1 if joins else 1
        back = ahead = 0
        if self.selected:
            self._remember(self.text)
            back, ahead = len(self.before), len(self.after)
        self._begin_change("type" if typing else "insert")
        self.replace(back, ahead, text, joins=joins)

    def submit(self, *, remembers: bool = True) -> str:
        """Return the line, add it to the history if it `remembers` it, and start an empty one.

        If it is an entry of the history, the line that was being typed is put aside.
        """
        self._end_search(accept=True)
        line = self.text
        self._settle(line if remembers else "")
        self._forget()
        self._begin_change("")
        return line

    def discard(self) -> None:
        """Clear the line; its text goes into the history."""
        self._settle(self.text if self._is_edited(self.text_id, self.text) else "")
        self.replace(len(self.before), len(self.after), "", text_id=0)
        self.bring_back()

    def _settle(self, line: str) -> None:
        """Put `line` and edited entries into the history, and the line being typed aside."""
        edited = self._edited()
        if (draft := edited.pop(0, "")).strip():
            self._aside.append(self.meaning(draft))
        for text in (*edited.values(), line):
            self._remember(text)
        self._drafts.clear()

    def _remember(self, line: str) -> None:
        line = self.meaning(line)
        if line.strip() and (not self.history or self.history[-1] != line):
            self.history.append(line)
            del self.history[:-_HISTORY_LIMIT]

    def do(self, action: str) -> bool:
        """Run an action of `keymap`; return False, without effect, if the app has to run it.

        The app runs actions unknown to the line and, while the line is empty, some others.
        """
        if self._search is not None and self._do_searching(self._search, action):
            return True
        method = _ACTIONS.get(action)
        if method is None or (action in _IF_NOT_EMPTY and not (self.before or self.after)):
            return False
        self._completion = None
        self.selected = False
        if method(self) is not False:
            self._last = action
        return True

    def complete(
        self, offers_for: Callable[[str], tuple[int, list[str]]], *, back: bool = False
    ) -> None:
        """Complete the word before the cursor; repeated, show the next or (`back`) previous one.

        `offers_for` is called with the text before the cursor, and returns the code point at which
        the word begins, and the possible completions.
        """
        self._end_search(accept=True)
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
        self._begin_change("complete")
        offer = state.offers[state.index % len(state.offers)]
        state.changed = self._replace_from(state.start, offer)
        self._completion = state if len(state.offers) > 1 else None

    def _replace_from(self, start: int, text: str) -> bool:
        """Replace the text from code point `start` to the cursor; return whether it changed."""
        length, back = len("".join(self.before)), 0
        while length > start:
            back += 1
            length -= len(self.before[-back])
        kept = self.before[-back][: start - length] if length < start else ""
        return self.replace(back, 0, kept + text)

    def _begin_change(self, kind: str) -> None:
        """End a search and a completion before a change; remember `kind` as the last change."""
        self._end_search(accept=False)
        self._completion = None
        self.selected = False
        self._last = kind

    def _continues_word(self, character: str) -> bool:
        begins = bool(self.before) and self.before[-1].isspace() and not character.isspace()
        return self._typed < _TYPED_STEP_LIMIT and not begins

    # ------------------------------------------------------------------ moving

    def up(self) -> None:
        """Move to the line above; from the first line, recall an older history entry."""
        if "\n" not in self.before:
            self._recall(self.text_id + 1)
            return
        column = self._wanted_column()
        self.home()
        self.move(-1)
        self.home()
        self._move_to_column(column)

    def down(self) -> None:
        """Move to the line below; from the last line, recall a newer history entry."""
        if "\n" not in self.after:
            self._recall(self.text_id - 1)
            return
        column = self._wanted_column()
        self.end()
        self.move(1)
        self._move_to_column(column)

    def _wanted_column(self) -> int:
        """Return the column, in cells, in which a run of moves up and down began."""
        if self._last not in ("up", "down") or self._column is None:
            length = count_to_newline(self.before[::-1])
            self._column = cells(expand_tabs("".join(self.before[len(self.before) - length :])))
        return self._column

    def _move_to_column(self, column: int) -> None:
        """Move right from the start of a line, as far as `column` cells allow."""
        at = 0
        for grapheme in self.after[: count_to_newline(self.after)]:
            at += tab_width(at) if grapheme == "\t" else cells(grapheme)
            if at > column:
                break
            self.right()

    # ------------------------------------------------------------------ cutting and yanking

    def newline(self) -> None:
        """Insert a line break."""
        self.insert("\n")

    def kill_to_end(self) -> bool:
        """Cut from the cursor to the end of its line; at the end, cut the line break."""
        return self._kill_ahead(count_to_newline(self.after) or 1)

    def kill_to_start(self) -> bool:
        """Cut from the start of the cursor's line; at the start, cut the line break before it."""
        return self._kill_back(count_to_newline(self.before[::-1]) or 1)

    def kill_to_space(self) -> bool:
        """Cut back to a space."""
        return self._kill_back(count_run(self.before[::-1], is_not_space))

    def kill_word_back(self) -> bool:
        """Cut back to the start of a word."""
        return self._kill_back(count_run(self.before[::-1], is_letter))

    def kill_word(self) -> bool:
        """Cut to the end of a word."""
        return self._kill_ahead(count_run(self.after, is_letter))

    def _kill_back(self, count: int) -> bool:
        killed = "".join(self.before[-count:] if count else ())
        if killed:
            self._kill_ring.append(killed + self._pop_open_entry())
            self.replace(min(count, len(self.before)), 0, "")
        return bool(killed)

    def _kill_ahead(self, count: int) -> bool:
        killed = "".join(self.after[:count])
        if killed:
            self._kill_ring.append(self._pop_open_entry() + killed)
            self.replace(0, min(count, len(self.after)), "")
        return bool(killed)

    def _pop_open_entry(self) -> str:
        """Remove and return the entry that this cut extends, or ""; bound the kill ring."""
        if self._last in _KILLS:
            return self._kill_ring.pop()
        del self._kill_ring[: 1 - _KILL_RING_LIMIT]
        return ""

    def yank(self) -> bool:
        """Insert the text that was cut last."""
        if self._kill_ring:
            self._last = ""  # a single character would join the undo step of typing before it
            self.insert(self._kill_ring[-1])
        return bool(self._kill_ring)

    def yank_older(self) -> bool:
        """Directly after a yank: rotate the kill ring, and insert the previous cut instead."""
        if self._last not in ("yank", "yank-older"):
            return False
        self.retract()
        self._kill_ring.insert(0, self._kill_ring.pop())
        return self.yank()

    # ------------------------------------------------------------------ the history

    def _recall(self, back: int) -> None:
        """Show the history entry `back` from the newest; 0 is the line that was being typed."""
        if 0 <= back <= len(self.history):
            text = self.history[-back] if back else ""
            self._show_entry(back, self._drafts.get(back, text))

    def _show_entry(self, back: int, text: str) -> None:
        self._drafts[self.text_id] = self.text
        self._column = None
        self.replace(len(self.before), len(self.after), text, text_id=back)

    def search_history(self) -> None:
        """Start a search through the history, newest first; repeated: search further back."""
        if self._search is None:
            self._search = _Search((self.before, self.after))
        else:
            search = self._search
            self._find(search, search.pattern or self._last_pattern, search.back + 1)

    def _do_searching(self, search: _Search, action: str) -> bool:
        """Run an action during a search; return False if it has its usual meaning."""
        if action in ("abort", "bottom", "interrupt"):
            self._end_search(accept=False)
        elif action == "enter":
            self._end_search(accept=True)
        elif action == "backspace":
            self._find(search, "".join(graphemes(search.pattern)[:-1]), 1)
        else:
            if action in _ACTIONS and action != "search-history":
                self._end_search(accept=True)  # the action then applies to the entry found
            return False
        return True

    def _find(self, search: _Search, pattern: str, start: int) -> None:
        """Show the newest entry that contains `pattern`, from `start` entries back on.

        Searching further back skips entries with the text that is shown already.
        """
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

    def _end_search(self, *, accept: bool) -> None:
        """End a search, if there is one: with the entry found, or with the draft."""
        search, self._search = self._search, None
        if search is None:
            return
        self._last_pattern = search.pattern or self._last_pattern
        # Back to the draft first, so that the entry found is one undo step from it.
        self.before, self.after = search.draft
        if accept and search.back:
            self._show_entry(search.back, self.history[-search.back])


_KILLS = frozenset({"kill-to-end", "kill-to-start", "kill-to-space", "kill-word-back", "kill-word"})
_IF_NOT_EMPTY = frozenset({"delete-or-leave", "end-or-bottom", "interrupt"})


def _do_nothing(_: LineEdit) -> None:
    """Have no effect but that of every action: end a completion or a run of moves."""


_ACTIONS: dict[str, Callable[[LineEdit], bool | None]] = {
    "abort": _do_nothing,
    "backspace": LineEdit.backspace,
    "delete": LineEdit.delete,
    "delete-or-leave": LineEdit.delete,
    "down": LineEdit.down,
    "end-or-bottom": LineEdit.end,
    "interrupt": LineEdit.discard,
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
"""The methods for the line's actions; a method returns False if it could do nothing."""
