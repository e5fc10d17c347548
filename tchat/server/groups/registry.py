"""Registry of active groups: starts an actor when a group is needed, forgets it when idle.

A client may ask about any number of names. So only some groups are loaded at the same time, and
whoever needs another one waits before its actor exists: each connection waits for one at most, and
nothing piles up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.server.faults import describe, is_storage
from tchat.server.groups.actor import GroupActor
from tchat.server.groups.inbox import Query
from tchat.server.send_queue import SendQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tchat.core.group.feature import GroupLimits
    from tchat.core.group.state import Group
    from tchat.server.groups.environment import GroupEnvironment
    from tchat.server.groups.inbox import Item
    from tchat.server.groups.subscriptions import Subscription


class Registry:
    """Finds the actor of a group by the group's folded name; actors run in `nursery`."""

    def __init__(self, environment: GroupEnvironment, nursery: trio.Nursery) -> None:
        self._environment = environment
        self._nursery = nursery
        self._actors: dict[str, GroupActor] = {}
        self._last_of_retired = 0
        self._loading = trio.Semaphore(environment.loading_limit)

    @property
    def count(self) -> int:
        """The number of active groups."""
        return len(self._actors)

    @property
    def events(self) -> int:
        """The number of events that were committed in all groups."""
        return self._environment.events

    def find(self, key: str) -> GroupActor | None:
        """Return the actor of a group; None if it is not active."""
        return self._actors.get(key)

    def is_active(self, key: str) -> bool:
        """Return whether a group is active."""
        return key in self._actors

    async def send(
        self, key: str, item: Item, on_loaded: Callable[[int], None] = lambda _: None
    ) -> None:
        """Put `item` into a group's inbox; activate the group if needed, and wait for space.

        If the group is activated for it, `on_loaded` is called with the number of entries that had
        to be loaded, perhaps later.
        """
        actor = self._actors.get(key)
        if actor is None:
            await self._loading.acquire()
            actor = self._actors.get(key)  # meanwhile, somebody else may have needed it
            if actor is None:
                actor = self._actors[key] = GroupActor(key, self._environment, self._retire)
                self._nursery.start_soon(self._run, actor, on_loaded)
            else:
                self._loading.release()
        # There is no checkpoint between finding the actor and this line, and an actor retires only
        # with an empty inbox that nobody waits for, so it cannot end with the item unread.
        await actor.inbox.put(item)

    async def settle(self) -> None:
        """Wait until all active groups have processed what is in their inboxes now."""
        # Whoever is about to put something into an inbox does it before this returns.
        await trio.lowlevel.checkpoint()
        for key in list(self._actors):
            await self._settle_one(key)

    async def _settle_one(self, key: str) -> None:
        done = trio.Event()

        def answer(_: Group) -> None:
            done.set()

        # If the actor fails, it closes the queue, which starts a writer.
        queue = SendQueue(lambda _: None, done.set)
        await self.send(key, Query(answer, queue, lambda _: done.set()))
        await done.wait()

    def unsubscribe(self, subscription: Subscription, key: str) -> None:
        """End a subscription."""
        actor = self._actors.get(key)
        if actor is not None:
            actor.unsubscribe(subscription)

    def refresh_presence(self, key: str) -> None:
        """Make an active group announce who went away or came back."""
        actor = self._actors.get(key)
        if actor is not None:
            actor.refresh_presence()

    def last_read(self, key: str, person: str) -> int:
        """Return the seq of the last event that a person has read; 0 in an inactive group."""
        actor = self._actors.get(key)
        return 0 if actor is None else actor.last_read(person)

    def erasures(self, keys: Iterable[str]) -> int:
        """Return a number that changes whenever a text is erased in one of these groups.

        Compare it before and after a read from the store: if it changed, the result may still
        contain a deleted message.
        """
        # Erasures have ascending numbers. A group that retires must not hide one of another group.
        active = (self._actors[key].last_erasure for key in keys if key in self._actors)
        return max((self._last_of_retired, *active))

    def set_limits(self, limits: GroupLimits) -> None:
        """Use other limits in all groups."""
        self._environment.limits = limits

    def close(self) -> None:
        """Make every actor process its inbox, then end."""
        for actor in self._actors.values():
            actor.inbox.close()

    def _retire(self, actor: GroupActor) -> None:
        if self._actors.get(actor.key) is actor:
            del self._actors[actor.key]
            self._last_of_retired = max(self._last_of_retired, actor.last_erasure)

    async def _run(self, actor: GroupActor, on_loaded: Callable[[int], None]) -> None:
        """Run an actor; a fault in one group is logged and does not affect other groups."""

        def loaded() -> None:
            self._loading.release()
            on_loaded(actor.entries)

        try:
            await actor.run(loaded)
        except Exception as error:
            if is_storage(error):
                if not self._environment.on_fatal(f"group {actor.key}", error):
                    raise
                return
            self._environment.log.line("fault", where=f"group {actor.key}", reason=describe(error))
        finally:
            self._retire(actor)
