"""Schema of records: every kind of annotation accepts its values and refuses all others."""

from __future__ import annotations

import textwrap
from operator import attrgetter
from typing import Annotated, Any, Literal

import pytest

from tchat.core.protocol import converters
from tchat.core.protocol.converters import INT_LIMIT, Field, read_source, write_source
from tchat.core.protocol.schema import LOCAL, Clean, Frame, Keyed, Shape, clean, record
from tchat.errors import Code, ProtocolError, Refused


def _strip(text: str) -> str:
    if not text.strip():
        raise Refused(Code.EMPTY_TEXT, "The text is empty.")
    return text.strip()


@record
class Point(Shape):
    """A record with scalars only."""

    x: int
    label: str | None = None


@record
class Everything(Frame):
    """A frame with a field of each kind."""

    type = "everything"
    number: int
    text: str
    data: bytes
    flag: bool
    word: Literal["open", "closed"]
    point: Point
    points: tuple[Point, ...]
    numbers: tuple[int, ...]
    words: tuple[Literal["a", "b"], ...]
    rows: tuple[tuple[int, ...], ...]
    by_name: dict[str, int]
    by_data: dict[bytes, Point]
    keyed: Annotated[dict[int, Point], Keyed(attrgetter("x"))]
    maybe: Point | None = None
    many: tuple[str, ...] | None = None


@record
class Private(Shape):
    """A record with a field that is not part of its map."""

    secret: Annotated[int, LOCAL] = 7
    shown: int = 1


@record
class Typed(Shape):
    """A record with text that a person typed."""

    text: Annotated[str, Clean(_strip)]
    note: Annotated[str, Clean(str.upper)] | None = None
    raw: str = " raw "


FULL = Everything(
    number=1,
    text="text",
    data=b"data",
    flag=True,
    word="open",
    point=Point(1, "one"),
    points=(Point(2), Point(3, "three")),
    numbers=(1, 2),
    words=("a", "b", "a"),
    rows=((), (1, 2)),
    by_name={"one": 1},
    by_data={b"one": Point(1)},
    keyed={5: Point(5, "five"), 4: Point(4)},
    maybe=Point(9),
    many=("x", "y"),
)
ITEM: dict[str, Any] = {
    "type": "everything",
    "number": 1,
    "text": "text",
    "data": b"data",
    "flag": True,
    "word": "open",
    "point": {"x": 1, "label": "one"},
    "points": [{"x": 2}, {"x": 3, "label": "three"}],
    "numbers": [1, 2],
    "words": ["a", "b", "a"],
    "rows": [[], [1, 2]],
    "by_name": {"one": 1},
    "by_data": {b"one": {"x": 1}},
    "keyed": [{"x": 5, "label": "five"}, {"x": 4}],
    "maybe": {"x": 9},
    "many": ["x", "y"],
}
OPTIONAL = {"maybe", "many"}
KEYS = [key for key in ITEM if key != "type"]
BAD_POINTS: list[object] = [[], "x", {}, {"x": "1"}, {"x": 1, "label": 2}, {"x": -1}, None]

WRONG: dict[str, list[object]] = {
    "number": [-1, INT_LIMIT, 1.0, True, "1", b"1", [1], {"x": 1}],
    "text": [1, b"text", ["text"], True],
    "data": ["data", 1, [1], bytearray(b"data")],
    "flag": [0, 1, "true"],
    "word": ["", "ajar", b"open", ["open"], 1],
    "point": BAD_POINTS,
    "points": [{}, "x", 1, *([point] for point in BAD_POINTS), [{"x": 1}, {}]],
    "numbers": [{}, 1, "12", b"12", [-1], [True], [1, "2"], [None], [[1]]],
    "words": ["a", ["c"], [b"a"], [["a"]], [1]],
    "rows": [[1], [[1], 2], [["1"]], [{}], {}],
    "by_name": [[], "x", [["one", 1]], {b"one": 1}, {1: 1}, {"one": "1"}, {"one": None}],
    "by_data": [[], {"one": {"x": 1}}, {b"one": 1}, {b"one": {}}, {b"one": {"x": "1"}}],
    "keyed": [{}, {5: {"x": 5}}, "x", *([point] for point in BAD_POINTS)],
    "maybe": BAD_POINTS,
    "many": [{}, "xy", [1], [None], [["x"]]],
}


