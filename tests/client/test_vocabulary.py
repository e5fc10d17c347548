"""The client handles every frame that a server may send, by type unions that mypy checks."""

from __future__ import annotations

from typing import get_args, get_type_hints

from tchat.client.request import Answer
from tchat.client.subscriptions import News
from tchat.core.group.feature import Event
from tchat.core.protocol.frames import Failed, Goodbye, KeyAdded, KeyRemoved, Pong
from tchat.core.protocol.handshake import HELLOS, WELCOMES
from tchat.core.vocabulary import ANSWERED_BY, ANSWERS, NOTICES, TO_CLIENT, TO_SERVER
from tests.core.examples import REQUESTS


def test_a_request_accepts_every_answer() -> None:
    """All but `Failed`, which is raised."""
    assert set(get_args(Answer)) == set(ANSWERS) - {Failed}


def test_subscriptions_handle_every_notice_and_event() -> None:
    """All but those about the connection and the account."""
    others = {Goodbye, KeyAdded, KeyRemoved, Pong}
    assert set(get_args(News)) == (set(NOTICES) - others) | {Event}


def test_every_request_has_its_answers() -> None:
    """A request is a frame with an `id`: what is not in the table cannot be sent."""
    requests = {type(frame) for frame in REQUESTS} - set(HELLOS)
    asking = {cls for cls in requests if "id" in get_type_hints(cls)}
    assert set(ANSWERED_BY) == asking
    assert {cls.type for cls in asking} <= set(TO_SERVER)


def test_every_answer_belongs_to_a_request() -> None:
    answers = {answer for answers in ANSWERED_BY.values() for answer in answers}
    assert answers == set(ANSWERS) - {Failed}


def test_every_frame_of_a_server_is_classified() -> None:
    """A frame is part of the handshake, the answer to a request, or a notice."""
    known = (*WELCOMES, *ANSWERS, *NOTICES, Event)
    assert {cls.type for cls in known} == set(TO_CLIENT)
    assert len(known) == len(TO_CLIENT)
