"""How a program was started, so that what it prints to be pasted works there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tchat.invocation import program_words


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return an installed script `tchat`, in a directory of its own."""
    path = tmp_path / "bin" / "tchat"
    path.parent.mkdir()
    lines = "from tchat.invocation import program_words\nprint(program_words())\n"
    path.write_text(f"#!{sys.executable}\n{lines}")
    path.chmod(0o755)
    return path


def words_of(command: list[str], path: str) -> list[str]:
    """Return what `program_words` returns in this program, with this PATH."""
    environment = {"PATH": path, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[str] = eval(done.stdout)  # noqa: S307  # a list of strings that we printed
    return found


def test_the_script_in_the_path_is_enough(script: Path) -> None:
    assert words_of([str(script)], f"{script.parent}:/usr/bin") == ["tchat"]


def test_a_script_elsewhere_is_named_with_its_path(script: Path) -> None:
    assert words_of([str(script)], "/usr/bin") == [str(script)]
    other = script.parent.parent / "other"
    other.mkdir()
    (other / "tchat").write_text("#!/bin/sh\n")
    (other / "tchat").chmod(0o755)
    assert words_of([str(script)], f"{other}:/usr/bin") == [str(script)]


def test_the_interpreter_is_named_as_it_was_typed() -> None:
    lines = "from tchat.invocation import program_words; print(program_words())"
    found = words_of([sys.executable, "-c", lines], "/usr/bin")
    assert found == [sys.executable, "-m", "tchat"]


def test_the_words_start_tchat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    line = shlex.join([*program_words(), "--version"])
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.startswith("tchat ")
