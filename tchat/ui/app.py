"""x."""

from __future__ import annotations

from pathlib import Path

from tchat.client.session import Session


async def run_curses(session: Session, group: str, downloads: Path) -> int:
    """X."""
    return 0
