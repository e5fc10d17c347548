"""Search gives the same results in every store."""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tchat.core.group.membership import Created
from tchat.core.group.messages import Posted
from tchat.errors import Code, Refused
from tchat.store.open import open_store
from tchat.store.sqlite import search as search_module
from tchat.store.words import MOST_LETTERS, excerpt, terms_of, words_of
from tests.core.script import NOON
from tests.memory_store import MemoryStore
from tests.store.logs import delete, edit, found, hits, post, write

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Store
    from tchat.store.sqlite.store import SqliteStore


def endless_query(connection: sqlite3.Connection, *_: object, **__: object) -> None:
    """Query the database until that is interrupted."""
    connection.execute(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    ).fetchone()


# ------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hello", "Hello, everyone!"),
        ("every", "Hello, everyone!"),
        ("everyone hello", "Hello, everyone!"),
        ("cafe", "at the Café"),
        ("CAFÉ", "at the cafe\u0301"),
        ("strasse", "in der Straße"),
        ("ａｂｃ", "abc"),  # noqa: RUF001
        ("abc", "ＡＢＣ"),  # noqa: RUF001
        ("привет", "Привет"),
        ("елка", "ёлка"),
        ("foo_bar", "call foo_bar()"),
        ("bar", "call foo_bar()"),
        ("3.5", "it is 3.5 or so"),
        ("it's", "It’s here: it's"),  # noqa: RUF001
        ("हिन्दी", "नमस्ते हिन्दी"),
        ("שלום", "שָׁלוֹם עולם"),
        ("北京", "我在北京市工作"),
        ("京市工", "我在北京市工作"),
        ("京", "我在北京"),
        ("京", "北京市"),
        ("北京 工作", "我在北京市工作"),
        ("天気", "今日は天気がいいです"),
        ("ラーメン", "ラーメンを食べた"),
        ("が", "か\u3099ある"),
        ("한국", "한국어를 배워요"),
        ("น้ำ", "ดื่มน้ำเยอะๆ"),
        ("python 北京", "用Python在北京写"),
        ("value", "name\tvalue\tx"),
        ("name\tvalue", "name value"),
    ],
)
async def test_a_query_matches_as_people_type(store: Store, typed: str, said: str) -> None:
    await post(store, "something else", said)
    assert await found(store, typed) == [said]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hell everyone", "hello everyone"),  # only the last word may be unfinished
        ("hello you", "hello everyone"),
        ("llo", "hello"),
        ("京北", "北京"),
        ("北市", "北京市"),
        ("北京市", "北京 市"),
        ("कि", "का"),
    ],
)
async def test_other_words_do_not_match(store: Store, typed: str, said: str) -> None:
    await post(store, said)
    assert await found(store, typed) == []


@pytest.mark.parametrize(
    "typed",
    [
        *('"', "'", "*", "hello OR bye", "NOT hello", "hello AND", "(hello", "words:hello"),
        *("^hello", "hello*bye", "hello NEAR bye", "{words} : hello", "-hello", "a" * 500),
        *("hello\x00bye", "·"),
    ],
)
async def test_index_syntax_in_queries_is_plain_text(store: Store, typed: str) -> None:
    await post(store, "hello there", "bye now")
    assert await found(store, typed) in ([], ["hello there"])


async def test_an_empty_query_finds_nothing(store: Store) -> None:
    await post(store, "hello", "… !", "")
    assert await found(store, "") == await found(store, "… !") == []


async def test_index_tokens_cannot_be_searched(store: Store) -> None:
    await post(store, "hello")
    assert await found(store, "1·hello") == []


# ------------------------------------------------------------------ hits


async def test_a_hit_has_text_group_time_and_author(store: Store) -> None:
    await write(store, "ops", Created())
    await write(store, "ops", Posted("hello"), actor="Bob")
    (hit,) = await hits(store, "hello")
    assert (hit.group, hit.seq, hit.at, hit.actor, hit.text) == ("ops", 2, NOON + 2, "Bob", "hello")


