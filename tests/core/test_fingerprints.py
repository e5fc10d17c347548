"""Pins, fingerprints, invites and token digests as text."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.fingerprints import (
    PIN_SIZE,
    TOKEN_SIZE,
    fingerprint,
    invite_text,
    pin_text,
    read_invite,
    read_pin,
    token_digest,
)
from tchat.errors import Code, Refused

PIN = bytes(range(32))
TOKEN = bytes(range(16))

pins = st.binary(min_size=PIN_SIZE, max_size=PIN_SIZE)
tokens = st.binary(min_size=TOKEN_SIZE, max_size=TOKEN_SIZE)
LETTERS = "ABCxyz019-_+/=i "
texts = st.text() | st.text(LETTERS, max_size=70) | st.text(st.characters(codec=None))


@given(pin=pins)
def test_pin_survives_a_round_trip(pin: bytes) -> None:
    assert read_pin(pin_text(pin)) == pin
    assert re.fullmatch("sha256:[A-Za-z0-9_-]{43}", pin_text(pin))


@given(token=tokens, pin=pins | st.just(b""))
def test_invite_survives_a_round_trip(token: bytes, pin: bytes) -> None:
    assert read_invite(invite_text(token, pin)) == (token, pin)


@given(token=tokens, pin=pins | st.just(b""))
def test_invite_is_safe_for_shells_and_option_parsers(token: bytes, pin: bytes) -> None:
    assert re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", invite_text(token, pin))


@given(text=texts)
def test_any_text_is_a_pin_or_value_error(text: str) -> None:
    for candidate in (text, "sha256:" + text):
        with suppress(ValueError):
            assert len(read_pin(candidate)) == PIN_SIZE


@given(text=texts)
def test_any_text_is_an_invite_or_value_error(text: str) -> None:
    for candidate in (text, "i" + text):
        with suppress(ValueError):
            token, pin = read_invite(candidate)
            assert (len(token), len(pin)) in ((TOKEN_SIZE, 0), (TOKEN_SIZE, PIN_SIZE))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        pin_text(PIN).removeprefix("sha256:"),
        pin_text(PIN).upper(),
        pin_text(PIN)[:-1],
        pin_text(PIN) + "A",
        pin_text(PIN + b"\x00"),
        pin_text(PIN[:-1]),
        pin_text(PIN) + "\n",
        " " + pin_text(PIN),
        pin_text(PIN)[:-1] + "é",
        pin_text(PIN)[:-1] + "\udcff",
        "sha256:" + pin_text(PIN),
    ],
)
def test_damaged_pin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_pin(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i",
        invite_text(TOKEN, b"").removeprefix("i"),
        invite_text(TOKEN, b"")[:-1],
        invite_text(TOKEN, b"\x00"),
        invite_text(TOKEN, PIN[:-1]),
        invite_text(TOKEN, PIN + b"\x00"),
        invite_text(TOKEN, PIN)[:-3],
        "i" + invite_text(TOKEN, PIN),
        invite_text(TOKEN, PIN) + " ",
        "--" + invite_text(TOKEN, PIN),
        pin_text(PIN),
    ],
)
def test_damaged_invite_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_invite(text)


@given(key=st.binary())
def test_fingerprint_is_16_hex_digits_of_sha_256(key: bytes) -> None:
    shown = fingerprint(key)
    assert re.fullmatch("([0-9a-f]{4}-){3}[0-9a-f]{4}", shown)
    assert shown.replace("-", "") == hashlib.sha256(key).hexdigest()[:16]


@given(token=tokens)
def test_token_digest_is_its_sha_256(token: bytes) -> None:
    assert token_digest(token) == hashlib.sha256(token).digest()


@given(token=st.binary().filter(lambda token: len(token) != TOKEN_SIZE))
def test_token_of_another_length_is_refused(token: bytes) -> None:
    with pytest.raises(Refused) as caught:
        token_digest(token)
    assert caught.value.code == Code.BAD_INVITE
