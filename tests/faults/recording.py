"""Record what a program writes, in order: its system calls, as `strace` prints them.

A recording is a list of steps. Those of a system call take effect at its start, so that a power cut
in the middle of a write may leave it; a sync takes effect at its end, and covers the writes that
had ended when it began. Sends on sockets are steps as well: they are what the program promised.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.harness import Missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_CALLS = (
    *("openat", "open", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "pwrite64", "writev", "pwritev", "ftruncate", "truncate", "fallocate"),
    *("fsync", "fdatasync", "sync_file_range", "copy_file_range", "sendfile"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "accept4", "accept", "sendto", "sendmsg"),
)
_LONGEST = 16 << 20
_LINE = re.compile(r"^(\d+) +(.*)$", re.DOTALL)
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(?: .*)?$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset of a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A new size of a file."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class SyncBegins:
    """A sync of a file begins: it will cover what was written up to here."""

    file: int
    call: int


@dataclass(frozen=True, slots=True)
class SyncEnds:
    """A sync of a file has returned."""

    file: int
    call: int


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """A sync of a directory has returned."""

    path: str


@dataclass(frozen=True, slots=True)
class Create:
    """A new entry of a directory: a file (its number), or a directory (0)."""

    path: str
    file: int


@dataclass(frozen=True, slots=True)
class Rename:
    """The entry of a file gets another path."""

    old: str
    new: str
    file: int


@dataclass(frozen=True, slots=True)
class Remove:
    """An entry is removed."""

    path: str


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to a socket, or to standard output; streams have numbers of their own."""

    stream: int
    data: bytes


Step = Write | Truncate | SyncBegins | SyncEnds | SyncDirectory | Create | Rename | Remove | Send


