"""What styles look like, and how a person may wish them to."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.errors import Code, Refused
from tchat.ui.tui import styles
from tchat.ui.tui.styles import (
    NAME_COLOURS,
    STYLES,
    Look,
    colours_of,
    name_style,
    read_colours,
    read_look,
    theme,
)

DEPTHS = [256, 16, 8, 0]
PLAIN = {"text", "input", "member.online"}
"""What looks like any other text."""


def contrast(colour: int, ground: float) -> float:
    """Return the contrast (WCAG 2, 1-21) of a colour of the palette to a ground's luminance."""
    lights = (light / 255 for light in styles._PALETTE[colour])
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in lights]
    own = sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (max(own, ground) + 0.05) / (min(own, ground) + 0.05)


# ------------------------------------------------------------------ the theme


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_style_has_a_look_that_the_terminal_can_show(depth: int) -> None:
    looks = theme(depth)
    assert tuple(looks) == STYLES
    assert all(look.colour is None or look.colour < depth for look in looks.values())
    assert all(look.attributes <= set(styles.ATTRIBUTES) for look in looks.values())


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_is_told_with_colours_is_told_without_them(depth: int) -> None:
    looks = theme(depth)
    assert {style for style, look in looks.items() if look == Look()} == PLAIN


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "apart",
    [
        ("title", "alert"),
        ("notice", "error"),
        ("text", "pending", "failed"),
        ("member.admin", "member.online", "member.offline"),
        ("dim", "activity", "activity.mention", "activity.current"),
        ("text", "mention", "search", "selection"),
    ],
    ids=lambda apart: apart[-1],
)
def test_what_stands_side_by_side_can_be_told_apart(depth: int, apart: tuple[str, ...]) -> None:
    looks = theme(depth)
    assert all(looks[one] != looks[other] for one, other in combinations(apart, 2))


def test_every_colour_of_256_can_be_read_on_black_and_on_white() -> None:
    for style, look in theme(256).items():
        if look.colour is not None:
            assert look.colour >= 16, style
            assert min(contrast(look.colour, 0), contrast(look.colour, 1)) >= 3, style


@pytest.mark.parametrize("depth", [16, 8])
def test_few_colours_are_none_that_some_background_swallows(depth: int) -> None:
    black, yellow, blue, white, bright_white = 0, 3, 4, 7, 15
    used = {look.colour for look in theme(depth).values()}
    assert used.isdisjoint({black, yellow, blue, white, bright_white})


@pytest.mark.parametrize(("depth", "different"), [(256, 12), (16, 7), (8, 6), (0, 1)])
def test_names_have_so_many_looks(depth: int, different: int) -> None:
    looks = theme(depth)
    assert len({looks[f"name{n}"] for n in range(NAME_COLOURS)}) == different


def test_a_name_keeps_its_style_however_it_is_written() -> None:
    assert name_style("alice") == name_style("Alice") == "name11"
    assert name_style("STRASSE") == name_style("straße")


@given(st.text(max_size=40))
def test_every_name_has_a_style_of_the_theme(name: str) -> None:
    assert name_style(name) in STYLES


# ------------------------------------------------------------------ how many colours


@pytest.mark.parametrize(
    ("count", "used"), [(-1, 0), (2, 0), (8, 8), (16, 16), (88, 16), (256, 256), (2**24, 256)]
)
def test_so_many_colours_are_used(count: int, used: int) -> None:
    assert colours_of(count, {}) == used
    assert colours_of(count, {"NO_COLOR": ""}) == used
    assert colours_of(count, {"NO_COLOR": "0"}) == 0


# ------------------------------------------------------------------ a person's own


@pytest.mark.parametrize(
    ("text", "colour", "attributes"),
    [
        ("red", 1, ""),
        ("Bold RED", 1, "bold"),
        ("bright red underline", 9, "underline"),
        ("grey", 8, ""),
        ("dim", None, "dim"),
        ("bold reverse", None, "bold reverse"),
        ("plain", None, ""),
        ("plain italic", None, "italic"),
        ("colour 39", 39, ""),
        ("color 39 bold", 39, "bold"),
        ("colour 255", 255, ""),
        ("#5f87ff", 69, ""),
        ("#5E88FE", 69, ""),
        ("bold #000000", 16, "bold"),
        ("#ffffff", 231, ""),
        ("#767676", 243, ""),
    ],
)
def test_a_look_is_read(text: str, colour: int | None, attributes: str) -> None:
    assert read_look(text) == Look(colour, frozenset(attributes.split()))


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "crimson", "red blue", "bright", "bright grey", "colour", "colour 256", "39"),
        *("#fff", "#5f87fg", "bold, red", "colour -1", "colour ٣", "red\x1b[31m"),
    ],
)
def test_a_wrong_look_is_answered_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="right would be some of bold, dim"):
        read_look(text)


def test_a_wrong_colour_is_told_with_file_and_key() -> None:
    with pytest.raises(Refused) as caught:
        read_colours({"mention": "crimson"}, "/home/alice/config.toml")
    assert caught.value.code == Code.BAD_CONFIG
    assert str(caught.value).startswith("/home/alice/config.toml: colours.mention is 'crimson'; ")


def test_a_style_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"config\.toml: there is no style 'menton' .*mention, "):
        read_colours({"menton": "red"}, "config.toml")


@pytest.mark.parametrize(
    ("wish", "looks"),
    [
        ("colour 160", {256: 160, 16: 1, 8: 1}),
        ("#5f5fff", {256: 63, 16: 12, 8: 4}),
        ("bright green", {256: 10, 16: 10, 8: 2}),
        ("colour 255", {256: 255, 16: None, 8: None}),
        ("colour 232", {256: 232, 16: None, 8: None}),
        ("black", {256: 0, 16: 0, 8: 0}),
    ],
)
def test_a_wish_is_met_as_far_as_the_colours_go(wish: str, looks: dict[int, int | None]) -> None:
    own = read_colours({"mention": wish}, "config.toml")
    assert {depth: theme(depth, own)["mention"].colour for depth in looks} == looks


def test_a_wish_replaces_the_whole_look() -> None:
    assert theme(256, {"mention": Look(39)})["mention"] == Look(39)


def test_a_wish_for_a_colour_alone_is_told_by_the_usual_attributes_without_colours() -> None:
    own = {"mention": Look(39), "url": Look(39, frozenset({"italic"}))}
    assert theme(0, own)["mention"] == theme(0)["mention"]
    assert theme(0, own)["url"] == Look(None, frozenset({"italic"}))


@given(st.sampled_from(DEPTHS), st.integers(0, 255))
def test_every_wish_can_be_shown(depth: int, colour: int) -> None:
    shown = theme(depth, {"text": Look(colour)})["text"].colour
    assert shown is None or shown < depth
