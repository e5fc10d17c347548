"""Snapshots, recent events and pages of history, from servers good and bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client.updates import CaughtUp, Disconnected, EventReceived, GroupUnusable, HistoryLoaded
from tchat.core.protocol.frames import Attached, GroupList, GroupSummary, SearchHit, SearchResults
from tchat.errors import Refused
from tests.cddl import unchecked
from tests.client.impostor import Wire, event, events, impostor, page, snapshot
from tests.client.receiving import next_update, pending_updates
from tests.helpers import GROUP, GUARD, seqs, session_at, texts, until
from tests.hostile_cbor import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.replica import Replica
    from tchat.client.session import Session

    Answer = Callable[[dict[str, Any]], dict[str, object]]


async def begin(wire: Wire, seq: int, first: int) -> dict[str, Any]:
    """Let a newcomer in: send the snapshot at `seq`, and the events from `first` on."""
    await wire.greet()
    request = await wire.hear_only("attach")
    answer = Attached(request["id"], GROUP, "member", seq=seq, read=first - 1, first=first)
    await wire.say(answer.to_map(), *snapshot(seq, 3), *events(first, seq))
    return request


async def followed(alice: Session) -> Replica:
    ops = alice.follow(GROUP)
    await until(alice, lambda: ops.caught_up)
    return ops


# ------------------------------------------------------------------ snapshots and recent events


async def test_group_starts_from_snapshot_and_recent_events() -> None:
    asked: list[dict[str, Any]] = []

    async def act(wire: Wire) -> None:
        asked.append(await begin(wire, 50, 48))
        await wire.say(event(51))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = alice.follow(GROUP)
        await until(alice, lambda: ops.last == 51)
        assert (asked[0]["after"], asked[0]["recent"]) == (0, 3)
        assert (ops.first, seqs(ops.log)) == (48, [48, 49, 50, 51])
        assert (ops.state.seq, ops.state.admin_name) == (51, "alice")


async def test_unseen_events_are_reported_before_caught_up() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        await wire.hear_only("post")
        await wire.say(event(51))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = alice.follow(GROUP)
        while not ops.caught_up:
            await trio.lowlevel.checkpoint()
        updates = [u for u in pending_updates(alice) if isinstance(u, EventReceived | CaughtUp)]
        unseen = [EventReceived(ops, e, unseen=True) for e in ops.log]
        assert updates == [*unseen, CaughtUp(ops)]


async def test_snapshot_alone_suffices_without_recent_events() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 51)
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=0) as alice:
        ops = await followed(alice)
        assert (ops.first, ops.log, ops.state.seq) == (51, [], 50)


@pytest.mark.parametrize("told_pieces", [0, 1, 2, 3])
@pytest.mark.parametrize("told_events", [0, 1, 2])
async def test_broken_catch_up_is_resumed(told_pieces: int, told_events: int) -> None:
    asked: list[dict[str, Any]] = []

    async def breaking(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        asked.append(request)
        answer = Attached(request["id"], GROUP, "member", seq=50, first=48)
        frames = snapshot(50, 3)[:told_pieces]
        if told_pieces == 3:
            frames += events(48, 47 + told_events)
        await wire.say(answer.to_map(), *frames)

    async def whole(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        asked.append(request)
        after = request["after"]
        first = after + 1 if after else 58
        answer = Attached(request["id"], GROUP, "member", seq=60, first=first)
        await wire.say(answer.to_map(), *([] if after else snapshot(60, 2)), *events(first, 60))
        await wire.hear()

    async with (
        impostor(breaking, whole) as server,
        session_at(server.address, "alice", recent=3) as alice,
    ):
        ops = alice.follow(GROUP)
        await until(alice, lambda: ops.last == 60)
        assert ops.caught_up
        if told_pieces == 3:
            assert (asked[1]["after"], "recent" in asked[1]) == (47 + told_events, False)
        else:
            assert (asked[1]["after"], asked[1]["recent"]) == (0, 3)
        assert ops.state.seq == 60
        assert seqs(ops.log) == list(range(ops.first, 61))


# ------------------------------------------------------------------ page by page


async def test_history_loads_page_by_page_to_its_beginning() -> None:
    asked: list[int] = []

    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        for first, last in ((20, 47), (1, 19)):
            request = await wire.hear_only("history_request")
            asked.append(request["before"])
            await wire.say(page(request, *events(first, last)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            assert await alice.load_history(ops) == 28
            assert await next_update(alice, HistoryLoaded) == HistoryLoaded(
                ops, tuple(ops.log[:28])
            )
            assert await alice.load_history(ops) == 19
            assert await alice.load_history(ops) == 0  # without a request
        assert asked == [48, 20]
        assert (ops.first, ops.state.seq, seqs(ops.log)) == (1, 50, list(range(1, 51)))


async def test_empty_page_means_the_beginning() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        await wire.say(page(await wire.hear_only("history_request")))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            assert await alice.load_history(ops) == 0
        assert ops.first == 48


async def test_concurrent_page_requests_are_deduplicated() -> None:
    asked: list[int] = []
    counts: list[int] = []

    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        request = await wire.hear_only("history_request")
        await wire.say(page(request, *events(40, 47)))
        while (frame := await wire.hear()) is not None:
            asked.append(frame["type"])

    async def load(alice: Session, ops: Replica) -> None:
        counts.append(await alice.load_history(ops))

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(load, alice, ops)
        assert (counts, asked, ops.first) == ([8, 8, 8], [], 40)


async def test_page_request_is_resent_after_a_break() -> None:
    async def breaking(wire: Wire) -> None:
        await begin(wire, 50, 48)
        await wire.hear_only("history_request")

    async def whole(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("history_request")  # the older of two requests
        await wire.attach(seq=50, first=51)
        await wire.say(page(request, *events(40, 47)))
        await wire.hear()

    async with (
        impostor(breaking, whole) as server,
        session_at(server.address, "alice", recent=3) as alice,
    ):
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            assert await alice.load_history(ops) == 8
        assert seqs(ops.log) == list(range(40, 51))


async def test_page_of_a_refounded_group_is_ignored() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        request = await wire.hear_only("history_request")
        await wire.say(event(70, kind="created"), page(request, *events(40, 47)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            assert await alice.load_history(ops) == 0
        assert (ops.first, seqs(ops.log), server.connections) == (70, [70], 1)


async def test_history_refusal_reaches_the_caller() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        request = await wire.hear_only("history_request")
        await wire.say(
            {"type": "error", "code": "not_member", "text": "Not you.", "re": request["id"]}
        )
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD), pytest.raises(Refused, match="Not you"):
            await alice.load_history(ops)


# ------------------------------------------------------------------ invalid answers


def pack(*frames: dict[str, object]) -> bytes:
    return b"".join(map(unchecked, frames))


LIES: dict[str, Answer] = {
    "another kind": lambda r: {"type": "ok", "re": r["id"]},
    "not right before": lambda r: page(r, *events(40, 46)),
    "what is there already": lambda r: page(r, *events(40, 48)),
    "a gap": lambda r: page(r, *events(40, 43), *events(45, 47)),
    "backwards": lambda r: page(r, *reversed(events(40, 47))),
    "one twice": lambda r: page(r, *events(40, 47), event(47)),
    "another group": lambda r: page(r, *events(40, 46), event(47, "elsewhere")),
    "no events": lambda r: page(r) | {"frames": pack({"type": "pong"}), "first": 47, "last": 47},
    "a wrong head": lambda r: page(r, *events(40, 47)) | {"first": 41},
    "a wrong end": lambda r: page(r, *events(40, 47)) | {"last": 48},
    "half a frame": lambda r: page(r) | {"frames": pack(*events(47, 47))[:-1], "first": 47},
    "garbage": lambda r: page(r) | {"frames": b"\xff" * 100},
    "no event at all": lambda r: page(r) | {"frames": bytes(4)},
    "before the first": lambda r: page(r, *events(-5, 47)),
    "the end of numbers": lambda r: page(r, event(LARGEST)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_invalid_page_ends_the_connection(lie: Answer) -> None:
    async def lying(wire: Wire) -> None:
        await begin(wire, 50, 48)
        await wire.say(lie(await wire.hear_only("history_request")))
        while await wire.hear():
            pass

    async def honest(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("history_request")
        await wire.attach(seq=50, first=51)
        await wire.say(page(request, *events(44, 47)))
        await wire.hear()

    async with (
        impostor(lying, honest) as server,
        session_at(server.address, "alice", recent=3) as alice,
    ):
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            assert await alice.load_history(ops) == 4
        assert [type(u) for u in pending_updates(alice)].count(Disconnected) == 1
        assert seqs(ops.log) == list(range(44, 51))


async def test_invalid_snapshot_loses_only_its_group() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("attach")
        answer = Attached(request["id"], GROUP, "member", seq=50, first=48)
        (piece,) = snapshot(50)
        await wire.say(answer.to_map(), piece | {"data": b"\xa0"}, *events(48, 50))
        assert (await wire.hear_only("detach"))["group"] == GROUP
        await wire.attach(seq=2)
        await wire.say(*events(1, 2, "lab"))
        await wire.hear()

    async with (
        impostor(act) as server,
        session_at(server.address, "alice", recent=3) as alice,
    ):
        ops = alice.follow(GROUP)
        update = await next_update(alice, GroupUnusable)
        lab = alice.follow("lab")
        await alice.enter("lab", join=False)
        await until(alice, lambda: lab.last == 2)
        assert server.connections == 1
    assert isinstance(update, GroupUnusable)
    assert update.refusal is ops.unusable
    assert update.refusal.sentence.startswith("ops cannot be shown.")
    assert (ops.log, ops.state.seq) == ([], 0)


# ------------------------------------------------------------------ group lists and search


async def answered(*answers: dict[str, object], ask: str) -> tuple[object, int]:
    """Return a session's result for the last of these answers, and the number of connections."""
    left = list(answers)

    async def act(wire: Wire) -> None:
        await wire.greet()
        request = await wire.hear_only("search" if ask == "search" else "groups_request")
        await wire.say(left.pop(0) | {"re": request["id"]})
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        with trio.fail_after(GUARD):
            result = await (alice.search("hello") if ask == "search" else alice.my_groups())
        return result, server.connections


