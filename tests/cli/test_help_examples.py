"""Every example in --help, and every command of the container image, does what it says."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.cli import parser
from tchat.exits import SOFTWARE, TEMPORARY
from tests.cli.in_process import Place, ends
from tests.command_lines import first_command
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("nowhere")

CONTAINERFILE = Path(__file__).parents[2] / "examples" / "deploy" / "Containerfile"

FOREVER = ("serve ", "irc ", "tail work -f")
"""The beginnings of examples that go on until they are stopped."""

EXPECTED = {
    "demo": 1,  # it needs a terminal
    "join chat.example.org": 2,  # INVITE is none
    "ask": TEMPORARY,  # nobody answers
    "tail work --wait": TEMPORARY,
    "admin link": SOFTWARE,  # no server runs
}
"""The exit status of examples that do not end with 0, by their beginnings."""

SOONER = {"ask": ["--timeout", "10ms"], "tail work --wait": ["--wait", "10ms"]}
"""What is added so that the test does not wait."""


def examples() -> list[str]:
    """Return the commands, without `tchat` and what is before it in the line."""
    found: list[str] = []

    def collect(one: argparse.ArgumentParser) -> None:
        lines = (one.epilog or "").splitlines()
        found.extend(line.rpartition("tchat ")[2] for line in lines if " tchat " in line)
        for action in one._actions:  # argparse has no other way to the subparsers
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    collect(child)

    collect(parser())
    image = CONTAINERFILE.read_text(encoding="utf-8")
    checks = re.findall(r"HEALTHCHECK .*CMD (\[.*\])", image)
    found.extend(shlex.join(_words(command)) for command in checks)
    found.extend(re.findall(r"exec tchat tchat (.*)", image))
    return list(dict.fromkeys(found))


def _words(command: str) -> list[str]:
    return re.findall(r'"([^"]*)"', command)[1:]


def lookup(example: str, table: dict[str, int]) -> int:
    return next((value for begin, value in table.items() if example.startswith(begin)), 0)


@pytest.fixture
def _ready(server: Place, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what the examples name: a nickname, data in the default place, files, a backup."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(server.home / "identity", home)
    host, _, port = server.address.rpartition(":")
    (home / "config.toml").write_text(
        f'[servers.work]\nhost = "{host}"\nport = {port}\nuser = "ci"\ngroups = ["{GROUP}"]\n'
    )
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    shutil.copytree(data, tmp_path / "share" / "tchat" / "server")
    shutil.copytree(data, tmp_path / "verified")
    (tmp_path / "report.pdf").write_text("report")
    (tmp_path / "photos").mkdir()
    (tmp_path / "tchat.toml").write_text("")


def here(example: str, server: Place, data: Path, tmp_path: Path) -> list[str]:
    """Return the words of an example, on this server and in this directory."""
    port = server.address.rpartition(":")[2]
    served = example.startswith("serve")
    line = re.sub(
        r"(localhost|127\.0\.0\.1|0\.0\.0\.0|chat\.example\.org)([ :])7777",
        rf"127.0.0.1\g<2>{0 if served else port}",
        example,
    )
    line = re.sub(r"--user (alice|logs)", "--user ci", line).replace(":6697", ":0")
    line = line.replace("/etc/", f"{tmp_path}/").replace("$(date +%F)", "today")
    backup = tmp_path / ("verified" if re.search("verify|restore", example) else "target")
    line = re.sub(r"/(srv/tchat|data)\b", str(data), line).replace("/backup/monday", str(backup))
    words = first_command(line)
    for begin, more in SOONER.items():
        words += more if example.startswith(begin) else []
    if example.startswith("irc") and "--listen" not in words:
        words += ["--listen", "127.0.0.1:0"]
    return words


@contextmanager
def input_from(text: bytes, tmp_path: Path) -> Iterator[None]:
    """Let standard input be a file."""
    path = tmp_path / "input"
    path.write_bytes(text)
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize("example", [one for one in examples() if not one.startswith(FOREVER)])
def test_an_example_does_what_it_says(
    example: str, server: Place, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with input_from(b"line\n", tmp_path):
        status = ends(*here(example, server, data, tmp_path))
    err = capfd.readouterr().err
    assert status == lookup(example, EXPECTED), err
    # Changes that are made without a server are logged to standard error.
    lines = [one for one in err.splitlines() if "New server" not in one and not one[:1].isdigit()]
    assert len(lines) <= 1, err


@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize("example", [one for one in examples() if one.startswith(FOREVER)])
def test_an_example_goes_on_until_it_is_stopped(
    example: str, server: Place, data: Path, tmp_path: Path
) -> None:
    words = here(example, server, data, tmp_path)
    if "--cert" in words:
        for name, kept in (("fullchain.pem", "server-cert.pem"), ("privkey.pem", "server-key.pem")):
            shutil.copy(data / kept, tmp_path / name)
    if "--config" in words:
        words += ["127.0.0.1", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tchat", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=GUARD)
    assert process.returncode == (0 if example.startswith("serve") else 143), err
