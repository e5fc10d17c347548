"""Completion scripts and the manual page: made from the parser, accepted, and up to date."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tchat.cli import main, parser
from tchat.cli.command_line import SUBCOMMANDS
from tchat.cli.completion import SCRIPTS, commands_of, script
from tests import manual

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [command.name for command in SUBCOMMANDS]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_names_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for command in commands_of(parser()):
        for word in command.words:
            assert word in text
        for option in command.options:
            assert all(name.lstrip("-") in text for name in option.names)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_shell_accepts_the_script(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script(shell, parser()))
    done = subprocess.run([program, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def completed(words: list[str], tmp_path: Path) -> list[str]:
    """Return what bash offers for the last of these words."""
    (tmp_path / "tchat.bash").write_text(script("bash", parser()))
    array = " ".join(f"'{word}'" for word in ["tchat", *words])
    lines = f"""
        source tchat.bash
        compopt() {{ :; }}
        COMP_WORDS=({array}) COMP_CWORD={len(words)}
        _tchat
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["/bin/bash", "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["s"], ["say", "send", "serve"]),
        (["say", "work", "--c"], ["--code"]),
        (["export", "--format", ""], ["jsonl", "markdown"]),
        (["completion", "f"], ["fish"]),
        (["admin", "rot"], ["rotate-key"]),
        (["admin", "link", "--d"], ["--data"]),
        (["serve", "--cert", "no"], ["notes.txt"]),
        (["send", "work", "no"], ["notes.txt"]),
        (["say", "work", "--key", "no"], []),
    ],
)
def test_bash_completes(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert completed(words, tmp_path) == offered


@pytest.mark.parametrize("name", manual.files())
def test_file_in_the_package_is_up_to_date(name: str) -> None:
    text = (manual.DATA / name).read_text(encoding="utf-8")
    assert text == manual.files()[name](), "run: python -m tests.readme"


def test_manual_page_has_every_option_and_status() -> None:
    text = manual.page().replace("\\-", "-")
    for command in commands_of(parser()):
        for option in command.options:
            assert all(name in text for name in option.names)
    for status in (64, 65, 69, 74, 75, 77, 78):
        assert f'.IP "{status}"' in text


def test_manual_page_has_no_warnings() -> None:
    program = shutil.which("groff")
    if program is None:
        pytest.skip("groff is not installed")
    command = [program, "-man", "-Tutf8", "-ww", "-z", str(manual.DATA / "tchat.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_bash_offers_every_command(tmp_path: Path) -> None:
    assert set(NAMES) <= set(completed([""], tmp_path))
