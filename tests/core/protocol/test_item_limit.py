"""Limit of items in a frame, counted before anything is decoded."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.protocol.framing import FRAME_LIMIT, ITEM_LIMIT, check_items
from tchat.core.vocabulary import decode_request
from tchat.errors import Code, ProtocolError

scalars = st.integers() | st.text() | st.binary() | st.booleans() | st.floats() | st.none()
nested = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40
)


def items_in(value: Any) -> int:  # noqa: ANN401  # whatever CBOR can hold
    """Return the number of items in a value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(items_in(part) for pair in value.items() for part in pair)
    return 1 + (sum(map(items_in, value)) if isinstance(value, list) else 0)


@given(nested)
def test_number_of_items_is_limited(value: object) -> None:
    filler = [0] * (ITEM_LIMIT - 1 - items_in(value))
    check_items(cbor2.dumps([value, *filler]))
    with pytest.raises(ProtocolError) as caught:
        check_items(cbor2.dumps([value, *filler, 0]))
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("part", [b"\x80", b"\xa0", b"\x81", b"\xf6", b"\x60"])
def test_frame_of_many_tiny_items_is_refused(part: bytes) -> None:
    number = FRAME_LIMIT - 20
    body = b"\xa1\x61a\x9a" + number.to_bytes(4, "big") + number * part
    with pytest.raises(ProtocolError, match="more than 1000 items"):
        decode_request(body)


@given(st.binary(max_size=300))
def test_invalid_bytes_can_be_counted(body: bytes) -> None:
    check_items(body)


def test_long_text_is_one_item() -> None:
    check_items(cbor2.dumps({"type": "ping", "filler": 60_000 * "x"}))
