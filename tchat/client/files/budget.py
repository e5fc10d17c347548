"""Budget of automatic saving; the settings of every command line need it, without what uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """What is saved automatically in a day, for each group: `files`, of `megabytes` in all.

    So many megabytes of the disk stay `free`.
    """

    files: int = 100
    megabytes: int = 200
    free: int = 512
