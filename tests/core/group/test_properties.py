"""Properties of a group under any commands, by anybody, in any order."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given

from tchat.core.group.feature import GroupLimits
from tchat.core.group.features import decode_event
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Created, Invited, Joined
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.core.group.rules import apply
from tchat.core.group.state import Group
from tchat.core.protocol.framing import PREFIX
from tchat.core.text import fold
from tchat.errors import Refused
from tests.core.histories import Step, histories, run_history
from tests.core.script import Script, key_of, replay

if TYPE_CHECKING:
    from tchat.core.group.feature import Event

any_history = given(history=histories)

SMALL = GroupLimits(members=2, requests=1, invites=2, bans=1)


class SmallScript(Script):
    """Script of a group that may have two members."""

    limits = SMALL


def script_of(history: list[Step]) -> Script:
    """Return the script of a group after a history."""
    script = Script()
    for _ in run_history(history, script):
        pass
    return script


def events_of(script: Script) -> list[Event]:
    return [decode_event(frame[PREFIX:]) for frame in script.log]


@any_history
def test_group_with_members_has_one_admin_among_them(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        assert (script.group.admin in script.group.members) == bool(script.group.members)


@any_history
def test_closed_group_has_no_admin_and_no_requests(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        if script.group.admin is None:
            assert (script.members, script.waiting) == ([], [])


@any_history
def test_standings_exclude_each_other(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        group = script.group
        assert not group.members.keys() & group.requests.keys()
        assert not group.members.keys() & group.kicked


@any_history
def test_banned_people_are_neither_members_nor_waiting(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        group = script.group
        assert not group.banned.keys() & (group.members.keys() | group.requests.keys())
        assert group.banned.keys() <= group.kicked.keys()


@any_history
def test_nobody_waits_in_an_open_group(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        if script.group.policy == "open":
            assert script.waiting == []


@any_history
def test_invited_member_neither_waits_nor_is_kicked(history: list[Step]) -> None:
    script = Script()
    for outcome in run_history(history, script):
        for event in outcome.events:
            if isinstance(event.body, Joined):
                assert fold(event.actor) not in script.group.kicked | script.group.requests.keys()


@any_history
def test_invites_belong_to_members_only(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        for invitation in script.group.invites.values():
            assert invitation.by in script.group.members
            assert script.group.floor < invitation.seq <= script.group.seq


@any_history
def test_invite_admits_its_addressee_once_while_valid(history: list[Step]) -> None:
    script = Script()
    open_invites: dict[bytes, Event] = {}
    for outcome in run_history(history, script):
        for event in outcome.events:
            match event.body:
                case Created():
                    open_invites.clear()
                case Invited(digest):
                    open_invites[digest] = event
                case Joined(str(by), bytes(digest)):
                    given = open_invites.pop(digest)
                    assert digest not in script.group.invites
                    assert_good(given, event, by)


def assert_good(invitation: Event, joined: Event, by: str) -> None:
    body = invitation.body
    assert isinstance(body, Invited)
    assert fold(by) == fold(invitation.actor)
    assert joined.at < body.expires
    assert body.name is None or fold(body.name) == fold(joined.actor)


@any_history
def test_keys_are_those_of_all_former_members(history: list[Step]) -> None:
    script = Script()
    ever: set[bytes] = set()
    for outcome in run_history(history, script):
        for event in outcome.events:
            ever = set() if isinstance(event.body, Created) or not script.members else ever
        ever |= {key_of(name) for name in script.members}
        assert script.group.keys.keys() == ever
        assert all(key_of(name) == key for key, name in script.group.keys.items())


@any_history
def test_no_group_grows_beyond_its_limits(history: list[Step]) -> None:
    script = SmallScript()
    for _ in run_history(history, script):
        group = script.group
        assert len(group.members) <= SMALL.members
        assert len(group.requests) <= SMALL.requests
        still_good = [one for one in group.invites.values() if one.expires > group.at]
        assert len(still_good) <= SMALL.invites
        assert len(group.banned) <= SMALL.bans


@any_history
def test_people_are_kept_by_their_folded_names(history: list[Step]) -> None:
    group = script_of(history).group
    asked = {key: request.name for key, request in group.requests.items()}
    for key, name in (group.members | asked | group.banned).items():
        assert key == fold(name)


@any_history
def test_seq_has_no_gaps_and_time_never_decreases(history: list[Step]) -> None:
    script = script_of(history)
    events = events_of(script)
    assert [event.seq for event in events] == list(range(1, script.group.seq + 1))
    assert all(earlier.at <= later.at for earlier, later in pairwise(events))


@any_history
def test_file_numbers_are_unique_and_without_gaps(history: list[Step]) -> None:
    script = script_of(history)
    bodies = [event.body for event in events_of(script)]
    numbers = [body.number for body in bodies if isinstance(body, FileShared)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert script.group.numbered == len(numbers)


@any_history
def test_files_are_those_shared_and_not_removed(history: list[Step]) -> None:
    script = Script()
    files: dict[int, str] = {}
    for outcome in run_history(history, script):
        for event in outcome.events:
            match event.body:
                case FileShared(number):
                    files[number] = fold(event.actor)
                case FileRemoved(number):
                    assert fold(event.actor) in {files.pop(number), script.group.admin}
        if not script.members:
            files.clear()
        by = {number: fold(file.by) for number, file in script.group.files.items()}
        assert by == files
        assert all(file.number == number for number, file in script.group.files.items())


@any_history
def test_edits_are_of_own_messages_since_founding(history: list[Step]) -> None:
    script = Script()
    for _ in run_history(history, script):
        for target, edits in ((e.message, e.seqs) for e in script.group.edits.values()):
            message = script.event(target)
            assert message is not None
            assert isinstance(message.body, Posted)
            assert list(edits) == sorted(set(edits))
            assert script.group.floor < target < edits[0]
            for edit in filter(None, map(script.event, edits)):
                assert isinstance(edit.body, Edited)
                assert edit.body.target == target
                assert fold(edit.actor) == fold(message.actor)


@any_history
def test_deleted_message_is_never_changed_again(history: list[Step]) -> None:
    script = Script()
    gone: set[int] = set()
    for outcome in run_history(history, script):
        for event in outcome.events:
            if isinstance(event.body, Edited | Deleted):
                assert event.body.target not in gone
            if isinstance(event.body, Deleted):
                gone.add(event.body.target)
    assert not gone & script.group.edits.keys()


@any_history
def test_erased_are_deleted_messages_and_their_edits(history: list[Step]) -> None:
    script = script_of(history)
    written = [decode_event(frame[PREFIX:]) for frame in script.written]
    gone = {event.body.target for event in written if isinstance(event.body, Deleted)}
    for was, event in zip(written, events_of(script), strict=True):
        said = was.seq in gone or (isinstance(was.body, Edited) and was.body.target in gone)
        assert event == (replace(was, body=Erased()) if said else was)


@any_history
def test_erasing_changes_no_state(history: list[Step]) -> None:
    script = script_of(history)
    assert replay(script.name, script.written) == replay(script.name, script.log) == script.group


@any_history
def test_replay_of_the_log_leads_to_same_state(history: list[Step]) -> None:
    script = script_of(history)
    assert script.replayed() == script.group
    assert list(script.replayed().members) == list(script.group.members)


@any_history
def test_decide_changes_nothing(history: list[Step]) -> None:
    script = Script()
    for step in history:
        author, command = step.taken(script)
        before = copy.deepcopy(script.group)
        with suppress(Refused):
            script.decided(author, command)
        assert script.group == before
        with suppress(Refused):
            script.give(author, command)


@any_history
def test_decide_is_a_pure_function(history: list[Step]) -> None:
    script = script_of(history[:-1])
    for step in history[-1:]:
        author, command = step.taken(script)
        with suppress(Refused):
            once = script.decided(author, command)
            assert script.decided(author, command, script.replayed()) == once


@any_history
def test_copy_is_independent(history: list[Step]) -> None:
    half = len(history) // 2
    script = script_of(history[:half])
    kept = copy.deepcopy(script.group)
    original, script.group = script.group, script.group.copy()
    for _ in run_history(history[half:], script):
        pass
    assert original == kept


def test_copy_shares_no_mutable_values() -> None:
    group = Group()
    copied = group.copy()
    for name in (one.name for one in fields(Group)):
        value = getattr(group, name)
        assert isinstance(value, str | int | None) or getattr(copied, name) is not value


@any_history
def test_no_command_is_done_twice(history: list[Step]) -> None:
    script = Script()
    done = [outcome for outcome in run_history(history, script) if outcome.events]
    for earlier in done:
        assert script.decided(earlier.author, earlier.command) == []


@any_history
def test_fold_may_be_interrupted_anywhere(history: list[Step]) -> None:
    script = script_of(history)
    group = Group()
    for one in events_of(script):
        group = group.copy()
        apply(group, one)
    assert group == script.group
