"""The client handles every frame that a server may send, by type unions that mypy checks."""

from __future__ import annotations

from typing import get_args

from tchat.client.request import Answer
from tchat.client.subscriptions import News
from tchat.core.group.feature import Event
from tchat.core.protocol.frames import Failed, Goodbye, KeyAdded, KeyRemoved, Pong
from tchat.core.vocabulary import ANSWERS, NOTICES


def test_a_request_accepts_every_answer() -> None:
    """All but `Failed`, which is raised."""
    assert set(get_args(Answer)) == set(ANSWERS) - {Failed}


def test_subscriptions_handle_every_notice_and_event() -> None:
    """All but those about the connection and the account."""
    others = {Goodbye, KeyAdded, KeyRemoved, Pong}
    assert set(get_args(News)) == (set(NOTICES) - others) | {Event}
