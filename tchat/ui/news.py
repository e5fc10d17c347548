"""What a person is told about where they stand with a group, as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tchat.client.replica import Replica
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
    """Return what somebody has done to this person's standing."""
    if news.reason == "left" and on_purpose:
        return "you left the group"
    sentence = {
        "denied": f"{news.by} denied your request",
        "kicked": f"{news.by} kicked you out of the group",
        "left": "you left the group from another terminal",
        "closed": f"{news.by}, the last member, left, and the group is closed",
    }
    return f"{sentence.get(news.reason, news.reason)}; /join asks again, /3 leaves"
