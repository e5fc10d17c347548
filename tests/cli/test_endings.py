"""How each command for scripts ends when something is wrong: one line, and a documented status.

Most cases call `main` in this process, which is several times as fast as a process for each; the
streams are real files and pipes. Closed standard streams need a process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tchat.cli.admin import SUBCOMMANDS as ADMIN
from tchat.cli.ask import MOST_OPTIONS
from tchat.cli.command_line import SUBCOMMANDS
from tchat.errors import (
    Code,
    ProtocolError,
    Refused,
    StartupError,
    StorageError,
    TchatError,
    Unavailable,
)
from tchat.exits import DATA, OUTPUT, SOFTWARE, TEMPORARY, UNAVAILABLE, USAGE, exit_status
from tests.cli.in_process import Place, ends
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nowhere")

NOWHERE = "127.0.0.1:1"
FULL = "tchat: The output cannot be written: No space left on device.\n"


class Row(NamedTuple):
    """A command: its words, its status if nothing is wrong, and whether it prints then."""

    words: list[str]
    status: int = 0
    prints: bool = True


CLIENTS = {
    "say": Row(["hello"], prints=False),
    "tail": Row(["-n", "1"]),
    "ask": Row(["deploy?", "--timeout", "10ms"], TEMPORARY, prints=False),
    "export": Row([]),
    "send": Row([__file__], prints=False),
    "get": Row(["1"]),
}
"""What is done in the group; the words that select it are added."""

OPERATORS = {
    "stats": [],
    "groups": [],
    "people": [],
    "show": [GROUP],
    "export": ["alice"],
    "backup": ["target"],
    "verify": [],
    "restore": ["backup"],
    "salvage": [],
    "set-aside": [],
    "ban": ["--name", "eve"],
    "unban": ["--name", "mallory"],
    "bans": [],
    "erase": ["bob"],
    "remove-group": [GROUP],
    "set-admin": [GROUP, "bob"],
    "link": ["bob"],
    "rotate-key": [],
    "trust-clock": [],
}
"""The words of the subcommands of `tchat admin`, all of which print something."""


def test_the_tables_have_every_command() -> None:
    names = {command.name for command in SUBCOMMANDS if command.for_scripts}
    assert {*CLIENTS, "ping", "irc", "admin"} == names
    assert set(OPERATORS) == set(ADMIN)


# ------------------------------------------------------------------ where they run


def client_words(verb: str, address: str) -> list[str]:
    return [verb, address, "--user", "ci", "--group", GROUP, *CLIENTS[verb].words]


def operator_words(verb: str, data: Path) -> list[str]:
    return ["admin", verb, *OPERATORS[verb], "--data", str(data)]


# ------------------------------------------------------------------ wrong words, no server


@pytest.mark.parametrize(
    "words",
    [
        *([verb, NOWHERE, "--nope"] for verb in (*CLIENTS, "ping", "irc")),
        *([verb] for verb in (*CLIENTS, "ping", "irc", "admin")),
        *([verb, "nowhere", "--user", "ci", "--group", GROUP, "x"] for verb in CLIENTS),
        ["ping", "nowhere"],
        ["ping", NOWHERE, "--timeout", "0"],
        ["ping", NOWHERE, "more"],
        ["irc", "nowhere", "--user", "ci"],
        ["admin", "nothing"],
        *(["admin", verb, "--nope"] for verb in OPERATORS),
        *(["admin", verb, "one", "two", "three"] for verb in OPERATORS),
    ],
    ids=" ".join,
)
def test_wrong_words_are_one_line(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert ends(*words) == USAGE
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("tchat")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("verb", [*CLIENTS, "ping", "irc"])
def test_an_unreachable_server_is_one_line(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = client_words(verb, NOWHERE) if verb in CLIENTS else [verb, NOWHERE]
    assert ends(*words, *(["--user", "ci"] if verb == "irc" else [])) == UNAVAILABLE
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("tchat: ")
    assert err.endswith("connection refused.\n")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("verb", OPERATORS)
def test_missing_data_are_one_line(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ends(*operator_words(verb, tmp_path / "nothing")) == SOFTWARE
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["unban", "--name", "nobody"], DATA),
        (["ban", "--name", "a b"], DATA),
        (["ban", "--address", "nowhere"], DATA),
        (["ban", "--key", "none"], DATA),
        (["set-admin", "@alice,bob", "bob"], DATA),
        (["set-admin", GROUP, "nobody"], DATA),
        (["remove-group", "@alice,bob"], DATA),
        (["remove-group", "nothing"], DATA),
        (["show", "nothing"], DATA),
        (["export", "nobody"], DATA),
        (["erase", "nobody"], DATA),
        (["link", "alice"], SOFTWARE),  # no server runs
        (["backup", "/proc/target"], DATA),
    ],
    ids=str,
)
def test_declined_changes_are_one_line(
    words: list[str], status: int, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ends("admin", *words, "--data", str(data)) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("code", list(Code), ids=str)
@pytest.mark.parametrize("kind", [Refused, ProtocolError, StorageError, StartupError, Unavailable])
def test_no_error_is_an_answer(kind: type[TchatError], code: Code) -> None:
    assert exit_status(kind(code, "sentence")) > MOST_OPTIONS


def test_a_fault_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The interpreter would end with 1, which is "no" for `ask`."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tchat.client.ping.ping", fail)
    assert ends("ping", NOWHERE) == SOFTWARE
    assert "ZeroDivisionError" in capfd.readouterr().err


# ------------------------------------------------------------------ output that cannot be written


@contextmanager
def output(kind: str, monkeypatch: pytest.MonkeyPatch, buffering: int = -1) -> Iterator[None]:
    """Let standard output be a full device, or a pipe whose reader has gone."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    file = os.fdopen(descriptor, "wb", buffering)
    with TextIOWrapper(file, encoding="utf-8", write_through=not buffering) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        yield


