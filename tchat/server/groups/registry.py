"""The groups that are awake: an actor is started when somebody needs it, and ends when idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import DEFAULT_LIMITS
from tchat.server.clock import now_ms
from tchat.server.faults import describe, is_storage
from tchat.server.groups.actor import GroupActor
from tchat.server.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tchat.core.group.feature import GroupLimits
    from tchat.core.protocol.frames import Standing
    from tchat.server.groups.inbox import Item
    from tchat.server.groups.subscriptions import Subscription
    from tchat.server.log import Log
    from tchat.store.base import Store


class Registry:
    """Finds the actor of a group, whose tasks run in `nursery`; the rest is as in `GroupActor`."""

    def __init__(
        self,
        store: Store,
        log: Log,
        nursery: trio.Nursery,
        crowd: Presence | None = None,
        moved: Callable[[str, Mapping[str, Standing]], None] = lambda *_: None,
        limits: GroupLimits = DEFAULT_LIMITS,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._nursery = nursery
        self._crowd = crowd or Presence()
        self._moved = moved
        self._limits = limits
        self._actors: dict[str, GroupActor] = {}

    def take(self, key: str, item: Item) -> bool:
        """Put `item` into the inbox of the group; return False if it is full, or nobody's yet."""
        actor = self._actors.get(key)
        if actor is None:
            return False
        try:
            actor.inbox.send_nowait(item)
        except trio.WouldBlock:
            return False
        return True

    async def send(self, key: str, item: Item) -> None:
        """Put `item` into the inbox of the group, waiting while it is full."""
        actor = self._actors.get(key)
        if actor is None:
            actor = GroupActor(
                key,
                self._store,
                self._log,
                self._clock,
                self._crowd,
                self._retire,
                self._moved,
                self._limits,
            )
            self._actors[key] = actor
            self._nursery.start_soon(self._run, actor)
        # No checkpoint lies between finding the actor and this line, and an actor retires only
        # with an empty inbox, so it cannot end with the item unread.
        await actor.inbox.send(item)

    def leave(self, subscription: Subscription, key: str) -> None:
        """End a subscription."""
        actor = self._actors.get(key)
        if actor is not None:
            actor.leave(subscription)

    def stir(self, key: str) -> None:
        """Let a group that is awake tell its members what has changed about who is online."""
        actor = self._actors.get(key)
        if actor is not None:
            actor.stir()

    def read_by(self, key: str, person: str) -> int:
        """Return the last event that a person saw, as far as a group that is awake knows."""
        actor = self._actors.get(key)
        return 0 if actor is None else actor.read_by(person)

    def erasures(self, keys: Iterable[str]) -> int:
        """Return a number that is another one once something was erased in one of these groups.

        What was read before that may still have it.
        """
        return sum(self._actors[key].erasures for key in keys if key in self._actors)

    def close(self) -> None:
        """Let every actor finish what waits, and end."""
        for actor in self._actors.values():
            actor.inbox.close()

    def _retire(self, actor: GroupActor) -> None:
        if self._actors.get(actor.key) is actor:
            del self._actors[actor.key]

    async def _run(self, actor: GroupActor) -> None:
        """Run an actor; a fault in one group is logged and costs no other group anything."""
        try:
            await actor.run()
        except Exception as error:
            if is_storage(error):
                raise
            self._log.line("fault", where=f"group {actor.key}", reason=describe(error))
        finally:
            self._retire(actor)
