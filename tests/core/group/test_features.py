"""Table of features: every command and event is declared once and completely."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Annotated, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given

from tchat.core.group import files, membership, messages, operation, settings
from tchat.core.group.feature import Body, Command, Name, Reader, TargetedCommand, Unknown
from tchat.core.group.features import COMMANDS, EVENTS, LOG_LINES
from tchat.core.group.membership import Join
from tchat.core.group.operation import Appoint, Close, EraseTexts, Expire
from tchat.core.group.rules import apply, decide
from tchat.core.group.state import Author, Group
from tchat.core.protocol.schema import clean
from tchat.core.text import fold
from tchat.core.vocabulary import TO_SERVER
from tchat.errors import Code, Refused
from tests.core import examples
from tests.core.examples import BODIES, REQUESTS
from tests.core.histories import PEOPLE, Step, histories, run_history
from tests.core.script import Script, key_of

if TYPE_CHECKING:
    from tchat.core.group.feature import Event

MODULES = (membership, messages, files, settings, operation)
COMMAND_EXAMPLES = [frame for frame in REQUESTS if isinstance(frame, Command)]
NOT_SHOWN = {"posted", "erased"}
"""Events that no sentence describes: the message itself is shown, or nothing is left of it."""

ADMIN = Reader(me="alice", is_admin=True, keys={key_of("zoe"): "zoe"}, file="a.txt")
MEMBER = Reader(me="carol", is_admin=False, keys=None)


def subclasses(cls: type[object]) -> set[type[object]]:
    """Return the classes of the product that derive from `cls`, at any depth."""
    found = {one for one in cls.__subclasses__() if one.__module__.startswith("tchat.")}
    return found | {deeper for one in found for deeper in subclasses(one)}


def kind_of(body: Body) -> str:
    return body.kind


def type_of(command: Command) -> str:
    return command.type


every_event = pytest.mark.parametrize("body", BODIES, ids=kind_of)


def event_of(body: Body) -> Event:
    (event,) = [event for event in examples.EVENTS if event.body == body]
    return event


# ------------------------------------------------------------------ the table


def test_every_command_is_in_one_module() -> None:
    every = [*COMMANDS, *operation.COMMANDS]
    assert len(set(every)) == len(every)
    assert set(every) == subclasses(Command) - {TargetedCommand}
    for module in MODULES:
        assert {command.__module__ for command in module.COMMANDS} <= {module.__name__}


def test_no_client_can_send_operator_commands() -> None:
    assert all(command.allowed == "operator" for command in operation.COMMANDS)
    assert all(command.type not in TO_SERVER for command in operation.COMMANDS)
    assert all(command.allowed != "operator" for command in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        Close(1, 2, "ops"),
        Appoint(1, 2, "ops", "bob"),
        Expire(1, 2, "ops", 1),
        EraseTexts(1, 2, "ops", "x", (), topic=False),
    ],
)
def test_only_the_operator_may_give_them(command: Command) -> None:
    group = Group()
    for event in decide(group, Author("alice", bytes(8)), Join(1, 1, "ops"), 1):
        apply(group, event)
    with pytest.raises(Refused) as caught:
        decide(group, Author("alice", bytes(8)), command, 1)
    assert caught.value.code == Code.NOT_ADMIN


def test_every_event_is_in_one_module() -> None:
    assert len(set(EVENTS)) == len(EVENTS)
    assert set(EVENTS) == subclasses(Body) - {Unknown}
    for module in MODULES:
        assert {event.__module__ for event in module.EVENTS} <= {module.__name__}


def test_kinds_and_types_are_unique() -> None:
    kinds = [event.kind for event in EVENTS]
    assert len(set(kinds)) == len(kinds)
    assert Unknown.kind not in kinds
    types = [command.type for command in COMMANDS]
    assert len(set(types)) == len(types)


def test_log_words_are_unique() -> None:
    words = [line.word for event in EVENTS for line in event.log_lines]
    assert len(set(words)) == len(words) == len(LOG_LINES)


def test_every_command_and_event_has_an_example() -> None:
    assert {type(command) for command in COMMAND_EXAMPLES} == set(COMMANDS)
    assert {type(body) for body in BODIES} == set(EVENTS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.type)
def test_every_command_has_its_own_rule(command: type[Command]) -> None:
    assert command.decide is not Command.decide
    assert command.allowed in ("anybody", "member", "admin")


# ------------------------------------------------------------------ sentences and log lines


@every_event
def test_every_event_has_a_sentence(body: Body) -> None:
    event = event_of(body)
    sentence = body.sentence(event, ADMIN)
    assert bool(sentence) == (body.kind not in NOT_SHOWN)
    assert event.actor in sentence or not sentence or body.kind == "missing"  # nobody's doing
    assert "None" not in sentence + body.sentence(event, MEMBER)


@every_event
def test_every_log_line_has_its_facts(body: Body) -> None:
    line = body.log_line()
    assert (line in body.log_lines) == bool(body.log_lines)
    if line is None:
        return
    facts = {"group": "ops", "user": "alice", **body.log_facts()}
    needed = {name for _, name, _, _ in Formatter().parse(line.text) if name}
    assert needed <= facts.keys()
    assert "None" not in line.text.format(**facts)


def test_requests_are_shown_to_the_admin_alone() -> None:
    for body in (membership.Requested(), membership.Denied("bob"), membership.Withdrawn()):
        event = event_of(body) if body in BODIES else examples.EVENTS[0]
        assert body.sentence(event, ADMIN)
        assert body.sentence(event, MEMBER) == ""


# ------------------------------------------------------------------ cleaning


def name_fields(command: type[Command]) -> list[str]:
    """Return the fields of a command that hold a person's name."""
    hints = get_type_hints(command, include_extras=True)
    return [key for key, hint in hints.items() if Name in (hint, *get_args(hint))]


