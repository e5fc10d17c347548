"""Raise errors as they are, where nurseries inside would wrap them into an `ExceptionGroup`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.errors import root_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")


@asynccontextmanager
async def raising_bare(context: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Enter a context manager with nurseries inside; raise what fails, there or in the block."""
    raised: BaseException | None = None
    try:
        async with context as value:
            try:
                yield value
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  # raised again, outside the nurseries
                raised = error
    except BaseExceptionGroup as group:
        raise root_of(group) from None
    if raised is not None:
        raise raised
