"""Accounts and standings, in every store: keys, names, and who is in which group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.store.base import AccountKey, Conflict, SideEffects, StorageFull
from tchat.store.open import open_store
from tests.store.batches import append, packed

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Accounts, Store
    from tchat.store.sqlite.store import SqliteStore

KEY, OTHER, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.fixture
def accounts(store: Store) -> Accounts:
    return store.accounts


# ------------------------------------------------------------------ claiming


async def test_a_name_belongs_to_its_first_key(accounts: Accounts) -> None:
    assert await accounts.claim("zoë", "Zoë", KEY, 1000) == "Zoë"
    assert await accounts.claim("zoë", "Zoë", OTHER, 1001) is None
    assert await accounts.claim("zoë", "Zoë", KEY, 1002) == "Zoë"
    assert await accounts.keys("zoë") == [AccountKey(KEY, 1000)]


async def test_the_first_claim_decides_the_spelling(accounts: Accounts) -> None:
    await accounts.claim("zoë", "Zoë", KEY, 1000)
    assert await accounts.claim("zoë", "ZOË", KEY, 1001) == "Zoë"


async def test_name_like_another_is_not_given(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    assert await accounts.lookalike("a1ice", "a1ice") == "alice"
    assert await accounts.claim("a1ice", "a1ice", OTHER, 1001) is None
    assert await accounts.keys("a1ice") == []
    assert await accounts.lookalike("alice", "Alice") is None


async def test_a_key_may_own_several_names(accounts: Accounts) -> None:
    assert await accounts.claim("alice", "alice", KEY, 1000) == "alice"
    assert await accounts.claim("bob", "bob", KEY, 1000) == "bob"


async def test_an_unclaimed_name_has_no_keys(accounts: Accounts) -> None:
    assert await accounts.keys("alice") == []
    assert not await accounts.unlink("alice", KEY, OTHER, 1000)
    assert not await accounts.was_removed("alice", KEY)
    assert await accounts.claim("alice", "alice", KEY, 1001) == "alice"


async def test_one_of_many_concurrent_claims_succeeds(accounts: Accounts) -> None:
    claimed: list[bytes] = []

    async def claim(key: bytes) -> None:
        if await accounts.claim("alice", "alice", key, 1000) is not None:
            claimed.append(key)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(claim, bytes([number]) * 32)
    assert [key.public for key in await accounts.keys("alice")] == claimed
    assert len(claimed) == 1


# ------------------------------------------------------------------ linking and unlinking


async def test_a_linked_key_owns_the_name(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    assert await accounts.claim("alice", "ALICE", OTHER, 1002) == "alice"
    assert await accounts.claim("alice", "alice", THIRD, 1003) is None


async def test_keys_are_listed_oldest_first(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", THIRD, 1000)
    await accounts.link("alice", OTHER, 3000)
    await accounts.link("alice", KEY, 2000)
    assert await accounts.keys("alice") == [
        AccountKey(THIRD, 1000),
        AccountKey(KEY, 2000),
        AccountKey(OTHER, 3000),
    ]


async def test_linking_again_keeps_the_keys_age(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", KEY, 2000)
    assert await accounts.keys("alice") == [AccountKey(KEY, 1000)]


async def test_returned_keys_are_a_copy(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    (await accounts.keys("alice")).clear()
    assert await accounts.keys("alice") == [AccountKey(KEY, 1000)]


async def test_an_unlinked_key_does_not_own_the_name(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    assert await accounts.unlink("alice", KEY, OTHER, 1002)
    assert await accounts.claim("alice", "alice", KEY, 1003) is None
    assert await accounts.claim("alice", "alice", OTHER, 1003) == "alice"
    assert await accounts.keys("alice") == [AccountKey(OTHER, 1001)]


async def test_unlinking_affects_one_name_only(accounts: Accounts) -> None:
    for name in ("alice", "bob"):
        await accounts.claim(name, name, KEY, 1000)
    await accounts.link("alice", OTHER, 1000)
    assert await accounts.unlink("alice", KEY, OTHER, 1001)
    assert await accounts.claim("bob", "bob", KEY, 1002) == "bob"


async def test_only_another_key_can_unlink_a_key(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    assert not await accounts.unlink("alice", KEY, KEY, 1002)
    assert not await accounts.unlink("alice", KEY, THIRD, 1002)
    assert await accounts.unlink("alice", KEY, OTHER, 1002)
    assert not await accounts.unlink("alice", OTHER, KEY, 1003)
    assert [key.public for key in await accounts.keys("alice")] == [OTHER]


async def test_an_unlinked_key_can_be_linked_again(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    await accounts.unlink("alice", KEY, OTHER, 1002)
    await accounts.link("alice", KEY, 1003)
    assert await accounts.claim("alice", "alice", KEY, 1004) == "alice"
    assert await accounts.keys("alice") == [AccountKey(OTHER, 1001), AccountKey(KEY, 1003)]


async def test_taking_over_removes_all_other_keys(accounts: Accounts) -> None:
    await accounts.claim("alice", "Alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    assert await accounts.take_over("alice", THIRD, 1002) == [KEY, OTHER]
    assert await accounts.keys("alice") == [AccountKey(THIRD, 1002)]
    for former in (KEY, OTHER):
        assert await accounts.claim("alice", "Alice", former, 1003) is None
        assert await accounts.was_removed("alice", former)
    assert await accounts.claim("alice", "ALICE", THIRD, 1004) == "Alice"
    assert not await accounts.was_removed("alice", THIRD)


async def test_a_known_key_takes_over_too(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.link("alice", OTHER, 1001)
    assert await accounts.take_over("alice", KEY, 1002) == [OTHER]
    assert await accounts.keys("alice") == [AccountKey(KEY, 1000)]


async def test_name_keeps_its_age_without_its_key(accounts: Accounts) -> None:
    assert await accounts.claimed_at("alice") is None
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.take_over("alice", OTHER, 1001)
    assert await accounts.claimed_at("alice") == 1000
    await accounts.erase("alice", "alice", 1002)
    assert await accounts.claimed_at("alice") is None


async def test_a_removed_key_can_take_over(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.take_over("alice", OTHER, 1001)
    assert await accounts.take_over("alice", KEY, 1002) == [OTHER]
    assert await accounts.claim("alice", "alice", KEY, 1003) == "alice"
    assert await accounts.keys("alice") == [AccountKey(KEY, 1002)]


async def test_a_removed_key_can_be_linked_again(accounts: Accounts) -> None:
    await accounts.claim("alice", "alice", KEY, 1000)
    await accounts.take_over("alice", OTHER, 1001)
    await accounts.link("alice", KEY, 1002)
    assert await accounts.claim("alice", "alice", KEY, 1003) == "alice"
    assert not await accounts.was_removed("alice", KEY)


async def test_taking_over_affects_one_name_only(accounts: Accounts) -> None:
    for name in ("alice", "bob"):
        await accounts.claim(name, name, KEY, 1000)
    await accounts.take_over("alice", OTHER, 1001)
    assert await accounts.keys("bob") == [AccountKey(KEY, 1000)]
    assert not await accounts.was_removed("bob", KEY)


async def test_names_and_keys_survive_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.accounts.claim("alice", "Alice", KEY, 1000)
        await store.accounts.link("alice", OTHER, 1001)
        await store.accounts.unlink("alice", KEY, OTHER, 1002)
    async with open_store(tmp_path) as store:
        assert await store.accounts.claim("alice", "alice", OTHER, 1003) == "Alice"
        assert await store.accounts.claim("alice", "alice", KEY, 1003) is None
        assert await store.accounts.was_removed("alice", KEY)
        await store.accounts.take_over("alice", THIRD, 1004)
    async with open_store(tmp_path) as store:
        assert await store.accounts.claim("alice", "alice", OTHER, 1005) is None
        assert await store.accounts.claim("alice", "alice", THIRD, 1005) == "Alice"


# ------------------------------------------------------------------ standings


async def test_there_are_no_standings_at_first(store: Store) -> None:
    await append(store, "ops", b"one")
    assert await store.groups_of("alice") == {}


async def test_appends_set_standings(store: Store) -> None:
    await store.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "member"}))
    await store.append("ops", 1, 1, packed(b"two"), SideEffects({"bob": "waiting"}))
    await store.append("dev", 0, 1, packed(b"eins"), SideEffects({"bob": "member"}))
    assert await store.groups_of("alice") == {"ops": "member"}
    assert await store.groups_of("bob") == {"ops": "waiting", "dev": "member"}


async def test_one_append_can_set_many_standings(store: Store) -> None:
    await store.append(
        "ops", 0, 2, packed(b"1", b"2"), SideEffects({"alice": "member", "bob": "waiting"})
    )
    await store.append(
        "ops", 2, 2, packed(b"3", b"4"), SideEffects({"alice": "outsider", "bob": "member"})
    )
    assert await store.groups_of("alice") == {}
    assert await store.groups_of("bob") == {"ops": "member"}


async def test_an_append_without_standings_changes_none(store: Store) -> None:
    await store.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "member"}))
    await append(store, "ops", b"two")
    assert await store.groups_of("alice") == {"ops": "member"}


async def test_an_outsider_can_stay_an_outsider(store: Store) -> None:
    await store.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "outsider"}))
    assert await store.groups_of("alice") == {}


async def test_returned_groups_are_a_copy(store: Store) -> None:
    await store.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "member"}))
    (await store.groups_of("alice")).clear()
    assert await store.groups_of("alice") == {"ops": "member"}


async def test_a_conflicting_append_changes_no_standing(store: Store) -> None:
    await store.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "member"}))
    with pytest.raises(Conflict):
        await store.append(
            "ops", 0, 1, packed(b"x"), SideEffects({"alice": "outsider", "bob": "member"})
        )
    with pytest.raises(Conflict):
        await store.append("new", 7, 1, packed(b"x"), SideEffects({"bob": "member"}))
    assert await store.groups_of("alice") == {"ops": "member"}
    assert await store.groups_of("bob") == {}


async def test_a_full_disk_changes_no_standing(
    sqlite: SqliteStore,
) -> None:
    await sqlite.append("ops", 0, 1, packed(b"one"), SideEffects({"alice": "member"}))
    pages = await sqlite.database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await sqlite.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StorageFull):
        await sqlite.append("ops", 1, 1, packed(bytes(1 << 20)), SideEffects({"alice": "outsider"}))
    assert await sqlite.groups_of("alice") == {"ops": "member"}
    await sqlite.database.write(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    await sqlite.append("ops", 1, 1, packed(bytes(1 << 20)), SideEffects({"alice": "outsider"}))
    assert await sqlite.groups_of("alice") == {}


async def test_standings_survive_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.append(
            "ops", 0, 1, packed(b"1"), SideEffects({"alice": "member", "bob": "waiting"})
        )
        await store.append(
            "ops", 1, 1, packed(b"2"), SideEffects({"bob": "outsider", "carol": "waiting"})
        )
    async with open_store(tmp_path) as store:
        assert await store.groups_of("alice") == {"ops": "member"}
        assert await store.groups_of("bob") == {}
        assert await store.groups_of("carol") == {"ops": "waiting"}


# ------------------------------------------------------------------ erased people


async def test_an_erased_name_cannot_be_claimed(accounts: Accounts) -> None:
    await accounts.claim("zoë", "Zoë", KEY, 1000)
    await accounts.link("zoë", OTHER, 1001)
    await accounts.unlink("zoë", OTHER, KEY, 1002)
    assert not await accounts.is_erased("zoë")
    assert set(await accounts.erase("zoë", "Zoë", 1003)) == {KEY, OTHER}
    assert await accounts.is_erased("zoë")
    assert await accounts.keys("zoë") == []
    for key in (KEY, OTHER, THIRD):
        assert await accounts.claim("zoë", "Zoë", key, 1004) is None
    assert await accounts.erase("zoë", "Zoë", 1005) == []


async def test_a_name_without_an_account_can_be_erased(accounts: Accounts) -> None:
    assert await accounts.erase("zoë", "Zoë", 1000) == []
    assert await accounts.claim("zoë", "Zoë", KEY, 1001) is None


async def test_reserved_names_survive_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.accounts.claim("zoë", "Zoë", KEY, 1000)
        await store.accounts.erase("zoë", "Zoë", 1001)
    async with open_store(tmp_path) as store:
        assert await store.accounts.claim("zoë", "Zoë", KEY, 1002) is None
        assert await store.maintenance.name_of("zoë") == "Zoë"


async def test_read_positions_of_erased_people_are_dropped(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"1")
    await sqlite.accounts.erase("zoë", "Zoë", 1000)
    await sqlite.set_cursors("ops", {"zoë": 1, "bob": 1})
    assert await sqlite.cursors("ops") == {"bob": 1}
