"""Read state: a property test against a plain reference, and the cases worth a name.

The reference keeps the whole log and the facts about reading, and computes every answer from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tchat.core.group.feature import Body, Event
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Approved, Joined
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.ui.chat.unread import Counts, ReadState

ME = "Bob"
PEOPLE = ("alice", "carol", "alice", "Bob")
TEXTS = ("hello", "bob, hello", "bobby", "BOB")


def event(seq: int, actor: str, body: Body) -> Event:
    return Event("ops", seq, seq * 1000, actor, bytes(8), seq, body)


@dataclass
class Reference:
    """One group and one person: the log, the read position, and where the rule was removed."""

    direct: bool
    log: list[Event] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    read: int = 0
    rule: int = 0

    def is_there(self, seq: int) -> bool:
        """Return whether an event is a message that is not deleted, or a file not removed."""
        body = self.log[seq - 1].body
        later = [one.body for one in self.log[seq:]]
        if isinstance(body, Posted):
            return not any(isinstance(b, Deleted) and b.target == seq for b in later)
        return isinstance(body, FileShared) and not any(
            isinstance(b, FileRemoved) and b.number == body.number for b in later
        )

    def mentions_me(self, seq: int) -> bool:
        body = self.log[seq - 1].body
        if not isinstance(body, Posted):
            return False
        edits = (one.body for one in self.log[seq:])
        texts = [body.text, *(b.text for b in edits if isinstance(b, Edited) and b.target == seq)]
        return self.direct or is_mention(texts[-1], ME)

    def of_others_after(self, position: int) -> list[int]:
        return [
            one.seq
            for one in self.log[position:]
            if one.actor.lower() not in {ME.lower(), *self.ignored} and self.is_there(one.seq)
        ]

    @property
    def counts(self) -> Counts:
        unread = self.of_others_after(self.read)
        files = [seq for seq in unread if isinstance(self.log[seq - 1].body, FileShared)]
        mentions = sum(map(self.mentions_me, unread))
        since = self.log[unread[0] - 1].at if unread else 0
        return Counts(len(unread) - len(files), mentions, len(files), since)

    @property
    def first_new(self) -> int:
        return min(self.of_others_after(self.rule), default=0)


@st.composite
def bodies(draw: st.DrawFn, log: list[Event]) -> tuple[str, Body]:
    """Return what somebody does next in a group with this log."""
    actor = draw(st.sampled_from(PEOPLE))
    posts = [one for one in log if isinstance(one.body, Posted)]
    kinds = (
        ["post"] * 4
        + ["share", "unshare", "join", "approve"]
        + ["edit", "edit", "delete"] * bool(posts)
    )
    kind = draw(st.sampled_from(kinds))
    text = draw(st.sampled_from(TEXTS))
    number = draw(st.integers(1, 2))
    if kind == "post":
        return actor, Posted(text)
    if kind in ("share", "unshare"):
        return actor, FileShared(number, "f", 1, b"") if kind == "share" else FileRemoved(number)
    if kind in ("join", "approve"):
        return actor, Joined() if kind == "join" else Approved(draw(st.sampled_from(PEOPLE)))
    target = draw(st.sampled_from(posts))
    if kind == "edit":
        return target.actor, Edited(target.seq, text)
    return actor, Deleted(target.seq)


class Life:
    """A person's devices, all of which should agree with the reference about what is unread."""

    def __init__(self, *, direct: bool) -> None:
        self.plain = Reference(direct)
        self.here = self._new_device()
        self.there = self._new_device()

    def _new_device(self) -> ReadState:
        return ReadState(ME, self.plain.ignored, direct=self.plain.direct)

    def happens(self, data: st.DataObject, *, seen: bool) -> None:
        """Let something happen while the person sees it here, or does not."""
        actor, body = data.draw(bodies(self.plain.log))
        plain, one = self.plain, event(len(self.plain.log) + 1, actor, body)
        quiet = not plain.first_new
        plain.log.append(one)
        admitted = (isinstance(body, Joined) and actor == ME) or (
            isinstance(body, Approved) and body.name == ME
        )
        if admitted or (seen and quiet):
            plain.read = plain.rule = one.seq
        if seen:
            plain.read = one.seq
        self.here.apply(one, seen=seen)
        self.there.apply(one)
        if seen:
            self.there.move(one.seq)

    def looks(self) -> None:
        """Come to the window here, with all its messages."""
        plain, end = self.plain, len(self.plain.log)
        if not plain.first_new:
            plain.rule = end
        plain.read = end
        self.here.see(end)
        self.there.move(end)

    def turns_away(self) -> None:
        self.plain.rule = self.plain.read
        self.here.settle()

    def reads_elsewhere(self, seq: int) -> None:
        """Read up to an event on the other device, which reports it."""
        if seq > self.plain.read:
            self.plain.read = self.plain.rule = seq
        self.there.see(seq)
        self.here.move(self.there.read)

    def toggles(self, person: str) -> None:
        """Ignore somebody, or stop to."""
        self.plain.ignored ^= {person}
        self.here.reconsider()
        self.there.reconsider()

    def restarts(self, recent: int) -> None:
        """Start again: the server tells the position, and sends what is unread, or a bit more.

        Deleted messages come erased, and so do their edits.
        """
        plain = self.plain
        plain.rule = plain.read
        self.here = self._new_device()
        self.here.restart(plain.read)
        gone = {one.body.target for one in plain.log if isinstance(one.body, Deleted)}
        for one in plain.log[max(min(plain.read, len(plain.log) - recent), 0) :]:
            message = one.body.target if isinstance(one.body, Edited) else one.seq
            is_text = isinstance(one.body, Posted | Edited)
            body = Erased() if is_text and message in gone else one.body
            self.here.apply(event(one.seq, one.actor, body))

    def check(self) -> None:
        plain = self.plain
        assert self.here.counts == plain.counts
        assert self.there.counts == plain.counts
        assert (self.here.read, self.there.read) == (plain.read, plain.read)
        assert self.here.first_new == plain.first_new


