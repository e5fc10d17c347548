"""Which messages mention a person: the bell and the highlight depend on it."""

from __future__ import annotations

import pytest

from tchat.core.group.mentions import is_mention, mentioned
from tchat.core.text import fold

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
    assert mentioned("bob and 小明, but not carols: j.doe-2", NAMES) == ["bob", "j.doe-2", "小明"]
