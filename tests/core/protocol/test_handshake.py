"""Handshake frames: versions, sizes, and what the proof signs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tchat.core.protocol.converters import INT_LIMIT
from tchat.core.protocol.frames import Ping
from tchat.core.protocol.handshake import (
    CLIENT_ID_SIZE,
    KEY_SIZE,
    NONCE_SIZE,
    VERSION,
    Challenge,
    Hello,
    TransferHello,
    agree,
    check_hello,
    check_server_version,
    proof_text,
)
from tchat.errors import Code, ProtocolError, Refused
from tests.core.examples import CLIENT, KEY, NONCE, TICKET

HELLO = Hello(VERSION, "alice", CLIENT, KEY, NONCE)


@pytest.mark.parametrize(
    "opening", [Hello(VERSION, "alice", CLIENT, KEY, NONCE), TransferHello(VERSION, TICKET)]
)
def test_connection_begins_with_hello_or_transfer(opening: Hello | TransferHello) -> None:
    assert check_hello(opening) is opening


def test_no_other_frame_may_come_first() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_hello(Ping())
    assert caught.value.code == Code.HANDSHAKE


@pytest.mark.parametrize("version", range(VERSION))
@pytest.mark.parametrize("opening", [HELLO, TransferHello(VERSION, TICKET)])
def test_older_client_versions_are_refused(opening: Hello | TransferHello, version: int) -> None:
    opening = replace(opening, version=version)
    with pytest.raises(ProtocolError) as caught:
        check_hello(opening)
    assert caught.value.code == Code.BAD_VERSION


@pytest.mark.parametrize("version", range(VERSION))
def test_older_server_is_refused(version: int) -> None:
    with pytest.raises(Refused, match=f"speaks version {version} of the protocol") as caught:
        check_server_version(version)
    assert caught.value.code == Code.BAD_VERSION


def test_server_of_the_same_version_is_accepted() -> None:
    check_server_version(VERSION)


def test_newer_client_is_accepted_with_our_version() -> None:
    newer = Hello(VERSION + 8, "alice", CLIENT, KEY, NONCE)
    assert check_hello(newer) is newer
    assert agree(newer.version) == VERSION


def test_agreed_version_is_the_lower_one() -> None:
    assert agree(VERSION - 1) == VERSION - 1


def test_bad_username_is_refused() -> None:
    with pytest.raises(Refused, match="username") as caught:
        check_hello(Hello(VERSION, "two words", CLIENT, KEY, NONCE))
    assert caught.value.code == Code.BAD_NAME


@pytest.mark.parametrize("client", [b"", CLIENT[:-1], CLIENT + b"\x00"])
def test_client_id_has_8_bytes(client: bytes) -> None:
    with pytest.raises(ProtocolError, match="A client id must have 8 bytes") as caught:
        check_hello(replace(HELLO, client=client))
    assert caught.value.code == Code.HANDSHAKE


@pytest.mark.parametrize("part", ["key", "nonce"])
@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33)])
def test_key_and_nonce_have_32_bytes(part: str, data: bytes) -> None:
    hello = Hello(
        VERSION, "alice", CLIENT, data if part == "key" else KEY, data if part == "nonce" else NONCE
    )
    with pytest.raises(ProtocolError, match=f"A {part} must have 32 bytes") as caught:
        check_hello(hello)
    assert caught.value.code == Code.HANDSHAKE


# ------------------------------------------------------------------ what a proof signs

versions = st.integers(0, INT_LIMIT - 1)
keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
nonces = st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE)
hellos = st.builds(
    Hello,
    version=versions,
    user=st.text(max_size=40),
    client=st.binary(min_size=CLIENT_ID_SIZE, max_size=CLIENT_ID_SIZE),
    key=keys,
    nonce=nonces,
)
handshakes = st.tuples(
    hellos,
    st.builds(Challenge, version=versions, nonce=nonces),
    st.just(b"") | st.binary(min_size=32, max_size=32),
)
PARTS = ("version", "user", "client", "key", "nonce")


@given(one=handshakes, other=handshakes)
def test_two_handshakes_never_sign_the_same(
    one: tuple[Hello, Challenge, bytes], other: tuple[Hello, Challenge, bytes]
) -> None:
    assert (proof_text(*one) == proof_text(*other)) == (one == other)


@pytest.mark.parametrize("part", PARTS)
@given(one=handshakes, other=hellos)
def test_each_part_of_the_hello_is_signed(
    part: str, one: tuple[Hello, Challenge, bytes], other: Hello
) -> None:
    hello, challenge, server = one
    parts = {name: getattr(other if name == part else hello, name) for name in PARTS}
    changed = Hello(**parts)
    assume(changed != hello)
    assert proof_text(changed, challenge, server) != proof_text(hello, challenge, server)


@given(one=handshakes, version=versions, nonce=nonces, pin=keys)
def test_the_challenge_and_the_server_are_signed(
    one: tuple[Hello, Challenge, bytes], version: int, nonce: bytes, pin: bytes
) -> None:
    hello, challenge, server = one
    others = {
        proof_text(hello, Challenge(version, challenge.nonce), server),
        proof_text(hello, Challenge(challenge.version, nonce), server),
        proof_text(hello, challenge, pin),
        proof_text(hello, challenge, b""),
    }
    same = {version == challenge.version, nonce == challenge.nonce, pin == server, server == b""}
    assert (proof_text(*one) in others) == (True in same)


@given(one=handshakes)
def test_nonces_cannot_be_swapped(one: tuple[Hello, Challenge, bytes]) -> None:
    hello, challenge, server = one
    assume(hello.nonce != challenge.nonce)
    swapped = replace(hello, nonce=challenge.nonce), replace(challenge, nonce=hello.nonce)
    assert proof_text(*swapped, server) != proof_text(*one)


def test_no_signed_part_can_pass_as_the_pin() -> None:
    pin, key, client, nonce = b"p" * 32, b"k" * KEY_SIZE, b"12345678", b"c" * NONCE_SIZE
    hello = Hello(VERSION, "alice", client, key, NONCE)
    user = (key[CLIENT_ID_SIZE:] + client + b"alice").decode()
    shifted = Hello(VERSION, user, key[:CLIENT_ID_SIZE], NONCE, nonce)
    with_tls = proof_text(hello, Challenge(VERSION, nonce), pin)
    assert proof_text(shifted, Challenge(VERSION, pin), b"") != with_tls


def test_proof_text_begins_with_its_purpose() -> None:
    text = proof_text(HELLO, Challenge(VERSION, NONCE), b"")
    assert text.startswith(b"tchat: I am the person of this name, to this server, now\0")
