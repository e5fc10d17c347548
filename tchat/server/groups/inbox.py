"""What comes to a group's actor, and what becomes of it in one turn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.core.protocol.frames import Failed, Ok, encode, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tchat.core.group.commands import Command
    from tchat.core.group.events import Event
    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.frames import Attach
    from tchat.errors import Refused
    from tchat.server.groups.ordering import CommandOrder
    from tchat.server.groups.subscriptions import Subscription
    from tchat.server.send_queue import SendQueue

_AT_ONCE = nullcontext()


@dataclass(slots=True, eq=False)
class Execute:
    """A command to decide. `checks` may refuse it once it is known not to be a repetition.

    `order` is that of its connection, if its client sends again what came too fast.
    """

    author: Author
    command: Command
    send_queue: SendQueue
    checks: Sequence[Callable[[], None]] = ()
    order: CommandOrder | None = None

    def check(self) -> None:
        """Raise `Refused` if one of the checks does."""
        for check in self.checks:
            check()

    def in_turn(self, group: str) -> AbstractContextManager[None]:
        """Decide it in its turn; see `CommandOrder.turn`."""
        return _AT_ONCE if self.order is None else self.order.turn(group, self.command.n)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A connection wants to follow the group."""

    subscription: Subscription
    request: Attach


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """A person has seen the events up to `seq`."""

    name: str
    seq: int


@dataclass(frozen=True, slots=True)
class Query:
    """Call `look` with the committed state, which it must not change; answer to `send_queue`."""

    look: Callable[[Group], None]
    send_queue: SendQueue


@dataclass(frozen=True, slots=True)
class Wake:
    """Take a turn: something changed that was not said through the inbox."""


Item = Execute | Subscribe | ReadReceipt | Query | Wake


@dataclass(slots=True)
class Batch:
    """What one turn will append, and what it will then say to whom.

    `targets` are the events that its commands speak of. In a conversation of two that has not
    begun, `acquainted` says whether the two may begin it.
    """

    draft: Group
    targets: dict[int, Event] = field(default_factory=dict)
    acquainted: bool = True
    events: list[Event] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    answers: list[tuple[Execute, Ok | Failed]] = field(default_factory=list)
    taken: list[Item] = field(default_factory=list)
    seen: list[ReadReceipt] = field(default_factory=list)
    size: int = 0
    independent: int = 0

    def add_answer(self, item: Execute, answer: Ok | Failed) -> None:
        """Note what to answer once the events so far are committed."""
        self.answers.append((item, answer))
        if not self.events:
            self.independent = len(self.answers)

    def tell(self) -> None:
        """Give the answers, those for the same connection in one piece."""
        pieces: dict[SendQueue, list[bytes]] = {}
        for item, answer in self.answers:
            pieces.setdefault(item.send_queue, []).append(encode(answer))
        for send_queue, answers in pieces.items():
            send_queue.push(b"".join(answers))

    def fail(self, refusal: Refused) -> None:
        """Refuse every command from the first that had events on.

        What was answered behind that one was decided on a state that never came to be, even
        where the answer added nothing. The first `independent` answers hold.
        """
        for index in range(self.independent, len(self.answers)):
            item, _ = self.answers[index]
            self.answers[index] = (item, failed(refusal, item.command.id))
