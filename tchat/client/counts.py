"""Number commands above the server's counts, and find messages that were sent but not recorded.

A group remembers the highest command number of each client id (see `core.group.state`), and the
server says it when a group is attached. This client gives no number to a command before that (see
`sender`): its files may have gone back to an earlier state, as after a restore from a backup or a
crash that lost a block, and then it would use a number twice, and the server would take the second
command for a repeat of the first.

What an earlier process left without a number may have been sent in the meantime, too, and would be
stored twice. If the server has counted further than the journal knows, such messages are looked for
in the group's log: among the events of this client id with higher numbers. The commands of the
group wait until then. What is found is stored; what is not found was never sent. If the log cannot
be read back that far, the person decides.

Likewise for a message with a number so far below the server's count that the server takes any such
number for a repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.client.history import read_page
from tchat.client.request_tracker import taken_refusal
from tchat.core.group.messages import Erased, Posted
from tchat.core.protocol.frames import Attached, HistoryRequest
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId
    from tchat.client.delivery import Delivery
    from tchat.client.pending_message import PendingMessage
    from tchat.client.request import Answer, PendingRequest
    from tchat.client.request_tracker import RequestTracker
    from tchat.core.group.feature import Event

_MOST_PAGES = 200
"""How many pages of a log are searched for what may be in it."""


class Counts:
    """Asks for the counts of groups on each connection; `ask` requests that of one.

    `run` has to run while there is a connection.
    """

    def __init__(
        self,
        client_id: ClientId,
        requests: RequestTracker,
        delivery: Delivery,
        ask: Callable[[str], PendingRequest],
    ) -> None:
        self._client_id = client_id
        self._client = client_id.client
        self._requests = requests
        self._delivery = delivery
        self._searches: dict[str, tuple[int, int]] = {}
        self._wakeup = trio.Event()
        requests.sender.ask_count = ask

    def on_answered(self, group: str, request: PendingRequest) -> None:
        """Send the commands of a group, or search for what was left unsent there first."""
        answer, failure = request.answer, request.failure
        if isinstance(failure, Refused) and failure.code == Code.CANCELLED:
            self._requests.sender.ask_again(fold(group))
        elif isinstance(answer, Attached) and self._delivery.unsure(group, answer.counted):
            self._searches[fold(group)] = answer.counted, answer.seq
            self._wakeup.set()
        else:  # a group that cannot be attached refuses its commands, too
            if isinstance(answer, Attached):
                for pending in self._delivery.of(group):
                    pending.entry.left = 0
            self._requests.sender.on_counted(fold(group))

    async def run(self) -> None:
        """Search for messages that may have been sent, until cancelled."""
        self._searches.clear()  # on a new connection, the server is asked again
        while True:
            while self._searches:
                group = next(iter(self._searches))
                counted, last = self._searches.pop(group)
                await self._search(group, counted, last)
                self._requests.sender.on_counted(group)
            self._wakeup = trio.Event()
            await self._wakeup.wait()

    async def _search(self, group: str, counted: int, last: int) -> None:
        """Find which messages are in a group's log up to event `last`; they are complete then.

        Meanwhile, the person may discard or resend one, or its event may arrive. So after each page
        they are looked up again.
        """
        unsure = self._delivery.unsure(group, counted)
        lowest = min((pending.entry.left for pending in unsure), default=0)
        before, erased = last + 1, False
        for _ in range(_MOST_PAGES):
            try:
                page = await self._page(group, before)
            except Refused:
                break
            if not (unsure := self._delivery.unsure(group, counted)):
                return
            mine = [event for event in page if event.client == self._client]
            for event in reversed(mine):
                erased = erased or (event.n >= lowest and isinstance(event.body, Erased))
                self._match(unsure, event)
            is_all = not page or page[0].seq <= 1 or any(event.n < lowest for event in mine)
            if is_all and not erased:
                for pending in unsure:
                    self._delivery.settle(pending)
                return
            if is_all:  # one of them may have been deleted since
                break
            before = page[0].seq
        for pending in self._delivery.unsure(group, counted):
            self._delivery.give_up(pending, taken_refusal())

    def _match(self, unsure: list[PendingMessage], event: Event) -> None:
        """Complete the last message that an event can be."""
        for pending in reversed(unsure):
            number, left = pending.entry.number, pending.entry.left
            is_number = event.n == number if number else event.n >= left
            if number is None and pending.entry.once is not None and self._client_id.began:
                # What this process has sent itself is another message.
                is_number = is_number and event.n < self._client_id.began
            if is_number and isinstance(event.body, Posted) and pending.is_event(event):
                unsure.remove(pending)
                self._delivery.succeed(pending, event.seq)
                return

    async def _page(self, group: str, before: int) -> list[Event]:
        """Return the page of events before a seq. Raises `Refused`."""
        page: list[Event] = []

        def read(answer: Answer) -> None:
            page[:] = read_page(answer, group, before)

        await self._requests.ask(lambda i: HistoryRequest(i, group, before), read).wait()
        return page
