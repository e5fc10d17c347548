"""Remember which events of groups without a window were already searched for mentions.

    {"sha256:Y2hhdC5l…": {"alice": {"ignored": ["mallory"], "groups": {"lab": [120, 3400]}}}}

Nothing in events 120 to 3400 of #lab is meant for alice, so that no later start has to load them
again. Messages of ignored people do not count: once somebody is not ignored any more, everything is
searched again. The file only saves time: if it is missing, damaged or cannot be written, that is no
error.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tchat.client.shared_records import PersonRecords, table_of
from tchat.core.text import fold

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path


MOST_GROUPS = 1000
"""How many groups of a server are remembered, those searched last: it may list others each time."""


class Span(NamedTuple):
    """The events `first` to `last` of a group; none if `last` is 0."""

    first: int = 0
    last: int = 0


class Searched:
    """The searched events of a person's groups on one server, without `ignored` people (folded).

    `servers` are the names that identify the server, the most reliable first. Without a path,
    nothing is saved.
    """

    def __init__(
        self,
        path: Path | None = None,
        servers: Sequence[str] = ("",),
        user: str = "",
        ignored: Collection[str] = (),
    ) -> None:
        self._records = PersonRecords(path, servers, user)
        self._ignored = ignored
        self._changed = False
        mine = table_of(self._records.read())
        before = mine.get("ignored")
        is_valid = isinstance(before, list) and all(
            isinstance(name, str) and name in ignored for name in before
        )
        self._spans = _spans(mine.get("groups")) if is_valid else {}

    def span_of(self, group: str) -> Span:
        """Return the events of a group that were searched."""
        return self._spans.get(fold(group), Span())

    def add(self, group: str, span: Span) -> None:
        """Set the events of a group that were searched."""
        self._changed |= self.span_of(group) != span
        self._spans.pop(fold(group), None)  # so that the latest is the last
        self._spans[fold(group)] = span
        if len(self._spans) > MOST_GROUPS:
            del self._spans[next(iter(self._spans))]

    def forget(self) -> None:
        """Forget all, since somebody is not ignored any more."""
        self._spans.clear()
        self._changed = True

    def save(self) -> None:
        """Write the file, if anything has changed."""
        if not self._changed:
            return
        mine = {"ignored": sorted(self._ignored), "groups": self._spans}
        with suppress(OSError):
            self._records.update(lambda _: mine)
            self._changed = False


def _spans(groups: object) -> dict[str, Span]:
    spans = {}
    for group, span in table_of(groups).items():
        match span:
            case [int(first), int(last)] if 0 < first <= last:
                spans[group] = Span(first, last)
    return spans
