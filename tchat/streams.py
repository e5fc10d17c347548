"""Standard streams: open the closed ones, print lines, and report how a program ends.

A program may be started with some of its descriptors 0, 1 and 2 closed (`tchat serve >&-`). Then
the next file or socket that it opens gets this number, and text for a person would be written into
it. So call `open_standard_streams` before everything else.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.errors import OutputError, TchatError, UsageError, root_of

if TYPE_CHECKING:
    from collections.abc import Callable

_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def open_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that is closed.

    Also make the open streams replace characters that the terminal's encoding lacks.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if not _is_open(descriptor):
            mode = "r" if descriptor == 0 else "w"
            # The lowest free number is this one: those below it are open by now.
            opened = os.open(os.devnull, os.O_WRONLY if descriptor else os.O_RDONLY)
            os.set_inheritable(opened, True)
            setattr(sys, name, open(opened, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def input_was_closed() -> bool:
    """Return whether this process was started without a standard input."""
    return sys.__stdin__ is None


def print_line(text: str) -> None:
    """Print a line on standard output at once. Raises `OutputError`."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise OutputError(error) from error


def print_path(path: Path) -> None:
    """Print a path on a line of standard output, with the bytes that its file has."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(error) from error


def complain(text: str, end: str = "\n") -> None:
    """Print to standard error; do nothing if it is closed or broken."""
    with suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def plain_status(error: TchatError) -> int:
    """Return the exit status for an error, in a program for people: 2 for a wrong command line."""
    return 2 if isinstance(error, UsageError) else 1


def run_reporting(
    main: Callable[[], object], status_of: Callable[[TchatError], int] = plain_status
) -> int:
    """Run a program and return its exit status; for a `TchatError`, print a line on stderr.

    `status_of` returns the status for an error: 2 for a `UsageError` and 1 for all others, unless
    another function is given.
    """
    try:
        try:
            main()
        finally:
            _flush_output()  # here, since the interpreter calls a failure at its exit a fault
    except BaseException as error:
        root = root_of(error)
        if isinstance(root, KeyboardInterrupt):
            return 130
        if isinstance(root, OSError) and root.errno in _UNWRITABLE:
            root = OutputError(root)
        if not isinstance(root, TchatError):
            raise
        if isinstance(root, OutputError):
            discard_output()
        if not (isinstance(root, OutputError) and root.abandoned):
            complain(f"tchat: {root}")
        return status_of(root)
    return 0


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from error


def discard_output() -> None:
    """Send the rest of standard output to /dev/null: the interpreter flushes it at its exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