STEPS = ("unseen",) * 6 + ("seen", "seen", "look", "away", "elsewhere", "ignore", "restart")


@given(st.data(), st.booleans(), st.lists(st.sampled_from(STEPS), min_size=25, max_size=60))
def test_read_state_agrees_with_a_reference(
    data: st.DataObject, direct: bool, steps: list[str]
) -> None:
    life = Life(direct=direct)
    for step in steps:
        match step:
            case "unseen" | "seen":
                life.happens(data, seen=step == "seen")
            case "look":
                life.looks()
            case "away":
                life.turns_away()
            case "elsewhere":
                life.reads_elsewhere(data.draw(st.integers(0, len(life.plain.log))))
            case "ignore":
                life.toggles(data.draw(st.sampled_from(["alice", "carol"])))
            case "restart":
                life.restarts(data.draw(st.integers(0, 5)))
        life.check()


def group_of(*story: tuple[str, Body], read: int = 0) -> ReadState:
    """Return Bob's read state after these events of (actor, body)."""
    state = ReadState(ME, set(), direct=False)
    state.restart(read)
    for seq, (actor, body) in enumerate(story, start=1):
        state.apply(event(seq, actor, body))
    return state


def test_edits_add_and_remove_mentions() -> None:
    story = [("alice", Posted("hello")), ("alice", Edited(1, "hello bob"))]
    assert group_of(*story).counts.mentions == 1
    assert group_of(*story, ("alice", Edited(1, "hello"))).counts.mentions == 0


def test_a_deleted_message_is_not_unread() -> None:
    state = group_of(("alice", Posted("bob?")), ("carol", Posted("hm")), ("alice", Deleted(1)))
    assert (state.counts.total, state.counts.mentions, state.first_new) == (1, 0, 2)


def test_erased_messages_and_edits_are_not_unread() -> None:
    erased = [("alice", Erased())] * 4
    assert group_of(*erased, ("alice", Deleted(1))).counts == Counts()


def test_a_removed_file_is_not_unread() -> None:
    files = [("alice", FileShared(number, "f", 1, b"")) for number in (1, 2)]
    assert group_of(*files).counts.files == 2
    assert group_of(*files, ("alice", FileRemoved(1))).counts.files == 1


def test_nothing_before_the_admission_is_unread() -> None:
    state = group_of(("alice", Posted("bob")), ("alice", Approved("bob")), ("alice", Posted("hi")))
    assert (state.counts.messages, state.counts.mentions, state.first_new) == (1, 0, 3)


def test_the_rule_stays_while_messages_are_read() -> None:
    state = group_of(("alice", Posted("one")))
    state.see(1)
    state.apply(event(2, "alice", Posted("two")), seen=True)
    assert (state.counts.total, state.first_new) == (0, 1)
    state.settle()
    assert state.first_new == 0


def test_many_unread_messages_are_counted_once_each() -> None:
    state = group_of(*[("alice", Posted(f"bob {n}")) for n in range(5000)])
    assert (state.counts.messages, state.counts.mentions) == (5000, 5000)
    state.move(4990)
    assert state.counts.messages == 10
