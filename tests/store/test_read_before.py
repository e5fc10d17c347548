"""Reading backwards, single events, and memberships, in every store."""

from __future__ import annotations

import pytest

from tchat.store.base import BACK_LIMIT, Membership, Page, SideEffects, Store
from tests.store.batches import append, last_seq, numbered, packed

# ------------------------------------------------------------------ reading backwards


async def test_nothing_precedes_the_first_event(store: Store) -> None:
    assert await store.read_before("ops", 5) is None
    await append(store, "ops", b"one")
    assert await store.read_before("ops", 1) is None
    assert await store.read_before("ops", 0) is None


@pytest.mark.parametrize("before", range(2, 9))
async def test_a_page_ends_right_before_an_event(store: Store, before: int) -> None:
    await store.append("ops", 0, 1, numbered(1, 1))
    await store.append("ops", 1, 4, numbered(2, 5))
    await store.append("ops", 5, 2, numbered(6, 7))
    page = await store.read_before("ops", before)
    assert page == Page(1, before - 1, numbered(1, before - 1))


async def test_page_before_a_future_event_ends_the_log(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    assert await store.read_before("ops", 2**62) == Page(1, 2, packed(b"one", b"two"))


async def test_a_long_log_is_read_backwards_without_gaps(store: Store) -> None:
    bodies = [bytes([n]) * 5000 for n in range(60)]
    for body in bodies[:20]:
        await append(store, "ops", body)
    await append(store, "ops", *bodies[20:])
    before, pages = 61, list[Page]()
    while (page := await store.read_before("ops", before)) is not None:
        assert page.last == before - 1
        assert BACK_LIMIT / 2 < len(page.frames) <= BACK_LIMIT or page.first == 1
        pages.insert(0, page)
        before = page.first
    assert b"".join(page.frames for page in pages) == packed(*bodies)


async def test_a_large_event_has_its_own_page(store: Store) -> None:
    huge = bytes(BACK_LIMIT + 1)
    await append(store, "ops", b"one")
    await append(store, "ops", huge, b"three")
    assert await store.read_before("ops", 4) == Page(3, 3, packed(b"three"))
    assert await store.read_before("ops", 3) == Page(2, 2, packed(huge))


async def test_groups_are_read_backwards_separately(store: Store) -> None:
    await append(store, "ops", b"one")
    await append(store, "dev", b"eins", b"zwei")
    assert await store.read_before("ops", 9) == Page(1, 1, packed(b"one"))


# ------------------------------------------------------------------ single events


async def test_single_events_are_found_anywhere(store: Store) -> None:
    await append(store, "ops", b"one")
    await append(store, "ops", b"two", b"three", b"four")
    found = await store.find("ops", [1, 3, 4])
    assert found == {1: b"one", 3: b"three", 4: b"four"}


async def test_missing_events_are_not_found(store: Store) -> None:
    await append(store, "ops", b"one")
    assert await store.find("ops", [0, 2, 2**62]) == {}
    assert await store.find("dev", [1]) == {}


# ------------------------------------------------------------------ memberships


async def enter(store: Store, group: str, **standings: str) -> None:
    effects = SideEffects(standings, display_name=group.title())  # type: ignore[arg-type]
    await store.append(group, await last_seq(store, group), 1, packed(b"x"), effects)


async def test_memberships_have_all_details(store: Store) -> None:
    await enter(store, "ops", alice="member", bob="waiting")
    await append(store, "ops", b"two", b"three")
    await store.set_cursors("ops", {"alice": 2})
    assert await store.memberships_of("alice") == [Membership("ops", "Ops", "member", 3, 2, 1)]
    assert await store.memberships_of("bob") == [Membership("ops", "Ops", "waiting", 3, 0, 1)]
    assert await store.memberships_of("carol") == []


async def test_places_are_in_order_of_joining(store: Store) -> None:
    for group, standing in (("two", "waiting"), ("one", "member"), ("three", "member")):
        await enter(store, group, alice=standing)
    await enter(store, "two", alice="member")  # approved: the request keeps its place
    await enter(store, "one", alice="outsider")
    await enter(store, "one", alice="member")
    memberships = await store.memberships_of("alice")
    in_order = sorted(memberships, key=lambda membership: membership.place)
    assert [membership.group for membership in in_order] == ["two", "three", "one"]


async def test_the_most_recently_active_group_comes_first(store: Store) -> None:
    for group in ("one", "two", "three"):
        await enter(store, group, alice="member")
    await append(store, "two", b"more")
    assert [place.group for place in await store.memberships_of("alice")] == ["two", "three", "one"]


async def test_without_display_name_the_folded_one_is_used(store: Store) -> None:
    await store.append("@a,b", 0, 1, packed(b"x"), SideEffects({"a": "member", "b": "member"}))
    assert [place.name for place in await store.memberships_of("a")] == ["@a,b"]


async def test_a_left_group_is_no_membership(store: Store) -> None:
    await enter(store, "ops", alice="member")
    await enter(store, "ops", alice="outsider")
    assert await store.memberships_of("alice") == []


async def test_sharing_a_group_requires_two_memberships(store: Store) -> None:
    await enter(store, "ops", alice="member", bob="member", carol="waiting")
    await enter(store, "dev", dave="member", alice="member")
    assert await store.share_a_group("alice", "bob")
    assert await store.share_a_group("dave", "alice")
    assert not await store.share_a_group("bob", "dave")
    assert not await store.share_a_group("alice", "carol")
    assert not await store.share_a_group("alice", "nobody")
