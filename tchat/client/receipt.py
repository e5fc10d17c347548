"""A request on its way: sent again until it is answered, on however many connections."""

from __future__ import annotations

from collections.abc import Callable

import trio

from tchat.core.frames import Attached, Ok, Ticket
from tchat.core.schema import Frame
from tchat.errors import Code, Refused, TchatError

Answer = Ok | Attached | Ticket
Make = Callable[[int], Frame]
"""Makes a request's frame from its id; called anew for each connection it is sent on."""


class Receipt:
    """A request on its way. `wait` for its answer, or drop it: it will be sent all the same."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.done = trio.Event()
        self.answer: Answer | None = None
        self.failure: TchatError | None = None

    async def wait(self) -> Answer:
        """Return the answer. Raises `Refused` with the server's sentence."""
        await self.done.wait()
        if self.failure is not None:
            raise self.failure
        if self.answer is None:
            raise Refused(Code.INTERNAL, "The request was given up.")
        return self.answer
