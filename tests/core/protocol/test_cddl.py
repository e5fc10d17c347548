"""`protocol.cddl` and the code agree, and the tests notice when they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cbor2
import pytest

from tchat.core.group import features
from tchat.core.group.features import decode_event, encode_event
from tchat.core.protocol.frames import IN_TRANSFER, Failed, Goodbye, Ping, decode, encode
from tchat.core.protocol.framing import PREFIX, pack
from tchat.core.vocabulary import TO_CLIENT, TO_SERVER
from tchat.errors import Code, ProtocolError
from tests import cddl
from tests.cddl import ProtocolViolation, rule_of, validate, validate_body
from tests.core import examples
from tests.core.examples import EVENTS, EVERY_TYPE, FRAMES, name_of

if TYPE_CHECKING:
    from tchat.core.group.feature import Event
    from tchat.core.protocol.schema import Frame

every_frame = pytest.mark.parametrize("frame", FRAMES, ids=name_of)

OTHER_VALUES = (-1, 2**63, 1.0, "", b"", True, None, {"a": 1}, [1], [b""])


def shape_of(value: object) -> object:
    """Return the type of a value, or of what is in it."""
    return ("list", type(value[0])) if isinstance(value, list | tuple) else type(value)


def cddl_allows(rule: str, item: dict[str, object]) -> bool:
    try:
        validate(rule, cbor2.dumps(item), may_grow=True)
    except ProtocolViolation:
        return False
    return True


def decoder_allows(item: dict[str, object]) -> bool:
    try:
        decode(cbor2.dumps(item), EVERY_TYPE)
    except ProtocolError:
        return False
    return True


# ------------------------------------------------------------------ the mechanism


def test_frame_unknown_to_the_cddl_fails() -> None:
    with pytest.raises(ProtocolViolation, match="no rule for type 'shout'"):
        pack({"type": "shout"})
    cddl.violations.clear()


def test_event_unknown_to_the_cddl_fails() -> None:
    with pytest.raises(ProtocolViolation, match="no rule for kind 'shouted'"):
        pack(EVENTS[0].to_map() | {"kind": "shouted"})
    cddl.violations.clear()


def test_frame_with_a_wrong_value_fails() -> None:
    with pytest.raises(ProtocolViolation, match="not a goodbye"):
        encode(Goodbye("Not a code!", "Farewell."))
    cddl.violations.clear()


def test_key_unknown_to_the_cddl_fails() -> None:
    with pytest.raises(ProtocolViolation, match="undocumented"):
        pack({"type": "ping", "undocumented": 1})
    cddl.violations.clear()


def test_caught_violation_still_fails_the_test() -> None:
    with pytest.raises(ProtocolViolation):
        pack({"type": "shout"})
    assert cddl.violations == ["protocol.cddl has no rule for type 'shout'"]
    cddl.violations.clear()


def test_bodies_from_a_socket_can_be_validated() -> None:
    validate_body(encode(Ping())[PREFIX:])


@pytest.mark.parametrize("item", [[], {}, {"type": 1}, {"type": "seen", "group": "ops"}])
def test_wrong_bodies_from_a_socket_are_found(item: object) -> None:
    with pytest.raises(ProtocolViolation):
        validate_body(cbor2.dumps(item))


# ------------------------------------------------------------------ nothing is left out


def test_there_is_an_example_of_every_request() -> None:
    assert {frame.type for frame in examples.REQUESTS} == TO_SERVER.keys()


def test_there_is_an_example_of_every_answer() -> None:
    assert {frame.type for frame in examples.ANSWERS} == TO_CLIENT.keys()


def test_there_is_an_example_of_every_transfer_frame() -> None:
    assert {frame.type for frame in examples.TRANSFER} == IN_TRANSFER.keys()


def test_there_is_an_example_of_every_event() -> None:
    assert {type(event.body) for event in EVENTS} == set(features.EVENTS)


def test_cddl_lists_no_frame_unknown_to_code() -> None:
    choices = " / ".join(
        cddl.RULES[name] for name in ("to-server", "to-client", "in-transfer", "command", "event")
    )
    groups = {"command", "event"}
    assert {name.strip() for name in choices.split("/")} - groups == {
        rule_of(frame.to_map()) for frame in FRAMES
    }


# ------------------------------------------------------------------ both say the same


@every_frame
def test_frame_survives_a_round_trip(frame: Frame) -> None:
    assert decode(encode(frame)[PREFIX:], EVERY_TYPE) == frame


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_event_survives_a_round_trip(event: Event) -> None:
    assert decode_event(encode_event(event)[PREFIX:]) == event


@every_frame
def test_keys_are_required_unless_optional(frame: Frame) -> None:
    item = frame.to_map()
    rule = rule_of(item)
    for key in item:
        shorter = {k: v for k, v in item.items() if k != key}
        optional = key in examples.optional_in(frame)
        assert (key, cddl_allows(rule, shorter)) == (key, optional)
        assert (key, decoder_allows(shorter)) == (key, optional)


@every_frame
def test_every_key_has_values_of_one_type(frame: Frame) -> None:
    item = frame.to_map()
    rule = rule_of(item)
    for key in item.keys() - {"type", "kind"}:
        for other in OTHER_VALUES:
            if shape_of(other) == shape_of(item[key]) and shape_of(other) is not int:
                continue  # valid type; the value is checked by the CDDL only
            wrong = item | {key: other}
            assert (key, other, decoder_allows(wrong)) == (key, other, False)
            assert (key, other, cddl_allows(rule, wrong)) == (key, other, False)


@every_frame
def test_unknown_key_is_ignored(frame: Frame) -> None:
    item = frame.to_map()
    newer = item | {"mood": {"colour": "blue", "since": [1, 2]}}
    assert cddl_allows(rule_of(item), newer)
    assert decode(cbor2.dumps(newer), EVERY_TYPE) == frame


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_logged_event_needs_every_key(event: Event) -> None:
    item = event.to_map()
    for key in item:
        shorter = {k: v for k, v in item.items() if k != key}
        if key in examples.optional_in(event):
            continue
        with pytest.raises(ProtocolError) as caught:
            decode_event(cbor2.dumps(shorter))
        assert caught.value.code == Code.MALFORMED


def test_log_may_hold_only_events() -> None:
    with pytest.raises(ProtocolError, match="not an event"):
        decode_event(encode(Ping())[PREFIX:])


@pytest.mark.parametrize("code", Code)
def test_every_code_can_be_sent(code: Code) -> None:
    validate_body(encode(Failed(code, code.meaning))[PREFIX:])
