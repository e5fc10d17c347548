"""Denial-of-service benchmark: `python -m tests.bench.hostile`.

First, malformed frames are sent one by one to a server in this process, unauthenticated and
authenticated, while a Trio instrument measures how long the server's tasks run between checkpoints.
Wall-clock time is what other clients wait for, but other programs on the machine disturb it; the
CPU time of the thread is undisturbed.

Then, thousands of sockets that send nothing, or a byte per second, connect to a server in a process
of its own: memory for each, time until they are cut, latency of a pair that chats meanwhile.
"""

from __future__ import annotations

import argparse
import resource
from typing import get_args

import trio

from tchat.net.address import Address
from tests.bench.connection_flood import Kind, attack, measure_all_strangers
from tests.bench.frame_costs import measure_frames
from tests.bench.report import say


def allow_files(number: int) -> None:
    """Raise the limit of open files of this process and its children; warn if that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))
    if possible < number:
        say(f"Only {hard} open files are allowed, {number} needed: some sockets will fail.")


def main() -> None:
    """Measure; with --attack, be the attacking process of another measurement."""
    parser = argparse.ArgumentParser(description="Measure the cost of hostile frames and sockets.")
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