def test_record_survives_a_round_trip() -> None:
    assert FULL.to_map() == ITEM
    assert Everything.from_map(ITEM) == FULL


def test_order_of_keyed_values_is_kept() -> None:
    assert list(Everything.from_map(ITEM).keyed) == [5, 4]


def test_absent_optional_keys_are_none() -> None:
    item = {key: value for key, value in ITEM.items() if key not in OPTIONAL}
    back = Everything.from_map(item)
    assert (back.maybe, back.many) == (None, None)
    assert back.to_map() == item


def test_there_are_wrong_values_for_every_key() -> None:
    assert list(WRONG) == KEYS


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG.items() for value in [*values, None]],
    ids=repr,
)
def test_wrong_value_is_malformed(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"In everything, the key '{key}'") as caught:
        Everything.from_map({**ITEM, key: value})
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("key", [key for key in KEYS if key not in OPTIONAL])
def test_missing_key_is_malformed(key: str) -> None:
    with pytest.raises(ProtocolError, match=f"In everything, the key '{key}'") as caught:
        Everything.from_map({name: value for name, value in ITEM.items() if name != key})
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("number", [0, INT_LIMIT - 1])
def test_smallest_and_largest_integers_are_accepted(number: int) -> None:
    assert Everything.from_map({**ITEM, "number": number}).number == number


def test_empty_collections_are_accepted() -> None:
    empty: dict[str, object] = {
        "points": [],
        "numbers": [],
        "by_name": {},
        "by_data": {},
        "keyed": [],
    }
    assert Everything.from_map({**ITEM, **empty}).to_map() == {**ITEM, **empty}


def test_unknown_keys_are_ignored_at_every_level() -> None:
    point = {"x": 1, "label": "one", "z": 3}
    assert Everything.from_map({**ITEM, "point": point, "new": [1]}) == FULL


def test_last_of_two_values_with_one_key_wins() -> None:
    twice = [{"x": 5}, {"x": 5, "label": "later"}]
    assert Everything.from_map({**ITEM, "keyed": twice}).keyed == {5: Point(5, "later")}


def test_error_names_no_hostile_type() -> None:
    for kind in ("\x1b[2J", "x" * 100, 7, None):
        with pytest.raises(ProtocolError, match=r"^In frame, the key 'number'"):
            Everything.from_map({**ITEM, "type": kind, "number": "1"})


def test_local_field_is_not_in_the_map() -> None:
    assert Private(9, 2).to_map() == {"shown": 2}
    assert Private.from_map({"secret": 9, "shown": 2}) == Private(7, 2)


def test_clean_fields_are_cleaned_and_others_kept() -> None:
    assert clean(Typed("  hello ", "note")) == Typed("hello", "NOTE", " raw ")


def test_clean_text_is_not_copied() -> None:
    typed = Typed("hello")
    assert clean(typed) is typed


def test_text_that_cannot_be_cleaned_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        clean(Typed("  "))
    assert caught.value.code == Code.EMPTY_TEXT


def test_decoding_does_not_clean() -> None:
    assert Typed.from_map({"text": " hello ", "raw": ""}).text == " hello "


def test_the_header_shows_the_composed_source() -> None:
    number = Field("re", int, optional=False, compound=None, by_name=False)
    fields = [number, number._replace(name="seq", optional=True)]
    header = textwrap.dedent(converters.__doc__ or "")
    for source in (read_source(fields), write_source(fields, "ok")):
        assert textwrap.indent(source, "    ") in header
