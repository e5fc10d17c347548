"""Killed before anything was sent: what was typed on the screen arrives after the next start."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.ui.scenes import join
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess


def kept(home: Path) -> list[bool]:
    """Return for each outbox of a person whether it has the message."""
    return ["hello" in outbox.read_text() for outbox in home.glob("servers/*/*.outbox")]


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
        # The screen may say "sending 1" of the request of /query, before the message is read.
        alice.until(lambda: kept(tmp_path / "alice") == [True], "hello in the outbox")
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


def test_prompts_and_messages_before_any_connection_are_kept(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Without --user and --group, a server that the client knows may be absent, too."""
    with ExitStack() as stack:
        with join(server, tmp_path, "alice") as alice:
            alice.sees("nobody else")
        server.stop(signal.SIGKILL)
        words = ["join", "127.0.0.1", server.port]
        again = stack.enter_context(Terminal(words, str(tmp_path / "alice")))
        again.sees("Cannot connect", "You can write meanwhile", "username [alice]:")
        again.type("\r")
        again.sees("group name [ops]:")
        again.type("\r")
        again.sees("offline")
        again.type("hello\r")
        outboxes = tmp_path / "alice"
        again.until(
            lambda: any("hello" in one.read_text() for one in outboxes.glob("servers/*/*.outbox")),
            "the message in the outbox",
        )
        again.signal(signal.SIGKILL)
        again.end()
        server.start()
        last = stack.enter_context(join(server, tmp_path, "alice"))
        last.sees("hello")
        last.until(
            lambda: not any(one.read_text() for one in outboxes.glob("servers/*/*.outbox")),
            "an empty outbox",
        )
