"""A replica: the server's log, followed without gaps."""

from __future__ import annotations

import pytest

from tchat.client.replica import GapError, Replica
from tchat.core.events import Approved, Body, Created, Event, Posted
from tchat.core.frames import Attach, Attached, Presence
from tests.helpers import GROUP, seqs, texts


def event(seq: int, body: Body | None = None) -> Event:
    return Event(GROUP, seq, seq, "alice", bytes(8), seq, body or Posted(f"text {seq}"))


def attached(seq: int, read: int = 0) -> Attached:
    return Attached(1, GROUP, "member", seq=seq, read=read)


def replica_at(seq: int) -> Replica:
    """Return a replica that has everything up to `seq`."""
    replica = Replica(GROUP)
    replica.attached(attached(seq))
    replica.take(event(1, Created()))
    for number in range(2, seq + 1):
        replica.take(event(number))
    return replica


def test_events_are_taken_in_order() -> None:
    replica = replica_at(3)
    assert replica.take(event(4))
    assert seqs(replica.log) == [1, 2, 3, 4]
    assert replica.state.seq == 4


def test_an_event_that_is_here_already_is_not_taken_again() -> None:
    replica = replica_at(3)
    assert not replica.take(event(3))
    assert not replica.take(event(1))
    assert seqs(replica.log) == [1, 2, 3]


@pytest.mark.parametrize("seq", [5, 6, 100])
def test_a_gap_is_an_error_and_changes_nothing(seq: int) -> None:
    replica = replica_at(3)
    with pytest.raises(GapError):
        replica.take(event(seq))
    assert seqs(replica.log) == [1, 2, 3]
    assert replica.take(event(4))


def test_an_empty_replica_does_not_begin_in_the_middle() -> None:
    with pytest.raises(GapError):
        Replica(GROUP).take(event(2))


def test_a_new_life_of_the_group_may_begin_anywhere() -> None:
    replica = Replica(GROUP)
    assert replica.take(event(40, Created()))
    assert replica.take(event(41))
    assert replica_at(3).take(event(40, Created()))


def test_a_replica_asks_for_what_it_does_not_have() -> None:
    assert Replica(GROUP).attach(7) == Attach(7, GROUP, 0)
    assert replica_at(3).attach(7) == Attach(7, GROUP, 3)


def test_it_has_caught_up_when_it_has_all_there_was_when_it_attached() -> None:
    replica = replica_at(1)
    replica.attached(attached(3))
    states = [replica.caught_up]
    for seq in (2, 3, 4):
        replica.take(event(seq))
        states.append(replica.caught_up)
    assert states == [False, False, True, True]


def test_one_who_is_no_member_has_never_caught_up() -> None:
    replica = Replica(GROUP)
    replica.attached(Attached(1, GROUP, "waiting", admin="alice"))
    assert not replica.caught_up
    assert replica.admin == "alice"


def test_a_log_that_is_shorter_than_what_is_here_is_another_log() -> None:
    replica = replica_at(10)
    replica.take_presence(Presence(GROUP, ("bob",), ()))
    assert not replica.attached(attached(4))
    assert (replica.log, replica.state.seq, replica.online) == ([], 0, {})
    assert replica.attach(1) == Attach(1, GROUP, 0)


def test_a_log_that_is_as_long_as_what_is_here_or_longer_is_followed_on() -> None:
    assert replica_at(10).attached(attached(10))
    assert replica_at(10).attached(attached(11))


def test_the_log_stays_when_membership_ends() -> None:
    replica = replica_at(10)
    assert replica.attached(Attached(1, GROUP, "outsider", kicked=True))
    assert len(replica.log) == 10
    assert replica.kicked


def test_what_was_read_is_what_was_read_before_this_session() -> None:
    replica = Replica(GROUP)
    replica.attached(attached(10, read=4))
    replica.attached(attached(12, read=11))
    assert replica.read == 4


def test_the_groups_name_is_written_as_its_founder_wrote_it() -> None:
    replica = Replica("OPS")
    replica.attached(attached(1))
    assert replica.name == "ops"


def test_presence_is_folded() -> None:
    replica = Replica(GROUP)
    replica.take_presence(Presence(GROUP, ("Alice", "bob"), ()))
    replica.take_presence(Presence(GROUP, ("carol",), ("ALICE", "nobody")))
    assert replica.online == {"bob": "bob", "carol": "carol"}
    replica.take_presence(Presence(GROUP, ("dave",), (), reset=True))
    assert replica.online == {"dave": "dave"}


def test_the_state_is_what_the_servers_rules_make_of_the_log() -> None:
    replica = replica_at(1)
    replica.take(event(2, Approved("Bob")))
    replica.take(event(3))
    assert replica.state.members == {"alice": "alice", "bob": "Bob"}
    assert texts(replica.log) == ["text 3"]
