"""A pending message: typed by the person, shown as unsent or refused, not in the log yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.group.messages import Erased, Posted
from tchat.core.text import clean_message
from tchat.errors import Code

if TYPE_CHECKING:
    from tchat.client.journal import JournalEntry
    from tchat.client.request import Answer, PendingRequest
    from tchat.core.group.feature import Event
    from tchat.errors import Refused


@dataclass(slots=True, eq=False)
class PendingMessage:
    """A message that is not in the log yet: its journal entry, and the request that sends it.

    If it was refused, `failure` is the reason; the message then stays until the person sends it
    again or discards it, or until they are approved, if that was missing.
    """

    entry: JournalEntry
    request: PendingRequest

    @property
    def group(self) -> str:
        """The group that it is sent to."""
        return self.entry.group

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.entry.text

    @property
    def reply(self) -> int | None:
        """The seq of the message that it replies to."""
        return self.entry.reply

    @property
    def at(self) -> int:
        """When it was typed, in ms since the Unix epoch."""
        return self.entry.at

    @property
    def failure(self) -> Refused | None:
        """Why the server refused it, if it did."""
        return self.entry.failure

    @property
    def held(self) -> bool:
        """Whether it was not sent, since the person has not entered the group yet."""
        return self.entry.held

    @property
    def is_waiting(self) -> bool:
        """Whether it is not stored, and is sent without anything that the person does."""
        return self.request.answer is None and (self.failure is None or self.awaits_approval)

    @property
    def awaits_approval(self) -> bool:
        """Whether it is sent again by itself, once the person is approved."""
        return self.failure is not None and self.failure.code == Code.NOT_APPROVED

    def is_event(self, event: Event) -> bool:
        """Return whether an event, by this client, can be this message."""
        body = event.body
        if isinstance(body, Erased):
            return True  # whatever it was
        if not isinstance(body, Posted) or body.reply != self.reply:
            return False
        # The server stores a sanitized text.
        return body.text == self.text or clean_message(body.text) == clean_message(self.text)

    async def wait(self) -> Answer:
        """Return the answer when the server has stored it. Raises `Refused`."""
        return await self.request.wait()
