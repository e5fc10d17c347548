"""Read state of a group: the read position, and the counts of unread messages and mentions.

There is one `ReadState` per group. The list of windows, the line "new" in a window, the summary of
missed messages and /list all use it. It is a fold over the group's events and the changes of the
read position, independent of the session and the screen.

The *read position* is the last event that the person has seen, on any device. Messages and files of
others after it are unread. The event that admits the person moves it, because earlier messages were
not missed. The *rule* is the line "new". It marks where the unread messages began when the person
came to the window, and stays there until they leave the window or post a message.

An edit can add or remove a mention, and a deletion removes a message from the counts. Messages of
ignored people are kept here but not counted, so that they count again once the person is no longer
ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Approved, Created, Joined
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Deleted, Edited, Posted
from tchat.core.text import fold

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tchat.core.group.feature import Event


_MOST_KEPT = 100_000


@dataclass(slots=True)
class Unread:
    """A message or a file of somebody else: `author` is folded, `file` the number of a file.

    `personal` says that it is meant for this person.
    """

    seq: int
    at: int
    author: str
    file: int | None
    personal: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is unread; `mentions` are the messages that are meant for this person.

    `since` is the time of the first (ms since the Unix epoch), 0 if there is none.
    """

    messages: int = 0
    mentions: int = 0
    files: int = 0
    since: int = 0

    @property
    def total(self) -> int:
        """Messages and files together."""
        return self.messages + self.files


class ReadState:
    """The read state of one group for the person `me`; `ignored` people (folded) do not count.

    `read` is the read position. In a `direct` conversation, every message is meant for the person.
    """

    def __init__(self, me: str, ignored: Collection[str], *, direct: bool) -> None:
        self.read = 0
        self._me = me
        self._ignored = ignored
        self._direct = direct
        self._rule = 0
        self._kept: dict[int, Unread] = {}
        """Messages and files of others after the rule, by seq, the oldest first."""
        self._counts: Counts | None = None

    # ------------------------------------------------------------------ questions

    @property
    def counts(self) -> Counts:
        """What is unread now."""
        if self._counts is None:
            self._counts = self._count()
        return self._counts

    @property
    def first_new(self) -> int:
        """The seq of the first event below the rule; 0 if there is none."""
        return next((one.seq for one in self._kept.values() if self._is_shown(one)), 0)

    # ------------------------------------------------------------------ events

    def apply(self, event: Event, *, seen: bool = False) -> Unread | None:
        """Apply the next event; return its entry if it is unread, or is being `seen` just now.

        Return None for an event that does not count: no message or file, the person's own, one of
        an ignored person, or one that was read before.
        """
        me = fold(self._me)
        match event.body:
            case Created() | Joined() if fold(event.actor) == me:
                self.move(event.seq)
            case Approved(name) if fold(name) == me:
                self.move(event.seq)
            case Edited(target, text) if target in self._kept:
                edited = self._kept[target]
                self._tally(edited, -1)
                edited.personal = self._direct or is_mention(text, self._me)
                self._tally(edited, 1)
            case Deleted(target) if target in self._kept:
                self._tally(self._kept.pop(target), -1)
            case FileRemoved(number):
                for removed in [one for one in self._kept.values() if one.file == number]:
                    self._tally(self._kept.pop(removed.seq), -1)
        one = self._unread_of(event)
        if one is not None and event.seq <= self.read:
            one = None
        quiet = seen and not self.first_new
        if one is not None:
            self._kept[one.seq] = one
            self._tally(one, 1)
        if seen:
            self._advance(event.seq, with_rule=quiet)
        return one if one is not None and self._is_shown(one) else None

    def _unread_of(self, event: Event) -> Unread | None:
        author = fold(event.actor)
        if author == fold(self._me):
            return None
        match event.body:
            case Posted(text):
                personal = self._direct or is_mention(text, self._me)
                return Unread(event.seq, event.at, author, None, personal)
            case FileShared(number):
                return Unread(event.seq, event.at, author, number, personal=False)
        return None

    # ------------------------------------------------------------------ moves of the position

    def restart(self, position: int) -> None:
        """Begin with an empty log, whose events up to `position` are read."""
        self._kept.clear()
        self.read = self._rule = position
        self._counts = None

    def see(self, seq: int) -> None:
        """Count events up to `seq` as seen in the window; the rule stays if a message is below."""
        self._advance(seq, with_rule=not self.first_new)

    def move(self, position: int) -> None:
        """Move the position, and the rule with it: what was read elsewhere is not new here."""
        if position > self.read:
            self._advance(position, with_rule=True)

    def settle(self) -> None:
        """Remove the rule: the person has left the window, or has answered."""
        self._advance(self.read, with_rule=True)

    def _advance(self, seq: int, *, with_rule: bool) -> None:
        self.read = max(self.read, seq)
        if with_rule and self._rule < self.read:
            self._rule = self.read
            for old in list(takewhile(lambda kept: kept <= self._rule, self._kept)):
                del self._kept[old]
        self._counts = None

    def trim(self, first: int) -> None:
        """Forget messages and files before event `first`, if very many are unread."""
        if len(self._kept) > _MOST_KEPT:
            self._kept = {seq: one for seq, one in self._kept.items() if seq >= first}
            self._counts = None

    def reconsider(self) -> None:
        """Count again, after the set of ignored people has changed."""
        self._counts = None

    # ------------------------------------------------------------------ counting

    def _is_shown(self, one: Unread) -> bool:
        return one.author not in self._ignored

    def _after_read(self) -> Iterator[Unread]:
        """Yield what is unread, the newest first."""
        newest_first = (self._kept[seq] for seq in reversed(self._kept))
        return filter(self._is_shown, takewhile(lambda one: one.seq > self.read, newest_first))

    def _tally(self, one: Unread, by: int) -> None:
        """Count an added or removed entry (`by`) without a recount: thousands may come at once."""
        counts = self._counts
        if counts is None or one.seq <= self.read or not self._is_shown(one):
            return
        if not counts.since or (by < 0 and one.at <= counts.since):
            self._counts = None  # the time of the first changes
            return
        is_message = one.file is None
        self._counts = Counts(
            counts.messages + by * is_message,
            counts.mentions + by * one.personal,
            counts.files + by * (not is_message),
            counts.since,
        )

    def _count(self) -> Counts:
        messages = mentions = files = since = 0
        for one in self._after_read():
            messages += one.file is None
            files += one.file is not None
            mentions += one.personal
            since = one.at
        return Counts(messages, mentions, files, since)