async def test_hits_of_all_groups_are_newest_first(store: Store) -> None:
    await post(store, "hello 1", "else", "hello 3", group="one")
    await post(store, "else", "hello 2", "else", "hello 4", group="two")
    expected = ["hello 4", "hello 3", "hello 2", "hello 1"]
    assert await found(store, "hello", "one", "two") == expected
    assert await found(store, "hello", "two", "one") == expected


async def test_hits_are_paged(store: Store) -> None:
    await post(store, *(f"hello {n}" for n in range(10)))
    pages = [await hits(store, "hello", skip=skip, most=4) for skip in (0, 4, 8, 12)]
    assert [[hit.text[-1] for hit in page] for page in pages] == [
        ["9", "8", "7", "6"],
        ["5", "4", "3", "2"],
        ["1", "0"],
        [],
    ]


async def test_only_requested_groups_are_searched(store: Store) -> None:
    await post(store, "hello one", group="one")
    await post(store, "hello two", group="two")
    assert await found(store, "hello", "one") == ["hello one"]
    assert await found(store, "hello", "three") == []
    assert await store.search([], terms_of("hello"), 0, 9) == []


async def test_other_groups_messages_hide_no_hits(store: Store) -> None:
    await post(store, "hello one", group="one")
    await post(store, *(f"hello {n}" for n in range(20)), group="two")
    await found(store, "hello", "two")
    assert [hit.text for hit in await hits(store, "hello", "one", most=2)] == ["hello one"]


# ------------------------------------------------------------------ edits and deletions


async def test_later_messages_are_found_by_later_searches(store: Store) -> None:
    await post(store, "hello 1")
    assert await found(store, "hello") == ["hello 1"]
    await post(store, "hello 2")
    assert await found(store, "hello") == ["hello 2", "hello 1"]


@pytest.mark.parametrize("searched", [False, True])
async def test_an_edited_message_matches_its_current_text(store: Store, searched: bool) -> None:
    await post(store, "first", "other")
    for text in ("second", "third"):
        if searched:
            await found(store, "first")
        await edit(store, 1, text)
    assert await found(store, "first") == await found(store, "second") == []
    (hit,) = await hits(store, "third")
    assert (hit.seq, hit.at, hit.text) == (1, NOON + 1, "third")


@pytest.mark.parametrize("searched", [(), (1,), (2,), (1, 2)])
async def test_a_deleted_message_is_not_found(store: Store, searched: tuple[int, ...]) -> None:
    await post(store, "first words", "other words")
    if 1 in searched:
        await found(store, "words")
    await edit(store, 1, "second words")
    if 2 in searched:
        await found(store, "words")
    await delete(store, 1, 3)
    assert await found(store, "first") == await found(store, "second") == []
    assert await found(store, "words") == ["other words"]


async def test_a_refounded_group_is_searched_since_then(store: Store) -> None:
    await write(store, "ops", Created(), Posted("hello from before"))
    assert await found(store, "hello") == ["hello from before"]
    await write(store, "ops", Created(), Posted("hello now"))
    await edit(store, 2, "hello from beyond")
    assert await found(store, "hello") == ["hello now"]


# ------------------------------------------------------------------ the index


async def test_the_index_survives_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, "hello 1")
        await edit(store, 1, "hello 2")
        await found(store, "hello")
    async with open_store(tmp_path) as store:
        assert await found(store, "hello") == ["hello 2"]
        assert await store.find("ops", [1])
        await delete(store, 1, 2)
        assert await found(store, "hello") == []


async def test_an_outdated_index_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        await post(store, "hello 1")
        await edit(store, 1, "hello 2")
        await found(store, "hello")
    monkeypatch.setattr(search_module, "words_of", lambda text: [text[::-1].replace(" ", "x")])
    monkeypatch.setattr(search_module, "_MADE_WITH", "unicode 99.0, merging")
    async with open_store(tmp_path) as store:
        assert await found(store, "2xolleh") == ["hello 2"]


