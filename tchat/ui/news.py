"""What a person is told about where they stand with a group, as sentences."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tchat.core.events import FileShared, Posted
from tchat.ui.lines import is_mention, latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.core.events import Event
    from tchat.core.frames import Membership, Standing


def welcome(replica: Replica, me: str) -> str:
    """Return the sentence for one who has everything of the group there is so far."""
    count = len(replica.state.members)
    others = "you alone" if count == 1 else f"{count} members"
    requests = len(replica.state.requests)
    if requests and replica.state.is_admin(me):
        others += f"; {requests} waiting for approval, /1 lists them"
    return f"in {replica.name} with {others}; /help lists the commands"


def standing_found(replica: Replica, before: Standing | None) -> str:
    """Return what the server's answer means to one who was `before`; empty if nothing new."""
    if replica.standing == "waiting":
        return f"waiting for {replica.admin or 'the admin'} to approve you; /3 leaves"
    if replica.standing == "member":
        return ""
    if replica.kicked:
        return "you were kicked from this group; /join asks to come back"
    if before == "waiting":
        return "your request was not approved; /join asks again, /3 leaves"
    if before == "member":
        return "you are not a member any more; /join asks to be one, /3 leaves"
    return ""


def standing_changed(news: Membership, *, on_purpose: bool) -> str:
    """Return what somebody has done to this person's standing; empty for what they know."""
    if news.reason == "left" and on_purpose:
        return ""
    sentence = {
        "denied": f"{news.by} denied your request",
        "kicked": f"{news.by} kicked you out of the group",
        "banned": f"{news.by} banned you from the group; only the admin can undo that",
        "left": "you left the group from another terminal",
        "closed": f"{news.by}, the last member, left, and the group is closed",
    }
    if news.reason == "banned":
        return sentence["banned"]
    return f"{sentence.get(news.reason, news.reason)}; /join asks again, /3 leaves"


def digest(missed: Sequence[Event], me: str, *, direct: bool) -> str | None:
    """Return what came while the person was away, in one line; None if nothing did."""
    texts = [event.body.text for event in missed if isinstance(event.body, Posted)]
    files = sum(isinstance(event.body, FileShared) for event in missed)
    mentions = 0 if direct else sum(is_mention(text, me) for text in texts)
    counts = [
        count_text(len(texts), "message"),
        f"{mentions} mention{'s' * (mentions == 1)} you" if mentions else "",
        count_text(files, "file"),
    ]
    told = ", ".join(filter(None, counts))
    if not told:
        return None
    began = time.localtime(latest(missed[0].at) / 1000)
    return f"since {time.strftime('%a %H:%M', began)}: {told}"


def count_text(number: int, what: str) -> str:
    """Return a number of things: "1 file", "2 files"; nothing for none."""
    return f"{number} {what}{'s' * (number != 1)}" if number else ""
