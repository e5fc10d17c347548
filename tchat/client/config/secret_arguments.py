"""Secrets on a command line: invites and link codes, which other users of a machine can read there.

The command line of a process is public (`ps`, `/proc/PID/cmdline`). So a secret can also come from
the environment, which only the same user can read, or from standard input, with `-`. If it is on
the command line, it is overwritten there as soon as it was read, where the system allows it; the
history of the shell still has it.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

STDIN = "-"
# Field 48 of /proc/PID/stat (proc(5)) is the address of the first argument; the fields before the
# third are the number and the name of the process, and the name may contain spaces.
_ARGUMENTS_FIELD = 48 - 3
_LONGEST_LINE = 4096


def add_secret(
    parser: argparse._ActionsContainer,
    option: str,
    variable: str,
    read: Callable[[str], T],
    *,
    metavar: str,
    help: str,  # noqa: A002  # as in argparse
    where: str,
) -> None:
    """Add an option for a secret; without it, the secret is in the environment's `variable`.

    `read` turns its text into a value. Raises ValueError. `where` tells a person at a terminal what
    to paste.
    """

    def argument(text: str) -> T:
        try:
            if text == STDIN:
                return read(_typed_secret(metavar, where))
            value = read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        hide_argument(text)
        return value

    parser.add_argument(
        option,
        type=argument,
        metavar=metavar,
        default=os.environ.get(variable) or None,
        help=f"{help}; - reads it from standard input (default: ${variable})",
    )


def hide_argument(secret: str) -> None:
    """Overwrite a secret on the command line of this process, if the system is Linux."""
    hidden = os.fsencode(secret)
    with suppress(OSError, ValueError, IndexError):
        line = Path("/proc/self/cmdline").read_bytes()
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start = int(fields[_ARGUMENTS_FIELD])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            place = line.find(hidden)
            while place >= 0:
                memory.seek(start + place)
                memory.write(b"*" * len(hidden))
                place = line.find(hidden, place + len(hidden))


def _typed_secret(what: str, where: str) -> str:
    """Read a secret from standard input: without echo from a terminal, otherwise its first line.

    What follows stays unread: in a pipe, it is what the program sends.
    """
    if sys.stdin.isatty():
        from getpass import getpass  # here: it is imported for every command line

        return getpass(f"Paste {where}; it is not shown.\n{what}: ").strip()
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
        if len(line) == _LONGEST_LINE:
            break
    return line.decode(errors="replace").strip()
