"""A screen reader's way through plain mode, at a terminal, from the first start to a file.

Lines are only ever added below, so everything is read once, in order; nothing is redrawn.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def start(server: ServerProcess, home: Path, *options: str) -> Terminal:
    arguments = ["join", "127.0.0.1", server.port, "--plain", *options]
    return Terminal(arguments, str(home), width=100, height=60)


def test_from_the_first_start_to_a_file(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "plan.txt").write_text("the plan")
    with start(server, tmp_path / "alice") as alice:
        alice.sees("username:")
        alice.type("alice\n")
        alice.sees("group name:")
        alice.type("ops\n")
        # At a terminal, a group that does not exist is founded, and the server's key is announced.
        alice.sees("-- New server: its key sha256:", "-- alice created ops, and you are its admin")
        alice.sees("-- You are in #ops; nobody else is here yet. /help lists the commands.")
        with start(server, tmp_path / "bob", "--user", "bob", "--group", "ops") as bob:
            bob.sees("-- Waiting for alice to approve you. /leave withdraws your request.")
            alice.sees("-- bob asks to join")
            alice.type("/approve\n")
            alice.sees("-- approve whom? (bob)")
            alice.type("bob\n")
            alice.sees("-- bob joined, approved by alice")
            bob.sees("-- You are in #ops with 1 other member.")
            bob.type("good morning 漢字\n")
            alice.sees("<bob> good morning 漢字")
            alice.type("/reply and to you\n")
            bob.sees("> in reply to bob: good morning 漢字", "<alice> and to you")
            bob.type("/me waves\n")
            alice.sees("* bob waves")
            bob.type("/msg alice psst\n")
            alice.sees("@bob [", "<bob> psst")
            alice.type("/query bob\n")
            alice.sees("-- What you type now goes to @bob.")
            alice.type("here I am\n")
            bob.sees("@alice [", "<alice> here I am")
            alice.type("/window ops\n")
            alice.sees("-- What you type now goes to #ops.")
            alice.type(f"/send {tmp_path / 'plan.txt'}\n")
            saved = tmp_path / "bob" / "downloads" / "plan.txt"
            bob.sees("-- alice shared plan.txt (8 B), file 1", "-- file 1 saved as")
            bob.until(lambda: saved.exists(), "the saved file")
            assert saved.read_text() == "the plan"
            bob.type("/quit\n")
            assert bob.end() == 0
        alice.type("/topic\n/kick nobody\n")
        alice.sees("! nobody is not a member.")
        alice.type("\x04")  # Ctrl-D, the end of the input
        assert alice.end() == 1
        for terminal in (alice, bob):
            assert not CONTROL.search(terminal.raw.replace(b"^D\b\b", b"")), terminal.raw


@pytest.mark.parametrize(
    ("lines", "goodbye"),
    [
        ("/quit\n", "Ctrl-C quits at once. You stay a member."),
        ("/leave\ny\n", "Ctrl-C quits at once."),
    ],
)
def test_goodbye_says_whether_one_stays_a_member(
    server: ServerProcess, tmp_path: Path, lines: str, goodbye: str
) -> None:
    with start(server, tmp_path / "alice", "--user", "alice", "--group", "ops") as alice:
        alice.sees("-- You are in #ops")
        alice.type(lines)
        assert alice.end() == 0
        assert alice.text.rstrip().endswith(f"-- Quitting when everything is sent; {goodbye}")


def test_an_interrupt_at_the_prompt_ends_quietly(server: ServerProcess, tmp_path: Path) -> None:
    with start(server, tmp_path / "alice") as alice:
        alice.sees("username:")
        alice.type("\x03")
        assert alice.end() == 130
        assert "Traceback" not in alice.text
