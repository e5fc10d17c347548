"""What was before: states and pages for those who come late, what was said, and where.

Nothing here is read while it changes: a page or a finding that was read just as something in its
groups was erased is read again, so that nobody is given what all others see deleted already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.core.group.direct import is_direct
from tchat.core.protocol.frames import (
    GroupList,
    GroupsRequest,
    HistoryPage,
    HistoryRequest,
    Search,
    SearchResults,
)
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.groups.inbox import Query
from tchat.server.sanitize import check_length
from tchat.store.words import excerpt, terms_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.schema import Frame
    from tchat.server.context import ServerContext
    from tchat.server.send_queue import SendQueue
    from tchat.store.base import Hit, Membership
    from tchat.store.words import Term

T = TypeVar("T")

COSTS: dict[type[Frame], int] = {HistoryRequest: 1, GroupsRequest: 5, Search: 10}
"""For how many requests each of these counts."""

SEARCH_LIMIT = 200
"""Longest text to search for, in code points."""

_FOUND = 20
_MOST_SKIPPED = 1000
_MOST_PLACES = 256
_ROOM_FOR_PLACES = 60 * 1024
_BESIDES_NAME = 48  # bytes that a place takes in a list beside its name, at most


async def look_back(
    host: ServerContext,
    author: Author,
    send_queue: SendQueue,
    request: HistoryRequest | Search | GroupsRequest,
) -> Frame:
    """Return the answer to a request. Raises `Refused`."""
    match request:
        case HistoryRequest():
            return await _history(host, author, send_queue, request)
        case Search():
            return await _search(host, author, request)
    return await _list_groups(host, author, request)


# ------------------------------------------------------------------ pages of a log


async def _history(
    host: ServerContext, author: Author, send_queue: SendQueue, request: HistoryRequest
) -> HistoryPage:
    key = fold(request.group)

    def floor_of(group: Group) -> int:
        if group.standing(author.name) != "member":
            raise Refused(Code.NOT_MEMBER, "Only members can read what was said in a group.")
        return group.floor

    floor = await _ask(host, key, send_queue, floor_of)
    page = await _unerased(host, [key], lambda: host.store.read_before(key, request.before))
    if page is None or page.last < floor:
        return HistoryPage(request.id, 0, 0, b"")
    page = page.after(floor - 1)
    return HistoryPage(request.id, page.first, page.last, page.frames)


async def _ask(
    host: ServerContext, key: str, send_queue: SendQueue, question: Callable[[Group], T]
) -> T:
    """Return what a group's state says to a question, which may raise `Refused`."""
    answered = trio.Event()
    answers: list[T] = []
    refusals: list[Refused] = []

    def look(group: Group) -> None:
        try:
            answers.append(question(group))
        except Refused as refusal:
            refusals.append(refusal)
        answered.set()

    # An actor that fails closes the outbox, which ends the conversation, and this with it.
    await host.registry.send(key, Query(look, send_queue))
    await answered.wait()
    for refusal in refusals:
        raise refusal
    return answers[0]


async def _unerased(
    host: ServerContext, groups: Collection[str], read: Callable[[], Awaitable[T]]
) -> T:
    """Return what is read, read again if something in these groups was erased meanwhile."""
    while True:
        before = host.registry.erasures(groups)
        found = await read()
        if host.registry.erasures(groups) == before:
            return found


# ------------------------------------------------------------------ what was said


async def _search(host: ServerContext, author: Author, request: Search) -> SearchResults:
    check_length(request.text, SEARCH_LIMIT, "What is searched for")
    terms = terms_of(request.text)
    if not terms:
        raise Refused(Code.EMPTY_TEXT, "There is no word in this to search for.")
    standings = await host.store.groups_of(fold(author.name))
    groups = {group for group, standing in standings.items() if standing == "member"}
    if request.group is not None:
        groups &= {fold(request.group)}
        if not groups:
            raise Refused(Code.NOT_MEMBER, "Only members can search what was said in a group.")
    hits: list[Hit] = []
    if request.skip <= _MOST_SKIPPED:
        hits = await _unerased(
            host, groups, lambda: host.store.search(groups, terms, request.skip, _FOUND + 1)
        )
    return _found(request, terms, hits)


def _found(request: Search, terms: list[Term], hits: list[Hit]) -> SearchResults:
    shown = hits[:_FOUND]
    return SearchResults(
        request.id,
        tuple(hit.group for hit in shown),
        tuple(hit.seq for hit in shown),
        tuple(hit.at for hit in shown),
        tuple(hit.actor for hit in shown),
        tuple(excerpt(hit.text, terms) for hit in shown),
        len(hits) > _FOUND and request.skip + _FOUND <= _MOST_SKIPPED,
    )


# ------------------------------------------------------------------ where one is


async def _list_groups(host: ServerContext, author: Author, request: GroupsRequest) -> GroupList:
    person = fold(author.name)
    places = _that_fit(await host.store.memberships_of(person))
    return GroupList(
        request.id,
        tuple(place.name for place in places),
        tuple(place.standing for place in places),
        tuple(place.last for place in places),
        tuple(max(place.read, host.registry.read_by(place.group, person)) for place in places),
    )


def _that_fit(places: list[Membership]) -> list[Membership]:
    """Return the groups used last, and then the conversations of two, as many as a frame holds."""
    groups = [place for place in places if not is_direct(place.group)]
    talks = [place for place in places if is_direct(place.group)]
    room = _ROOM_FOR_PLACES
    fitting: list[Membership] = []
    for place in [*groups[:_MOST_PLACES], *talks[:_MOST_PLACES]]:
        room -= len(place.name.encode()) + _BESIDES_NAME
        if room < 0:
            break
        fitting.append(place)
    return fitting
