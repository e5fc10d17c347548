"""Killed before anything was sent: what was typed on the screen arrives after the next start."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.ui.scenes import join

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess


@pytest.mark.parametrize(("typed", "starts"), [("/msg bob hello\r", 1), ("/query bob\rhello\r", 2)])
def test_first_private_message_survives_a_kill(
    typed: str, starts: int, server: ServerProcess, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice = stack.enter_context(join(server, tmp_path, "alice"))
        alice.sees("nobody else")
        bob = stack.enter_context(join(server, tmp_path, "bob"))
        alice.sees("bob asks to join")
        alice.type("/approve bob\r")
        bob.sees("in #ops with 1")
        server.stop(signal.SIGKILL)
        alice.sees("offline")
        for line in typed.split("\r")[:-1]:
            alice.type(f"{line}\r")
        alice.sees("sending 1")
        outboxes = list((tmp_path / "alice").glob("servers/*/*.outbox"))
        assert ["hello" in outbox.read_text() for outbox in outboxes] == [True]
        alice.signal(signal.SIGKILL)
        alice.end()
        if starts == 2:
            with join(server, tmp_path, "alice") as again:
                again.sees("sending 1")
                again.signal(signal.SIGKILL)
                again.end()
        server.start()
        stack.enter_context(join(server, tmp_path, "alice"))
        bob.sees("@alice")
        bob.type("/window @alice\r")
        bob.sees("alice │ hello")
