"""Every kept input of the fuzzer, and every example that it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz.corpus import TARGETS as NAMES
from tests.fuzz.corpus import kept_inputs
from tests.fuzz.seeds import write_seeds
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", NAMES)
def test_kept_inputs_break_no_promise(name: str, tmp_path: Path) -> None:
    write_seeds(tmp_path / name)
    examples = [path.read_bytes() for path in (tmp_path / name).iterdir()]
    assert examples
    for data in examples:
        TARGETS[name](data)


def test_every_target_has_a_corpus() -> None:
    assert tuple(TARGETS) == NAMES
    assert all(kept_inputs(name) for name in NAMES)
