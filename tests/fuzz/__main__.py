"""`python -m tests.fuzz TARGET`: fuzz one decoder with atheris, in the directory `.fuzz`.

What reaches new code stays there, so that the next run goes on with it; an input that breaks a
promise is written to `.fuzz/fault-…`. `--keep` makes what is there the corpus.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from tests.fuzz.corpus import TARGETS, keep_inputs

FOUND = Path(".fuzz")


def main() -> None:
    """Run the fuzzer until the time is over or a fault is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="only keep what was found, as corpus")
    given = parser.parse_args()
    found = FOUND / given.target
    # In another process: what is imported before the block below is not instrumented.
    subprocess.run([sys.executable, "-m", "tests.fuzz.seeds", found], check=True)
    if given.keep:
        keep_inputs(given.target, {path.read_bytes() for path in found.iterdir()})
        return
    try:
        atheris = import_module("atheris")
    except ImportError:
        sys.exit("The fuzzer needs atheris: pip install -e '.[fuzz]'")
    with atheris.instrument_imports(include=["tchat"]):
        targets = import_module("tests.fuzz.targets")
    options = ["-max_len=2048", "-timeout=20", f"-artifact_prefix={FOUND}/fault-"]
    options.append(f"-max_total_time={given.seconds}")
    atheris.Setup([sys.argv[0], *options, str(found)], targets.TARGETS[given.target])
    atheris.Fuzz()


main()
