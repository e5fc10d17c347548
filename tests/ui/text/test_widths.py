"""What is drawn for sequences of code points, and how wide it is, by the terminal's profile."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.text.cells import cells, wrap
from tchat.ui.text.widths import SAFE, WidthProfile, is_certain, shape, using_profile

ZWJ, VS16 = "\u200d", "\ufe0f"
FAMILY = ZWJ.join("👨👩👧👦")
RAINBOW = f"\U0001f3f3{VS16}{ZWJ}\U0001f308"
PILOT = f"👩🏽{ZWJ}🚀"
JOINING = WidthProfile(selector=2, keycap=2, toned=True, joined=True, spacing=0)

profiles = st.builds(
    WidthProfile,
    selector=st.integers(1, 2),
    keycap=st.integers(1, 2),
    toned=st.booleans(),
    joined=st.booleans(),
    spacing=st.integers(0, 1),
)
pieces = st.one_of(
    st.sampled_from([ZWJ, VS16, "\ufe0e", "\u20e3", "🏽", "🇨", "क", "\u094d", "\u0940", "\u0301"]),
    st.sampled_from(["👩", "❤", "☝", "r", "1", " ", "你", "\u1112", "\u1161"]),
    st.characters(exclude_categories=["Cc", "Cs"]),
)
mixed = st.lists(pieces, max_size=12).map("".join)


def drawn(text: str) -> str:
    return "".join(part for part, _ in shape(text))


@pytest.mark.parametrize(
    ("text", "shown", "width"),
    [
        (f"r{ZWJ}s", "rs", 2),
        (FAMILY, "👨👩👧👦", 8),
        (RAINBOW, "\U0001f3f3\U0001f308", 3),
        (PILOT, "👩🏽🚀", 6),
        (f"❤{VS16}", "❤", 1),
        (f"1{VS16}\u20e3", "1\u20e3", 1),
        ("👍🏽", "👍🏽", 4),
        ("☝🏽", "☝🏽", 3),
        ("की", "की", 2),
        ("\u1112\u1161\u11ab", "한", 2),
        ("می\u200cخ", "می\u200cخ", 3),
        ("⌚\ufe0e", "⌚", 2),
        ("葛\U000e0100", "葛\U000e0100", 2),
    ],
)
def test_unknown_terminal_is_shown_parts(text: str, shown: str, width: int) -> None:
    assert (drawn(text), cells(text)) == (shown, width)


@pytest.mark.parametrize(
    ("text", "width"),
    [(FAMILY, 2), (RAINBOW, 2), (PILOT, 2), (f"❤{VS16}", 2), (f"1{VS16}\u20e3", 2), ("👍🏽", 2)],
)
def test_joining_terminal_is_shown_sequences(text: str, width: int) -> None:
    with using_profile(JOINING):
        assert (drawn(text), cells(text)) == (text, width)


def test_joiner_between_letters_is_never_drawn() -> None:
    with using_profile(JOINING):
        assert (drawn(f"r{ZWJ}s"), cells(f"r{ZWJ}s")) == ("rs", 2)
        assert drawn(f"👩{ZWJ}s") == "👩s"


def test_toned_sequence_needs_tones_and_joining() -> None:
    with using_profile(WidthProfile(joined=True)):
        assert (drawn(PILOT), cells(PILOT)) == ("👩🏽🚀", 6)
        assert cells(FAMILY) == 2


def test_rows_are_wrapped_for_the_profile_in_use() -> None:
    assert wrap(FAMILY * 2, 8) == (FAMILY, FAMILY)
    with using_profile(JOINING):
        assert wrap(FAMILY * 2, 8) == (FAMILY * 2,)
    assert wrap(FAMILY * 2, 8) == (FAMILY, FAMILY)


@given(mixed, profiles)
def test_text_is_as_wide_as_its_drawing(text: str, profile: WidthProfile) -> None:
    with using_profile(profile):
        shaped = shape(text)
        assert cells(text) == sum(width for _, width in shaped)
        assert all(width == 1 or not is_certain(part) or len(part) == 1 for part, width in shaped)


@given(mixed)
def test_safe_drawing_has_nothing_to_join_by(text: str) -> None:
    assert not {ZWJ, VS16, "\ufe0e"} & set(drawn(text))


@given(mixed, profiles)
def test_no_letter_is_lost(text: str, profile: WidthProfile) -> None:
    with using_profile(profile):
        rest = unicodedata.normalize("NFC", text)
        for character in drawn(text):
            assert character in rest
        for invisible in (ZWJ, VS16, "\ufe0e"):
            rest = rest.replace(invisible, "")
        shown = drawn(text).replace(ZWJ, "").replace(VS16, "")
        assert unicodedata.normalize("NFC", shown) == unicodedata.normalize("NFC", rest)


def test_default_profile_is_safe() -> None:
    assert WidthProfile() == SAFE
