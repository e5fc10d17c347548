"""Notices about a group: the welcome, a changed membership, the summary of missed messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tchat.core.group.state import OPERATOR, banned_refusal
from tchat.core.text import clean_line, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.lines import clock_text, count_text, latest

if TYPE_CHECKING:
    from tchat.client.preferences import List, Preferences
    from tchat.client.replica import Replica
    from tchat.core.protocol.frames import MembershipChange, Standing
    from tchat.ui.chat.unread import Counts


def welcome(replica: Replica, requests: int) -> str:
    """Return the greeting of a member whose replica has caught up.

    `requests` is how many people wait for this person's approval.
    """
    others = len(replica.state.members) - 1
    if others:
        text = f"You are in #{replica.name} with {count_text(others, 'other member')}."
    else:
        text = f"You are in #{replica.name}; nobody else is here yet."
    if requests:
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
    if replica.banned:
        return str(banned_refusal())
    if text := next_request(replica):
        return f"Your request was denied. {text} /part closes this window."
    if replica.kicked:
        return "You were kicked from this group. /join asks to join again."
    if before == "waiting":
        return "Your request was not approved. /join asks again, /part closes this window."
    if before == "member":
        return "You are no longer a member. /join asks to join again, /part closes this window."
    return ""


def next_request(replica: Replica) -> str:
    """Return when a person whose request was denied can ask again; "" if they can do so now."""
    if replica.asks_at <= replica.clock():
        return ""
    at = clock_text(replica.asks_at + 59_999)  # the next full minute
    return f"You can ask again at {at} with /join; an invite lets you in before."


def standing_changed(news: MembershipChange, me: str, *, on_purpose: bool) -> str:
    """Return a notice about a changed standing; empty if the person left in this window."""
    if news.reason in ("left", "closed") and on_purpose:
        return ""
    if news.reason == "closed" and news.by == OPERATOR:
        return (
            "The server's operator closed the group, and its messages are deleted."
            " /join founds it again, /part closes this window."
        )
    if news.reason == "closed":
        is_own = fold(news.by) == fold(me)
        who = "You left from another terminal; you were" if is_own else f"{news.by} left,"
        return (
            f"{who} the last member, so the group was closed and its messages are deleted."
            " /join founds it again, /part closes this window."
        )
    if news.reason == "unbanned":
        return f"{news.by} lifted your ban. /join asks to join again."
    if news.reason == "banned":
        return f"{news.by} banned you from this group; only its admin can lift the ban."
    if news.reason == "denied":
        return (
            f"{news.by} denied your request. You can ask again in an hour with /join; an invite"
            " lets you in before. /part closes this window."
        )
    sentence = {
        "kicked": f"{news.by} kicked you from this group.",
        "left": "You left this group from another terminal.",
    }
    text = sentence.get(news.reason, f"You are no longer a member ({news.reason}).")
    return f"{text} /join asks to join again, /part closes this window."


def blocked_refusal(name: str) -> Refused:
    """Return the refusal for what would be written to a blocked person."""
    shown = clean_line(name)
    sentence = f"You have blocked {shown}. /unblock {shown} lets you write to them."
    return Refused(Code.BLOCKED, sentence)


def unknown_note(name: str) -> str:
    """Return a sentence, after a blank, for a person who is blocked or ignored ahead of time."""
    return (
        f" Nobody called {clean_line(name)} is in your groups or conversations yet: check the"
        " spelling."
    )


def exception_note(preferences: Preferences, which: List, name: str) -> str:
    """Return a sentence, after a blank, for a name taken out of a list that the settings fill."""
    if not preferences.is_default(which, name):
        return ""
    return f" This is remembered, although the settings file has {clean_line(name)} under {which}."


def unread_facts(unread: int, mentions: int, more: str = "") -> list[str]:
    """Return how much is unread: "3 unread", "1 mention"; `more` is "+" for a lower bound."""
    facts = [f"{unread}{more} unread"] if unread else []
    return [*facts, count_text(mentions, "mention")] if mentions else facts


def digest(counts: Counts, *, direct: bool) -> str:
    """Return a line that sums up what the person has missed."""
    mentions = 0 if direct else counts.mentions
    parts = [
        count_text(counts.messages, "message"),
        f"{count_text(mentions, 'mention')} of you" if mentions else "",
        count_text(counts.files, "file"),
    ]
    began = time.localtime(latest(counts.since) / 1000)
    return f"since {time.strftime('%a %H:%M', began)}: {', '.join(filter(None, parts))}"
