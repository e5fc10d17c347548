"""Start programs as forks of an interpreter that has imported tchat already.

The tests start many programs. Each takes about 0.25 s of processor time until it does something,
nearly all of it for imports. So while `prepared()` is entered, `subprocess` starts `python -m
tchat` and scripts of Python as forks of a prepared interpreter, which take about 0.05 s. They are
processes like any other: children of the tests, with their own arguments, environment, directory,
descriptors, signals and end.

What a fork cannot show is what happens before tchat's first line, and which modules it imports. So
everything that is not like the usual start is started afresh: other options of Python, variables
that Python itself reads at its start, what a shell starts, `preexec_fn` and the like. With the
variable `TCHAT_TESTS_AFRESH`, and with the profile `thorough`, all programs start afresh.

How a fork becomes a child of the tests: the prepared interpreter forks twice, and the process in
between ends. Linux gives its child to the nearest ancestor that asked for such orphans (a
"subreaper"), which the process of the tests is. Elsewhere, everything is started afresh.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import inspect
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AFRESH = "TCHAT_TESTS_AFRESH"
"""Variable with which a program is started by a new interpreter."""

_PR_SET_CHILD_SUBREAPER = 36
_LARGEST_REQUEST = 1 << 18
_READ_BY_PYTHON = ("PYTHON", "LC_", "LANG")
_UNUSUAL = ("executable", "pass_fds", "shell", "gid", "gids", "uid", "process_group")
"""Arguments of `Popen` with which a program is started afresh, unless they have no effect."""

_INHERITED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)
"""Signals that a program ignores if the process that starts it does."""


def take_terminal() -> None:
    """Make standard input the terminal that controls this process, in a new session.

    A `preexec_fn`, with `start_new_session`. Also reset SIGHUP, which is ignored if the tests were
    started by `nohup`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _usual_handler(number: int) -> Any:  # noqa: ANN401  # a handler is a number or a function
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


# ------------------------------------------------------------------ in the prepared interpreter


