"""Save drafts while the person types: within a second, and at once when a line is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.drafts import Drafts

DELAY_SECONDS = 1.0
RETRY_SECONDS = 10.0


class DraftSaver:
    """Saves `drafts`; `collect` updates them before each save, `fail` shows an error."""

    def __init__(
        self, drafts: Drafts, collect: Callable[[], None], fail: Callable[[Refused], None]
    ) -> None:
        self._drafts = drafts
        self._collect = collect
        self._fail = fail
        self._has_failed = False
        self._delay = 0.0
        self._due = trio.Event()

    def on_typed(self, *, sent: bool) -> None:
        """Schedule a save: at once if a line was `sent`, so that a crash cannot bring it back."""
        self._delay = 0.0 if sent else DELAY_SECONDS
        self._due.set()

    async def run(self) -> None:
        """Save the drafts a moment after they have changed; after a failure, try again."""
        while True:
            await self._next()
            with trio.move_on_after(self._delay):
                while self._delay:
                    await self._next()
            self._delay = 0.0
            self._collect()
            data = self._drafts.pending()
            try:
                if data is not None:
                    await trio.to_thread.run_sync(self._drafts.write, data)
            except OSError as error:
                if not self._has_failed:
                    self._fail(self._failure(error))
                self._has_failed = True
                await trio.sleep(RETRY_SECONDS)
                self.on_typed(sent=True)

    def save(self) -> str:
        """Save the drafts when the program ends; return an error sentence or "". Blocks."""
        self._collect()
        data = self._drafts.pending()
        try:
            if data is not None:
                self._drafts.write(data)
        except OSError as error:
            return self._failure(error).sentence
        return ""

    async def _next(self) -> None:
        await self._due.wait()
        self._due = trio.Event()

    def _failure(self, error: OSError) -> Refused:
        return Refused(
            Code.FILE_UNREADABLE,
            "What you type is not saved until it is sent: "
            f"{self._drafts.path or 'drafts'}: {error.strerror}.",
        )
