"""Properties of laid out messages; how they look is in the golden screens."""

from __future__ import annotations

import pytest

from tchat.ui.tui.model import Position
from tests.hostile_text import HARMLESS
from tests.ui.pictures import message, model, pane


@pytest.mark.parametrize("text", HARMLESS)
def test_every_script_begins_in_the_same_column(text: str) -> None:
    made = model(message(text.split("\n")[0]))
    assert pane(made)[1].startswith(" 12:00   bob │ ")


def test_columns_do_not_change_while_scrolling() -> None:
    lines = [message(f"m{n}", "bob" if n < 20 else "christopher") for n in range(40)]
    seen = [pane(model(*lines, position=Position(index))) for index in range(10, 40)]
    assert {row.index("│") for rows in seen for row in rows if "m" in row[18:]} == {18}
