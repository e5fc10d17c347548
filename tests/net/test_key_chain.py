"""The chain of a server's keys: only whoever had a former key can have made the next link."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tchat.net.key_chain import (
    MAX_LINKS,
    chain_block,
    extend_chain,
    former_pins,
    from_extension,
    pin_of_key,
    read_chain,
    to_extension,
)
from tchat.net.keyfiles import new_private_key
from tests.net.small_order import small_order

if TYPE_CHECKING:
    from collections.abc import Sequence

LINK = 96
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(5)]


def pin_of(key: Ed25519PrivateKey) -> bytes:
    return pin_of_key(key.public_key().public_bytes_raw())


def chain_of(keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return the chain after a server has had these keys, of which the last is in use."""
    chain = b""
    for key, following in pairwise(keys):
        chain = extend_chain(chain, key, pin_of(following))
    return chain


CHAIN = chain_of(KEYS)


def test_all_former_keys_are_known_in_order() -> None:
    assert former_pins(CHAIN, pin_of(KEYS[-1])) == tuple(map(pin_of, KEYS[:-1]))
    assert former_pins(b"", pin_of(KEYS[0])) == ()


def test_a_chain_is_for_its_last_key_only() -> None:
    for key in KEYS[:-1]:
        assert former_pins(CHAIN, pin_of(key)) == ()


@given(st.integers(0, len(CHAIN) * 8 - 1))
def test_a_flipped_bit_makes_a_chain_void(bit: int) -> None:
    flipped = bytearray(CHAIN)
    flipped[bit // 8] ^= 1 << bit % 8
    assert former_pins(bytes(flipped), pin_of(KEYS[-1])) == ()


@pytest.mark.parametrize(
    "chain",
    [CHAIN[:-1], CHAIN + b"x", CHAIN[LINK:] + CHAIN[:LINK], CHAIN[:LINK] + CHAIN[2 * LINK :]],
    ids=["short", "long", "turned", "a link missing"],
)
def test_a_chain_in_disorder_is_void(chain: bytes) -> None:
    assert former_pins(chain, pin_of(KEYS[-1])) == ()


def test_the_oldest_links_may_be_missing() -> None:
    assert former_pins(CHAIN[LINK:], pin_of(KEYS[-1])) == tuple(map(pin_of, KEYS[1:-1]))


@pytest.mark.parametrize("key", small_order())
def test_keys_of_small_order_sign_nothing(key: bytes) -> None:
    assert former_pins(key + bytes(64), pin_of(KEYS[0])) == ()


def test_a_chain_has_a_largest_length() -> None:
    chain = CHAIN[:LINK] * MAX_LINKS
    with pytest.raises(ValueError, match="rotated 32 times"):
        extend_chain(chain, KEYS[0], pin_of(KEYS[1]))
    assert former_pins(chain + CHAIN[:LINK], pin_of(KEYS[1])) == ()


def test_a_chain_is_kept_behind_the_private_key() -> None:
    assert read_chain(new_private_key() + chain_block(CHAIN)) == CHAIN
    assert read_chain(new_private_key()) == b""
    assert read_chain(new_private_key() + chain_block(CHAIN).replace(b"\n", b"!\n", 2)) == b""


@given(st.binary(max_size=400))
def test_an_extension_contains_the_chain(chain: bytes) -> None:
    assert from_extension(to_extension(chain)) == chain


@given(st.binary(max_size=40))
def test_other_extensions_contain_no_chain(value: bytes) -> None:
    chain = from_extension(value)
    assert chain == b"" or to_extension(chain) == value
