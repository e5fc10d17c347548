"""Hints: the next step after a refusal, in terms of this interface's commands.

The sentence of a refusal comes from the group's rules, which do not know the commands of this user
interface. This module adds the command that helps.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tchat.client.config.options import CREATE_HINT
from tchat.errors import Code

if TYPE_CHECKING:
    from tchat.core.protocol.frames import Standing
    from tchat.errors import Refused

_HINTS: dict[str, str] = {
    Code.NO_SUCH_GROUP: CREATE_HINT,
    Code.NO_SUCH_MEMBER: "/members lists the members.",
    Code.NO_SUCH_REQUEST: "/requests lists who asks to join.",
    Code.NO_SUCH_FILE: "/files lists the files.",
    Code.NO_SUCH_KEY: "/keys lists your keys.",
    Code.QUOTA_EXCEEDED: "/remove N frees space.",
}
"""Hints by error code, whatever the person's standing."""

_OUTSIDER_HINTS: dict[str, str] = {Code.NOT_MEMBER: "/join asks to join."}
"""Hints for somebody who is not a member and has not asked to join."""

_COMMAND = re.compile(r"(?<!\S)/[a-z0-9]+")


def with_hint(refusal: Refused, standing: Standing | None, next_request: str = "") -> str:
    """Return a refusal's sentence with the hint for it, unless the sentence names a command.

    `next_request` says when an outsider can ask to join again, if not now.
    """
    hints = _HINTS if standing != "outsider" else {**_HINTS, **_OUTSIDER_HINTS}
    hint = hints.get(refusal.code, "")
    if hint == _OUTSIDER_HINTS.get(refusal.code):
        hint = next_request or hint
    if not hint or _COMMAND.search(refusal.sentence):
        return refusal.sentence
    return f"{refusal.sentence} {hint}"
