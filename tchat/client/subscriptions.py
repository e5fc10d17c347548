"""The groups that a session follows, and what the server says of them.

Each is a replica, which takes in what comes in the order in which it comes. It is told as an update
when that is done, so that whoever shows the session finds everything as the update says.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tchat.client.history import read_page
from tchat.client.replica import GapError, Replica
from tchat.client.updates import (
    CaughtUp,
    ConversationOpened,
    EventReceived,
    PastLoaded,
    PresenceChanged,
    StandingChanged,
    Update,
)
from tchat.core.group.direct import check_group, pair_of
from tchat.core.group.events import Event
from tchat.core.protocol.frames import (
    Attached,
    ConversationStarted,
    MembershipChange,
    PresenceUpdate,
    Snapshot,
)
from tchat.core.text import fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId
    from tchat.client.delivery import Delivery
    from tchat.client.request import Answer, PendingRequest
    from tchat.client.request_queue import Requests

News = Event | Snapshot | PresenceUpdate | MembershipChange | ConversationStarted
"""What comes of groups without being asked for."""


class FollowedGroups:
    """The replicas in `groups`, by the folded names of their groups.

    With `recent`, a group of which nothing is here begins with so many of its latest events, and
    not with the whole log. `user` is the person whose session this is.
    """

    def __init__(
        self,
        user: str,
        groups: dict[str, Replica],
        slot: ClientId,
        requests: Requests,
        delivery: Delivery,
        tell: Callable[[Update], None],
        recent: int | None,
    ) -> None:
        self.groups = groups
        self._user = fold(user)
        self._slot = slot
        self._requests = requests
        self._delivery = delivery
        self._tell = tell
        self._recent = recent

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be. Raises `Refused` (bad_name)."""
        name = check_group(group)
        known = self.groups.get(fold(name))
        if known is not None:
            return known
        replica = Replica(name, self._recent, self._delivery.of(name))
        self.groups[fold(name)] = replica
        return replica

    def unfollow(self, replica: Replica) -> bool:
        """Forget a replica; return whether it was followed."""
        if self.groups.get(fold(replica.name)) is not replica:
            return False
        del self.groups[fold(replica.name)]
        self._requests.give_up(replica.attach)
        self._requests.give_up(replica.ask_past)
        self._delivery.review(replica.name)
        return True

    def attach(self, replica: Replica) -> PendingRequest:
        """Ask for a group's log behind what is here; one such request at a time is enough."""
        return self._requests.ask_once(replica.attach)

    def ask_past(self, replica: Replica) -> PendingRequest:
        """Ask for the events in front of the log; one such request at a time is enough."""
        return self._requests.ask_once(replica.ask_past, partial(self._take_past, replica))

    # ------------------------------------------------------------------ what the server says

    def take(self, news: News) -> None:
        """Take in what the server says of a group. Raises `GapError` or `ProtocolError`."""
        replica = self.groups.get(fold(news.group))
        if isinstance(news, ConversationStarted):
            self._take_summons(news)
        elif replica is None or replica.standing is None:
            return  # not followed, or not any more when it was sent
        elif isinstance(news, Event):
            self._take_event(replica, news)
        elif isinstance(news, Snapshot):
            self._take_snapshot(replica, news)
        elif isinstance(news, PresenceUpdate):
            replica.take_presence(news)
            self._tell(PresenceChanged(replica))
        else:
            self._take_membership(replica, news)

    def take_attached(self, answer: Attached) -> None:
        """Take in where a group stands, and what one is to it. Raises `GapError`."""
        replica = self.groups.get(fold(answer.group))
        if replica is None:
            return
        self._slot.skip_to(answer.counted)
        before = replica.standing
        if not replica.attached(answer):
            raise GapError
        if replica.standing != before:
            self._standing_changed(replica, None)
        if replica.caught_up:
            self._caught_up(replica)

    def _take_event(self, replica: Replica, event: Event) -> None:
        was_caught_up = replica.caught_up
        if not replica.take(event):
            return
        self._delivery.happened(replica, event)
        self._tell(EventReceived(replica, event, event.seq > replica.read))
        if replica.caught_up and not was_caught_up:
            self._caught_up(replica)

    def _take_snapshot(self, replica: Replica, piece: Snapshot) -> None:
        was_caught_up = replica.caught_up
        replica.take_snapshot(piece)
        if replica.caught_up and not was_caught_up:
            self._caught_up(replica)

    def _take_past(self, replica: Replica, answer: Answer) -> None:
        page = read_page(answer, replica.name, replica.asked_before)
        if not page or replica.first != replica.asked_before:
            return  # the beginning; or another life of the group has begun meanwhile
        events = replica.take_past(page)
        for event in events:
            self._delivery.happened(replica, event)
        self._tell(PastLoaded(replica, events))

    def _take_membership(self, replica: Replica, news: MembershipChange) -> None:
        if news.standing == "member":
            self.attach(replica)
            return
        replica.standing = news.standing
        replica.gone()
        self._standing_changed(replica, news)

    def _take_summons(self, summons: ConversationStarted) -> None:
        """Attach a conversation that has begun, if it is one of this person's."""
        try:
            group = check_group(summons.group)
            pair = pair_of(group)
        except Refused:
            return
        if self._user not in map(fold, pair):
            return
        known = fold(group) in self.groups
        replica = self.follow(group)
        if not replica.state.seq:  # one that had not begun was attached in vain
            self.attach(replica)
        if not known:
            self._tell(ConversationOpened(replica))

    def _standing_changed(self, replica: Replica, news: MembershipChange | None) -> None:
        self._tell(StandingChanged(replica, news))
        self._delivery.review(replica.name)

    def _caught_up(self, replica: Replica) -> None:
        self._tell(CaughtUp(replica))
        self._delivery.review(replica.name)
