"""Replies to one message of an IRC client, with its label (IRCv3 labeled-response)."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.irc.messages import Message
from tchat.irc.names import SERVER

if TYPE_CHECKING:
    from tchat.irc.connection import Connection

_NUMERICS: dict[str, str] = {
    Code.NOT_ADMIN: "482",
    Code.NOT_MEMBER: "442",
    Code.NOT_APPROVED: "442",
    Code.NO_SUCH_MEMBER: "441",
    Code.NO_SUCH_NAME: "401",
    Code.NO_COMMON_GROUP: "401",
    Code.NO_SUCH_GROUP: "403",
    Code.ALREADY_MEMBER: "443",
}
"""The numeric reply for each error code; 400 for all others."""

_batches = count(1)


class Replies:
    """Collects the replies to a message, and sends them together.

    With `later`, there will be one that carries the label itself: the echo of what was sent.
    """

    def __init__(self, connection: Connection, message: Message) -> None:
        self.command = message.command
        self.label = message.tags.get("label") if connection.has("labeled-response") else None
        self.later = False
        self._connection = connection
        self._messages: list[Message] = []

    @property
    def nick(self) -> str:
        """The nickname of the client."""
        return self._connection.nick

    def add(self, *messages: Message) -> None:
        """Add messages."""
        self._messages += messages

    def numeric(self, code: str, *params: str) -> None:
        """Add a numeric reply."""
        self.add(self._connection.numeric_message(code, *params))

    def refuse(self, refusal: Refused, target: str) -> None:
        """Add the error for a refusal."""
        self.numeric(_NUMERICS.get(str(refusal.code), "400"), target, str(refusal))

    def fail(self, code: str, *words: str) -> None:
        """Add a standard reply (IRCv3) that the command failed."""
        self.add(Message("FAIL", (self.command, code, *words), SERVER))

    def add_batch(self, kind: str, target: str, messages: list[Message]) -> None:
        """Add messages as a batch, if the client knows batches."""
        if not self._connection.has("batch"):
            self.add(*messages)
            return
        name = f"b{next(_batches)}"
        self.add(Message("BATCH", (f"+{name}", kind, target), SERVER))
        self.add(*(_tagged(one, "batch", name) for one in messages))
        self.add(Message("BATCH", (f"-{name}",), SERVER))

    async def send(self) -> None:
        """Send the replies."""
        messages = self._messages
        if self.label is not None and not (self.later and not messages):
            messages = _labeled(messages, self.label)
        await self._connection.send(*messages)


def _labeled(messages: list[Message], label: str) -> list[Message]:
    if not messages:
        return [Message("ACK", (), SERVER, {"label": label})]
    if len(messages) == 1:
        return [_tagged(messages[0], "label", label)]
    name = f"b{next(_batches)}"
    begin = Message("BATCH", (f"+{name}", "labeled-response"), SERVER, {"label": label})
    inside = [one if "batch" in one.tags else _tagged(one, "batch", name) for one in messages]
    return [begin, *inside, Message("BATCH", (f"-{name}",), SERVER)]


def _tagged(message: Message, key: str, value: str) -> Message:
    tags = {**message.tags, key: value}
    return Message(message.command, message.params, message.source, tags)
