"""Faults: tell fatal errors apart, describe them in one line, and stop the server in good order.

An error is *fatal* if the server must not go on: the store is unreliable (`StorageError`), the port
is lost, or a task that everything depends on has failed. Then nothing is cancelled in the middle:
the error is logged once, everybody gets a goodbye, and the server stops as on a signal.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tchat.errors import StorageError, TchatError, root_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.server.log import Log
    from tchat.store.troubles import Trouble, TroubleKind, Troubles


def is_storage(error: BaseException) -> bool:
    """Return whether the store is unreliable after this error, so that the server has to stop."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(StorageError) is not None
    return isinstance(error, StorageError)


def describe(error: BaseException) -> str:
    """Return an exception and the line that raised it, in one line of text."""
    error = root_of(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else "?"
    return f"{type(error).__name__}: {error} ({place})"


def sentence_of(error: BaseException) -> str:
    """Return what an error says to a person, or a description of an unexpected one."""
    root = root_of(error)
    return root.sentence if isinstance(root, TchatError) else f"{describe(root)}."


def advice_for(error: BaseException, data: Path) -> str:
    """Return what the operator should do after a fatal error of a server with this directory."""
    if is_storage(error):
        return (
            f"Check the disk and its file system (the system's log names I/O errors), run"
            f" 'tchat admin verify --data {data}', and start the server again."
        )
    root = root_of(error)
    if isinstance(root, MemoryError):
        return "Give the server more memory, or lower its limits, and start it again."
    if isinstance(root, OSError):
        return "Remove the cause in the operating system, and start the server again."
    return "Start the server again. This is a fault of tchat: please report this line."


def log_fatal(log: Log, where: str, error: BaseException, data: Path) -> None:
    """Log the error that ends the server, unless one was logged before."""
    if not log.counts["fatal"]:
        reason, advice = sentence_of(error), advice_for(error, data)
        log.line("fatal", where=where, reason=reason, path=str(data), advice=advice)


def log_shortage(log: Log, error: OSError) -> None:
    """Log that the system has no room for another connection."""
    log.line(
        "no_connections",
        reason=str(error.strerror).lower(),
        advice="Allow more open files (ulimit -n, or LimitNOFILE of systemd)"
        if error.errno in (errno.EMFILE, errno.ENFILE)
        else "The system has too little memory for the network",
    )


_ENDS: dict[TroubleKind, str] = {
    "disk_full": "disk_has_room",
    "checkpoint_failed": "checkpoint_done",
    "scrub_failed": "scrub_done",
}
"""The line of the log for the end of a trouble; its beginning has a line of its own name."""


def log_troubles(log: Log, data: Path, troubles: Troubles) -> None:
    """Log when a trouble of the store begins or ends; also what there is already."""

    def on_change(trouble: Trouble, begins: bool) -> None:  # a listener
        kind = trouble.kind if begins else _ENDS.get(trouble.kind)
        if kind is None:
            return
        facts: dict[str, str | int] = {"path": str(data)}
        if begins and trouble.kind in ("checkpoint_failed", "scrub_failed"):
            facts |= {"bytes": trouble.wal_bytes, "reason": trouble.reason}
        log.line(kind, **facts)

    troubles.listen(on_change)


class FatalFault:
    """The first fatal error of a server, and what to do when it is reported (`on_first`)."""

    def __init__(self, on_first: Callable[[str, Exception], None]) -> None:
        self.error: Exception | None = None
        self._on_first = on_first

    def report(self, where: str, error: Exception) -> bool:
        """Stop the server because of an error; return True: the error needs no other handling."""
        if self.error is None:
            self.error = error
            self._on_first(where, error)
        return True

    async def guard(self, where: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run a task that the server cannot do without; any error of it is fatal."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # reported, and raised again after the goodbyes
            self.report(where, error)


def not_handled(_where: str, _error: Exception) -> bool:
    """Return False: without a server, a fatal error is raised as any other."""
    return False
