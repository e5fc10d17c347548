"""Unexpected exceptions: which of them must end the server, and the line that is logged."""

from __future__ import annotations

from tchat.errors import StorageError, root_of


def is_storage(error: Exception) -> bool:
    """Return whether the log cannot be trusted any more, so that the server has to stop."""
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
