"""Lasting troubles of a store, such as a full disk: when they begin and end, for the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

TroubleKind = Literal["disk_full", "opened_alone", "checkpoint_failed", "scrub_failed"]
"""`disk_full`: nothing can be written. `opened_alone`: no other program can read the database.
`checkpoint_failed`: the write-ahead log grows. `scrub_failed`: it still contains deleted text."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A trouble: its reason, and the bytes of the write-ahead log when it began."""

    kind: TroubleKind
    reason: str
    wal_bytes: int


class Troubles:
    """The troubles that a store has now, by kind. Only for Trio's thread."""

    def __init__(self) -> None:
        self.current: dict[TroubleKind, Trouble] = {}
        self._listener: Callable[[Trouble, bool], None] = lambda *_: None

    def listen(self, listener: Callable[[Trouble, bool], None]) -> None:
        """Call `listener` with each trouble that there is, begins or ends; True until it ends."""
        self._listener = listener
        for trouble in self.current.values():
            listener(trouble, True)  # positional in the listener's type

    def begin(self, trouble: Trouble) -> None:
        """Record a trouble; tell it unless it has begun before."""
        if trouble.kind not in self.current:
            self.current[trouble.kind] = trouble
            self._listener(trouble, True)

    def end(self, kind: TroubleKind) -> None:
        """Record that there is no such trouble any more."""
        if (trouble := self.current.pop(kind, None)) is not None:
            self._listener(trouble, False)
