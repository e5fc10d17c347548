"""Messages on their way: shown as pending from the moment they are typed until they are in the log.

A message is pending until its event comes, which is known by the client's id and its number, and
so in no other case and exactly then; what shows both never shows a message twice, nor not at
all. If the server's answer comes first, the message stays until the log here has come as far. If
the event will never come here, because the group is not followed, the answer is enough. Every
step is in the outbox before it is taken (see `journal`), whose notes of an earlier process
become pending messages of this one.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tchat.client.request import PendingMessage, PendingRequest
from tchat.client.updates import JournalDamaged, PendingChanged
from tchat.core.group.commands import Post
from tchat.core.protocol.frames import Ok, encode
from tchat.core.text import check_text, fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tchat.client.client_id import ClientId
    from tchat.client.journal import JournalEntry
    from tchat.client.replica import Replica
    from tchat.client.request_queue import Requests
    from tchat.client.updates import Update
    from tchat.core.group.events import Event


class Delivery:
    """The messages of one session that are on their way, by group.

    `servers` are the names by which the server is known, the surest first; `groups` are the
    replicas that are followed, by their folded names.
    """

    def __init__(
        self,
        slot: ClientId,
        user: str,
        servers: Sequence[str],
        requests: Requests,
        groups: Mapping[str, Replica],
        tell: Callable[[Update], None],
    ) -> None:
        self._client = slot.client
        self._journal = slot.journal
        self._user = fold(user)
        self._server = servers[0]
        self._requests = requests
        self._groups = groups
        self._tell = tell
        self._pending: dict[str, list[PendingMessage]] = {}
        for note in self._journal.notes(user, servers):
            self.of(note.group).append(self._send(note))
        if self._journal.damage is not None:
            tell(JournalDamaged(self._journal.damage))

    def of(self, group: str) -> list[PendingMessage]:
        """Return the messages that are on their way to a group: the list itself, which changes."""
        return self._pending.setdefault(fold(group), [])

    # ------------------------------------------------------------------ what the person does

    def post(self, group: str, text: str, reply: int | None) -> PendingMessage:
        """Send a message as soon as may be. Raises `Refused` if it cannot be one, or be kept."""
        check_text(text)
        encode(Post(0, 0, group, text, reply))  # so that what cannot be sent fails here
        at = time.time_ns() // 1_000_000
        note = self._journal.add(self._user, self._server, group, text, reply, at)
        pending = self._send(note)
        self.of(group).append(pending)
        self._changed(group)
        return pending

    def resend(self, pending: PendingMessage) -> PendingMessage:
        """Send a message that was refused once more, behind all others. Raises `Refused`."""
        if pending.failure is None:
            return pending
        self._require(pending)
        pending.note = self._journal.renew(pending.note)
        pending.receipt = self._receipt(pending.note)
        pending.receipt.ended = partial(self._ended, pending)
        messages = self.of(pending.group)
        messages.remove(pending)
        messages.append(pending)
        self._changed(pending.group)
        return pending

    def discard(self, pending: PendingMessage) -> None:
        """Let go of a message that was refused, or not sent yet. Raises `Refused` for others."""
        self._require(pending)
        if pending.failure is None and pending.note.number is not None:
            raise Refused(
                Code.NO_SUCH_MESSAGE, "It is on its way already; delete it when it is there."
            )
        self._remove(pending)
        self._requests.cancel(pending.receipt)

    # ------------------------------------------------------------------ what comes of it

    def happened(self, replica: Replica, event: Event) -> None:
        """Know that an event is in the log here: perhaps it is one of the messages."""
        if event.client != self._client or fold(event.actor) != self._user:
            return
        for pending in replica.pending:
            if pending.note.number == event.n:
                self._remove(pending)
                self._requests.succeed(pending.receipt, Ok(pending.receipt.id, event.seq))
                return

    def review(self, group: str) -> None:
        """Let go of messages that are stored and whose events are here, or will never be."""
        for pending in list(self.of(group)):
            if self._is_over(pending):
                self._remove(pending)

    def _is_over(self, pending: PendingMessage) -> bool:
        answer = pending.receipt.answer
        if answer is None:
            return False
        replica = self._groups.get(fold(pending.group))
        if replica is None or replica.standing in ("waiting", "outsider"):
            return True
        # Without a seq it was done before, by a sending whose answer did not arrive.
        seq = answer.seq if isinstance(answer, Ok) else None
        return replica.caught_up if seq is None else replica.last >= seq

    def _send(self, note: JournalEntry) -> PendingMessage:
        """Return a message of which there is a note: on its way, unless it was refused."""
        pending = PendingMessage(note, self._receipt(note))
        pending.receipt.ended = partial(self._ended, pending)
        return pending

    def _receipt(self, note: JournalEntry) -> PendingRequest:
        def make(request_id: int, number: int) -> Post:
            return Post(request_id, number, note.group, note.text, note.reply)

        if note.failure is None:
            return self._requests.submit(make, note)
        receipt = PendingRequest(0, make, command=True)
        receipt.fail(note.failure)
        return receipt

    def _ended(self, pending: PendingMessage) -> None:
        """Know that the server has answered, or that the message could not even be sent."""
        if pending not in self.of(pending.group):
            return
        failure = pending.receipt.failure
        if isinstance(failure, Refused):
            self._journal.refuse(pending.note, failure)
            self._changed(pending.group)
            return
        self._journal.forget(pending.note)
        if self._is_over(pending):
            self._remove(pending)

    def _require(self, pending: PendingMessage) -> None:
        if pending not in self.of(pending.group):
            raise Refused(Code.NO_SUCH_MESSAGE, "There is no such message on its way any more.")

    def _remove(self, pending: PendingMessage) -> None:
        self.of(pending.group).remove(pending)
        self._journal.forget(pending.note)
        self._changed(pending.group)

    def _changed(self, group: str) -> None:
        replica = self._groups.get(fold(group))
        if replica is not None:
            self._tell(PendingChanged(replica))
