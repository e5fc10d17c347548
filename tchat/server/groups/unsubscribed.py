"""The members with a connection that is not subscribed to the group.

They are told of what is meant for them (`core.group.feature.Body.addressees`), and every message is
searched for their names. So the set is kept, and looked at again only for the people whose
connections, subscriptions or memberships changed: otherwise each message to a large group would
cost a look at every member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.mentions import Names
from tchat.server.recent import RecentChanges

if TYPE_CHECKING:
    from tchat.core.group.state import Group
    from tchat.server.groups.subscriptions import Subscriptions
    from tchat.server.presence import ClientConnection, Presence


class UnsubscribedMembers:
    """The unsubscribed members of one group; `memberships` gets the people who join or leave."""

    def __init__(self, presence: Presence, subscriptions: Subscriptions) -> None:
        self.memberships = RecentChanges()
        self._presence = presence
        self._subscriptions = subscriptions
        self._names = Names()
        self._as_of = (-1, -1, -1)

    def names(self, group: Group) -> Names:
        """Return the names (folded) of the unsubscribed members."""
        now = (
            self._presence.changes.count,
            self._subscriptions.changes.count,
            self.memberships.count,
        )
        if now != self._as_of:
            self._update(group)
            self._as_of = now
        return self._names

    def connections_of(self, person: str) -> list[ClientConnection]:
        """Return a person's connections that are not subscribed to the group."""
        connections = self._presence.connections_of(person)
        here = {one.send_queue for one in self._subscriptions.of(person)} if connections else ()
        return [one for one in connections if one.send_queue not in here]

    def _update(self, group: Group) -> None:
        changed = self._changed()
        if changed is None:
            changed = set(group.members)
            self._names = Names()
        for person in changed:
            if person in group.members and self.connections_of(person):
                self._names.add(person)
            else:
                self._names.discard(person)

    def _changed(self) -> set[str] | None:
        """Return the people of the changes since `_as_of`; None if it is too long ago."""
        changed: set[str] = set()
        logs = (self._presence.changes, self._subscriptions.changes, self.memberships)
        for log, count in zip(logs, self._as_of, strict=True):
            people = log.since(count)
            if people is None:
                return None
            changed |= people
        return changed