def _prepare() -> None:
    """Import all of tchat, and start the programs that are asked for."""
    tests = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    import tchat  # not above: the tests measure what importing it takes

    for module in pkgutil.walk_packages(tchat.__path__, "tchat."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()  # else each fork would look through all of it, and so copy it, at its end
    while True:
        request, descriptors, _, _ = socket.recv_fds(tests, _LARGEST_REQUEST, 3)
        if not request:
            return
        number = _fork_orphan()
        if number == 0:
            tests.close()
            _become(json.loads(request), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        tests.send(str(number).encode())


def _fork_orphan() -> int:
    """Fork a process that is given to the tests; return its number, or 0 in the process itself."""
    read, write = os.pipe()
    given, giving = os.pipe()  # at its end once the tests are the parent
    between = os.fork()
    if not between:
        number = os.fork()
        if number:
            os.write(write, str(number).encode())
            os._exit(0)
        os.close(giving)
        os.read(given, 1)
    else:
        os.waitpid(between, 0)
        os.close(giving)
        number = int(os.read(read, 20))
    for descriptor in (read, write, given):
        os.close(descriptor)
    return number


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the program that is asked for, as a new interpreter does."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _reopened(number, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for number in _INHERITED:
        ignored = number in request["ignored"]
        signal.signal(number, signal.SIG_IGN if ignored else _usual_handler(number))
    if request["terminal"]:
        os.setsid()
        take_terminal()
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.orig_argv[:] = command = request["command"]
    if command[1] == "-m":
        sys.argv[:] = command[2:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = command[1:]
        sys.path[0] = str(Path(command[1]).absolute().parent)
        runpy.run_path(command[1], run_name="__main__")


def _reopened(number: int, stream: TextIOWrapper) -> TextIOWrapper:
    """Open a standard stream anew, whose descriptor has another file now."""
    unbuffered = stream.write_through
    mode, buffering = ("wb", 0 if unbuffered else -1) if number else ("rb", -1)
    binary = open(number, mode, buffering, closefd=False)  # noqa: SIM115  # for good
    return TextIOWrapper(
        binary,
        stream.encoding,
        stream.errors,
        newline="\n",
        line_buffering=not unbuffered and (number == 2 or binary.isatty()),
        write_through=unbuffered,
    )


# ------------------------------------------------------------------ in the process of the tests


class _Interpreter:
    """A prepared interpreter, started with these variables."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self._end, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdin=subprocess.PIPE,  # as most programs have it; a fork gets others
                stdout=subprocess.PIPE,
                pass_fds=[other.fileno()],
            )

    def fork(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Start a program; return the number of its process."""
        with self._asking:
            socket.send_fds(self._end, [json.dumps(request).encode()], descriptors)
            answer = self._end.recv(20)
        assert answer, "the prepared interpreter has ended"
        return int(answer)

    def end(self) -> None:
        """End the interpreter, but not its forks."""
        self._end.close()
        with self._process:
            pass


class _Interpreters:
    """Prepared interpreters by what Python reads in their environment at its start."""

    def __init__(self) -> None:
        self._started: dict[tuple[tuple[str, str], ...], _Interpreter] = {}
        self._starting = threading.Lock()
        usual = self._read(os.environ)
        self._usual = [
            {**usual, **warnings, **locale}
            for warnings in ({}, {"PYTHONWARNINGS": "error"})
            for locale in ({}, {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"})
        ]

    def find(self, environment: Mapping[str, str]) -> _Interpreter | None:
        """Return the interpreter for an environment; None if it is an unusual one."""
        read = self._read(environment)
        if AFRESH in environment or read not in self._usual:
            return None
        with self._starting:
            key = tuple(sorted(read.items()))
            if key not in self._started:
                self._started[key] = _Interpreter(environment)
            return self._started[key]

    def end(self) -> None:
        """End the interpreters."""
        for each in self._started.values():
            each.end()

    @staticmethod
    def _read(environment: Mapping[str, str]) -> dict[str, str]:
        # The tests set PYTHONPATH to the `sys.path` that an interpreter in this environment has.
        return {
            name: value
            for name, value in environment.items()
            if name.startswith(_READ_BY_PYTHON) and name != "PYTHONPATH"
        }


def _is_program(words: object) -> bool:
    """Return whether a command is `python -m tchat ...` or `python SCRIPT ...`."""
    if not isinstance(words, list | tuple) or len(words) < 2 or words[0] != sys.executable:
        return False
    return words[1:3] in (["-m", "tchat"], ("-m", "tchat")) or str(words[1]).endswith(".py")


class _Popen(Protocol):
    """What belongs to `subprocess.Popen`, and is not public."""

    pid: int
    _child_created: bool

    def _close_pipe_fds(self, *ends: object) -> None: ...


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Start the programs of the block by forks, where that is possible."""
    original: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    names = list(inspect.signature(original).parameters)
    libc = ctypes.CDLL(None)
    if sys.platform != "linux" or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        yield
        return
    interpreters = _Interpreters()

    def execute(popen: _Popen, *arguments: Any) -> None:  # noqa: ANN401  # as they are given
        given = dict(zip(names, (popen, *arguments), strict=True))
        interpreter = None
        terminal = given["preexec_fn"] is take_terminal and given["start_new_session"]
        plain = terminal or not (given["preexec_fn"] or given["start_new_session"])
        unusual = any(map(_has_effect, map(given.get, _UNUSUAL)))
        if plain and not unusual and _is_program(given["args"]):
            environment = os.environ if given["env"] is None else given["env"]
            interpreter = interpreters.find(environment)
        if interpreter is None:
            original(popen, *arguments)
            return
        request = {
            "command": [*map(os.fsdecode, given["args"])],
            "environment": dict(environment),
            "directory": os.fsdecode(given["cwd"] or Path.cwd()),
            "ignored": [n for n in _INHERITED if signal.getsignal(n) is signal.SIG_IGN],
            "terminal": terminal,
        }
        ends = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        descriptors = [n if end == -1 else end for n, end in enumerate(ends)]
        popen.pid = interpreter.fork(request, descriptors)
        popen._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        popen._close_pipe_fds(*map(given.get, pipes))

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = original  # type: ignore[attr-defined]
        interpreters.end()


def _has_effect(argument: object) -> bool:
    return argument not in (None, False, -1, ())


if __name__ == "__main__":
    _prepare()
