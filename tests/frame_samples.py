"""A sample of each frame that a client may send after the handshake, for tests of every type.

A new frame whose fields have other names needs values for them here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

from tchat.core.protocol.handshake import HELLOS
from tchat.core.vocabulary import TO_SERVER

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame

FILE = b"the contents of the sample file"
DIGEST = hashlib.sha256(FILE).digest()

_KINDS: dict[str, Any] = {
    word: read.__self__  # type: ignore[attr-defined]
    for word, read in TO_SERVER.items()
}
SAMPLED = tuple(word for word, kind in _KINDS.items() if kind not in HELLOS)
"""The types of these frames."""

_VALUES: dict[str, object] = {
    "group": "ops",
    "target": 1,
    "invite": None,
    "create": None,
    "lasts": 3_600_000,
    "text": "a message of the usual length",
    "reply": None,
    "number": 1,
    "policy": "open",
    "size": len(FILE),
    "head": DIGEST,
    "sha256": DIGEST,
    "after": 0,
    "log": None,
    "recent": 100,
    "unread": None,
    "seq": 1,
    "stamp": None,
    "before": 1 << 40,
    "skip": 0,
    "key": bytes(32),
}
_NAMES = {
    "approve": "carol",
    "deny": "carol",
    "kick": "bob",
    "ban": "bob",
    "transfer_admin": "bob",
    "unban": "erin",
    "share": "report.txt",
}
"""The field `name`, by type."""


def sample(word: str, n: int, /, **values: object) -> Frame:
    """Return a frame of a type, number `n` of its client, with these values of its fields.

    Values of fields that it does not have are ignored.
    """
    kind = _KINDS[word]
    by_type = {"name": _NAMES.get(word), "digest": bytes(32) if word == "invite" else None}
    known = {**_VALUES, "id": n, "n": n, **by_type, **values}
    frame: Frame = kind(**{field.name: known[field.name] for field in dataclasses.fields(kind)})
    return frame
