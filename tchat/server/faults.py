"""What to make of an exception that nobody foresaw."""

from __future__ import annotations

from tchat.errors import StorageError, root_of


def is_storage(error: Exception) -> bool:
    """Return whether a fault means that the log cannot be trusted any more."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(StorageError) is not None
    return isinstance(error, StorageError)


def describe(error: BaseException) -> str:
    """Return a fault with the place it came from, on one line."""
    error = root_of(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else "?"
    return f"{type(error).__name__}: {error} ({place})"
