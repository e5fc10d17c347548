"""A replica follows the log without gaps, from the start or from a snapshot."""

from __future__ import annotations

import pytest

from tchat.client.bounds import read_state
from tchat.client.replica import GapError, Replica
from tchat.core.group.feature import Body, Event
from tchat.core.group.membership import Approved, Created
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.core.group.settings import TopicSet
from tchat.core.group.snapshots import SNAPSHOT_LIMIT, freeze
from tchat.core.group.state import Group
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    HistoryRequest,
    MembershipChange,
    OnlineMember,
    PresenceUpdate,
    Snapshot,
)
from tchat.errors import ProtocolError
from tests.helpers import GROUP, seqs, texts


def event(seq: int, body: Body | None = None) -> Event:
    return Event(GROUP, seq, seq, "alice", bytes(8), seq, body or Posted(f"text {seq}"))


def attached(seq: int, read: int = 0) -> Attached:
    return Attached(1, GROUP, "member", seq=seq, read=read)


def replica_at(seq: int) -> Replica:
    """Return a replica that has all events up to `seq`."""
    replica = Replica(GROUP)
    replica.apply_attached(attached(seq))
    replica.apply_event(event(1, Created()))
    for number in range(2, seq + 1):
        replica.apply_event(event(number))
    return replica


def apply_piece(replica: Replica, piece: Snapshot) -> None:
    """Add a piece of a snapshot; with the last one, continue from the snapshot."""
    if (data := replica.collect_snapshot(piece)) is not None:
        replica.restore(read_state(data, piece.seq))


def test_events_are_applied_in_order() -> None:
    replica = replica_at(3)
    assert replica.apply_event(event(4))
    assert seqs(replica.log) == [1, 2, 3, 4]
    assert replica.state.seq == 4


def test_duplicate_event_is_ignored() -> None:
    replica = replica_at(3)
    assert not replica.apply_event(event(3))
    assert not replica.apply_event(event(1))
    assert seqs(replica.log) == [1, 2, 3]


@pytest.mark.parametrize("seq", [5, 6, 100])
def test_a_gap_is_an_error_and_changes_nothing(seq: int) -> None:
    replica = replica_at(3)
    with pytest.raises(GapError):
        replica.apply_event(event(seq))
    assert seqs(replica.log) == [1, 2, 3]
    assert replica.apply_event(event(4))


def test_empty_replica_rejects_a_later_event() -> None:
    with pytest.raises(GapError):
        Replica(GROUP).apply_event(event(2))


def test_refounded_group_may_start_at_any_seq() -> None:
    replica = Replica(GROUP)
    assert replica.apply_event(event(40, Created()))
    assert replica.apply_event(event(41))
    assert replica_at(3).apply_event(event(40, Created()))


def test_attach_asks_for_missing_events() -> None:
    assert Replica(GROUP).attach_request(7) == Attach(7, GROUP, 0)
    assert replica_at(3).attach_request(7) == Attach(7, GROUP, 3)


def test_catch_up_ends_at_the_head() -> None:
    replica = replica_at(1)
    replica.apply_attached(attached(3))
    states = [replica.caught_up]
    for seq in (2, 3, 4):
        replica.apply_event(event(seq))
        states.append(replica.caught_up)
    assert states == [False, False, True, True]


def test_outsider_is_never_caught_up() -> None:
    replica = Replica(GROUP)
    replica.apply_attached(Attached(1, GROUP, "waiting", admin="alice"))
    assert not replica.caught_up
    assert replica.admin == "alice"


def test_shorter_log_resets_the_replica() -> None:
    replica = replica_at(10)
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("bob"),), ()))
    assert not replica.apply_attached(attached(4))
    assert (replica.log, replica.state.seq, replica.online) == ([], 0, {})
    assert replica.attach_request(1) == Attach(1, GROUP, 0)


def test_longer_log_continues_the_replica() -> None:
    assert replica_at(10).apply_attached(attached(10))
    assert replica_at(10).apply_attached(attached(11))


def test_the_log_stays_when_membership_ends() -> None:
    replica = replica_at(10)
    assert replica.apply_attached(Attached(1, GROUP, "outsider", kicked=True))
    assert len(replica.log) == 10
    assert replica.kicked


def test_read_position_is_from_before_the_session() -> None:
    replica = Replica(GROUP)
    replica.apply_attached(attached(10, read=4))
    replica.apply_attached(attached(12, read=11))
    assert replica.read == 4


