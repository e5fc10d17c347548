"""The exit statuses of the commands for scripts, as the documents list them."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import tchat.exits

SOURCE = Path(tchat.exits.__file__)


def status_rows() -> list[tuple[str, str, str]]:
    """Return each status, its meaning (the docstring of its constant) and its error codes."""
    body = ast.parse(SOURCE.read_text(encoding="utf-8")).body
    rows = [("0", "The command did what it should. Of `ask`: the first option was chosen.", "")]
    for node, text in itertools.pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(text, ast.Expr):
            status, meaning = ast.literal_eval(node.value), ast.literal_eval(text.value)
            codes = ", ".join(f"`{code}`" for code in tchat.exits.STATUSES.get(status, ()))
            rows.append((str(status), " ".join(meaning.split()), codes))
    rows.insert(1, ("1 to 59", "Of `ask`: the second option was chosen, the third, and so on.", ""))
    rows.append(
        ("129, 130, 143", "Ended by SIGHUP (a closed terminal), SIGINT (Ctrl-C) or SIGTERM.", "")
    )
    return rows
