"""Followed groups: apply the server's events, snapshots and presence to replicas, and notify.

Frames are applied in the order of their arrival, and an update is sent only afterwards, so that its
receiver finds the replica in the state that the update describes.

A server is believed about a group only after it has answered the client's attach on the present
connection. What exceeds the client's bounds (see `bounds`) ends the subscription to its group, and
the other groups go on. So does what the server refuses of a group because it is damaged there: that
is tried again after a while, with a backoff of minutes, on the same connection or a later one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.backoff import Backoff
from tchat.client.bounds import check_bounds, check_event, read_state, sentence_of
from tchat.client.counts import Counts
from tchat.client.history import expect, may_be_in, read_page
from tchat.client.replica import Replica, size_of
from tchat.client.retention import Trimmer
from tchat.client.state_budget import StateBudget, memory_of
from tchat.client.updates import (
    Addressed,
    CaughtUp,
    EventReceived,
    GroupJoined,
    GroupUnusable,
    HistoryLoaded,
    LogReplaced,
    PositionMoved,
    PresenceChanged,
    StandingChanged,
    Trimmed,
    Update,
)
from tchat.core.group.direct import check_group, is_others
from tchat.core.group.feature import Event
from tchat.core.group.state import Group
from tchat.core.protocol.frames import (
    Activity,
    Attach,
    Attached,
    Detach,
    MembershipChange,
    PresenceUpdate,
    ReadPosition,
    Seen,
    Snapshot,
    SubscriptionEnded,
    encode,
)
from tchat.core.text import check_name, clean_line, fold
from tchat.errors import Code, ProtocolError, Refused
from tchat.transfer.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId
    from tchat.client.clock import ClientClock
    from tchat.client.delivery import Delivery
    from tchat.client.request import Answer, PendingRequest
    from tchat.client.request_tracker import RequestTracker

_SHORT_SNAPSHOT = 64 * 1024  # bytes: a longer one is decoded in a thread
_MOST_FOLLOWED = 1000
_MOST_UNFOLLOWED = 1000

DAMAGED_FIRST_SECONDS = 30.0
DAMAGED_LONGEST_SECONDS = 600.0
"""The first and the longest delay until a group that is damaged on the server is tried again."""

News = (
    Event
    | Snapshot
    | PresenceUpdate
    | MembershipChange
    | Activity
    | ReadPosition
    | SubscriptionEnded
)
"""Frames that the server sends about a group without a request."""


@dataclass(frozen=True, slots=True)
class Unfollowed:
    """A group that was unfollowed: its admin (folded), and the last event that is history.

    Events that the server sent before it handled the detach still arrive. Later ones are live.
    """

    admin: str | None
    history: int


class _Suspended:
    """A group that is damaged on the server; it is tried again at `due` (`trio.current_time`)."""

    def __init__(self) -> None:
        self.due = 0.0
        self._backoff = Backoff(first=DAMAGED_FIRST_SECONDS, longest=DAMAGED_LONGEST_SECONDS)

    def wait(self) -> None:
        """Set `due` for one more failure."""
        self.due = trio.current_time() + self._backoff.next_delay()


class FollowedGroups:
    """The followed groups of a person: `groups` has their replicas by folded names.

    With `recent`, a new replica begins with its `recent` latest events, not with the whole log;
    with `unread` false, even if more are unread.
    `trimmer` bounds what the replicas keep of the logs in memory, `state_budget` the rest.
    """

    def __init__(
        self,
        user: str,
        groups: dict[str, Replica],
        client_id: ClientId,
        requests: RequestTracker,
        delivery: Delivery,
        notify: Callable[[Update], None],
        recent: int | None,
        *,
        unread: bool = True,
        clock: ClientClock,
    ) -> None:
        self.groups = groups
        self._unfollowed: dict[str, Unfollowed] = {}
        self._user = fold(user)
        self._client_id = client_id
        self._requests = requests
        self._delivery = delivery
        self._notify = notify
        self._recent = recent
        self._unread = unread
        self._clock = clock
        self.counts = Counts(client_id, requests, delivery, self._ask_count)
        self.trimmer = Trimmer(groups.values(), self._on_trimmed)
        self.state_budget = StateBudget(groups.values())
        self._suspended: dict[Replica, _Suspended] = {}
        self._suspended_more = trio.Event()

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be.

        Raises `Refused` (bad_name, too_many).
        """
        name = check_group(group)
        known = self.groups.get(fold(name))
        if known is not None:
            return known
        if len(self.groups) >= _MOST_FOLLOWED:
            raise Refused(
                Code.TOO_MANY,
                f"This client can follow at most {_MOST_FOLLOWED} groups.",
            )
        pending = self._delivery.of(name)
        replica = Replica(name, self._recent, pending, unread=self._unread, clock=self._clock)
        self.groups[fold(name)] = replica
        return replica

    def unfollow(self, replica: Replica) -> bool:
        """Remove a replica; return whether it was followed."""
        if self.groups.get(fold(replica.name)) is not replica:
            return False
        del self.groups[fold(replica.name)]
        history = max(replica.head, replica.last, replica.position)
        self._unfollowed[fold(replica.name)] = Unfollowed(replica.state.admin, history)
        if len(self._unfollowed) > _MOST_UNFOLLOWED:
            del self._unfollowed[next(iter(self._unfollowed))]
        self._abandon(replica)
        self._delivery.prune(replica.name)
        return True

    def request_attach(self, replica: Replica) -> PendingRequest:
        """Request catch-up from the replica's last event, unless such a request is unanswered."""
        request = self._requests.ask_deduplicated(
            replica.attach_request, partial(self._handle_attached, replica)
        )
        return self._heed(replica, request)

    def _heed(self, replica: Replica, request: PendingRequest) -> PendingRequest:
        request.on_done = partial(self._on_attach_done, replica, request)
        return request

    def _on_attach_done(self, replica: Replica, request: PendingRequest) -> None:
        self.counts.on_answered(replica.name, request)
        failure = request.failure
        if isinstance(failure, Refused) and failure.code == Code.LOG_DAMAGED:
            self._suspend(replica, failure)

    def _suspend(self, replica: Replica, refusal: Refused) -> None:
        """Do without a group that is damaged on the server, until it is tried again."""
        if self.groups.get(fold(replica.name)) is not replica:
            return
        is_new = replica not in self._suspended
        self._suspended.setdefault(replica, _Suspended()).wait()
        self._suspended_more.set()
        replica.unusable = refusal
        if is_new:
            self._notify(GroupUnusable(replica, refusal))

    async def retry_suspended(self) -> None:
        """Try the suspended groups again, each when it is due. Never returns."""
        while True:
            self._suspended_more = trio.Event()
            now = trio.current_time()
            for replica, suspended in list(self._suspended.items()):
                if self.groups.get(fold(replica.name)) is not replica:
                    del self._suspended[replica]
                elif suspended.due <= now:
                    replica.unusable = None
                    suspended.due = float("inf")  # until this attempt has failed
                    self.request_attach(replica)
            due = min((one.due for one in self._suspended.values()), default=float("inf"))
            with trio.move_on_at(due):
                await self._suspended_more.wait()

    def _ask_count(self, group: str) -> PendingRequest:
        """Ask for the server's count in a group; if it is not followed, without staying attached.

        The answer comes with a snapshot, which is ignored.
        """
        replica = self.groups.get(fold(group))
        if replica is not None and replica.unusable is None:
            return self.request_attach(replica)

        def read(answer: Answer) -> None:
            self._client_id.advance_past(expect(answer, Attached).counted)
            if fold(group) not in self.groups:
                self._requests.sender.send_urgent(encode(Detach(group)))

        def make(request_id: int) -> Attach:
            return Attach(request_id, group, 0, 0, unread=False)

        request = self._requests.ask(make, read)
        request.on_done = partial(self.counts.on_answered, group, request)
        return request

    def request_history(self, replica: Replica) -> PendingRequest:
        """Request the page of events before the log, unless such a request is unanswered."""
        return self._requests.ask_deduplicated(
            replica.history_request, partial(self._handle_history, replica)
        )

    def mark_seen(self, replica: Replica, seq: int) -> None:
        """Move the person's read position in a group to `seq`: events up to `seq` are read.

        It is sent once the server has confirmed that it has the same log: in another, it would be
        the position of other events. Likewise, the caller may not have noticed yet that the replica
        was reset: so it is never after the events that are here.
        """
        seq = min(seq, replica.last)
        if seq > replica.seen and replica.standing == "member":
            replica.seen = seq
            if replica.attached:
                self._requests.sender.queue_seen(Seen(replica.name, seq))

    def on_connected(self) -> None:
        """Attach all groups on a new connection."""
        for replica in self.groups.values():
            if replica.unusable is None:
                self.request_attach(replica)

    def on_disconnected(self) -> None:
        """Believe nothing about the groups until they are attached again."""
        for replica in self.groups.values():
            replica.on_disconnected()

    def _abandon(self, replica: Replica) -> None:
        self._requests.abandon(replica.attach_request)
        self._requests.abandon(replica.history_request)

    # ------------------------------------------------------------------ frames from the server

    async def handle(self, news: News) -> None:
        """Apply a frame about a group. Raises `GapError` or `ProtocolError`."""
        replica = self.groups.get(fold(news.group))
        if replica is None or not replica.attached:
            _check_news(news)
            self._handle_other(replica, news)
        elif replica.unusable is None:
            before = replica.memory
            try:
                _check_news(news)
                if isinstance(news, Snapshot):
                    await self._handle_snapshot(replica, news)
                else:
                    self._handle_attached_group(replica, news)
            except ProtocolError as error:
                self._give_up(replica, error)
            if self.state_budget.on_grown(replica.memory - before):
                await self._bound_memory()

    async def _bound_memory(self) -> None:
        """Give up the groups that have grown until the others are within the budget."""
        while (replica := await self.state_budget.find_excess()) is not None:
            self._give_up(replica, self.state_budget.exceeded())

    def _handle_other(self, replica: Replica | None, news: News) -> None:
        """Handle a frame about a group that is not followed, or not attached (yet)."""
        if isinstance(news, Activity):
            self._handle_activity(replica, news)
        elif replica is None and isinstance(news, MembershipChange):
            self._handle_elsewhere(news)
        elif isinstance(news, MembershipChange) and replica is not None:
            if replica.standing is not None:  # it is sent to people who do not follow the group
                self._handle_membership(replica, news)
        else:
            self._handle_late(news)

    def _handle_attached_group(self, replica: Replica, news: News) -> None:
        if isinstance(news, Event):
            self._handle_event(replica, news)
        elif isinstance(news, PresenceUpdate):
            replica.apply_presence(news)
            self._notify(PresenceChanged(replica))
        elif isinstance(news, ReadPosition):
            if replica.apply_read_position(news.seq):
                self._notify(PositionMoved(replica, replica.position))
        elif isinstance(news, MembershipChange):
            self._handle_membership(replica, news)
        elif isinstance(news, Activity):
            self._handle_activity(replica, news)
        elif isinstance(news, SubscriptionEnded):
            self._handle_ended(replica, Refused(clean_line(news.code), sentence_of(news.text)))

    def _handle_ended(self, replica: Replica, refusal: Refused) -> None:
        """Load a group without its damaged events if that is possible; otherwise do without it."""
        if refusal.code == Code.LOG_DAMAGED and replica.pass_damage():
            self._begin_anew(replica, is_damaged=True)
        else:
            self._suspend(replica, refusal)

    def _handle_attached(self, replica: Replica, answer: Answer) -> None:
        """Apply the answer to an attach: standing and head of the log. Raises `ProtocolError`."""
        answer = expect(answer, Attached)
        if fold(answer.group) != fold(replica.name) or not may_be_in(answer.group, self._user):
            raise ProtocolError(Code.MALFORMED, "The answer is about another group.")
        self._client_id.advance_past(answer.counted)
        before, anew = replica.standing, not replica.state.seq
        is_same_log = replica.apply_attached(answer)
        if replica.standing != before:
            self._standing_changed(replica, None)
        if not is_same_log:
            self._begin_anew(replica)
            return
        if replica.standing == "member":
            # Again, since the last position may have been lost with the connection before.
            seen, replica.seen = replica.seen, 0
            self.mark_seen(replica, seen)
            self._notify(PositionMoved(replica, replica.position, anew))
        else:
            self._suspended.pop(replica, None)
        if replica.caught_up:
            self._caught_up(replica)

    def _begin_anew(self, replica: Replica, *, is_damaged: bool = False) -> None:
        """Load a group again whose log was replaced, or damaged; the replica has been reset."""
        self._delivery.on_log_replaced(replica)
        self._notify(LogReplaced(replica, is_damaged))
        # Not `request_attach`: the request that has this answer counts as unanswered until then.
        handle = partial(self._handle_attached, replica)
        self._heed(replica, self._requests.ask(replica.attach_request, handle))

    def _handle_event(self, replica: Replica, event: Event) -> None:
        was_caught_up = replica.caught_up
        if not replica.apply_event(event):
            return
        self._delivery.on_event(replica, event)
        self._notify(EventReceived(replica, event, event.seq > replica.read))
        self.trimmer.on_added(replica, size_of(event))
        if replica.caught_up and not was_caught_up:
            self._caught_up(replica)

    async def _handle_snapshot(self, replica: Replica, part: Snapshot) -> None:
        await self.state_budget.require(len(part.data))
        data = replica.collect_snapshot(part)
        if data is None:
            return
        read = partial(_read_measured, data, part.seq)
        found = read() if len(data) <= _SHORT_SNAPSHOT else await in_thread(read)
        del data, read  # the traceback of what is raised below would keep them
        if isinstance(found, ProtocolError):
            raise found
        state, memory = found
        await self.state_budget.require(memory)
        if self.groups.get(fold(part.group)) is not replica:
            return  # it was unfollowed meanwhile
        was_caught_up = replica.caught_up
        replica.restore(state, memory)
        if replica.caught_up and not was_caught_up:
            self._caught_up(replica)

    def _handle_history(self, replica: Replica, answer: Answer) -> None:
        page = read_page(answer, replica.name, replica.history_before)
        if not page or replica.first != replica.history_before:
            return  # the beginning of the log; or the group was founded again meanwhile
        events = replica.prepend_history(page)
        for event in events:
            self._delivery.on_event(replica, event)
        self._notify(HistoryLoaded(replica, events))

    def _handle_membership(self, replica: Replica, news: MembershipChange) -> None:
        if news.standing != "outsider":
            self.request_attach(replica)
            return
        if replica.apply_membership(news):
            self._standing_changed(replica, news)

    def _handle_elsewhere(self, news: MembershipChange) -> None:
        """Notify that the person has joined a group that is not followed here."""
        with suppress(Refused):
            if news.standing == "member":
                self._notify(GroupJoined(check_name(news.group)))

    def _handle_activity(self, replica: Replica | None, news: Activity) -> None:
        """Notify of what is meant for the person in a group that is not followed here.

        If it is followed, the notice came before the answer to the attach; or that attach came
        before the first message of a direct conversation, and subscribed to nothing.
        """
        with suppress(Refused):
            group = check_group(news.group)
            if is_others(group, self._user):
                return
            if replica is None:
                self._notify(Addressed(group, news.seq, clean_line(news.by)))
            elif not replica.state.seq:
                self.request_attach(replica)

    def _handle_late(self, news: News) -> None:
        """Do not lose a message that was sent before the server handled our detach."""
        left = self._unfollowed.get(fold(news.group))
        if not isinstance(news, Event) or fold(news.group) in self.groups or left is None:
            return
        if news.seq <= left.history or fold(news.actor) == self._user:
            return
        with suppress(Refused):
            group = Group.unwritten(check_group(news.group))
            group.admin = left.admin
            if news.body.addressees(group, [self._user]):
                self._handle_activity(None, Activity(news.group, news.seq, news.actor))

    def handle_late_answer(self, answer: Attached) -> None:
        """Note which events are history, in a group that was unfollowed before the answer came."""
        if (left := self._unfollowed.get(fold(answer.group))) is not None:
            history = max(left.history, answer.seq)
            self._unfollowed[fold(answer.group)] = replace(left, history=history)

    def _standing_changed(self, replica: Replica, news: MembershipChange | None) -> None:
        self._delivery.on_standing(replica)
        self._notify(StandingChanged(replica, news))
        self._delivery.prune(replica.name)

    def _give_up(self, replica: Replica, error: ProtocolError) -> None:
        """End the subscription to a group, because of what the server sends of it."""
        name = clean_line(replica.name)
        sentence = f"{name} cannot be shown. {error.sentence} Other groups are not affected."
        replica.unusable = Refused(error.code, sentence)
        replica.reset()
        self._abandon(replica)
        self._requests.sender.send_urgent(encode(Detach(replica.name)))
        self._notify(GroupUnusable(replica, replica.unusable))

    def _on_trimmed(self, replica: Replica) -> None:
        self._notify(Trimmed(replica, replica.first))

    def _caught_up(self, replica: Replica) -> None:
        self._suspended.pop(replica, None)
        self._notify(CaughtUp(replica))
        self._delivery.prune(replica.name)


def _read_measured(data: bytes, seq: int) -> tuple[Group, int] | ProtocolError:
    """Return the state in a snapshot, and what it takes in memory; or what is wrong with it.

    An error that is raised in a thread ends up in a reference cycle, whose traceback would keep the
    data, 16 MiB, until the next collection of garbage.
    """
    try:
        state = read_state(data, seq)
    except ProtocolError as error:
        code, sentence = error.code, error.sentence
    else:
        return state, memory_of(state)
    return ProtocolError(code, sentence)


def _check_news(news: News) -> None:
    """Check the values of a frame about a group. Raises `ProtocolError`."""
    if isinstance(news, Event):
        check_event(news)
    else:
        check_bounds(news)
