"""Whether a command that chats uses the full screen, or prints lines of text."""

from __future__ import annotations

import sys

from tchat.errors import StartupError
from tchat.streams import complain


def is_plain(chosen: bool) -> bool:
    """Return whether to print lines; if the terminal cannot do anything else, say so."""
    if chosen or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return True
    try:
        from tchat.ui.tui.screen import check_terminal  # curses is not available everywhere

        check_terminal()
    except (StartupError, ImportError) as error:
        complain(f"tchat: {error} tchat prints lines of text instead; --plain does so silently.")
        return True
    return False
