"""Give commands to a group's actor, as the operator or in the name of a person."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import OPERATOR, Author
from tchat.core.protocol.frames import Failed, Ok, decode
from tchat.core.protocol.framing import split_frames
from tchat.core.text import fold
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, Refused
from tchat.server.groups.inbox import Execute
from tchat.server.send_queue import SendQueue

if TYPE_CHECKING:
    from tchat.core.group.feature import Command
    from tchat.server.context import ServerContext

_CLIENT_ID_SIZE = 8


class Commander:
    """Gives commands in a name, that of the operator unless another is given, and numbers them."""

    def __init__(self, context: ServerContext, name: str = OPERATOR) -> None:
        self._n = 0
        self._context = context
        # A new client id each time, since the numbers of an earlier one are not known.
        self._author = Author(name, secrets.token_bytes(_CLIENT_ID_SIZE))

    async def give(self, command: Command) -> None:
        """Wait until the command is executed; its `id` and `n` are set. Raises `Refused`."""
        self._n += 1
        await execute(self._context, self._author, replace(command, id=self._n, n=self._n))


async def execute(context: ServerContext, author: Author, command: Command) -> None:
    """Wait until the group's actor has executed a command of `author`. Raises `Refused`."""
    answer = _Answer()
    await context.registry.send(fold(command.group), Execute(author, command, answer.queue))
    await answer.done.wait()
    if answer.refusal is not None:
        raise answer.refusal


class _Answer:
    """Stands in for a connection: gets the answer to one command."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.refusal: Refused | None = Refused(
            Code.INTERNAL,
            "The group could not execute this; the log, or standard error, says why.",
        )
        # If the group's actor fails, it closes the queue, which starts a writer.
        self.queue = SendQueue(self._receive, self.done.set)

    def _receive(self, data: bytes) -> None:
        for body in split_frames(data):
            answer = decode(body, TO_CLIENT)
            if isinstance(answer, Ok):
                self.refusal = None
            elif isinstance(answer, Failed):
                self.refusal = Refused(answer.code, answer.text)
        self.done.set()
