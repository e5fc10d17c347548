"""What every store promises, whatever it keeps its things in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import Code, Refused, StorageError
from tchat.store.base import PAGE_LIMIT, Conflict, Page, Store
from tests.store.batches import append, numbered, packed, read_all

if TYPE_CHECKING:
    from tchat.store.base import Incoming

CONTENT = b"the numbers are in\n" * 1000
DIGEST = hashlib.sha256(CONTENT).digest()


async def keep(store: Store, content: bytes) -> bytes:
    """Store a file; return its digest."""
    digest = hashlib.sha256(content).digest()
    async with store.incoming() as incoming:
        await incoming.write(content)
        await incoming.keep(digest)
    return digest


async def fetch(store: Store, digest: bytes, most: int = 4096) -> bytes:
    """Return a stored file, read in chunks of at most `most` bytes."""
    content = b""
    async with store.outgoing(digest) as outgoing:
        while chunk := await outgoing.read(most):
            assert len(chunk) <= most
            content += chunk
        assert len(content) == outgoing.size
    return content


async def assert_not_stored(store: Store, digest: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await fetch(store, digest)
    assert caught.value.code == Code.NO_SUCH_FILE


# ------------------------------------------------------------------ the log


async def test_a_log_that_never_was_is_empty(store: Store) -> None:
    assert await store.last("ops") == 0
    assert await store.read("ops", 0) is None


async def test_what_was_appended_is_read_as_it_came(store: Store) -> None:
    frames = packed(b"one", b"", b"three\x00\xff")
    await store.append("ops", 0, 3, frames)
    assert await store.read("ops", 0) == Page(1, 3, frames)
    assert await store.last("ops") == 3


async def test_batches_follow_one_another(store: Store) -> None:
    await store.append("ops", 0, 2, packed(b"one", b"two"))
    await store.append("ops", 2, 1, packed(b"three"))
    assert await read_all(store, "ops") == [b"one", b"two", b"three"]


async def test_there_is_nothing_behind_the_end(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    assert await store.read("ops", 2) is None
    assert await store.read("ops", 1000) is None


@pytest.mark.parametrize("after", range(7))
async def test_a_log_can_be_read_from_any_event_on(store: Store, after: int) -> None:
    await store.append("ops", 0, 1, numbered(1, 1))
    await store.append("ops", 1, 4, numbered(2, 5))
    await store.append("ops", 5, 2, numbered(6, 7))
    assert await store.read("ops", after) == Page(after + 1, 7, numbered(after + 1, 7))


async def test_two_groups_do_not_mix(store: Store) -> None:
    await append(store, "ops", b"one")
    await append(store, "dev", b"eins", b"zwei")
    await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"one", b"two"]
    assert await read_all(store, "dev") == [b"eins", b"zwei"]


@pytest.mark.parametrize("name", ["'; DROP TABLE groups; --", "ops\x00", "漢字", "%", "a/../b"])
async def test_a_group_may_have_any_name(store: Store, name: str) -> None:
    await append(store, name, b"one")
    assert await read_all(store, name) == [b"one"]


@pytest.mark.parametrize("expected", [0, 1, 3, 100])
async def test_an_append_behind_a_wrong_end_is_a_conflict_and_writes_nothing(
    store: Store, expected: int
) -> None:
    await append(store, "ops", b"one", b"two")
    with pytest.raises(Conflict, match=f"ends at 2, not at {expected}"):
        await store.append("ops", expected, 1, packed(b"lost"))
    assert await read_all(store, "ops") == [b"one", b"two"]
    assert await store.last("ops") == 2


async def test_a_conflict_in_a_new_group_leaves_no_group(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.append("ops", 5, 1, packed(b"lost"))
    assert await store.last("ops") == 0
    await store.append("ops", 0, 1, packed(b"one"))
    assert await read_all(store, "ops") == [b"one"]


async def test_after_a_conflict_the_store_goes_on(store: Store) -> None:
    await append(store, "ops", b"one")
    with pytest.raises(StorageError):
        await store.append("ops", 0, 1, packed(b"lost"))
    await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"one", b"two"]


async def test_of_many_who_append_behind_the_same_event_one_succeeds(store: Store) -> None:
    outcomes: list[str] = []

    async def try_to_append(number: int) -> None:
        try:
            await store.append("ops", 0, 1, packed(str(number).encode()))
        except Conflict:
            outcomes.append("conflict")
        else:
            outcomes.append("appended")

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(try_to_append, number)
    assert sorted(outcomes) == ["appended", *["conflict"] * 9]
    assert await store.last("ops") == 1


async def test_many_groups_are_appended_to_at_once_and_each_keeps_its_order(store: Store) -> None:
    groups = [f"group-{number}" for number in range(20)]

    async def fill(group: str) -> None:
        for seq in range(10):
            await store.append(group, seq, 1, packed(f"{group}:{seq}".encode()))
            assert await store.last(group) == seq + 1

    async with trio.open_nursery() as nursery:
        for group in groups:
            nursery.start_soon(fill, group)
    for group in groups:
        assert await read_all(store, group) == [f"{group}:{seq}".encode() for seq in range(10)]


# ------------------------------------------------------------------ pages


async def test_a_long_log_is_read_in_pages(store: Store) -> None:
    for seq in range(20):
        await store.append("ops", seq, 1, packed(bytes(10_000)))
    page = await store.read("ops", 0)
    assert page is not None
    assert PAGE_LIMIT / 2 < len(page.frames) <= PAGE_LIMIT
    assert page.last < 20
    assert await read_all(store, "ops") == [bytes(10_000)] * 20


async def test_a_batch_larger_than_a_page_comes_whole(store: Store) -> None:
    huge = packed(*[bytes(10_000)] * 10)
    assert len(huge) > PAGE_LIMIT
    await append(store, "ops", b"before")
    await store.append("ops", 1, 10, huge)
    await append(store, "ops", b"behind")
    assert await store.read("ops", 0) == Page(1, 1, packed(b"before"))
    assert await store.read("ops", 1) == Page(2, 11, huge)
    assert await store.read("ops", 11) == Page(12, 12, packed(b"behind"))


async def test_a_page_may_begin_within_a_batch(store: Store) -> None:
    bodies = [bytes([number]) * 10_000 for number in range(10)]
    await append(store, "ops", *bodies)
    assert await store.read("ops", 7) == Page(8, 10, packed(*bodies[7:]))


# ------------------------------------------------------------------ cursors and names


async def test_nobody_has_seen_anything_at_first(store: Store) -> None:
    assert await store.cursors("ops") == {}


async def test_cursors_are_kept_for_each_person_and_group(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    await append(store, "dev", b"eins")
    await store.set_cursors("ops", {"alice": 2, "bob": 1})
    await store.set_cursors("dev", {"alice": 1})
    assert await store.cursors("ops") == {"alice": 2, "bob": 1}
    assert await store.cursors("dev") == {"alice": 1}


async def test_a_cursor_moves_forward_and_never_back(store: Store) -> None:
    await append(store, "ops", b"one", b"two", b"three")
    await store.set_cursors("ops", {"alice": 2, "bob": 2})
    await store.set_cursors("ops", {"alice": 1, "bob": 3})
    assert await store.cursors("ops") == {"alice": 2, "bob": 3}


async def test_a_cursor_that_was_handed_out_is_not_the_stores_own(store: Store) -> None:
    await append(store, "ops", b"one")
    await store.set_cursors("ops", {"alice": 1})
    (await store.cursors("ops"))["alice"] = 99
    assert await store.cursors("ops") == {"alice": 1}


async def test_to_set_no_cursors_is_allowed(store: Store) -> None:
    await append(store, "ops", b"one")
    await store.set_cursors("ops", {})
    assert await store.cursors("ops") == {}


# ------------------------------------------------------------------ files


async def test_a_file_comes_back_as_it_went_in(store: Store) -> None:
    assert await keep(store, CONTENT) == DIGEST
    assert await fetch(store, DIGEST) == CONTENT


async def test_a_file_may_come_in_pieces(store: Store) -> None:
    async with store.incoming() as incoming:
        for start in range(0, len(CONTENT), 777):
            await incoming.write(CONTENT[start : start + 777])
        await incoming.keep(DIGEST)
    assert await fetch(store, DIGEST) == CONTENT


@pytest.mark.parametrize("most", [1, 6, 7, 8, 100])
async def test_a_file_is_read_in_pieces_of_the_size_asked_for(store: Store, most: int) -> None:
    digest = await keep(store, b"1234567")
    assert await fetch(store, digest, most) == b"1234567"


async def test_an_empty_file_is_a_file(store: Store) -> None:
    async with store.incoming() as incoming:
        await incoming.keep(hashlib.sha256().digest())
    assert await fetch(store, hashlib.sha256().digest()) == b""


async def test_files_are_many(store: Store) -> None:
    contents = [bytes([number]) * number for number in range(30)]
    digests = [await keep(store, content) for content in contents]
    assert [await fetch(store, digest) for digest in digests] == contents


async def test_the_same_bytes_may_come_twice(store: Store) -> None:
    await keep(store, CONTENT)
    await keep(store, CONTENT)
    assert await fetch(store, DIGEST) == CONTENT


async def test_a_file_can_be_read_while_the_same_bytes_come_again(store: Store) -> None:
    await keep(store, CONTENT)
    async with store.outgoing(DIGEST) as outgoing:
        head = await outgoing.read(10)
        await keep(store, CONTENT)
        assert head + await outgoing.read(len(CONTENT)) == CONTENT


async def test_a_file_is_not_known_before_it_is_kept(store: Store) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT)
        await assert_not_stored(store, DIGEST)


async def test_bytes_with_another_digest_are_refused(store: Store) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT + b"!")
        with pytest.raises(Refused) as caught:
            await incoming.keep(DIGEST)
    assert caught.value.code == Code.FILE_CHANGED
    await assert_not_stored(store, DIGEST)
    await assert_not_stored(store, hashlib.sha256(CONTENT + b"!").digest())


@pytest.mark.parametrize("digest", [b"", b"short", DIGEST[:-1], DIGEST + b"\x00"])
async def test_what_is_no_digest_is_never_that_of_a_file(store: Store, digest: bytes) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT)
        with pytest.raises(Refused):
            await incoming.keep(digest)


async def test_a_digest_that_nothing_is_stored_under_is_refused(store: Store) -> None:
    await keep(store, b"something else")
    await assert_not_stored(store, DIGEST)


async def test_an_upload_that_was_given_up_leaves_nothing(store: Store) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT)
    await assert_not_stored(store, DIGEST)


async def test_an_upload_that_failed_leaves_nothing(store: Store) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await _write_and_break(store)
    await assert_not_stored(store, DIGEST)


async def _write_and_break(store: Store) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT)
        raise trio.BrokenResourceError


async def test_uploads_at_the_same_time_do_not_mix(store: Store) -> None:
    contents = [bytes([number]) * 5000 for number in range(5)]

    async def send(incoming: Incoming, content: bytes) -> None:
        for start in range(0, len(content), 1000):
            await incoming.write(content[start : start + 1000])
        await incoming.keep(hashlib.sha256(content).digest())

    async def upload(content: bytes) -> None:
        async with store.incoming() as incoming:
            await send(incoming, content)

    async with trio.open_nursery() as nursery:
        for content in contents:
            nursery.start_soon(upload, content)
    for content in contents:
        assert await fetch(store, hashlib.sha256(content).digest()) == content
