"""What is typed in plain mode before the first connection is kept, and sent once."""

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


@pytest.mark.parametrize("killed", [True, False])
def test_lines_before_any_connection_are_sent_once(
    server: ServerProcess, tmp_path: Path, *, killed: bool
) -> None:
    with ExitStack() as stack:
        with join(server, tmp_path, "alice") as alice:
            alice.sees("nobody else")
        server.stop(signal.SIGKILL)
        words = ["join", "127.0.0.1", server.port, "--plain"]
        again = stack.enter_context(Terminal(words, str(tmp_path / "alice")))
        for prompt, typed in (("username [alice]:", ""), ("group name [ops]:", ""), ("", "hello")):
            again.sees(prompt)
            again.type(f"{typed}\r")
        outboxes = tmp_path / "alice"
        again.until(
            lambda: any("hello" in one.read_text() for one in outboxes.glob("servers/*/*.outbox")),
            "the message in the outbox",
        )
        if killed:
            again.signal(signal.SIGKILL)
            again.end()
        server.start()
        if killed:
            again = stack.enter_context(Terminal(words, str(tmp_path / "alice")))
            again.sees("username [alice]:")
            again.type("\r")
            again.sees("group name [ops]:")
            again.type("\r")
        again.sees("<alice> hello")
        again.type("\x04")
        assert again.end() == 0
        with join(server, tmp_path, "alice") as last:
            last.sees("alice │ hello")
            assert last.text.count("alice │ hello") == 1
