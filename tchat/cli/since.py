"""Where to begin in a group's log: `--since`, and the place of the N latest messages."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

from tchat.cli.arguments import duration

if TYPE_CHECKING:
    from datetime import datetime

    from tchat.api.groups import Group

_PAGE = 200
_WORDS = ("start", "seen", "now")

HELP = (
    "begin after what you have read (seen), at the first message (start), with the next one (now),"
    " after the message with this seq (1234), or at most this long ago (30m, 2h, 1d),"
    " by the server's time"
)


def since(text: str) -> str:
    """Check the value of --since; for argparse."""
    if text not in _WORDS and not (text.isascii() and text.isdigit() and len(text) <= 18):
        try:
            duration(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not start, seen, now, a seq, or a duration such as 2h"
            ) from error
    return text


async def seq_before(group: Group, since: str) -> int:
    """Return the seq after which to begin."""
    match since:
        case "start":
            return 0
        case "seen":
            return group.seen
        case "now":
            return group.last
    if since.isdigit():
        return int(since)
    try:
        moment = group.now - timedelta(seconds=duration(since))
    except OverflowError:  # before the year 1
        return 0
    return await _seq_at(group, moment)


async def _seq_at(group: Group, moment: datetime) -> int:
    """Return the seq of the last event before a time."""
    before = group.last + 1
    while page := await group.history(before=before, limit=_PAGE):
        for event in reversed(page):
            if event.at < moment:
                return event.seq
        before = page[0].seq
    return before - 1


async def seq_before_latest(group: Group, number: int, least: int = 0) -> int:
    """Return the seq before the `number` latest messages, and at least `least`."""
    from tchat.api.groups import Message

    before = group.last + 1
    left = number
    while left > 0 and before > least + 1:
        page = await group.history(before=before, limit=_PAGE)
        if not page:
            break
        for event in reversed(page):
            if isinstance(event, Message):
                left -= 1
            before = event.seq
            if not left:
                break
    return max(before - 1, least)
