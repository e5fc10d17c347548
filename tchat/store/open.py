"""Open a store: choose the engine by URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError
from tchat.store.sqlite.store import open_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tchat.store.base import Store


def _open_sqlite_url(rest: str) -> AbstractAsyncContextManager[Store]:
    return open_sqlite(Path(rest))


ENGINES: dict[str, Callable[[str], AbstractAsyncContextManager[Store]]] = {
    "sqlite": _open_sqlite_url,
}
"""The function that opens a store, by URL scheme; its argument is the part after `://`."""


def open_store(place: Path | str) -> AbstractAsyncContextManager[Store]:
    """Open the store at `place` for the length of an `async with` block; create it if missing.

    `place` is a directory, which means SQLite, or a URL such as `sqlite:///var/lib/tchat`. Raises
    `StartupError` for an unknown engine, and when it cannot be opened or another server uses it.
    """
    scheme, separator, rest = str(place).partition("://")
    if isinstance(place, Path) or not separator:
        return open_sqlite(Path(place))
    if scheme not in ENGINES:
        known = ", ".join(f"{name}://" for name in ENGINES)
        raise StartupError(
            Code.CANNOT_START, f"{scheme}:// is not a known kind of store; use {known}."
        )
    return ENGINES[scheme](rest)
