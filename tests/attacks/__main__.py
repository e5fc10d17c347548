"""Run the attacks of issue 18 against a real server: `python -m tests.attacks [NAME ...]`.

The exit status is 1 if an attack achieves more than the issue allows. Other work on this machine
makes delays longer: run a failed attack again, alone.
"""

from __future__ import annotations

import argparse
import pkgutil
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import tests.attacks
from tests.attacks.harness import attack_in_this_process, measure
from tests.bench.report import say

if TYPE_CHECKING:
    from tests.attacks.harness import Attack


def all_attacks() -> dict[str, Attack]:
    """Return the attacks of all modules of this package (their `ATTACKS`), by name."""
    modules = [
        import_module(f"{tests.attacks.__name__}.{module.name}")
        for module in pkgutil.iter_modules(tests.attacks.__path__)
        if module.name != "__main__"
    ]
    return {attack.name: attack for one in modules for attack in getattr(one, "ATTACKS", ())}


def main() -> int:
    """Run the chosen attacks, or all; return the exit status."""
    parser = argparse.ArgumentParser(description="Attack a server, and measure what others notice.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks; without, all")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each lasts")
    parser.add_argument("--list", action="store_true", help="list the attacks")
    parser.add_argument(
        "--tree", type=Path, default=Path.cwd(), help="serve the source tree in this directory"
    )
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    attacks = all_attacks()
    if unknown := set(given.names) - set(attacks):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; --list lists them")
    if given.list:
        for attack in attacks.values():
            say(f"{attack.name:20} {attack.title}")
        return 0
    chosen = [attacks[name] for name in given.names or attacks]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.port is not None:
        attack_in_this_process(chosen[0], given.port, given.seconds)
        return 0
    return 1 - min(measure(attack, given.seconds, given.tree) for attack in chosen)


if __name__ == "__main__":
    sys.exit(main())
