"""Names from the command line, or from a prompt on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tchat.core.text import check_name
from tchat.errors import Code, Refused, UsageError
from tchat.streams import complain

if TYPE_CHECKING:
    from tchat.ui.plain.typed import TypedLines


def can_ask() -> bool:
    """Return whether there is a terminal to ask for names on."""
    return sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())


def ask_name(
    given: str | None, what: str, option: str, typed: TypedLines, default: str | None
) -> str | None:
    """Return a name from the command line, or prompt for it; None at the end of input.

    Enter alone takes the default, if there is one.

    Raises `UsageError` if there is no terminal to ask on: a line of a pipe is not an answer.
    """
    if given is not None:
        return check_name(given, what)
    if not can_ask():
        raise UsageError(
            Code.MISSING_ARGUMENT,
            f"The {what} is missing, and there is no terminal to ask for it: add {option} NAME.",
        )
    while True:
        # With stdout redirected, the prompt goes to stderr: the pipe gets only the conversation.
        prompt = f"{what} [{default}]: " if default else f"{what}: "
        print(prompt, end="", flush=True, file=sys.stdout if sys.stdout.isatty() else sys.stderr)
        answer = typed.read()
        if answer is None:
            return None
        try:
            return check_name(answer.text.strip() or default or "", what)
        except Refused as refusal:
            complain(str(refusal))