def strace_words(*options: str, output: Path | None = None) -> list[str]:
    """Return the words that run a program under strace. Raises `Missing`."""
    program = shutil.which("strace")
    if program is None:
        raise Missing("strace is not installed")
    probe = [program, "-f", "-o", os.devnull, "-e", "trace=close", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        raise Missing("strace may not trace programs here (ptrace)")
    return [program, "-f", "-qq", "-o", str(output or os.devnull), *options]


def recording_words(trace: Path) -> list[str]:
    """Return the words that run a program and record it. Raises `Missing`."""
    calls = f"trace={','.join(_CALLS)}"
    return strace_words("-xx", "-s", str(_LONGEST), "--seccomp-bpf", "-e", calls, output=trace)


@dataclass(slots=True)
class _Call:
    """A system call that succeeded: the lines of its start and end, and what it was."""

    begins: int
    ends: int
    name: str
    arguments: str
    result: int

    @property
    def numbers(self) -> list[str]:
        """The arguments without strings, as text."""
        return [part.strip() for part in _STRING.sub("", self.arguments).split(",")]

    @property
    def strings(self) -> list[bytes]:
        """The arguments that are strings."""
        found = _STRING.findall(self.arguments)
        assert not any(cut for _, cut in found), "strace has shortened a string"
        return [bytes.fromhex(text.replace("\\x", "")) for text, _ in found]

    @property
    def fd(self) -> int:
        """The first argument."""
        return int(self.arguments.split(",", 1)[0])


def _calls(lines: Iterable[str]) -> Iterator[_Call]:
    """Join the calls that were interrupted by those of other threads."""
    begun: dict[str, tuple[int, str]] = {}
    for index, line in enumerate(lines):
        matched = _LINE.match(line.rstrip("\n"))
        if matched is None:
            continue
        thread, text = matched.groups()
        start = index
        if text.endswith("<unfinished ...>"):
            begun[thread] = index, text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<... "):
            if thread not in begun:
                continue
            start, head = begun.pop(thread)
            text = head + text.partition("resumed>")[2]
        call = _CALL.match(text)
        if call is not None and not call[3].startswith("-"):
            yield _Call(start, index, call[1], call[2], int(call[3]))
    for start, head in begun.values():  # the program was killed meanwhile
        call = _CALL.match(f"{head}) = 0")
        if call is not None and call[1] in ("write", "pwrite64"):
            yield _Call(start, start, call[1], call[2], len(_Call(0, 0, "", call[2], 0).strings[0]))


@dataclass(slots=True)
class _Open:
    """An open file description: the file's number, or a directory's path, or a stream."""

    file: int = 0
    directory: str = ""
    stream: int = 0
    offset: int = 0
    appends: bool = False


class _Reader:
    """Turns the calls of one process into steps. Only paths below `root` count."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._fds: dict[int, _Open] = {}
        self._files: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._directories = {root}
        self._count = 0
        self.steps: list[tuple[int, int, Step]] = []

    def start_process(self) -> None:
        """Begin with the calls of another process: the files stay, what was open is closed."""
        self.steps = []
        self._fds = {1: _Open(stream=self._new())}

    def _add(self, at: int, step: Step) -> None:
        self.steps.append((at, len(self.steps), step))

    def _path(self, path: bytes) -> str | None:
        text = os.path.normpath(os.fsdecode(path))
        return text if text == self._root or text.startswith(f"{self._root}/") else None

    def _new(self) -> int:
        self._count += 1
        return self._count

    def take(self, call: _Call) -> None:
        """Add the steps of a call."""
        handle = {
            **dict.fromkeys(("openat", "open", "creat"), self._opened),
            **dict.fromkeys(("close", "dup", "dup2", "dup3", "fcntl", "lseek"), self._described),
            **dict.fromkeys(("accept4", "accept"), self._accepted),
            **dict.fromkeys(("sendto", "sendmsg", "write", "pwrite64"), self._written),
            **dict.fromkeys(("writev", "pwritev"), self._written),
            **dict.fromkeys(("ftruncate",), self._truncated),
            **dict.fromkeys(("fsync", "fdatasync"), self._synced),
        }.get(call.name, self._renamed)
        handle(call)

    def _described(self, call: _Call) -> None:
        """Take a call that changes descriptors."""
        if call.name == "close":
            self._fds.pop(call.fd, None)
        elif call.name == "lseek":
            if call.fd in self._fds:
                self._fds[call.fd].offset = call.result
        elif call.name != "fcntl" or "F_DUPFD" in call.arguments:
            self._fds[call.result] = self._fds.get(call.fd, _Open())

    def _accepted(self, call: _Call) -> None:
        self._fds[call.result] = _Open(stream=self._new())

    def _opened(self, call: _Call) -> None:
        path = self._path(call.strings[0])
        if path is None:
            self._fds[call.result] = _Open()
            return
        if "O_DIRECTORY" in call.arguments or path in self._directories:
            self._fds[call.result] = _Open(directory=path)
            return
        if path not in self._files:
            assert "O_CREAT" in call.arguments, f"opened before it was created: {path}"
            self._files[path] = self._new()
            self._add(call.begins, Create(path, self._files[path]))
        file = self._files[path]
        if "O_TRUNC" in call.arguments:
            self._sizes[file] = 0
            self._add(call.begins, Truncate(file, 0))
        self._fds[call.result] = _Open(file, appends="O_APPEND" in call.arguments)

    def _written(self, call: _Call) -> None:
        to = self._fds.get(call.fd, _Open())
        if not (to.file or to.stream):
            return
        data = b"".join(call.strings[:1] if call.name == "sendto" else call.strings)[: call.result]
        if to.stream:
            self._add(call.begins, Send(to.stream, data))
            return
        size = self._sizes.get(to.file, 0)
        if call.name.startswith("pwrite"):
            offset = int(call.numbers[-1])
        else:
            offset = size if to.appends else to.offset
            to.offset = offset + len(data)
        self._sizes[to.file] = max(size, offset + len(data))
        self._add(call.begins, Write(to.file, offset, data))

    def _truncated(self, call: _Call) -> None:
        if file := self._fds.get(call.fd, _Open()).file:
            size = int(call.numbers[-1])
            self._sizes[file] = size
            self._add(call.begins, Truncate(file, size))

    def _synced(self, call: _Call) -> None:
        what = self._fds.get(call.fd, _Open())
        if what.file:
            self._add(call.begins, SyncBegins(what.file, call.begins))
            self._add(call.ends, SyncEnds(what.file, call.begins))
        elif what.directory:
            self._add(call.ends, SyncDirectory(what.directory))

    def _renamed(self, call: _Call) -> None:
        """Take a call that changes a directory."""
        paths = [self._path(path) for path in call.strings]
        if not any(paths) or paths[0] == self._root:
            return
        assert all(paths), f"across the edge of the directory: {call}"
        first = paths[0] or ""
        if call.name.startswith("mkdir"):
            self._directories.add(first)
            self._add(call.begins, Create(first, 0))
        elif call.name.startswith("rename"):
            new = paths[1] or ""
            assert first not in self._directories, "a directory is renamed"
            self._files[new] = self._files.pop(first)
            self._add(call.begins, Rename(first, new, self._files[new]))
        elif call.name.startswith("unlink") or call.name == "rmdir":
            self._files.pop(first, None)
            self._directories.discard(first)
            self._add(call.begins, Remove(first))
        else:
            raise AssertionError(f"a call that is not understood: {call.name}")


def read_traces(traces: Iterable[Path], root: Path) -> list[Step]:
    """Return the steps of processes that ran one after the other; only paths below `root` count."""
    reader, steps = _Reader(str(root)), list[Step]()
    for trace in traces:
        reader.start_process()
        with trace.open(encoding="ascii", errors="replace") as lines:
            for call in sorted(_calls(lines), key=lambda call: call.begins):
                reader.take(call)
        steps += [step for _, _, step in sorted(reader.steps, key=lambda one: one[:2])]
    return steps