async def test_indexing_lets_other_writers_in_between(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "SLICE_SECONDS", 0)
    await write(sqlite, "ops", *(Posted(f"hello {n}") for n in range(100)))
    results: list[int] = []

    async def search() -> None:
        results.append(len(await hits(sqlite, "hello")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(search)
        nursery.start_soon(search)
        said_meanwhile = 0
        while not results:
            await post(sqlite, "meanwhile", group="dev")
            said_meanwhile += 1
    assert results == [100, 100]
    assert said_meanwhile > 10


async def test_messages_deleted_during_indexing_are_not_found(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "SLICE_SECONDS", 0)
    await write(sqlite, "ops", *(Posted(f"hello {n}") for n in range(60)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hits, sqlite, "hello")
        for number in range(1, 61, 3):
            await delete(sqlite, number)
    expected = [f"hello {n}" for n in reversed(range(60)) if n % 3]
    assert await found(sqlite, "hello") == expected


async def test_nothing_is_indexed_before_a_search(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, "hello")
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        assert connection.execute("SELECT * FROM searchable").fetchall() == []


async def test_search_reports_its_processor_time(sqlite: SqliteStore) -> None:
    await write(sqlite, "ops", *(Posted(f"hello {n}") for n in range(10)))
    seconds: list[float] = []
    assert len(await sqlite.search(["ops"], terms_of("hello"), 0, 20, seconds.append)) == 10
    (indexing,) = seconds
    await sqlite.search(["ops"], terms_of("hello"), 0, 20, seconds.append)
    assert 0 < seconds[1] < indexing


async def test_interrupted_search_reports_its_processor_time(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "SEARCH_SECONDS", 0.01)
    monkeypatch.setattr(search_module, "_search", endless_query)
    await write(sqlite, "ops", *(Posted(f"hello {n}") for n in range(10)))
    seconds: list[float] = []
    with pytest.raises(Refused):
        await sqlite.search(["ops"], terms_of("h"), 0, 900, seconds.append)
    assert len(seconds) == 1


async def test_only_first_letters_are_searched(store: Store) -> None:
    """NFKC makes eighteen letters of one, and a message must not take eighteen times as long."""
    texts = [f"{expanding}{' ' * 1000} needle" for expanding in ("ﷺ" * 1000, "ﷺ" * 500)]
    await post(store, *texts)
    assert await found(store, "needle") == texts[1:]
    assert await found(store, "صلى") == texts[::-1]
    await edit(store, 2, texts[0])
    assert await found(store, "needle") == []


@pytest.mark.parametrize(
    "unit",
    ["e\u0301", "\u1112\u1161\u11ab", "\u0bc6\u0bbe", "ｶ\uff9e", "ﷺ", "㌖", "ab\u0316\u0301"],
)
@pytest.mark.parametrize("shift", range(4))
def test_long_texts_are_normalized_like_short_ones(unit: str, shift: int) -> None:
    """Although they are cut into pieces for that: nothing that belongs together is cut."""
    text = "x" * shift + unit * 1200
    whole = unicodedata.normalize("NFKC", text)[:MOST_LETTERS]
    assert words_of(text) == words_of(whole)


def test_query_is_limited_after_its_normalization() -> None:
    """NFKC makes six letters of this character: a phrase of a thousand takes half a second."""
    (term,) = terms_of("㌖" * 190)
    assert len(term.text) == 200


# ------------------------------------------------------------------ excerpts


def test_a_short_text_is_its_own_excerpt() -> None:
    assert excerpt("hello\neveryone", terms_of("every")) == "hello\neveryone"


@pytest.mark.parametrize("needle", ["Needle", "NÉEDLE", "北京市", "ﬁnd"])
@pytest.mark.parametrize("before", [0, 30, 500, 5000])
def test_an_excerpt_surrounds_the_match(needle: str, before: int) -> None:
    text = "ü " * (before // 2) + needle + " y" * 500
    shown = excerpt(text, terms_of(needle))
    assert needle in shown
    assert 200 <= len(shown) <= 202
    assert shown.strip("…") in text
    assert shown.startswith("…") == (before > 60)
    assert shown.endswith("…")


def test_without_a_match_the_excerpt_is_the_beginning() -> None:
    text = "e\u0301" * 500
    assert excerpt(text, terms_of("zebra")) == text[:200] + "…"


@pytest.mark.parametrize("before", ["㌖", "ﷺ", "e\u0301", "\u0301", "ß"])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 3000])
def test_excerpt_is_found_behind_characters_that_change_length(before: str, count: int) -> None:
    text = before * count + " needle " + "y" * 300
    assert "needle" in excerpt(text, terms_of("needle"))


def test_an_excerpt_at_the_end_is_marked() -> None:
    shown = excerpt("x " * 500 + "needle", terms_of("needle"))
    assert shown.startswith("…")
    assert shown.endswith("needle")


# ------------------------------------------------------------------ property test

letters = st.sampled_from("aAáb1_ .-北京市가ん\u0301\"'*·")
sayings = st.text(letters, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("post"), sayings),
        st.tuples(st.just("edit"), st.integers(0, 9), sayings),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("search"), sayings),
    ),
    max_size=14,
)


