"""Group environment: the services, callbacks and limits that all group actors share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.core.group.feature import DEFAULT_LIMITS, GroupLimits
from tchat.machine_clocks import now_ms
from tchat.server.faults import not_handled
from tchat.server.groups.idle import IdleGroups
from tchat.server.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.core.protocol.frames import Standing
    from tchat.server.log import Log
    from tchat.store.base import Store


def _ignore(_group: str, _standings: Mapping[str, Standing]) -> None:
    """Ignore changed standings."""


@dataclass(slots=True)
class GroupEnvironment:
    """The services, callbacks and limits of a group actor.

    `presence` notifies people who have not subscribed to the group, and knows who is away.
    `on_standing_changed` is called after each commit with the group (folded) and the new standing
    of everybody whose standing changed. `clock` returns ms since the Unix epoch, for dates, and
    `timer` for periods (see `server.clock`); without it, they are measured by `clock`. An inbox
    holds
    `inbox_limit` items, with texts of about `inbox_bytes`, before its senders have to wait. At most
    `loading_limit` groups are loaded at the same time; `idle` are those that nobody follows.
    `on_fatal` is called with the place and the error when the server has to stop; it returns False
    if the error has to be raised instead. `events` counts the committed events, `erasures` the
    batches that erased something.
    """

    store: Store
    log: Log
    presence: Presence = field(default_factory=Presence)
    on_standing_changed: Callable[[str, Mapping[str, Standing]], None] = _ignore
    limits: GroupLimits = DEFAULT_LIMITS
    clock: Callable[[], int] = now_ms
    on_fatal: Callable[[str, Exception], bool] = not_handled
    timer: Callable[[], int] = lambda: 0
    inbox_limit: int = 1024
    inbox_bytes: int = 1 << 20
    loading_limit: int = 16
    idle: IdleGroups = field(default_factory=IdleGroups)
    events: int = 0
    erasures: int = 0
