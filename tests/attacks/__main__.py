"""Run the attacks on real servers and clients: `python -m tests.attacks [NAME ...]`.

The exit status is 1 if an attack achieves more than it may. Other work on this machine
makes delays longer: run a failed attack again, alone.
"""

from __future__ import annotations

import argparse
import pkgutil
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import tests.attacks
from tests.attacks.clients import ClientAttack, measure_client
from tests.attacks.figures import WRITTEN, Found, Printed, write
from tests.attacks.harness import Attack, attack_in_this_process, measure
from tests.attacks.hostile_server import stage
from tests.bench.report import say

if TYPE_CHECKING:
    from types import ModuleType


def modules() -> list[ModuleType]:
    """Return the modules of this package."""
    return [
        import_module(f"{tests.attacks.__name__}.{module.name}")
        for module in pkgutil.iter_modules(tests.attacks.__path__)
        if module.name != "__main__"
    ]


def all_attacks() -> dict[str, Attack | ClientAttack]:
    """Return the attacks of all modules (their `ATTACKS`), by name."""
    return {attack.name: attack for one in modules() for attack in getattr(one, "ATTACKS", ())}


def all_programs() -> dict[str, ModuleType]:
    """Return the modules that attack and measure by themselves (they have a `main`), by name."""
    return {one.__name__.rpartition(".")[2]: one for one in modules() if hasattr(one, "main")}


def run_program(module: ModuleType) -> Printed:
    """Run a module as a program; return what it printed."""
    say(f"{module.__name__}:")
    lines: list[str] = []
    command = [sys.executable, "-u", "-m", module.__name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            say(lines[-1])
    return Printed(lines, process.returncode == 0)


def main() -> int:
    """Run the chosen attacks, or all; return the exit status."""
    attacks, programs = all_attacks(), all_programs()
    parser = argparse.ArgumentParser(
        description="Attack servers and clients, and measure what people notice."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks; without, all")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each lasts")
    parser.add_argument(
        "--write", action="store_true", help=f"record the results in {WRITTEN.name}"
    )
    parser.add_argument("--list", action="store_true", help="list the attacks")
    parser.add_argument(
        "--tree", type=Path, default=Path.cwd(), help="serve the source tree in this directory"
    )
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stage", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.names or [*attacks, *programs]
    if unknown := set(names) - set(attacks) - set(programs):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; --list lists them")
    if given.list:
        for attack in attacks.values():
            say(f"{attack.name:20} {attack.title}")
        for name, module in programs.items():
            say(f"{name:20} {(module.__doc__ or '').splitlines()[0]}")
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = [attacks.get(name) or programs[name] for name in names]
    match chosen[0]:
        case ClientAttack(prepare=prepare, run=run) if given.stage:
            trio.run(stage, prepare, run)
            return 0
        case Attack() as attack if given.port is not None:
            attack_in_this_process(attack, given.port, given.seconds)
            return 0
    found = {
        name: run_one(one, given.seconds, given.tree)
        for name, one in zip(names, chosen, strict=True)
    }
    if given.write:
        write(found)
    return 0 if all(map(has_held, found.values())) else 1


def has_held(found: Found) -> bool:
    """Return whether an attack achieved no more than it may."""
    return found.held if isinstance(found, Printed) else not found.missed


def run_one(one: Attack | ClientAttack | ModuleType, seconds: float, tree: Path) -> Found:
    """Run an attack; return the result."""
    if isinstance(one, Attack):
        return measure(one, seconds, tree)
    if isinstance(one, ClientAttack):
        return measure_client(one, seconds)
    return run_program(one)


if __name__ == "__main__":
    sys.exit(main())