@given(steps, st.lists(sayings, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
async def test_stores_agree_on_what_is_found(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[object, ...]], asked: list[str]
) -> None:
    memory = MemoryStore()
    async with open_store(tmp_path_factory.mktemp("data")) as sqlite:
        for store in (memory, sqlite):
            await tell(store, story)
        for text in asked:
            assert await hits(sqlite, text) == await hits(memory, text)


async def tell(store: Store, story: list[tuple[object, ...]]) -> None:
    """Apply random posts, edits and deletions; targets are indexes among existing messages."""
    there: dict[int, list[int]] = {}
    for step in story:
        match step:
            case ("post", str(text)):
                there[await post(store, text)] = []
            case ("edit", int(place), str(text)) if place < len(there):
                target = list(there)[place]
                there[target].append(await edit(store, target, text))
            case ("delete", int(place)) if place < len(there):
                target = list(there)[place]
                await delete(store, target, *there.pop(target))
            case ("search", str(text)):
                await hits(store, text)


async def test_a_slow_search_is_refused(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(connection: sqlite3.Connection, **_: object) -> None:
        while True:
            connection.execute("SELECT count(*) FROM said WHERE said MATCH '1·hello'").fetchone()

    await post(sqlite, "hello")
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "_search", search)
        patch.setattr(search_module, "SEARCH_SECONDS", 0.01)
        with pytest.raises(Refused, match="The search took longer than") as caught:
            await found(sqlite, "hello")
    assert caught.value.code == Code.TOO_SLOW
    assert await found(sqlite, "hello") == ["hello"]


async def test_an_interrupted_search_of_groups_is_refused_again(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that is interrupted while it reads a message leaves nothing open."""
    for group in ("ops", "dev"):
        await write(sqlite, group, *(Posted("hello") for _ in range(3)))
    assert len(await hits(sqlite, "hello", "ops", "dev")) == 6
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "SEARCH_SECONDS", 0.01)
        # The first message of each group is read, so that both groups are being searched.
        messages = iter((search_module._event,) * 2)
        patch.setattr(search_module, "_event", lambda *a: next(messages, endless_query)(*a))
        for _ in range(2):
            with pytest.raises(Refused, match="The search took longer than"):
                await hits(sqlite, "hello", "ops", "dev")
            assert not await sqlite.database.read_slowly(lambda c: c.in_transaction)
    assert len(await hits(sqlite, "hello", "ops", "dev")) == 6
