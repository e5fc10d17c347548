"""Which messages mention a person: the bell and the highlight depend on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.group.mentions import Names, is_mention, mentioned
from tchat.core.text import fold

if TYPE_CHECKING:
    from types import FrameType

NAMES = tuple(map(fold, ("bob", "carol", "j.doe-2", "Straße", "小明", "さくら", "민수", "علي")))


@pytest.mark.parametrize(
    ("text", "me"),
    [
        ("bob", "bob"),
        ("hello Bob", "bob"),
        ("bob: look", "bob"),
        ("I asked bob.", "bob"),
        ("where is bob?", "bob"),
        ("@bob look", "bob"),
        ("(bob)", "bob"),
        ("hey...bob", "bob"),
        ("- bob\n- carol", "bob"),
        ("bob's", "bob"),
        ("bobby and bob", "bob"),
        ("ask j.doe-2 now", "j.doe-2"),
        ("ask j.doe-2.", "j.doe-2"),
        ("STRASSE kommt", "Straße"),
        ("\uff42\uff4f\uff42", "bob"),
        ("你好小明,来", "小明"),
        ("@小明", "小明"),
        ("问bob一下", "bob"),
        ("さくらさん", "さくら"),
        ("bob은 왔다", "bob"),
        ("민수는 왔다", "민수"),
        ("مرحبا علي.", "علي"),
    ],
)
def test_a_name_as_a_word_is_a_mention(text: str, me: str) -> None:
    assert is_mention(text, me)
    assert fold(me) in mentioned(text, NAMES)


@pytest.mark.parametrize(
    ("text", "me"),
    [
        ("bobby", "bob"),
        ("kebob", "bob"),
        ("bob_2", "bob"),
        ("www.bob.com", "bob"),
        ("www.bob", "bob"),
        ("bob.com", "bob"),
        ("jim-bob", "bob"),
        ("bob-cat", "bob"),
        ("bob2", "bob"),
        ("ask j.doe-2b", "j.doe-2"),
        ("ask jxdoe-2", "j.doe-2"),
        ("الباب", "باب"),
        ("", "bob"),
    ],
)
def test_a_name_inside_a_word_is_no_mention(text: str, me: str) -> None:
    assert not is_mention(text, me)


def test_all_mentioned_people_are_found_at_once() -> None:
    assert mentioned("bob and 小明, but not carols: j.doe-2", NAMES) == {"bob", "j.doe-2", "小明"}


@pytest.mark.parametrize("name", ["bob.", "-bob", "b..ob", "ba\u0301ba", "क्षमा"])
def test_names_that_are_not_words_are_found(name: str) -> None:
    assert mentioned(f"look, {name}, here", (fold(name),)) == {fold(name)}
    assert mentioned(f"xy.{name}, {name}z", (fold(name),)) == set()


@pytest.mark.parametrize("name", ["bob", "小明", "b..ob", "bob.b", "bob-小明"])
def test_names_come_and_go(name: str) -> None:
    names = Names(["carol", "さくら"])
    names.add(name)
    assert sorted(names) == sorted(["carol", "さくら", name])
    assert names.mentioned_in(f"carol, {name}") == {"carol", name}
    names.discard(name)
    assert name not in names
    assert len(names) == 2
    assert names.mentioned_in(f"carol, {name}") == {"carol"}


PIECES = st.sampled_from(["a", "B", "ab", "1", "_", ".", "-", " ", "\n", "'", "a.b", "b-a.", "\0"])
TEXTS = st.lists(PIECES, max_size=20).map("".join)


@given(st.lists(TEXTS.filter(bool).map(fold), max_size=4), TEXTS)
def test_ascii_texts_mention_the_same_by_either_way(people: list[str], text: str) -> None:
    several = Names([*people, "c..d"])  # a name that is no word: no text is passed over
    assert Names(people).mentioned_in(text) == several.mentioned_in(text)


@given(
    st.lists(TEXTS.filter(bool).map(fold), max_size=4),
    st.lists(st.one_of(TEXTS, st.text(max_size=5)), max_size=4),
)
def test_no_mention_is_ruled_out(people: list[str], texts: list[str]) -> None:
    names = Names(people)
    assert names.may_be_in(texts) or not any(map(names.mentioned_in, texts))


def test_texts_without_a_name_are_ruled_out() -> None:
    names = Names(["alice", "bob.b"])
    assert not names.may_be_in(["hello", "everyone alicewonder"])
    assert names.may_be_in(["hello", "are you there, Bob.B?"])


def calls_to_search(names: Names, text: str) -> int:
    """Return how many function calls a search takes, after a first one."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    names.mentioned_in(text)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        names.mentioned_in(text)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("first", ["person", "明", "b..ob"])
def test_cost_does_not_grow_with_the_names(first: str) -> None:
    people = [f"{first}{number}" for number in range(1000, 2000)]
    text = " ".join(f"{first}{number}x" for number in range(3000, 4000))
    few, many = Names(people[:10]), Names(people)
    assert calls_to_search(many, text) == calls_to_search(few, text)


def test_cost_does_not_grow_with_the_mentions() -> None:
    people = [f"person{number}" for number in range(1000)]
    text = " ".join(f"x{person} {person}" for person in people)
    few, many = Names(people[:10]), Names(people)
    assert many.mentioned_in(text) == set(people)
    assert calls_to_search(many, text) == calls_to_search(few, text)


def test_ligatures_of_whole_sentences_separate_words() -> None:
    """NFKC makes up to eighteen letters of each, which nobody types to mention somebody."""
    names = Names({"alice", fold("漢字")})
    assert names.mentioned_in("\ufdfa" * 5000 + "alice\ufdfb漢字") == {"alice", "漢字"}
