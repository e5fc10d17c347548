"""Send single requests with a raw client: history, search, lists of groups, away."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tchat.core.group.features import decode_event
from tchat.core.group.snapshots import thaw
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Away,
    Failed,
    GroupList,
    GroupsRequest,
    HistoryPage,
    HistoryRequest,
    Ok,
    Search,
    SearchResults,
    Snapshot,
)
from tchat.core.protocol.framing import split_frames
from tests.helpers import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.group.feature import Event
    from tchat.core.group.state import Group
    from tchat.core.protocol.schema import Frame
    from tests.helpers import RawClient

F = TypeVar("F", bound="Frame")


async def answer(client: RawClient, kind: type[F], make: Callable[[int], Frame]) -> F:
    """Send a request and return its answer, which has to be of this kind."""
    got = await client.ask(make)
    assert isinstance(got, kind), got
    return got


async def refusal(client: RawClient, make: Callable[[int], Frame]) -> str:
    """Send a request that is refused; return the code."""
    return (await answer(client, Failed, make)).code


async def history(client: RawClient, before: int, group: str = GROUP) -> list[Event]:
    """Return the page of a group's history before an event."""
    past = await answer(client, HistoryPage, lambda i: HistoryRequest(i, group, before))
    events = [decode_event(body) for body in split_frames(past.frames)]
    numbers = list(range(past.first, past.last + 1)) if events else []
    assert [event.seq for event in events] == numbers
    assert events or (past.first, past.last) == (0, 0)
    return events


async def search(
    client: RawClient, text: str, group: str | None = None, skip: int = 0
) -> list[tuple[str, int, str]]:
    """Return the hits of a search: group, seq and text of each."""
    got = await found(client, text, group, skip)
    return [(hit.group, hit.seq, hit.text) for hit in got.hits]


async def found(
    client: RawClient, text: str, group: str | None = None, skip: int = 0
) -> SearchResults:
    """Return the answer to a search."""
    return await answer(client, SearchResults, lambda i: Search(i, text, group, skip))


async def groups(client: RawClient) -> dict[str, tuple[str, int, int]]:
    """Return a person's groups: standing, last event, last event read."""
    got = await answer(client, GroupList, GroupsRequest)
    return {group.name: (group.standing, group.last, group.read) for group in got.groups}


async def away(client: RawClient, text: str | None = None) -> None:
    """Mark the person as away, or as back."""
    await answer(client, Ok, lambda i: Away(i, text))


async def attach_recent(client: RawClient, recent: int, group: str = GROUP) -> Attached:
    """Attach to a group with its `recent` latest events."""
    return await answer(client, Attached, lambda i: Attach(i, group, 0, recent))


async def state(client: RawClient) -> Group:
    """Return the snapshot that comes in the next frames."""
    pieces = [await client.expect(Snapshot)]
    while pieces[-1].more:
        pieces.append(await client.expect(Snapshot))
    return thaw(b"".join(piece.data for piece in pieces), pieces[-1].seq)