def test_group_name_is_spelled_as_founded() -> None:
    replica = Replica("OPS")
    replica.apply_attached(attached(1))
    assert replica.name == "ops"


def test_presence_is_folded() -> None:
    replica = Replica(GROUP)
    replica.apply_presence(
        PresenceUpdate(
            GROUP,
            (
                OnlineMember("Alice"),
                OnlineMember("bob"),
            ),
            (),
        )
    )
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("carol"),), ("ALICE", "nobody")))
    assert replica.online == {"bob": "bob", "carol": "carol"}
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("dave"),), (), reset=True))
    assert replica.online == {"dave": "dave"}


def test_replica_state_equals_the_server_state() -> None:
    replica = replica_at(1)
    replica.apply_event(event(2, Approved("Bob")))
    replica.apply_event(event(3))
    assert replica.state.members == {"alice": "alice", "bob": "Bob"}
    assert texts(replica.log) == ["text 3"]


# ------------------------------------------------------------------ snapshots


def state_at(seq: int, **parts: str) -> Group:
    return Group(GROUP, seq, floor=1, members={"alice": "alice"}, admin="alice", **parts)  # type: ignore[arg-type]


def pieces_of(seq: int, size: int = 10_000, **parts: str) -> list[Snapshot]:
    data = freeze(state_at(seq, **parts))
    starts = range(0, len(data), size)
    return [Snapshot(GROUP, seq, data[at : at + size], at != starts[-1]) for at in starts]


def recent_replica(seq: int, first: int, **parts: str) -> Replica:
    """Return a replica with the snapshot at `seq` and no events yet; its log begins at `first`."""
    replica = Replica(GROUP, recent=10)
    replica.apply_attached(Attached(1, GROUP, "member", seq=seq, first=first))
    for piece in pieces_of(seq, 50, **parts):
        apply_piece(replica, piece)
    return replica


def test_recent_is_requested_only_in_the_first_attach() -> None:
    assert Replica(GROUP, recent=10).attach_request(7) == Attach(7, GROUP, 0, 10)
    assert recent_replica(50, 41).attach_request(7) == Attach(7, GROUP, 40)


def test_recent_events_are_read_and_not_applied_again() -> None:
    replica = recent_replica(50, 48, topic="as it is now")
    assert (replica.first, replica.last, replica.log) == (48, 47, [])
    for seq in (48, 49):
        assert replica.apply_event(event(seq, TopicSet("as it was")))
    assert (seqs(replica.log), replica.caught_up) == ([48, 49], False)
    assert replica.apply_event(event(50))
    assert replica.caught_up
    assert replica.state == state_at(50, topic="as it is now")
    assert replica.apply_event(event(51, TopicSet("as it is then")))
    assert (replica.state.topic, replica.state.seq) == ("as it is then", 51)
    assert (replica.first, seqs(replica.log)) == (48, [48, 49, 50, 51])


def test_broken_recent_events_resume_after_the_last() -> None:
    replica = recent_replica(50, 41)
    replica.apply_event(event(41))
    replica.apply_event(event(42))
    assert replica.attach_request(7) == Attach(7, GROUP, 42)
    assert replica.apply_attached(Attached(7, GROUP, "member", seq=60, first=43))
    for seq in range(43, 61):
        replica.apply_event(event(seq))
    assert replica.caught_up
    assert (replica.state.seq, seqs(replica.log)) == (60, list(range(41, 61)))


def test_incomplete_snapshot_is_requested_again() -> None:
    replica = Replica(GROUP, recent=10)
    replica.apply_attached(Attached(1, GROUP, "member", seq=50, first=41))
    for piece in pieces_of(50, 50)[:-1]:
        apply_piece(replica, piece)
    assert replica.attach_request(7) == Attach(7, GROUP, 0, 10)
    replica.apply_attached(Attached(7, GROUP, "member", seq=60, first=51))
    for piece in pieces_of(60, 50):
        apply_piece(replica, piece)
    assert replica.state == state_at(60)
    assert (replica.first, replica.last) == (51, 50)


def test_snapshot_alone_completes_catch_up() -> None:
    replica = recent_replica(50, 51)
    assert replica.caught_up
    assert (replica.first, replica.last, replica.log) == (51, 50, [])


