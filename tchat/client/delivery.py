"""Exactly-once message delivery: a posted message stays pending until its event is in the log.

An event is matched to its pending message by the client id and the command number that it carries.
A front end that shows the log and the pending messages therefore shows each message exactly
once at any moment. If the server's acknowledgement arrives before the event, the message stays
pending until the local log has reached its seq. If the event will never arrive, because the group
is not followed, the acknowledgement is enough. Every step is recorded in the journal before it is
taken (see `journal`). The journal entries of an earlier process become pending messages of this
one, and are sent again.

A message can be *held*: the person wants to enter its group, and the server has not let them in
yet, so that it would refuse the message. It is released, and sent, as soon as the person is a
member, or the front end has finished entering. A conversation of two needs no entering: a message
for one that an earlier process held is sent at once.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from tchat.client.pending_message import PendingMessage
from tchat.client.request import PendingRequest
from tchat.client.updates import (
    HeldFound,
    JournalDamaged,
    MessageRefused,
    PendingChanged,
    RefusalFound,
    UnsentElsewhere,
)
from tchat.core.group.direct import is_direct
from tchat.core.group.messages import Post
from tchat.core.group.state import WINDOW, not_approved_refusal
from tchat.core.protocol.frames import Ok, encode
from tchat.core.text import check_text, clean_line, fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tchat.client.client_id import ClientId
    from tchat.client.clock import ClientClock
    from tchat.client.journal import Journal, JournalEntry
    from tchat.client.replica import Replica
    from tchat.client.request_tracker import RequestTracker
    from tchat.client.updates import Update
    from tchat.core.group.feature import Event


class Delivery:
    """The pending messages of one session, by group.

    `servers` are the names that identify the server, the most reliable first; `groups` are the
    followed replicas by their folded names.
    """

    def __init__(
        self,
        client_id: ClientId,
        user: str,
        servers: Sequence[str],
        requests: RequestTracker,
        groups: Mapping[str, Replica],
        notify: Callable[[Update], None],
        clock: ClientClock,
    ) -> None:
        self._client_id = client_id
        self._client = client_id.client
        self._journal = client_id.journal
        self._programs = client_id.programs
        self._user = fold(user)
        self._server = servers[0]
        self._requests = requests
        self._groups = groups
        self._notify = notify
        self._clock = clock
        self._pending: dict[str, list[PendingMessage]] = {}
        for entry in self._journal.entries(user, servers):
            entry.held = entry.held and not is_direct(entry.group)
            self.of(entry.group).append(self._send(entry))
        if self._journal.damage is not None:
            notify(JournalDamaged(self._journal.damage))
        for person, server, count in client_id.unsent_elsewhere(user, servers):
            notify(UnsentElsewhere(person, server, count))

    def of(self, group: str) -> list[PendingMessage]:
        """Return the pending messages of a group: the live list, not a copy."""
        return self._pending.setdefault(fold(group), [])

    def refused(self) -> list[list[PendingMessage]]:
        """Return the refused messages of each group that has any."""
        of_groups = self._pending.values()
        refused = [[one for one in group if one.failure is not None] for group in of_groups]
        return [messages for messages in refused if messages]

    def held(self) -> list[str]:
        """Return the groups with held messages."""
        messages = (group[0].group for group in self._pending.values() if any(map(_is_held, group)))
        return list(messages)

    def waiting(self) -> list[list[PendingMessage]]:
        """Return the messages of each group that has any which are not stored, and not refused.

        One that waits for an approval is sent by itself, and so waits, too.
        """
        of_groups = self._pending.values()
        waiting = [[one for one in group if one.is_waiting] for group in of_groups]
        return [messages for messages in waiting if messages]

    async def wait_until_sent(self) -> None:
        """Wait until the server has answered every message that could be sent so far."""
        for messages in self.waiting():
            for pending in messages:
                if not (pending.held or pending.awaits_approval):
                    await pending.request.done.wait()

    def find_once(self, group: str, once: str) -> PendingMessage | None:
        """Return the pending message with a key, if it was not refused."""
        pending = self.of(group)
        return next((p for p in pending if p.entry.once == once and p.failure is None), None)

    # ------------------------------------------------------------------ the person's actions

    def post(
        self,
        group: str,
        text: str,
        reply: int | None,
        once: str | None = None,
        *,
        held: bool = False,
        stamp: bytes | None = None,
    ) -> PendingMessage:
        """Send a message. Raises `Refused` if it is not valid or cannot be saved.

        With `once`, its key is saved as soon as the server has stored it (see `program_state`). If
        it is `held`, it is sent when it is released. With the `stamp` of the message that it
        replies to, it is refused if another one has that seq by then.
        """
        check_text(text)
        encode(Post(0, 0, group, text, reply, stamp))  # too long a message fails before it is saved
        place, at = (self._user, self._server, group), self._clock()
        floor = self._client_id.upcoming
        entry = self._journal.add(
            *place, text, reply, at, once, held=held, floor=floor, stamp=stamp
        )
        if once is not None:  # files that have gone back do not know whether it was sent
            entry.left = self._client_id.first
            if self._client_id.has_gone_back:
                self._requests.sender.forget_count(fold(group))
        if not held:
            self._await_approval(entry)
        pending = self._send(entry)
        self.of(group).append(pending)
        self._changed(group)
        return pending

    def release(self, pending: PendingMessage) -> None:
        """Send a held message; do nothing if it is not held any more."""
        if not pending.held:
            return
        # On disk, it stays held until it has a number: only then may it have been sent.
        pending.entry.held = False
        self._await_approval(pending.entry)
        self._submit_again(pending)
        self._changed(pending.group)

    def resend(self, pending: PendingMessage) -> PendingMessage:
        """Send a refused message again, after all others. Raises `Refused`."""
        if pending.failure is None:
            return pending
        self._require(pending)
        return self._send_last(pending)

    def _send_last(self, pending: PendingMessage) -> PendingMessage:
        """Send a message after all others, as if it had just been typed. Raises `Refused`."""
        pending.entry = self._journal.resubmit(pending.entry)
        self._submit_again(pending)
        messages = self.of(pending.group)
        messages.remove(pending)
        messages.append(pending)
        self._changed(pending.group)
        return pending

    def discard(self, pending: PendingMessage) -> None:
        """Delete a refused or unsent message. Raises `Refused` if it may have been sent."""
        self._require(pending)
        if pending.failure is None and pending.entry.number is not None:
            raise Refused(
                Code.NO_SUCH_MESSAGE, "The message is being sent; delete it when it has arrived."
            )
        self._remove(pending)
        self._requests.cancel(pending.request)

    def take_over(self, journal: Journal, servers: Collection[str]) -> None:
        """Move the refused and held messages of another journal here, as if they began here.

        Raises `Refused` if they cannot be saved here, or not be removed there; then they stay
        there. Each is in exactly one of the journals, whenever the process is killed.
        """
        if journal.damage is not None:
            self._notify(JournalDamaged(journal.damage))
        for entry in journal.entries(self._user, servers):
            if entry.failure is None and not entry.held:
                continue
            pending = self._send(self._journal.adopt(journal, entry))
            self.of(pending.group).append(pending)
            self._changed(pending.group)
            if entry.failure is None:
                self._notify(HeldFound(pending))
            else:
                self._notify(RefusalFound(pending, entry.failure))
            if replica := self._groups.get(fold(pending.group)):
                self.on_standing(replica)

    # ------------------------------------------------------------------ events and answers

    def on_event(self, replica: Replica, event: Event) -> None:
        """Complete the pending message that has become this event, if there is one."""
        if event.client != self._client or fold(event.actor) != self._user:
            return
        for pending in list(replica.pending):
            if pending.entry.number == event.n:
                if pending.is_event(event):
                    self.succeed(pending, event.seq)
                else:
                    self._requests.renumber(pending.request)
                return

    def on_log_replaced(self, replica: Replica) -> None:
        """Forget the acknowledged messages: they are in the new log, or lost with the old one.

        The others are sent. Their numbers are higher than those that the new log has from this
        client, or it has the same message with the same number.
        """
        for pending in list(self.of(replica.name)):
            if pending.request.answer is not None:
                self._remove(pending)

    def succeed(self, pending: PendingMessage, seq: int) -> None:
        """Complete a message that is in the log as event `seq`."""
        self._record_key(pending, seq)
        self._remove(pending)
        request = pending.request
        self._requests.succeed(request, Ok(request.id, seq))
        if not request.done.is_set():  # it was held or refused, so nobody has sent it
            pending.entry.held = False
            request.succeed(Ok(request.id, seq))

    # ------------------------------------------------------------------ what was left unsent

    def unsure(self, group: str, counted: int) -> list[PendingMessage]:
        """Return what an earlier process left unsent in a group, and may have been sent after all.

        The server has counted to `counted` there: further than the journal knows, if the files have
        gone back to an earlier state. Or so far that it can only take a number for a repeat.
        """
        return [one for one in self.of(group) if _is_unsure(one.entry, counted)]

    def settle(self, pending: PendingMessage) -> None:
        """Note that a message that was left unsent is not in the log: it is sent like a new one."""
        pending.entry.left = 0
        if pending.entry.number is not None and pending.failure is None:
            self._requests.forget_number(pending.request)

    def give_up(self, pending: PendingMessage, reason: Refused) -> None:
        """Leave it to the person whether a message is sent, since it may be in the log."""
        pending.entry.left = 0
        if pending.failure is None:
            self._requests.refuse(pending.request, reason)
            if not pending.request.done.is_set():  # it was held
                pending.request.fail(reason)

    def on_standing(self, replica: Replica) -> None:
        """Send what waited for the person's membership; let it fail if that was denied."""
        if replica.standing == "member":
            self._send_waiting(replica.name)
        elif replica.standing == "outsider":
            reason = Refused(Code.NOT_MEMBER, "You are not a member of this group.")
            for pending in [one for one in self.of(replica.name) if one.awaits_approval]:
                self._journal.record_refusal(pending.entry, reason)
                self._changed(pending.group)

    def _send_waiting(self, group: str) -> None:
        """Send what waited for an approval, and what is held, in the order it was typed in.

        What was typed since, before it was known that the person is a member, must not overtake
        what waits for their approval since an earlier connection, or an earlier process.
        """
        is_behind = False  # behind a message that is sent as the last one
        for pending in list(self.of(group)):
            if pending.awaits_approval or (pending.held and is_behind):
                with suppress(Refused):  # it cannot be saved, and stays as it is
                    self._send_last(pending)
                    is_behind = True
            else:
                self.release(pending)

    def _await_approval(self, entry: JournalEntry) -> None:
        """Record that a message has to wait for the person's approval, if it has to."""
        if (waits_for := self._missing_approval(entry.group)) is not None:
            self._journal.record_refusal(entry, waits_for)

    def _missing_approval(self, group: str) -> Refused | None:
        """Return why a new message has to wait for the person's approval; None if it has not.

        It must not overtake earlier messages that wait: the server may have approved the person by
        now, and would store it before those.
        """
        replica = self._groups.get(fold(group))
        if replica is not None and replica.standing == "member":
            return None
        if replica is not None and replica.standing == "waiting":
            return not_approved_refusal(clean_line(replica.admin or "the admin"))
        return next((one.failure for one in self.of(group) if one.awaits_approval), None)

    def prune(self, group: str) -> None:
        """Remove acknowledged messages whose events are in the local log, or will never arrive."""
        for pending in list(self.of(group)):
            if self._is_complete(pending):
                self._remove(pending)

    def _is_complete(self, pending: PendingMessage) -> bool:
        answer = pending.request.answer
        if answer is None:
            return False
        replica = self._groups.get(fold(pending.group))
        if replica is None or replica.unusable or replica.standing in ("waiting", "outsider"):
            return True
        # No seq: the message was stored when it was sent earlier, but that answer was lost.
        seq = answer.seq if isinstance(answer, Ok) else None
        return replica.caught_up if seq is None else replica.last >= seq

    def _send(self, entry: JournalEntry) -> PendingMessage:
        """Return the pending message of an entry, and send it unless it was refused or is held."""
        pending = PendingMessage(entry, self._submit(entry))
        pending.request.on_done = partial(self._on_done, pending)
        return pending

    def _submit_again(self, pending: PendingMessage) -> None:
        pending.request = self._submit(pending.entry)
        pending.request.on_done = partial(self._on_done, pending)

    def _submit(self, entry: JournalEntry) -> PendingRequest:
        def make(request_id: int, number: int) -> Post:
            return Post(request_id, number, entry.group, entry.text, entry.reply, entry.stamp)

        if entry.failure is None and not entry.held:
            return self._requests.submit(make, entry)
        request = PendingRequest(0, make, command=True)
        if entry.failure is not None:
            request.fail(entry.failure)
        return request

    def _on_done(self, pending: PendingMessage) -> None:
        """Record that the server has answered, or that the message could not be sent."""
        if pending not in self.of(pending.group):
            return
        failure = pending.request.failure
        if isinstance(failure, Refused):
            self._journal.record_refusal(pending.entry, failure)
            self._changed(pending.group)
            if not pending.awaits_approval:
                self._notify(MessageRefused(pending.group))
            return
        answer = pending.request.answer
        self._record_key(pending, (isinstance(answer, Ok) and answer.seq) or 0)
        self._journal.remove(pending.entry)
        if self._is_complete(pending):
            self._remove(pending)

    def _record_key(self, pending: PendingMessage, seq: int) -> None:
        """Save the key of a message that is stored, before it is removed from the journal."""
        entry = pending.entry
        if entry.once is not None:
            # If the database cannot be written, the message is posted all the same.
            with suppress(Refused):
                place = entry.server, entry.user, entry.group
                self._programs.record_posted(*place, entry.once, seq, self._clock)

    def _require(self, pending: PendingMessage) -> None:
        if pending not in self.of(pending.group):
            raise Refused(Code.NO_SUCH_MESSAGE, "That message is not pending any more.")

    def _remove(self, pending: PendingMessage) -> None:
        self.of(pending.group).remove(pending)
        self._journal.remove(pending.entry)
        self._changed(pending.group)

    def _changed(self, group: str) -> None:
        replica = self._groups.get(fold(group))
        if replica is not None:
            self._notify(PendingChanged(replica))


def _is_unsure(entry: JournalEntry, counted: int) -> bool:
    if entry.number is None:
        return 0 < entry.left <= counted
    return entry.failure is None and 0 < entry.left <= counted - WINDOW


def _is_held(pending: PendingMessage) -> bool:
    return pending.held
