"""Programs that are forked from a prepared interpreter are like those that are started afresh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.prepared import AFRESH
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK = """
import json, locale, os, signal, sys, threading, time, warnings
from pathlib import Path

streams = [
    (s.fileno(), s.encoding, s.errors, s.line_buffering, s.write_through, s.newlines,
     type(s.buffer).__name__, s.isatty(), s.seekable())
    for s in (sys.stdin, sys.stdout, sys.stderr)
]
ignored = [str(n) for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
seen = {
    "arguments": (sys.argv, sys.orig_argv, __name__, __file__),
    "environment": {k: v for k, v in os.environ.items() if k != "TCHAT_TESTS_AFRESH"},
    "streams": streams,
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "directory": (os.getcwd(), sys.path[0]),
    "signals": (ignored, str(signal.getsignal(signal.SIGINT)), str(signal.pthread_sigmask(0, []))),
    "session": (os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()),
    "parent": os.getppid(),
    "umask": os.umask(0),
    "time": time.tzname,
    "locale": locale.setlocale(locale.LC_CTYPE),
    "warnings": (sys.warnoptions, [str(one) for one in warnings.filters[:1]]),
    "flags": str(sys.flags),
    "threads": threading.active_count(),
    "input": sys.stdin.readline(),
}
Path(sys.argv[1]).write_text(json.dumps(seen, default=str))
sys.exit(7)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a script that writes what it sees of its surroundings to the file of its argument."""
    path = tmp_path / "look.py"
    path.write_text(LOOK)
    return path


def through_pipes(script: Path, target: Path, environment: dict[str, str]) -> int:
    return subprocess.run(
        [sys.executable, script, target],
        input=b"typed\n",
        capture_output=True,
        cwd=script.parent,
        env={**os.environ, **environment},
        check=False,
    ).returncode


def through_files(script: Path, target: Path, environment: dict[str, str]) -> int:
    with (script.parent / "in").open("w+b") as given, (script.parent / "out").open("wb") as out:
        given.write(b"typed\n")
        given.seek(0)
        return subprocess.run(
            [sys.executable, script, target],
            stdin=given,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            check=False,
        ).returncode


def in_a_terminal(script: Path, target: Path, environment: dict[str, str]) -> int:
    program = (sys.executable, str(script))
    home = str(script.parent)
    with Terminal([str(target)], home, 80, 24, program=program, **environment) as terminal:
        terminal.type("typed\r")
        return terminal.end()


@pytest.mark.parametrize("way", [through_pipes, through_files, in_a_terminal])
@pytest.mark.parametrize("more", [{}, {"PYTHONWARNINGS": "error"}, {"TZ": "Asia/Tokyo"}], ids=str)
def test_a_fork_sees_what_an_interpreter_sees(
    script: Path, tmp_path: Path, way: Callable[..., int], more: dict[str, str]
) -> None:
    target = tmp_path / "seen"
    seen = []
    for afresh in ({}, {AFRESH: "yes"}):
        assert way(script, target, {**more, **afresh}) == 7
        seen.append(json.loads(target.read_text()))
    forked, started = seen
    assert forked == started
    assert forked["input"] == "typed\n"


WHICH = "import sys; sys.exit(10 + ('tchat.server.app' in sys.modules))"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 11),
        ({AFRESH: "yes"}, 10),
        ({"PYTHONOPTIMIZE": "1"}, 10),
        ({"LC_ALL": "C"}, 10),
        ({"PYTHONWARNINGS": "error"}, 11),
    ],
    ids=str,
)
def test_only_usual_programs_are_forked(tmp_path: Path, more: dict[str, str], status: int) -> None:
    script = tmp_path / "which.py"
    script.write_text(WHICH)
    command = [sys.executable, str(script)]
    assert subprocess.run(command, env={**os.environ, **more}, check=False).returncode == status


def test_a_fork_ends_like_any_process(tmp_path: Path) -> None:
    script = tmp_path / "wait.py"
    script.write_text("import sys; print('up', flush=True); sys.stdin.read(); raise OSError('no')")
    for end, status in (("kill", -signal.SIGKILL), ("terminate", -signal.SIGTERM)):
        with subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"up\n"
            getattr(program, end)()
            assert program.wait() == status
    failed = subprocess.run(
        [sys.executable, script], input="", capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.endswith("OSError: no\n")
