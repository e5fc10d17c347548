"""Rate limits of what people do to each other: messages, texts, joins (token buckets).

Actions above a rate are delayed. Their order is preserved, because the reader of their connection
waits. An action that would have to wait for longer than a client believes that the connection is
alive is refused instead, which is final: the refusal contains the time after which a new attempt
succeeds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from tchat.errors import Code, Refused
from tchat.server.keyed_buckets import KeyedBuckets
from tchat.server.ledger import LONGEST_WAIT

if TYPE_CHECKING:
    from tchat.core.pace import Rate

RateKind = Literal["messages", "texts", "joins"]
"""The rates of `Limits` that apply to what a person does."""

_TOO_MANY: dict[RateKind, str] = {
    "messages": "This server allows fewer messages",
    "texts": "This server allows less text",
    "joins": "This server allows fewer joins and new groups",
}


class RateLimiter(KeyedBuckets[RateKind]):
    """A token bucket for each person and kind of action."""

    def reserve(self, kind: RateKind, person: str, amount: float = 1) -> float:
        """Return the seconds that a person has to wait before one more thing, which is counted.

        With `amount`, it counts so much: texts are counted in KiB. If the seconds are more than
        `LONGEST_WAIT`, it has to be refused (`too_fast`), and is not counted.
        """
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None:
            return 0.0
        now = self._clock()
        bucket = self._buckets.get((kind, person)) or self._new_bucket(kind, person, rate, now)
        return bucket.reserve(now, LONGEST_WAIT, amount)


def too_fast(kind: RateKind, wait: float) -> Refused:
    """Return the refusal of what would have to wait for so many seconds."""
    return Refused(
        Code.RATE_LIMITED,
        f"{_TOO_MANY[kind]}; try again in {math.ceil(wait)} seconds.",
        math.ceil(wait * 1000),
    )
