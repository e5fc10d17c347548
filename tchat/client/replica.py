"""Replica of a group: folds the server's events, resumes after the last one, tracks presence.

The state may be ahead of the log. Instead of replaying the whole log, a client can begin with a
snapshot of the state and the latest events. The snapshot already includes those events, so they are
only added to the log; earlier events are prepended page by page when the person scrolls up. After
the snapshot, every event is both applied and added. So there are two positions: `state.seq`, up to
which events are applied, and `last`, up to which they are in the log. After a broken connection,
catch-up begins after `last`.

A log that has become long loses its first events (see `retention`), which can be loaded again.

A replica knows which log it is one of: its identity, and the running digest up to `last` (see
`log_digest`). If the server finds that it has other events, because it was restored from a backup,
the replica is reset, and begins anew.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tchat.client.bounds import FIELD_NAMES, MOST_EDITS, MOST_PRESENT, check_state, exceeded
from tchat.client.clock import ClientClock
from tchat.core.group.log_digest import UNKNOWN, extend
from tchat.core.group.membership import COOL_DOWN_MS, Created
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import SNAPSHOT_LIMIT
from tchat.core.group.state import Group, banned_refusal
from tchat.core.protocol.frames import Attach, HistoryRequest
from tchat.core.text import clean_line, fold
from tchat.errors import Code, ProtocolError, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.pending_message import PendingMessage
    from tchat.core.group.feature import Body, Event
    from tchat.core.protocol.frames import (
        Attached,
        MembershipChange,
        PresenceUpdate,
        Snapshot,
        Standing,
    )


EVENT_SIZE = 600
"""What an event takes without its text, in bytes: the event, its header, and the line of it."""

_ENTRY_SIZE = 300
"""What an entry of a state takes without its names, in bytes."""

_CHANGE_SIZE = 100
"""What an event may add to the state besides entries, in bytes, such as the number of an edit."""

_MOST_COPIES = 5  # of a name in the state: the display name, or the folded one, in several entries
_MOST_COUNTS = 8
_PRESENT_SIZE = 200  # of the entries for somebody who is online, without the strings


class GapError(Exception):
    """An event is missing before this one; the client has to attach again."""


class Replica:
    """The state, the log and the presence of one group.

    `log` has every event from `first` to `last`; while it is empty, `first` is where it will begin.
    `texts` maps the seq of each edited message to its present text; `deleted` are the seqs of
    deleted messages, whose text is redacted from the log. `online` maps folded names to names, and
    `away` folded names to the reason; unless `presence_known`, the server has not said who is
    online, or the connection is lost. `pending` are the person's own messages that are not in the
    log yet, in order.

    `head` was the last seq on the server when the group was last attached: events up to it are
    history, later ones are live. `read` is the last event that the person had read when this
    program began to follow the group. `position` is the read position as the server last told it:
    events up to it are read on some device, or from before the person's admission. `seen` is the
    read position that was last sent to the server. `resets` counts how often the replica was reset
    (see `reset`), and `replacements` how often that was since the server has another log.
    `attached` says that the server has answered an attach on the present connection: only then is
    anything believed that it says about the group. `unusable` is why the group cannot be followed,
    if the server sends what this client does not accept, or cannot read it. `size` is what the log
    takes in memory, in bytes; `held` says that the person is looking at an earlier part of it.
    `memory` is what the rest takes (see `state_budget`), of which events since it was measured
    account for at most `state_growth`, and `least_state` is the smallest measure since the group
    was opened. `advances` grows whenever less is missing than ever before since the log was last
    complete.

    `initial_standing` is the person's standing when the group was first attached. `kicked` says
    that the person was kicked or banned, `banned` that the ban still stands, `asks_at` when they
    may ask to join again after a denial (by `clock`; 0 without one), `closed` that the
    group was closed while the person followed it.

    With `recent`, an empty replica requests a snapshot and at least the `recent` latest events, and
    all unread ones unless `unread` is false; without `recent`, the whole log.
    """

    def __init__(
        self,
        name: str,
        recent: int | None = None,
        pending: list[PendingMessage] | None = None,
        *,
        unread: bool = True,
        clock: ClientClock | None = None,
    ) -> None:
        self.name = name
        self.clock = clock or ClientClock()
        self.standing: Standing | None = None
        self.initial_standing: Standing | None = None
        self.admin: str | None = None
        self.kicked = False
        self.banned = False
        self.asks_at = 0
        self.closed = False
        self.head = 0
        self.read = 0
        self.position = 0
        self.seen = 0
        self.state = Group.unwritten(name)
        self.log: list[Event] = []
        self.first = 1
        self.texts: dict[int, str] = {}
        self.deleted: set[int] = set()
        self._edits: dict[int, list[int]] = {}
        """The seqs of the edits in the log, by the messages that they edit."""
        self.online: dict[str, str] = {}
        self.away: dict[str, str] = {}
        self.presence_known = False
        self.pending: list[PendingMessage] = [] if pending is None else pending
        self.history_before = 0
        self._requested_name = name
        self._recent = recent
        self._unread = unread
        self._announced_first = 0
        self._snapshot = bytearray()
        self._snapshot_seq = 0
        self.resets = self.replacements = 0
        self._was_reset = self._passes_damage = False
        self._identity: bytes | None = None
        self._digest = UNKNOWN
        """The running digest of the log up to `last`."""
        self.attached = False
        self.unusable: Refused | None = None
        self.size = 0
        self.held = False
        self.advances = 0
        self._least_missing: int | None = None
        self._most_collected = 0
        self.state_growth = 0
        self.least_state = 0
        self._state_memory = 0
        self._presence_memory = 0

    @property
    def memory(self) -> int:
        """What the state, presence and parts of a snapshot take in memory, in bytes, at most."""
        return self._state_memory + self.state_growth + self._presence_memory + len(self._snapshot)

    @property
    def last(self) -> int:
        """The seq of the last event in `log`; `first` - 1 while the log is empty."""
        return self.first + len(self.log) - 1

    @property
    def caught_up(self) -> bool:
        """Whether every event up to `head` is here, so that later events are live."""
        return self.standing == "member" and self.last >= self.head

    @property
    def at_beginning(self) -> bool:
        """Whether there are no earlier events that the person may read."""
        return self.first <= max(self.state.floor, 1)

    # ------------------------------------------------------------------ requests

    def attach_request(self, request_id: int) -> Attach:
        """Return the request to attach, with catch-up from `last`."""
        if self.state.seq:
            known = self._digest or None
            return Attach(request_id, self.name, self.last, log=self._identity, digest=known)
        if self._passes_damage:
            return Attach(request_id, self.name, 0, 0, unread=False)
        return Attach(request_id, self.name, 0, self._recent, None if self._unread else False)

    def history_request(self, request_id: int) -> HistoryRequest:
        """Return the request for the events before `first`, and set `history_before` to `first`."""
        self.history_before = self.first
        return HistoryRequest(request_id, self.name, self.first)

    # ------------------------------------------------------------------ applying frames

    def apply_attached(self, answer: Attached) -> bool:
        """Apply the answer to an attach; return False if the server has another log than this.

        That means that the server was restored from a backup. The replica is then reset, and has to
        attach again. A server of an earlier version does not tell, but its log may be shorter.
        Raises `ProtocolError` if the server says it of an empty replica.
        """
        first_time = self.standing != "member"
        self.attached = True
        self.initial_standing = self.initial_standing or answer.standing
        self.name = answer.group
        self.standing = answer.standing
        self.admin = answer.admin
        self.kicked = answer.kicked
        self.banned = answer.banned is True
        self.asks_at = self.clock() + min(answer.wait, COOL_DOWN_MS) if answer.wait else 0
        self.closed = self.closed and answer.standing == "outsider"
        self.head = answer.seq
        self._announced_first = answer.first
        self._snapshot.clear()
        if answer.standing == "member" and not self._has_diverged(answer):
            read = min(answer.read, answer.seq)
            if first_time or self._was_reset:
                self.read, self._was_reset = read, False
            known = max(read, min(answer.joined or 0, answer.seq))
            if not self.state.seq:  # an empty replica, perhaps of a log that was restored
                self.position = known
            self.position = max(self.position, known)
            self._identity = answer.log or self._identity
            if answer.first > self.last:  # otherwise, later events have come meanwhile
                self._digest = answer.digest or UNKNOWN
            return True
        if answer.standing != "member":
            return True
        if not self.state.seq:
            raise ProtocolError(Code.MALFORMED, "The server refuses to begin a log.")
        self.reset()
        self.replacements += 1
        self.attached = False
        return False

    def _has_diverged(self, answer: Attached) -> bool:
        return answer.diverged is True or answer.seq < self.state.seq

    def collect_snapshot(self, part: Snapshot) -> bytes | None:
        """Add a part of a snapshot; return the whole snapshot with the last part, for `restore`.

        A snapshot that was not requested, or is not needed, is ignored. Raises `ProtocolError`.
        """
        if self.state.seq or self._recent is None:
            return None
        if not self._snapshot:
            self._snapshot_seq = part.seq
        self._snapshot += part.data
        if len(self._snapshot) > self._most_collected:
            self._most_collected = len(self._snapshot)
            self.advances += 1
        if part.seq != self._snapshot_seq or len(self._snapshot) > SNAPSHOT_LIMIT:
            raise ProtocolError(Code.MALFORMED, "The parts of a snapshot do not fit together.")
        if part.more:
            return None
        whole = bytes(self._snapshot)
        self._snapshot = bytearray()
        return whole

    def apply_event(self, event: Event) -> bool:
        """Add the next event and apply it; return False for a duplicate.

        Raises `GapError` when events are missing before it, and `ProtocolError` when the events
        would make the state too large for this client.
        """
        if event.seq <= self.last:
            return False
        if event.seq != self.last + 1:
            if not isinstance(event.body, Created) or event.seq <= self.state.seq:
                raise GapError
            # The group was founded again, and its earlier log is not for its new members.
            self._clear_log(event.seq)
            if event.seq != self._announced_first:
                self._digest = UNKNOWN
        if event.seq > self.state.seq:
            entries = self.state.count_entries()
            self._apply(event)
            self.state_growth += _growth_of(event, self.state.count_entries() - entries)
        self.log.append(event)
        self._digest = extend(self._digest, (event,))
        self.size += size_of(event)
        self._note_missing(self.head - event.seq)
        match event.body:
            case Edited(target, text):
                self._edits.setdefault(target, []).append(event.seq)
                if target not in self.deleted:
                    self.texts[target] = text
            case Deleted(target):
                self._erase({target})
        return True

    def prepend_history(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Put the preceding events in front of the log; return them, redacted where necessary.

        Messages may have been edited or deleted since the server read the page from its disk.
        """
        self.log[:0] = events
        self.first -= len(events)
        self.size += sum(map(size_of, events))
        self._edits = _edits_in(self.log)
        targets = {event.body.target for event in events if isinstance(event.body, Deleted)}
        self._erase(self.deleted | targets)
        page = tuple(self.log[: len(events)])
        for event in reversed(page):
            if isinstance(event.body, Edited):
                self.texts.setdefault(event.body.target, event.body.text)
        return page

    def trim(self, most: int) -> None:
        """Forget all but the `most` latest events of the log; they count as not loaded again."""
        excess = len(self.log) - most
        if excess <= 0:
            return
        self.size -= sum(map(size_of, self.log[:excess]))
        del self.log[:excess]
        self.first += excess
        self.texts = {seq: text for seq, text in self.texts.items() if seq >= self.first}
        self.deleted = {seq for seq in self.deleted if seq >= self.first}
        self._edits = _edits_in(self.log)

    def may_have(self, seq: int, at: int, actor: str) -> bool:
        """Return whether event `seq` is not another one than that which `actor` caused at `at`.

        Of an event that is not loaded, this is not known once the log was replaced.
        """
        if not self.first <= seq <= self.last:
            return seq < self.first and not self.replacements
        event = self.log[seq - self.first]
        return (event.at, event.actor) == (at, actor)

    def count_within(self, size: int) -> int:
        """Return how many of the latest events take at most `size` bytes."""
        for count, event in enumerate(reversed(self.log)):
            size -= size_of(event)
            if size < 0:
                return count
        return len(self.log)

    def apply_read_position(self, seq: int) -> bool:
        """Advance the read position; return whether it has moved."""
        seq = min(seq, max(self.head, self.last))
        moved = seq > self.position
        self.position = max(self.position, seq)
        return moved

    def apply_membership(self, news: MembershipChange) -> bool:
        """Apply that the person is not a member, and why; return whether that is a change."""
        before = self.standing, self.kicked, self.banned, self.closed
        self.standing = news.standing
        if news.reason != "unbanned":  # a lifted ban does not undo the kick
            self.kicked = news.reason in ("kicked", "banned")
        self.banned = news.reason == "banned"
        self.asks_at = self.clock() + COOL_DOWN_MS if news.reason == "denied" else 0
        self.closed = news.reason == "closed"
        self.clear_presence()
        return before != (self.standing, self.kicked, self.banned, self.closed)

    def apply_presence(self, news: PresenceUpdate) -> None:
        """Apply a presence update: who is online, away, or offline. Raises `ProtocolError`."""
        if news.reset:
            self.clear_presence()
            self.presence_known = True
        for name in (*(member.name for member in news.online), *news.offline):
            self._remove_present(fold(name))
        for member in news.online:
            self._add_present(fold(member.name), member.name, clean_line(member.away or ""))
        if len(self.online) > MOST_PRESENT:
            raise exceeded("The presence in a group")

    def _remove_present(self, person: str) -> None:
        if (name := self.online.pop(person, None)) is not None:
            self._presence_memory -= _presence_size(person, name, self.away.pop(person, ""))

    def _add_present(self, person: str, name: str, away: str) -> None:
        self._remove_present(person)
        self.online[person] = name
        if away:
            self.away[person] = away
        self._presence_memory += _presence_size(person, name, away)

    def not_member_refusal(self, advice: str = "") -> Refused:
        """Return why the person cannot act as a member; `advice` is for outsiders."""
        if self.banned:
            return banned_refusal()
        name = clean_line(self.name)
        sentence = f"You are not a member of {name}."
        if self.standing == "waiting":
            admin = clean_line(self.admin or "its admin")
            sentence = f"You are not a member of {name} yet: {admin} has to approve you."
        elif self.kicked:
            sentence = f"You were removed from {name}; an invite lets you in again."
        elif self.closed:
            sentence = f"{name} was closed; its messages and files are deleted."
        elif self.state.seq:
            sentence = f"You are no longer a member of {name}."
        elif advice:
            sentence = f"{sentence} {advice}"
        return Refused(Code.NOT_MEMBER, sentence)

    def on_disconnected(self) -> None:
        """Believe nothing about the group until it is attached again."""
        self.attached = self._passes_damage = False
        self._snapshot = bytearray()
        self.clear_presence()

    def clear_presence(self) -> None:
        """Clear presence: it is not known who is online."""
        self.online, self.away = {}, {}
        self.presence_known = False
        self._presence_memory = 0

    def reset(self) -> None:
        """Reset to an empty replica, because the server's log has been replaced."""
        self.state = Group.unwritten(self._requested_name)
        self.set_state_memory(0)
        self._snapshot = bytearray()
        self.resets += 1
        self._was_reset = True
        self._identity, self._digest = None, UNKNOWN
        self.seen = 0
        self._clear_log(1)
        self.clear_presence()

    def pass_damage(self) -> bool:
        """Reset to begin with the state and no events, since some are damaged on the server.

        What is before the damage can be read back. Return False if all events are needed, or if
        that has been tried on this connection.
        """
        if self._recent is None or self._passes_damage:
            return False
        self.reset()
        self.attached, self._passes_damage = False, True
        return True

    def restore(self, state: Group, memory: int = 0) -> None:
        """Continue from a snapshot, with an empty log that begins where the server announced.

        The state takes `memory` bytes. Raises `ProtocolError`.
        """
        first = self._announced_first or state.seq + 1
        if fold(state.name) != fold(self.name) or first > state.seq + 1:
            raise ProtocolError(
                Code.MALFORMED, "A snapshot is of another group, or ends too early."
            )
        self.state = state
        self.set_state_memory(memory)
        self.least_state = memory
        self._clear_log(first)
        self._note_missing(self.head - self.last)

    def _note_missing(self, missing: int) -> None:
        """Count it as an advance if fewer events are missing than ever before.

        After a time without connection, more are missing than before: begin again once none is.
        """
        if self._least_missing is None or missing < self._least_missing:
            self._least_missing = missing if missing > 0 else None
            self.advances += 1

    def set_state_memory(self, memory: int) -> None:
        """Record what the state takes in memory, in bytes, as measured."""
        self._state_memory, self.state_growth = memory, 0
        self.least_state = min(self.least_state, memory)

    def _apply(self, event: Event) -> None:
        """Apply an event to the state. Raises `ProtocolError` if it becomes too large."""
        state, body = self.state, event.body
        if isinstance(body, Edited) and len(state.edits_of(body.target)) >= MOST_EDITS:
            raise exceeded("The number of edits of a message")
        apply(state, event)
        if len(state.counts) > _MOST_COUNTS:
            state.counts.clear()  # only servers need the command numbers
        check_state(state)

    def _clear_log(self, first: int) -> None:
        self.log, self.first, self.size = [], first, 0
        self.texts, self.deleted = {}, set()
        self._edits = {}

    def _erase(self, targets: set[int]) -> None:
        """Redact messages and their edits from the log."""
        self.deleted |= targets
        for target in targets:
            self.texts.pop(target, None)
            for seq in (target, *self._edits.pop(target, ())):
                index = seq - self.first
                if not 0 <= index < len(self.log):
                    continue
                event = self.log[index]
                if isinstance(event.body, Posted if seq == target else Edited):
                    self.log[index] = erased = replace(event, body=Erased())
                    self.size -= size_of(event) - size_of(erased)


