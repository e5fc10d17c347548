"""Draw the golden screens anew: `python -m tests.ui.screens`."""

from __future__ import annotations

from tests.ui.screens import FOLDER, file_of, text_of_sheet
from tests.ui.screens.catalogue import SHEETS

if __name__ == "__main__":
    for stale in FOLDER.glob("*.txt"):
        stale.unlink()
    for sheet in SHEETS:
        file_of(sheet).write_text(text_of_sheet(sheet), encoding="utf-8")
