"""A connection without a socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.server.send_queue import SendQueue

if TYPE_CHECKING:
    from tchat.core.group.state import Author
    from tchat.core.protocol.frames import Activity


@dataclass
class FakeConnection:
    """What presence and subscriptions need of a connection; `announced` are its notices so far."""

    author: Author
    send_queue: SendQueue = field(default_factory=lambda: SendQueue(lambda _: None, lambda: None))
    last_heard = 0.0
    followed_groups = ()
    peer = None
    announced: list[Activity] = field(default_factory=list)

    def notify(self, _: object) -> None: ...

    def announce(self, _: str, notice: Activity) -> None:
        self.announced.append(notice)

    def disconnect(self, _: object, __: str) -> None: ...
