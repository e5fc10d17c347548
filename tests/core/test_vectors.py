"""The protocol's test vectors agree with the code, in both directions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tchat.core.fingerprints import read_invite, read_pin
from tchat.core.protocol.frames import Ping, decode, encode
from tchat.core.protocol.framing import unpack
from tchat.core.protocol.handshake import PIECE_SIZE, proof_text
from tchat.core.text import clean_line, clean_text, fold
from tchat.core.vocabulary import TO_SERVER, decode_request
from tchat.errors import Code, ProtocolError
from tchat.net.identity import verify
from tchat.transfer.pieces import piece_end
from tests.core import vectors

VECTORS: dict[str, Any] = json.loads(vectors.PATH.read_text(encoding="utf-8"))


def each(key: str) -> pytest.MarkDecorator:
    """Parametrize a test with each of these vectors."""
    return pytest.mark.parametrize("vector", VECTORS[key], ids=[v["why"] for v in VECTORS[key]])


def test_vectors_are_up_to_date() -> None:
    assert vectors.PATH.read_text(encoding="utf-8") == vectors.dump(), (
        "run: python -m tests.core.vectors"
    )


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda vector: vector["map"]["type"])
def test_frame_decodes_to_its_map(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["frame"])
    body = vectors.body_of(frame)
    assert int.from_bytes(frame[:4], "big") == len(body)
    expected = {
        key: bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value
        for key, value in vector["map"].items()
    }
    assert unpack(body) == expected
    assert encode(decode_request(body)) == frame


@each("accepted")
def test_accepted_body_is_a_ping(vector: dict[str, str]) -> None:
    assert decode_request(bytes.fromhex(vector["body"])) == Ping()


@each("malformed")
def test_malformed_body_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(bytes.fromhex(vector["body"]), TO_SERVER)
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=["with TLS", "without TLS"])
def test_signature_verifies(vector: dict[str, str]) -> None:
    hello, challenge = vectors.hello_of(vector)
    signed = proof_text(hello, challenge, bytes.fromhex(vector["pin"]))
    assert signed.hex() == vector["signed"]
    verify(hello.key, bytes.fromhex(vector["signature"]), signed)


def test_folding_is_idempotent() -> None:
    assert [fold(folded) for _, folded in VECTORS["fold"]] == [f for _, f in VECTORS["fold"]]


@pytest.mark.parametrize(("key", "clean"), [("clean_text", clean_text), ("clean_line", clean_line)])
def test_cleaning_is_idempotent(key: str, clean: Any) -> None:  # noqa: ANN401
    assert [clean(cleaned) for _, cleaned in VECTORS[key]] == [c for _, c in VECTORS[key]]


def test_pins_and_invites_read_back() -> None:
    for vector in VECTORS["pins"]:
        assert read_pin(vector["text"]).hex() == vector["sha256"]
    for vector in VECTORS["invites"]:
        token, pin = read_invite(vector["text"])
        assert (token.hex(), pin.hex()) == (vector["token"], vector["pin"])
        assert hashlib.sha256(token).hexdigest() == vector["digest"]


def test_pieces_end_where_the_vectors_say() -> None:
    vector = VECTORS["running_digests"]
    ends, at = [], 0
    while at < vector["size"]:
        at = piece_end(at, vector["size"])
        ends.append(at)
    assert ends == [piece["end"] for piece in vector["pieces"]]
    data = vectors.content(vector["size"])
    assert data[252] == 1
    assert vector["head"] == hashlib.sha256(data[:PIECE_SIZE]).hexdigest()
    resumed = vector["resumed_from"]
    end = piece_end(resumed["offset"], vector["size"])
    assert end - resumed["offset"] == resumed["first_piece_size"]
