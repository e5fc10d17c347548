"""Programs of tchat whose wall clock is wrong, as with `faketime`, which is not needed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

YEARS = 3652 * 24 * 3600
"""Ten years, in seconds."""

_PROGRAM = """\
import sys, time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {ahead}
time.time_ns = lambda: real_ns() + {ahead} * 10**9
from tchat.cli import main
sys.exit(main())
"""


def faked_program(place: Path, ahead: int) -> Path:
    """Write a script that runs tchat with a wall clock that is so many seconds ahead."""
    script = place / f"tchat_{ahead}.py"
    script.write_text(_PROGRAM.format(ahead=ahead))
    return script