@pytest.mark.parametrize("wrong", [event(49), event(51), event(50, Created())], ids=str)
def test_log_must_begin_at_the_announced_seq(wrong: Event) -> None:
    replica = recent_replica(50, 48)
    assert not replica.apply_event(event(47))
    with pytest.raises(GapError):
        replica.apply_event(wrong)
    assert replica.log == []


def test_refounding_starts_a_new_log() -> None:
    replica = replica_at(3)
    replica.apply_event(event(4, Edited(2, "changed")))
    replica.apply_event(event(5, Deleted(3)))
    replica.apply_event(event(40, Created()))
    assert (replica.first, seqs(replica.log)) == (40, [40])
    assert (replica.texts, replica.deleted) == ({}, set())
    replica = recent_replica(50, 51)
    assert replica.apply_event(event(60, Created()))
    assert (replica.first, replica.last, replica.state.floor) == (60, 60, 60)


def test_unrequested_snapshot_is_ignored() -> None:
    for replica in (Replica(GROUP), replica_at(3), recent_replica(3, 4)):
        before = replica.state.copy()
        for piece in pieces_of(50):
            apply_piece(replica, piece)
        assert replica.state == before


WRONG_SNAPSHOTS = {
    "of another group": [Snapshot(GROUP, 50, freeze(Group("dev", 50)), more=False)],
    "that is none": [Snapshot(GROUP, 50, b"\xa0", more=False)],
    "of no CBOR": [Snapshot(GROUP, 50, b"\xff", more=False)],
    "of nothing": [Snapshot(GROUP, 50, b"", more=False)],
    "of two states": [pieces_of(50, 50)[0], pieces_of(51, 50)[1]],
    "too long": [Snapshot(GROUP, 50, bytes(size), more=True) for size in (SNAPSHOT_LIMIT, 1)],
    "before the events that follow": pieces_of(46),
}


@pytest.mark.parametrize("pieces", WRONG_SNAPSHOTS.values(), ids=WRONG_SNAPSHOTS)
def test_wrong_snapshot_is_a_protocol_error(pieces: list[Snapshot]) -> None:
    replica = Replica(GROUP, recent=10)
    replica.apply_attached(Attached(1, GROUP, "member", seq=50, first=48))
    *good, last = pieces
    for piece in good:
        apply_piece(replica, piece)
    with pytest.raises(ProtocolError):
        apply_piece(replica, last)
    assert (replica.state, replica.log) == (Group(), [])


def test_log_shorter_than_snapshot_resets_the_replica() -> None:
    replica = recent_replica(50, 48)
    assert not replica.apply_attached(attached(49))
    assert replica.attach_request(7) == Attach(7, GROUP, 0, 10)


# ------------------------------------------------------------------ history


def test_history_pages_are_prepended() -> None:
    replica = recent_replica(50, 48)
    assert replica.history_request(7) == HistoryRequest(7, GROUP, 48)
    assert replica.history_before == 48
    page = tuple(event(seq) for seq in (45, 46, 47))
    assert replica.prepend_history(page) == page
    assert (replica.first, replica.last, seqs(replica.log)) == (45, 47, [45, 46, 47])
    assert replica.apply_event(event(48))
    assert replica.history_request(8) == HistoryRequest(8, GROUP, 45)


@pytest.mark.parametrize(("first", "floor", "at_beginning"), [(1, 0, True), (2, 0, False)])
def test_history_begins_at_the_floor(first: int, floor: int, at_beginning: bool) -> None:
    replica = recent_replica(50, first)
    replica.state.floor = floor
    assert replica.at_beginning is at_beginning
    replica.state.floor = first
    assert replica.at_beginning


# ------------------------------------------------------------------ edits and deletions


def test_replica_has_the_latest_text_of_edits() -> None:
    replica = replica_at(3)
    replica.apply_event(event(4, Edited(2, "once")))
    replica.apply_event(event(5, Edited(2, "twice")))
    assert replica.texts == {2: "twice"}
    assert replica.log[1].body == Posted("text 2")


def test_deletion_erases_message_and_edits_from_memory() -> None:
    replica = replica_at(3)
    replica.apply_event(event(4, Edited(2, "once")))
    replica.apply_event(event(5, Edited(3, "stays")))
    replica.apply_event(event(6, Deleted(2)))
    assert (replica.texts, replica.deleted) == ({3: "stays"}, {2})
    bodies = [e.body for e in replica.log]
    assert bodies[1:] == [Erased(), Posted("text 3"), Erased(), Edited(3, "stays"), Deleted(2)]
    assert "once" not in repr(vars(replica))