def size_of(event: Event) -> int:
    """Return how many bytes an event takes in memory, approximately."""
    return EVENT_SIZE + len(event.actor) + _strings_size(event.body)


def _growth_of(event: Event, added: int) -> int:
    """Return how many bytes an event adds to the state in memory, at most.

    `added` is how many entries it adds. Texts of messages are not in the state.
    """
    if isinstance(event.body, Posted):
        return 0
    size = _CHANGE_SIZE + max(0, added) * _ENTRY_SIZE
    if isinstance(event.body, Edited):
        return size
    return size + _MOST_COPIES * (sys.getsizeof(event.actor) + _strings_size(event.body))


def _strings_size(body: Body) -> int:
    if isinstance(body, Posted | Edited):
        return sys.getsizeof(body.text)
    values = map(body.__getattribute__, FIELD_NAMES[type(body)])
    return sum(sys.getsizeof(value) for value in values if isinstance(value, str))


def _presence_size(person: str, name: str, away: str) -> int:
    """Return how many bytes somebody who is online takes in memory, approximately."""
    return _PRESENT_SIZE + sum(map(sys.getsizeof, (person, name, away)))


def _edits_in(log: Sequence[Event]) -> dict[int, list[int]]:
    """Return the seqs of the edits in a log, by the messages that they edit."""
    edits: dict[int, list[int]] = {}
    for event in log:
        if isinstance(event.body, Edited):
            edits.setdefault(event.body.target, []).append(event.seq)
    return edits
