"""History, search and the list of groups: requests that are answered from the store.

A message that is deleted while a request runs must not appear in the answer. So if a text in one
of its groups was erased meanwhile, a read is repeated, and what a search has found is looked up
again.

Both have a fair queue (`fair_queue`): a person has one search and one read of history at a time.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import zip_longest
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.core.group.direct import is_direct
from tchat.core.group.feature import Event
from tchat.core.group.features import decode_event, encode_event
from tchat.core.group.messages import Posted
from tchat.core.group.operation import Missing
from tchat.core.group.state import OPERATOR
from tchat.core.protocol.frames import (
    GroupList,
    GroupsRequest,
    GroupSummary,
    HistoryPage,
    HistoryRequest,
    Search,
    SearchHit,
    SearchResults,
)
from tchat.core.protocol.handshake import CLIENT_ID_SIZE
from tchat.core.text import check_length, fold
from tchat.errors import Code, Refused
from tchat.server.costs import MOST_FOR_A_SEARCH, UNITS_PER_CORE, cost_of_excerpt
from tchat.server.groups.inbox import Query
from tchat.store.base import DataDamaged, LogDamaged, Page
from tchat.store.words import excerpt, terms_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from tchat.core.group.state import Author, Group
    from tchat.server.context import ServerContext
    from tchat.server.ledger import LedgerAccount
    from tchat.server.send_queue import SendQueue
    from tchat.store.base import Hit, Membership, Store
    from tchat.store.words import Term

T = TypeVar("T")

SEARCH_LIMIT = 200
"""The largest length of the text to search for, in code points."""

MAX_WAIT_SECONDS = 20.0
"""How long a search may take together with its wait for others and for the index."""

_HITS_PER_PAGE = 20
_MAX_SKIP = 1000
_MAX_GROUPS = 256
_MAX_PLACEHOLDERS = 100
"""Damaged events in a page of history."""

_GROUP_LIST_BYTES = 60 * 1024
_BYTES_PER_GROUP = 80  # upper bound of an item's size, without the name


# ------------------------------------------------------------------ pages of a log


async def read_history(
    context: ServerContext,
    author: Author,
    send_queue: SendQueue,
    request: HistoryRequest,
    on_loaded: Callable[[int], None],
) -> HistoryPage:
    """Return the page of a group's log before an event. Raises `Refused` (not_member, ...).

    Damaged events are replaced by placeholders, so that clients can read what is before them. If
    the group has to be loaded, `on_loaded` is called with the entries of its state.
    """
    key = fold(request.group)

    def bounds_of(group: Group) -> tuple[str, int, int]:
        group.require_member(author.name)
        return group.name, group.floor, group.at

    name, floor, at = await _ask_group(context, key, send_queue, bounds_of, on_loaded)
    try:
        async with context.history_queue.admit(fold(author.name)):
            page = await _read_unerased(
                context, [key], lambda: context.store.read_before(key, request.before)
            )
    except LogDamaged as damaged:
        if not 0 < damaged.first <= damaged.last == request.before - 1:
            raise
        page = _placeholders(damaged, name, at)
    # Events before the floor belong to an earlier group of the same name, which was closed.
    if page is None or page.last < floor:
        return HistoryPage(request.id, 0, 0, b"")
    page = page.after(floor - 1)
    return HistoryPage(request.id, page.first, page.last, page.frames)


def _placeholders(damaged: LogDamaged, group: str, at: int) -> Page:
    """Return a page of what `salvage` would write in the place of the last damaged events."""
    first = max(damaged.first, damaged.last - _MAX_PLACEHOLDERS + 1)
    counts = [damaged.last - first + 1, *[None] * (damaged.last - first)]
    frames = (
        encode_event(Event(group, seq, at, OPERATOR, bytes(CLIENT_ID_SIZE), 0, Missing(count)))
        for seq, count in enumerate(counts, start=first)
    )
    return Page(first, damaged.last, b"".join(frames))


async def _ask_group(
    context: ServerContext,
    key: str,
    send_queue: SendQueue,
    question: Callable[[Group], T],
    on_loaded: Callable[[int], None],
) -> T:
    """Return what `question` returns for the group's current state, or raise its `Refused`."""
    answered = trio.Event()
    answers: list[T] = []
    refusals: list[Refused] = []

    def ask(group: Group) -> None:
        try:
            answers.append(question(group))
        except Refused as refusal:
            refusals.append(refusal)
        answered.set()

    def refuse(refusal: Refused) -> None:
        refusals.append(refusal)
        answered.set()

    # An actor that fails closes the send queue, which ends the connection and so cancels this task.
    query, actor = Query(ask, send_queue, refuse), context.registry.find(key)
    if actor is None or not await actor.try_read(query):
        await context.registry.send(key, query, on_loaded)
    await answered.wait()
    for refusal in refusals:
        raise refusal
    return answers[0]


async def _read_unerased(
    context: ServerContext, groups: Collection[str], read: Callable[[], Awaitable[T]]
) -> T:
    """Return the result of `read`; repeat it if a text in one of the groups was erased."""
    while True:
        before = context.registry.erasures(groups)
        result = await read()
        if context.registry.erasures(groups) == before:
            return result


# ------------------------------------------------------------------ search