GROUPS = GroupList(
    0,
    (
        GroupSummary("ops", "member", 7, 5, 1),
        GroupSummary("@alice,bob", "waiting", 8, 0, 2),
    ),
).to_map()
FOUND = SearchResults(0, (SearchHit("ops", 7, 1000, "bob", "hello all"),), older=True).to_map()


async def test_group_list_shows_own_groups() -> None:
    groups, _ = await answered(GROUPS, ask="groups")
    assert groups == [
        GroupSummary("ops", "member", 7, 5, 1),
        GroupSummary("@alice,bob", "waiting", 8, 0, 2),
    ]


async def test_search_returns_matching_messages() -> None:
    found, _ = await answered(FOUND, ask="search")
    assert isinstance(found, SearchResults)
    assert [(hit.group, hit.seq, hit.text) for hit in found.hits] == [("ops", 7, "hello all")]
    assert found.older


@pytest.mark.parametrize(
    "lie",
    [
        GROUPS | {"groups": ["ops"]},
        GROUPS | {"groups": [{"name": "ops"}]},
        GROUPS | {"groups": [{"name": "ops", "standing": "emperor", "last": 7, "read": 5}]},
        {"type": "ok"},
        FOUND,
    ],
    ids=str,
)
async def test_inconsistent_group_list_is_rejected(lie: dict[str, object]) -> None:
    groups, connections = await answered(lie, GROUPS, ask="groups")
    assert isinstance(groups, list)
    assert connections == 2


@pytest.mark.parametrize(
    "lie", [FOUND | {"hits": ["ops"]}, FOUND | {"hits": [{}]}, {"type": "ok"}, GROUPS], ids=str
)
async def test_inconsistent_search_results_are_rejected(lie: dict[str, object]) -> None:
    found, connections = await answered(lie, FOUND, ask="search")
    assert isinstance(found, SearchResults)
    assert connections == 2


async def test_edits_and_deletions_apply_to_loaded_history() -> None:
    async def act(wire: Wire) -> None:
        await begin(wire, 50, 48)
        edit = {key: value for key, value in event(46).items() if key != "text"}
        edit |= {"kind": "edited", "target": 45, "text": "better"}
        request = await wire.hear_only("history_request")
        await wire.say(page(request, event(45), edit, event(47, kind="deleted", target=44)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice", recent=3) as alice:
        ops = await followed(alice)
        with trio.fail_after(GUARD):
            await alice.load_history(ops)
        assert (ops.texts, ops.deleted) == ({45: "better"}, {44})
        assert texts(ops.log) == ["text 45", "text 48", "text 49", "text 50"]