def without_log_lines(err: str) -> str:
    """Return the errors without the log lines of changes that are made without a server."""
    return "".join(line for line in err.splitlines(True) if not line[:1].isdigit())


def check_output(
    words: list[str],
    status: int,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with output(kind, monkeypatch):
        assert ends(*words) == status
    err = without_log_lines(capfd.readouterr().err)
    if status == OUTPUT:
        assert err == (FULL if kind == "full" else "")
    else:
        assert len(err.splitlines()) == (status != 0)


@pytest.mark.parametrize("kind", ["full", "broken"])
@pytest.mark.parametrize("verb", [*CLIENTS, "ping", "irc"])
def test_a_client_whose_output_cannot_be_written(
    verb: str,
    kind: str,
    server: Place,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A command that prints nothing does its work."""
    monkeypatch.setenv("TCHAT_HOME", str(server.home))
    address = server.address
    if verb in CLIENTS:
        row, words = CLIENTS[verb], client_words(verb, address)
    else:
        row, words = Row([]), [verb, address]
    if verb == "irc":
        words += ["--user", "ci", "--listen", "127.0.0.1:0"]
    check_output(words, OUTPUT if row.prints else row.status, kind, monkeypatch, capfd)


@pytest.mark.parametrize("kind", ["full", "broken"])
@pytest.mark.parametrize("verb", [verb for verb in OPERATORS if verb != "link"])
def test_a_report_that_cannot_be_written(
    verb: str,
    kind: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(data, "backup")
    check_output(operator_words(verb, data), OUTPUT, kind, monkeypatch, capfd)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["say", "--help"]], ids=" ".join)
@pytest.mark.parametrize("buffering", [-1, 0])
def test_help_that_cannot_be_printed_is_an_error(
    words: list[str],
    buffering: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without buffers, argparse itself ignores that its output cannot be written."""
    with output("full", monkeypatch, buffering):
        assert ends(*words) == (OUTPUT if words[0] == "say" else 1)
    assert capfd.readouterr() == ("", FULL)


# ------------------------------------------------------------------ closed streams


def closed(words: list[str]) -> int:
    """Run a command in a process without standard streams."""
    command = [sys.executable, "-m", "tchat", *words]
    script = 'exec "$@" <&- >&- 2>&-'
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *command], timeout=GUARD, check=False
    ).returncode


@pytest.mark.parametrize("verb", [*CLIENTS, "ping"])
def test_a_client_without_standard_streams(
    verb: str, server: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCHAT_HOME", str(server.home))
    address = server.address
    words = client_words(verb, address) if verb in CLIENTS else [verb, address]
    assert closed(words) == (CLIENTS[verb].status if verb in CLIENTS else 0)


@pytest.mark.parametrize("verb", ["stats", "export", "backup", "ban"])  # the others are as these
def test_a_report_without_standard_streams(verb: str, data: Path) -> None:
    assert closed(operator_words(verb, data)) == 0


def test_a_closed_input_is_not_an_empty_file(
    server: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TCHAT_HOME", str(server.home))
    command = [sys.executable, "-m", "tchat", *client_words("send", server.address)[:-1]]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command, "-", "--name", "c.txt"],
        timeout=GUARD,
        check=False,
    )
    assert done.returncode == DATA
    assert capfd.readouterr().err == "tchat: The input cannot be read: it is closed.\n"
