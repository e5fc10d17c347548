"""Unanswered requests: when the last one is done, that is told once, and only if it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.client_id import ClientId
from tchat.client.request_tracker import RequestTracker
from tchat.core.protocol.frames import Away, Failed, Ok
from tchat.errors import Code

if TYPE_CHECKING:
    from tchat.client.request import PendingRequest


@pytest.mark.parametrize("is_refused", [False, True], ids=["answered", "refused"])
def test_next_request_at_the_end_of_the_last(is_refused: bool) -> None:
    """A request whose end starts another is not the last one."""
    told: list[bool] = []
    following: list[PendingRequest] = []

    def on_all_answered() -> None:
        told.append(first.done.is_set())

    def end(request_id: int) -> None:
        if is_refused:
            tracker.handle_failure(Failed(Code.INTERNAL, "no", re=request_id))
        else:
            tracker.handle_answer(Ok(request_id))

    tracker = RequestTracker(ClientId(), on_all_answered)
    first = tracker.ask(Away)
    first.on_done = lambda: following.append(tracker.ask(Away))
    end(first.id)
    assert (len(tracker), told) == (1, [])
    end(following[0].id)
    assert (len(tracker), told) == (0, [True])
