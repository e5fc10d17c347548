"""Output and statistics of the benchmarks: lines, percentiles, resident memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def say(*parts: object) -> None:
    """Print a line and flush it."""
    print(*parts, flush=True)


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes (VmRSS)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def percentile(values: Sequence[float], share: float) -> float:
    """Return the percentile of `values` at `share` (0.5 is the median); 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else 0.0