def test_deletion_of_other_events_erases_nothing() -> None:
    replica = replica_at(1)
    replica.apply_event(event(2, Approved("bob")))
    replica.apply_event(event(3, Deleted(2)))
    assert [e.body for e in replica.log] == [Created(), Approved("bob"), Deleted(2)]


def test_deletions_apply_to_messages_before_the_log() -> None:
    replica = recent_replica(50, 48)
    replica.apply_event(event(48, Deleted(20)))
    assert replica.deleted == {20}


def test_prepended_history_shows_later_changes() -> None:
    replica = recent_replica(50, 10)
    replica.apply_event(event(10, Edited(5, "newest")))
    replica.apply_event(event(11, Deleted(6)))
    page = [
        event(4, Erased()),
        event(5),
        event(6),  # the server had read it before the deletion
        event(7, Edited(5, "older")),
        event(8, Edited(6, "deleted, too")),
        event(9, Deleted(4)),
    ]
    past = replica.prepend_history(page)
    assert past == tuple(replica.log[:6])
    assert [e.body for e in past] == [
        *(Erased(), Posted("text 5"), Erased()),
        *(Edited(5, "older"), Erased(), Deleted(4)),
    ]
    assert (replica.texts, replica.deleted) == ({5: "newest"}, {4, 6})
    replica.prepend_history([event(2), event(3, Edited(2, "in the past"))])
    assert replica.texts == {2: "in the past", 5: "newest"}


# ------------------------------------------------------------------ presence


def test_replica_tracks_away_reasons() -> None:
    replica = Replica(GROUP)
    replica.apply_presence(
        PresenceUpdate(
            GROUP,
            (
                OnlineMember("Alice"),
                OnlineMember("bob", "lunch\x1b[2J"),
            ),
            (),
        )
    )
    assert replica.away == {"bob": "lunch␛[2J"}
    replica.apply_presence(
        PresenceUpdate(
            GROUP,
            (
                OnlineMember("Alice", "a call"),
                OnlineMember("bob"),
            ),
            (),
        )
    )
    assert replica.away == {"alice": "a call"}
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("Alice"),), ()))
    assert (replica.away, set(replica.online)) == ({}, {"alice", "bob"})
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("bob", "asleep"),), ()))
    replica.apply_presence(PresenceUpdate(GROUP, (), ("BOB",)))
    assert (replica.away, set(replica.online)) == ({}, {"alice"})
    replica.apply_presence(PresenceUpdate(GROUP, (OnlineMember("carol", "out"),), (), reset=True))
    assert (replica.away, replica.online) == ({"carol": "out"}, {"carol": "carol"})


# ------------------------------------------------------------------ direct conversations


def test_direct_conversation_has_both_members() -> None:
    replica = Replica("@alice,bob")
    assert set(replica.state.members) == {"alice", "bob"}
    replica.apply_event(Event("@alice,bob", 1, 1, "bob", bytes(8), 1, Posted("hello")))
    replica.reset()
    assert (replica.state, replica.log) == (Group.unwritten("@alice,bob"), [])


def test_read_position_is_only_taken_from_members() -> None:
    replica = replica_at(3)
    replica.read = 2
    replica.apply_membership(MembershipChange(GROUP, "outsider", "banned", "alice"))
    replica.apply_attached(Attached(2, GROUP, "outsider", kicked=True, banned=True))
    assert replica.read == 2
    replica.apply_attached(attached(5, read=3))
    assert replica.read == 3


def test_restored_log_begins_at_the_servers_position() -> None:
    """What comes after a restored backup is new, although its numbers were read before."""
    replica = replica_at(3)
    replica.read = 3
    assert not replica.apply_attached(attached(1, read=1))
    replica.apply_attached(attached(1, read=1))
    assert replica.read == 1


def test_lifted_ban_leaves_the_kick() -> None:
    replica = replica_at(3)
    replica.apply_membership(MembershipChange(GROUP, "outsider", "banned", "alice"))
    replica.apply_membership(MembershipChange(GROUP, "outsider", "unbanned", "alice"))
    assert (replica.banned, replica.kicked) == (False, True)
