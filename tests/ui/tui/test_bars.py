"""Property of the status bar; how it and the title look is in the golden screens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tchat.ui.text.cells import cells
from tests.ui.pictures import shown
from tests.ui.screens.catalogue import MOVING, busy


@pytest.mark.parametrize("width", range(20, 121))
@pytest.mark.parametrize("others", [0, 2])
def test_transfer_displaces_nothing_important(width: int, others: int) -> None:
    """The current window and requests to join have priority, then the percentage."""
    moving = [replace(MOVING, name="数字" * 30)] * (others + 1)
    made = busy(requests=["数字" * 16], unanswered=2, transfers=moving)
    row = shown(made, width)[-2]
    assert cells(row) == width
    assert row.endswith("─")
    assert "数字数" in row
    assert "F9" in row
    assert "[1" in row or width < 30
    assert "42%" in row or width < 60
