"""A program in a real tmux."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def require_tmux() -> None:
    """Skip the test where tmux is not installed."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")


class Tmux:
    """A tmux server of its own, with one pane that runs a command."""

    def __init__(self, place: Path, command: list[str], **environment: str) -> None:
        self._base = ["tmux", "-u", "-S", str(place / "tmux"), "-f", "/dev/null"]
        variables = [item for pair in environment.items() for item in ("-e", "=".join(pair))]
        self.run("new-session", "-d", "-x", "80", "-y", "24", *variables, *command)

    def run(self, *arguments: str, text: str | None = None) -> str:
        return subprocess.run(
            [*self._base, *arguments], check=True, capture_output=True, input=text, encoding="utf-8"
        ).stdout

    @property
    def text(self) -> str:
        """The text of the pane, row by row."""
        return self.run("capture-pane", "-p")

    def sees(self, *texts: str) -> None:
        """Wait until the pane shows all of `texts`."""
        while not all(map(self.text.__contains__, texts)):
            assert self.run("list-panes"), "the program ended"

    def end(self) -> None:
        self.run("kill-server")