def test_a_name_is_annotated_text() -> None:
    assert get_origin(Name) is Annotated
    found = {command.type for command in COMMANDS if name_fields(command)}
    assert found == {"approve", "deny", "kick", "ban", "unban", "transfer_admin", "invite"}


@pytest.mark.parametrize("command", COMMAND_EXAMPLES, ids=type_of)
def test_names_in_commands_are_cleaned(command: Command) -> None:
    for key in name_fields(type(command)):
        item = command.to_map()
        decomposed = type(command).from_map({**item, key: "Zoe\u0308"})
        assert clean(decomposed).to_map()[key] == "Zo\u00eb"
        with pytest.raises(Refused) as caught:
            clean(type(command).from_map({**item, key: "evil\x1b[2J"}))
        assert caught.value.code == Code.BAD_NAME


@pytest.mark.parametrize("command", COMMAND_EXAMPLES, ids=type_of)
def test_clean_commands_are_unchanged(command: Command) -> None:
    assert clean(command) is command


def test_typed_text_is_cleaned() -> None:
    post, topic = messages.Post(1, 1, "ops", "a\x1bb"), settings.SetTopic(1, 1, "ops", "a\nb")
    share = files.Share(1, 1, "ops", "../a.txt", 1, bytes(32))
    assert "\x1b" not in clean(post).text
    assert "\n" not in clean(topic).text
    assert "/" not in clean(share).name


# ------------------------------------------------------------------ standing


@given(history=histories)
def test_standing_changes_agree_with_the_state(history: list[Step]) -> None:
    """Every change of standing is announced, except by one's own founding or request."""
    script = Script()
    before = script.group.copy()
    for outcome in run_history(history, script):
        for event in outcome.events:
            after = before.copy()
            apply(after, event)
            changed = {
                fold(person)
                for person in PEOPLE
                if before.standing(person) != after.standing(person)
            }
            change = event.body.standing_change(event)
            if change is not None:
                assert after.standing(change.person) == change.standing
                assert event.body.changes_standing
            announced = {change.person} if change else {fold(event.actor)}
            if isinstance(event.body, membership.Left) and not after.members:
                announced |= {fold(request.name) for request in before.requests.values()}
            assert changed <= announced
            assert not changed or event.body.changes_standing
            before = after


def test_only_events_with_changes_announce_any() -> None:
    for event in EVENTS:
        overridden = event.standing_change is not Body.standing_change
        assert event.changes_standing or not overridden
    assert Unknown("sang").standing_change(examples.EVENTS[0]) is None


@every_event
def test_log_lines_and_changes_are_side_effects(body: Body) -> None:
    """The server skips events without side effects, so none of these may be missing there."""
    event, group = event_of(body), Group("ops")
    effects = [
        body.log_line(),
        body.standing_change(event),
        body.erased(group),
        body.changes_standing,
        body.changes_files,
    ]
    assert body.has_side_effects == any(effects)


def test_events_with_addressees_are_marked() -> None:
    marked = {event.kind for event in EVENTS if event.has_addressees}
    assert marked == {"posted", "edited", "requested", "admin_transferred"}


def test_messages_have_no_side_effects() -> None:
    assert not messages.Posted.has_side_effects
    assert not messages.Edited.has_side_effects
