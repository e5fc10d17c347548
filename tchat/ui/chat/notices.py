"""Notices about a group: the welcome, a changed membership, the digest of what was missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tchat.core.group.files import FileShared
from tchat.core.group.messages import Posted
from tchat.ui.chat.lines import count_text, latest
from tchat.ui.chat.mentions import is_mention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import MembershipChange, Standing


def welcome(replica: Replica, me: str) -> str:
    """Return the greeting of a member whose replica has caught up."""
    others = len(replica.state.members) - 1
    if others:
        text = f"You are in #{replica.name} with {count_text(others, 'other member')}."
    else:
        text = f"You are in #{replica.name}; nobody else is here yet."
    requests = len(replica.state.requests)
    if requests and replica.state.is_admin(me):
        people = "1 person asks" if requests == 1 else f"{requests} people ask"
        text += f" {people} to join: /requests lists them."
    return f"{text} /help lists the commands."


def standing_found(replica: Replica, before: Standing | None) -> str:
    """Return a notice about the person's standing as the server reports it on attach, or "".

    `before` is the standing that was known until then.
    """
    if replica.standing == "waiting":
        admin = replica.admin or "the admin"
        return f"Waiting for {admin} to approve you. /leave withdraws your request."
    if replica.standing == "member":
        return ""
    if replica.kicked:
        return "You were kicked from this group. /join asks to join again."
    if before == "waiting":
        return "Your request was not approved. /join asks again, /part closes this window."
    if before == "member":
        return "You are no longer a member. /join asks to join again, /part closes this window."
    return ""


def standing_changed(news: MembershipChange, *, on_purpose: bool) -> str:
    """Return a notice about a changed standing; empty if the person left in this window."""
    if news.reason == "left" and on_purpose:
        return ""
    if news.reason == "banned":
        return f"{news.by} banned you from this group. Only its admin can lift the ban."
    sentence = {
        "denied": f"{news.by} denied your request.",
        "kicked": f"{news.by} kicked you from this group.",
        "left": "You left this group from another terminal.",
        "closed": f"The last member, {news.by}, left; the group was closed.",
    }
    text = sentence.get(news.reason, f"You are no longer a member ({news.reason}).")
    return f"{text} /join asks to join again, /part closes this window."


def digest(missed: Sequence[Event], me: str, *, direct: bool) -> str | None:
    """Return a summary of the missed messages and files; None if there are none."""
    texts = [event.body.text for event in missed if isinstance(event.body, Posted)]
    files = sum(isinstance(event.body, FileShared) for event in missed)
    mentions = 0 if direct else sum(is_mention(text, me) for text in texts)
    counts = [
        count_text(len(texts), "message"),
        f"{mentions} mention{'s' * (mentions == 1)} you" if mentions else "",
        count_text(files, "file"),
    ]
    summary = ", ".join(filter(None, counts))
    if not summary:
        return None
    began = time.localtime(latest(missed[0].at) / 1000)
    return f"since {time.strftime('%a %H:%M', began)}: {summary}"
