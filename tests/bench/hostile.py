"""What hostile frames and strangers cost a server: `python -m tests.bench.hostile`.

First, wrong frames one after the other at a server in this process, as strangers and as people
who are known, while an instrument of Trio measures how long the server's tasks run without a
pause. The clock on the wall says what others had to wait for, and is fooled by other programs on
the same machine; the time of this thread is not.

Then, very many sockets that say nothing, or a byte a second, at a server in a process of its own:
what each takes of its memory, when it is cut, and what a pair that chats beside them feels.
"""

from __future__ import annotations

import argparse
import resource
from typing import get_args

import trio

from tchat.net.address import Address
from tests.bench.frames import measure_frames
from tests.bench.report import say
from tests.bench.strangers import Kind, attack, measure_all_strangers


def allow_files(number: int) -> None:
    """Let this process, and those it starts, have so many open files; say if that is impossible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))
    if possible < number:
        say(f"This system allows {hard} open files, and {number} are needed: expect less.")


def main() -> None:
    """Measure, or be the strangers of another process that measures."""
    parser = argparse.ArgumentParser(description="What hostile frames and strangers cost a server.")
    parser.add_argument("--frames", type=int, default=100_000, help="how many; 0 for none")
    parser.add_argument("--sockets", type=int, default=2000, help="how many; 0 for none")
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=get_args(Kind), help=argparse.SUPPRESS)
    given = parser.parse_args()
    allow_files(2 * given.sockets + 500)
    if given.attack is not None:
        trio.run(attack, Address("127.0.0.1", given.attack), given.sockets, given.kind)
        return
    if given.frames:
        trio.run(measure_frames, given.frames)
    if given.sockets:
        measure_all_strangers(given.sockets)


if __name__ == "__main__":
    main()
