"""Group quota: limits how many groups one person may be in, or ask to join.

Direct conversations do not count. `load` caches a person's groups beforehand, so that `reserve`
needs no disk access and can run inside a group's batch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tchat.core.group.direct import is_direct
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.core.protocol.frames import Standing
    from tchat.store.base import Store

MAX_CACHED = 10_000
"""The largest number of people whose groups are cached."""


class GroupQuota:
    """Counts the groups of each person, up to `limit`."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self.limit = limit
        self._groups: OrderedDict[str, set[str]] = OrderedDict()  # least recently used first

    async def load(self, person: str) -> None:
        """Load a person's groups into the cache; `reserve` needs them there."""
        if person not in self._groups:
            groups = {g for g in await self._store.groups_of(person) if not is_direct(g)}
            # During the wait, another task may have loaded the groups and reserved one more.
            self._groups.setdefault(person, groups)
        self._groups.move_to_end(person)
        while len(self._groups) > MAX_CACHED:
            self._groups.popitem(last=False)

    def has(self, person: str, group: str) -> bool:
        """Return whether a loaded person is in a group, or asks to join it."""
        return group in self._groups.get(person, ())

    def reserve(self, person: str, group: str) -> None:
        """Count one more group for a person. Raises `Refused` (groups_full)."""
        groups = self._groups.get(person)
        if groups is None or (group not in groups and len(groups) >= self.limit):
            raise Refused(
                Code.GROUPS_FULL,
                f"You are in {self.limit} groups, or ask to join them; this server allows no more."
                " Leave one first, or withdraw a request.",
            )
        groups.add(group)

    def on_standing_changed(self, group: str, standings: Mapping[str, Standing]) -> None:
        """Release the quota of people who are no longer in the group."""
        for person, standing in standings.items():
            if standing == "outsider" and person in self._groups:
                self._groups[person].discard(group)
