"""Run commands in the process of the tests, several times as fast as a process for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tchat.cli import main

if TYPE_CHECKING:
    from pathlib import Path


class Place(NamedTuple):
    """The address of a running server, and the home directory of ci, a member of the group."""

    address: str
    home: Path


def ends(*words: str) -> int:
    """Run a command in this process, and return its exit status."""
    try:
        return main(words)
    except SystemExit as end:  # of argparse
        return int(end.code or 0)
