"""History for IRC clients that ask for it: CHATHISTORY and MARKREAD (IRCv3 drafts).

A place in a group's log is given as a `msgid`, which contains a seq, or as a time, whose seq is
found by bisection.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tchat.irc.channel import Channel
from tchat.irc.messages import Message as Line
from tchat.irc.names import SERVER
from tchat.irc.rendering import ref_of, render, server_time, target_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.api.groups import Event, Group, MessageRef
    from tchat.irc.replies import Replies
    from tchat.irc.session import Session

LIMIT = 200
"""The most events in an answer."""

_TICK = timedelta(milliseconds=1)
_LAST_TIME = datetime.max.replace(tzinfo=UTC) - _TICK


class _BadRequestError(Exception):
    pass


async def chathistory(session: Session, params: Sequence[str], replies: Replies) -> None:
    """Answer CHATHISTORY."""
    word, *rest = (*params, "")
    try:
        if word.upper() == "TARGETS":
            await _targets(session, rest[:-1], replies)
            return
        group = session.find_group(rest[0])
        if group is None:
            replies.fail("INVALID_TARGET", word, rest[0], "You have no such channel or query")
            return
        events = await _select(group, word.upper(), rest[1:-1])
    except _BadRequestError as error:
        replies.fail("INVALID_PARAMS", word, str(error))
        return
    channel = session.find(target_of(group)) or Channel(group)
    lines: list[Line] = []
    for event in events:
        lines += render(event, await channel.scene(event, session.me, live=False))
    replies.add_batch("chathistory", target_of(group), lines)


async def _select(group: Group, word: str, given: Sequence[str]) -> list[Event]:
    places, limit = given[:-1], _limit(given[-1] if given else "")
    match word, len(places):
        case "LATEST", 1:
            after = 0 if places[0] == "*" else await _after(group, places[0]) - 1
            return [event for event in await group.history(limit=limit) if event.seq > after]
        case "BEFORE", 1:
            return await group.history(before=await _before(group, places[0]), limit=limit)
        case "AFTER", 1:
            first = await _after(group, places[0])
            return await _between(group, first, first + limit)
        case "AROUND", 1:
            middle = await _before(group, places[0])
            first = max(middle - limit // 2, 1)
            return await _between(group, first, first + limit)
        case "BETWEEN", 2:
            return await _select_between(group, places, limit)
    raise _BadRequestError("Usage: CHATHISTORY LATEST|BEFORE|AFTER|AROUND|BETWEEN TARGET ... LIMIT")


async def _select_between(group: Group, places: Sequence[str], limit: int) -> list[Event]:
    first, second = [(await _after(group, one), await _before(group, one)) for one in places]
    if first[0] <= second[1]:
        return await _between(group, first[0], min(second[1], first[0] + limit))
    start = max(second[0], first[1] - limit)
    return await _between(group, start, first[1])


async def _between(group: Group, first: int, end: int) -> list[Event]:
    """Return the events from `first` on, before `end`."""
    if first >= end:
        return []
    end = min(end, group.last + 1)
    events = await group.history(before=end, limit=max(end - first, 0))
    return [event for event in events if event.seq >= first]


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
    if number < 0:
        raise _BadRequestError("The limit is not a number.")
    return min(number or LIMIT, LIMIT)


async def _before(group: Group, place: str) -> int:
    """Return the seq that ends the events before a place."""
    kind, _, value = place.partition("=")
    if kind == "msgid" and (ref := ref_of(group, value)) is not None:
        await _require_same(group, ref, place)
        return ref.seq
    if kind == "timestamp":
        return await seq_at(group, _time(value))
    raise _BadRequestError(f"{place} is neither a msgid of this target nor a timestamp.")


async def _require_same(group: Group, ref: MessageRef, place: str) -> None:
    """Raise `_BadRequestError` if a message is lost, because the server was restored."""
    if ref.stamp is None:
        return
    event = await group.find(ref.seq)
    if event.stamp != ref.stamp if event else ref.seq > group.last:
        raise _BadRequestError(f"{place} is lost: the server was restored from a backup.")


async def _after(group: Group, place: str) -> int:
    """Return the seq that begins the events after a place."""
    kind, _, value = place.partition("=")
    if kind == "timestamp":
        return await seq_at(group, _time(value) + _TICK)
    return await _before(group, place) + 1


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _BadRequestError(f"{text} is not a time.") from error
    return min(time, _LAST_TIME)


async def seq_at(group: Group, time: datetime) -> int:
    """Return the seq of the first event at or after a time; if there is none, the next seq."""
    low, high = 1, group.last + 1
    while low < high:
        middle = (low + high) // 2
        found = await group.history(before=middle + 1, limit=1)
        if found and found[-1].at >= time:
            high = middle
        else:  # earlier, or what the user may not read
            low = middle + 1
    return low


async def _targets(session: Session, given: Sequence[str], replies: Replies) -> None:
    if len(given) != 3:  # both times, limit
        raise _BadRequestError("Usage: CHATHISTORY TARGETS timestamp=... timestamp=... LIMIT")
    start, end = sorted(_time(place.removeprefix("timestamp=")) for place in given[:2])
    found: list[tuple[datetime, str]] = []
    for group in session.client.groups:
        events = await group.history(limit=1) if group.standing == "member" else []
        if events and start < events[-1].at < end:
            found.append((events[-1].at, target_of(group)))
    lines = [
        Line("CHATHISTORY", ("TARGETS", target, server_time(at)), SERVER)
        for at, target in sorted(found)[: _limit(given[2])]
    ]
    replies.add_batch("draft/chathistory-targets", "*", lines)


async def markread(session: Session, params: Sequence[str], replies: Replies) -> None:
    """Answer MARKREAD: set or get the read mark of a group."""
    target, mark = (*params, "", "")[:2]
    group = session.find_group(target)
    if group is None:
        replies.fail("INVALID_PARAMS", target, "You have no such channel or query")
        return
    if mark:
        try:
            group.mark_read(await _after(group, mark) - 1)
        except _BadRequestError as error:
            replies.fail("INVALID_PARAMS", target, str(error))
            return
    replies.add(await session.mark_of(group))
