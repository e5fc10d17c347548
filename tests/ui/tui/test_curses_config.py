"""The configuration file: its effect on the screen, and errors in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ui.scenes import F7, join, open_group, row_with
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

F5 = "\x1b[15~"
ASIDE, BACK = b"\x1b[?1049l", b"\x1b[?1049h"


def configure(home: Path, user: str, text: str) -> None:
    """Write a person's configuration file."""
    (home / user).mkdir(exist_ok=True)
    (home / user / "config.toml").write_text(text)


def test_keys_are_configurable(server: ServerProcess, tmp_path: Path) -> None:
    configure(tmp_path, "alice", '[keys]\n"F5" = "members"\n"F7" = "bare-view"\n')
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else", "★● alice")
        alice.type(F5)
        alice.until(lambda: "★" not in alice.text, "no members")
        alice.type("hello\r")
        alice.sees("alice │ hello")
        alice.type(F7)
        alice.sees("alice: hello")


def test_colours_are_configurable(server: ServerProcess, tmp_path: Path) -> None:
    configure(tmp_path, "alice", '[colours]\nprompt = "underline colour 198"\n')
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        cell = alice.screen.buffer[23][0]
        assert (cell.data, cell.fg, cell.underscore) == ("a", "ff0087", True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[keys]\n"C-n" = "next-widow"\n', "there is no action 'next-widow'; did you mean next-w"),
        ('[keys]\n"x" = "next-window"\n', "'x' is not a key that can be bound"),
        ('[colours]\nprompt = "mauvish"\n', "prompt is 'mauvish'; write any of"),
        ('[colours]\nprmopt = "bold"\n', "there is no style 'prmopt'; known:"),
        ('usr = "alice"\n', "unknown key 'usr' (did you mean 'user'?)"),
        ("user = \n", "the file is not TOML"),
    ],
)
def test_wrong_file_is_reported_without_painting(
    server: ServerProcess, tmp_path: Path, text: str, sentence: str
) -> None:
    configure(tmp_path, "alice", text)
    with join(server, tmp_path, "alice", width=240) as alice:
        assert alice.end() == 1
        printed = alice.text.strip()
        assert printed.startswith("tchat: ")
        assert sentence in printed
        assert "config.toml" in printed
        assert alice.raw.count(ASIDE) == alice.raw.count(BACK)
        assert b"Traceback" not in alice.raw


async def test_server_has_a_nickname(server: ServerProcess, tmp_path: Path) -> None:
    configure(
        tmp_path,
        "alice",
        f'[servers.work]\nhost = "127.0.0.1"\nport = {server.port}\n'
        'user = "alice"\ngroups = ["lab", "ops"]\n',
    )
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        with Terminal(["join", "work"], str(tmp_path / "alice")) as alice:
            alice.sees("alice created lab", "[1 #lab]  2 #ops", "alice ▸")
            await bob.post("hello alice")
            alice.sees("2 #ops 1!")
            assert row_with(alice, " #lab ") == 0
    with Terminal(["join", "play"], str(tmp_path / "alice"), width=200) as nowhere:
        nowhere.sees("-m tchat join play PORT")
        assert nowhere.end() == 1