async def search(
    context: ServerContext, author: Author, request: Search, account: LedgerAccount
) -> SearchResults:
    """Search the groups that a person is a member of.

    How much work it is turns out afterwards: the excerpts are charged by their texts, and the
    database's threads, which nobody else waits for, by their time and to the person alone. Raises
    `Refused`, for example if it takes too long, or has to wait for too long.
    """
    check_length(request.text, SEARCH_LIMIT, "A search")
    terms = terms_of(request.text)
    if not terms:
        raise Refused(Code.EMPTY_TEXT, "This search contains no word; type at least one.")
    standings = await context.store.groups_of(fold(author.name))
    groups = {group for group, standing in standings.items() if standing == "member"}
    if request.group is not None:
        groups &= {fold(request.group)}
        if not groups:
            raise Refused(Code.NOT_MEMBER, "Only members can search a group.")
    hits: list[Hit] = []
    if request.skip <= _MAX_SKIP:
        hits = await _hits(context, fold(author.name), groups, terms, request.skip, account)
    account.charge(sum(cost_of_excerpt(hit.text) for hit in hits))
    return _results(request, terms, hits)


async def _hits(
    context: ServerContext,
    person: str,
    groups: Collection[str],
    terms: list[Term],
    skip: int,
    account: LedgerAccount,
) -> list[Hit]:
    """Return a page of hits, and one more to find out whether there is another page."""

    def on_work(seconds: float) -> None:
        account.charge_owner(min(seconds * UNITS_PER_CORE, MOST_FOR_A_SEARCH))

    with trio.move_on_after(MAX_WAIT_SECONDS):
        async with context.search_queue.admit(person):
            before = context.registry.erasures(groups)
            hits = await context.store.search(groups, terms, skip, _HITS_PER_PAGE + 1, on_work)
            if context.registry.erasures(groups) == before:
                return hits
            # A search takes too long to be repeated: while somebody deletes, it might never end.
            return await _read_unerased(context, groups, lambda: _unerased(context.store, hits))
    raise Refused(
        Code.TOO_SLOW,
        "Others are searching, or new messages are being indexed; try again in a minute.",
    )


async def _unerased(store: Store, hits: list[Hit]) -> list[Hit]:
    """Return the hits whose messages are still there."""
    left: list[Hit] = []
    for hit in hits:
        body = None
        with suppress(DataDamaged):  # since it was found
            body = (await store.find(fold(hit.group), [hit.seq])).get(hit.seq)
        if body is not None and isinstance(decode_event(body).body, Posted):
            left.append(hit)
    return left


def _results(request: Search, terms: list[Term], hits: list[Hit]) -> SearchResults:
    return SearchResults(
        request.id,
        tuple(
            SearchHit(hit.group, hit.seq, hit.at, hit.actor, excerpt(hit.text, terms))
            for hit in hits[:_HITS_PER_PAGE]
        ),
        len(hits) > _HITS_PER_PAGE and request.skip + _HITS_PER_PAGE <= _MAX_SKIP,
    )


# ------------------------------------------------------------------ the list of groups


async def list_groups(context: ServerContext, author: Author, request: GroupsRequest) -> GroupList:
    """Return a person's groups and direct conversations, with last event and read position."""
    person = fold(author.name)
    found = await context.store.memberships_of(person)
    joined = [one for one in found if one.standing == "member"]
    others = sorted((one for one in found if one.standing != "member"), key=attrgetter("place"))
    listed = _fit_into_frame(context, person, [*joined, *others])
    return GroupList(request.id, tuple(_summary(context, one, person) for one in listed))


def _summary(context: ServerContext, one: Membership, person: str) -> GroupSummary:
    """Return what a person may know of one of their groups.

    Somebody who waits for approval must not learn how much is said in the group, and when: such
    groups have no numbers, and are not in the order of their latest events.
    """
    if one.standing != "member":
        return GroupSummary(one.name, one.standing, 0, 0, one.place)
    return GroupSummary(one.name, one.standing, one.last, _read(context, one, person), one.place)


def _read(context: ServerContext, one: Membership, person: str) -> int:
    """Return a person's read position; an active group may have one that is not saved yet."""
    return max(one.read, context.registry.last_read(one.group, person))


def _fit_into_frame(
    context: ServerContext, person: str, memberships: list[Membership]
) -> list[Membership]:
    """Return the memberships that fit into one frame: groups, then direct conversations."""
    groups = [one for one in memberships if not is_direct(one.group)]
    conversations = [one for one in memberships if is_direct(one.group)]
    space = _GROUP_LIST_BYTES
    fitting: set[str] = set()
    for one in [*groups[:_MAX_GROUPS], *_ranked(context, person, conversations)[:_MAX_GROUPS]]:
        space -= len(one.name.encode()) + _BYTES_PER_GROUP
        if space < 0:
            break
        fitting.add(one.group)
    return [one for one in (*groups, *conversations) if one.group in fitting]


def _ranked(
    context: ServerContext, person: str, conversations: list[Membership]
) -> list[Membership]:
    """Return conversations, the latest first, in the order in which they are listed if not all are.

    Names cost nothing, so that anybody can begin hundreds of conversations with a person. These
    must not displace the others, or what is unread there would not be found. So those that the
    person has looked into come first where something is unread, and then alternate with those of
    strangers.
    """
    unread: list[Membership] = []
    known: list[Membership] = []
    strangers: list[Membership] = []
    for one in conversations:
        read = _read(context, one, person)
        (strangers if not read else unread if read < one.last else known).append(one)
    pairs = zip_longest(strangers, known)
    return [*unread, *(one for pair in pairs for one in pair if one is not None)]
