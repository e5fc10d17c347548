"""The theme on terminals with many, few and no colours, and a person's own looks."""

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
    choose_depth,
    name_style,
    parse_look,
    parse_looks,
    theme,
)

DEPTHS = [256, 16, 8, 0]
PLAIN = {"text", "input", "member.online"}
"""Styles that look like any other text."""


def contrast(colour: int, ground: float) -> float:
    """Return the contrast (WCAG 2, 1-21) of a palette colour to a background's luminance."""
    lights = (light / 255 for light in styles._PALETTE[colour])
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in lights]
    own = sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (max(own, ground) + 0.05) / (min(own, ground) + 0.05)


# ------------------------------------------------------------------ the theme


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_style_has_a_look_at_any_depth(depth: int) -> None:
    looks = theme(depth)
    assert tuple(looks) == STYLES
    assert all(look.colour is None or look.colour < depth for look in looks.values())
    assert all(look.attributes <= set(styles.ATTRIBUTES) for look in looks.values())


@pytest.mark.parametrize("depth", DEPTHS)
def test_styles_differ_from_plain_text_without_colours(depth: int) -> None:
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
def test_neighbouring_styles_can_be_told_apart(depth: int, apart: tuple[str, ...]) -> None:
    looks = theme(depth)
    assert all(looks[one] != looks[other] for one, other in combinations(apart, 2))


def test_colours_are_readable_on_black_and_white() -> None:
    for style, look in theme(256).items():
        if look.colour is not None:
            assert look.colour >= 16, style
            assert min(contrast(look.colour, 0), contrast(look.colour, 1)) >= 3, style


@pytest.mark.parametrize("depth", [16, 8])
def test_basic_colours_avoid_those_of_backgrounds(depth: int) -> None:
    black, yellow, blue, white, bright_white = 0, 3, 4, 7, 15
    used = {look.colour for look in theme(depth).values()}
    assert used.isdisjoint({black, yellow, blue, white, bright_white})


@pytest.mark.parametrize(("depth", "different"), [(256, 12), (16, 7), (8, 6), (0, 1)])
def test_names_have_as_many_looks_as_possible(depth: int, different: int) -> None:
    looks = theme(depth)
    assert len({looks[f"name{n}"] for n in range(NAME_COLOURS)}) == different


def test_name_style_ignores_case() -> None:
    assert name_style("alice") == name_style("Alice") == "name11"
    assert name_style("STRASSE") == name_style("straße")


@given(st.text(max_size=40))
def test_every_name_has_a_style_of_the_theme(name: str) -> None:
    assert name_style(name) in STYLES


# ------------------------------------------------------------------ colour depth


@pytest.mark.parametrize(
    ("count", "used"), [(-1, 0), (2, 0), (8, 8), (16, 16), (88, 16), (256, 256), (2**24, 256)]
)
def test_depth_follows_the_terminal_and_no_color(count: int, used: int) -> None:
    assert choose_depth(count, {}) == used
    assert choose_depth(count, {"NO_COLOR": ""}) == used
    assert choose_depth(count, {"NO_COLOR": "0"}) == 0


# ------------------------------------------------------------------ a person's own looks


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
def test_look_is_parsed(text: str, colour: int | None, attributes: str) -> None:
    assert parse_look(text) == Look(colour, frozenset(attributes.split()))


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "crimson", "red blue", "bright", "bright grey", "colour", "colour 256", "39"),
        *("#fff", "#5f87fg", "bold, red", "colour -1", "colour ٣", "red\x1b[31m"),
    ],
)
def test_wrong_look_is_answered_with_help(text: str) -> None:
    with pytest.raises(ValueError, match="write any of bold, dim"):
        parse_look(text)


def test_wrong_colour_error_names_file_and_key() -> None:
    with pytest.raises(Refused) as caught:
        parse_looks({"mention": "crimson"}, "/home/alice/config.toml")
    assert caught.value.code == Code.BAD_CONFIG
    assert str(caught.value).startswith("/home/alice/config.toml: colours.mention is 'crimson'; ")


def test_unknown_style_error_lists_the_styles() -> None:
    with pytest.raises(
        Refused, match=r"config\.toml: colours: there is no style 'menton'; .*mention, "
    ):
        parse_looks({"menton": "red"}, "config.toml")


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
def test_own_colour_is_reduced_to_the_depth(wish: str, looks: dict[int, int | None]) -> None:
    own = parse_looks({"mention": wish}, "config.toml")
    assert {depth: theme(depth, own)["mention"].colour for depth in looks} == looks


def test_own_look_replaces_the_whole_look() -> None:
    assert theme(256, {"mention": Look(39)})["mention"] == Look(39)


def test_own_colour_without_colours_keeps_usual_attributes() -> None:
    own = {"mention": Look(39), "url": Look(39, frozenset({"italic"}))}
    assert theme(0, own)["mention"] == theme(0)["mention"]
    assert theme(0, own)["url"] == Look(None, frozenset({"italic"}))


@given(st.sampled_from(DEPTHS), st.integers(0, 255))
def test_every_own_colour_can_be_shown(depth: int, colour: int) -> None:
    shown = theme(depth, {"text": Look(colour)})["text"].colour
    assert shown is None or shown < depth
