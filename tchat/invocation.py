"""How this program was started, so that command lines that it prints work where it runs."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def program_words() -> list[str]:
    """Return the words that start tchat in this installation, as they were typed.

    That is `tchat` if its script was started and is in the PATH, or the path of the script; for
    `python -m tchat`, and for other programs such as bots, the interpreter and its options.
    """
    script = sys.argv[0]
    if Path(script).name != "tchat":
        interpreter = sys.orig_argv[0] if sys.orig_argv else sys.executable
        return [interpreter or "python", "-m", "tchat"]
    found = shutil.which("tchat")
    in_path = found is not None and Path(found).exists() and Path(found).samefile(script)
    return ["tchat" if in_path else script]


def command_line(*words: object) -> str:
    """Return a command line of tchat, to be pasted into a shell of this installation."""
    return shlex.join([*program_words(), *map(str, words)])
