"""Identity keys: files, signatures, and the keys for which anybody could sign."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tchat.errors import Code, ProtocolError, StartupError
from tchat.net.identity import Identity, load_identity, verify
from tests.helpers import identity_of
from tests.net.small_order import FORGED, P, accepted, small_order

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def test_all_fourteen_small_order_encodings_are_refused() -> None:
    assert len(set(small_order())) == 14
    assert bytes.fromhex("01" + 31 * "00") in small_order()
    assert bytes.fromhex("ec" + 30 * "ff" + "7f") in small_order()
    lows = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"  # libsodium's
    assert bytes.fromhex(lows) in small_order()


@pytest.mark.parametrize("key", small_order(), ids=bytes.hex)
def test_a_small_order_key_proves_nothing(key: bytes) -> None:
    for message in (b"any", b"thing", b"at", b"all"):
        with pytest.raises(ProtocolError, match="can be forged") as caught:
            verify(key, FORGED, message)
        assert caught.value.code == Code.BAD_PROOF


@pytest.mark.parametrize("key", small_order()[:10], ids=bytes.hex)
def test_plain_ed25519_accepts_a_forged_signature(key: bytes) -> None:
    message = next((b"%d" % n for n in range(500) if accepted(key, FORGED, b"%d" % n)), None)
    assert message is not None
    with pytest.raises(ProtocolError, match="can be forged"):
        verify(key, FORGED, message)


def test_a_non_canonical_key_is_refused() -> None:
    for y in range(19):
        for sign in (0, 1):
            with pytest.raises(ProtocolError):
                verify((y + P | sign << 255).to_bytes(32, "little"), FORGED, b"anything")


def test_a_signature_proves_the_key() -> None:
    alice = identity_of("alice")
    verify(alice.public, alice.sign(b"it is me"), b"it is me")


def test_signature_is_valid_for_one_text_and_key() -> None:
    alice, mallory = identity_of("alice"), identity_of("mallory")
    signature = alice.sign(b"it is me")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for key, shown, text in (
        (alice.public, signature, b"it is you"),
        (mallory.public, signature, b"it is me"),
        (alice.public, flipped, b"it is me"),
        (alice.public, signature[:-1], b"it is me"),
        (alice.public, signature + b"\0", b"it is me"),
        (alice.public, b"", b"it is me"),
    ):
        with pytest.raises(ProtocolError) as caught:
            verify(key, shown, text)
        assert caught.value.code == Code.BAD_PROOF


# ------------------------------------------------------------------ the file


def test_an_identity_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "home" / "identity"
    first = load_identity(path)
    assert load_identity(path).public == first.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity(tmp_path / "other").public != first.public
    verify(first.public, load_identity(path).sign(b"text"), b"text")


def test_an_openssl_key_is_a_valid_identity(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    assert load_identity(kept(tmp_path, key)).public == Identity(key).public


def kept(home: Path, key: PrivateKeyTypes, password: bytes | None = None) -> Path:
    secrecy = BestAvailableEncryption(password) if password else NoEncryption()
    (home / "identity").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secrecy))
    (home / "identity").chmod(0o600)
    return home / "identity"


def test_other_and_encrypted_keys_are_refused(tmp_path: Path) -> None:
    for path in (
        kept(tmp_path, ec.generate_private_key(ec.SECP256R1())),
        kept(tmp_path, Ed25519PrivateKey.generate(), b"a secret"),
    ):
        with pytest.raises(StartupError, match="is not an Ed25519 key in PEM format"):
            load_identity(path)


@pytest.mark.parametrize("data", [b"", b"no key\n", b"\xff\x00", bytes(32)])
def test_an_invalid_identity_file_is_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "identity"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(StartupError, match=r"is not an Ed25519 key|is empty") as caught:
        load_identity(path)
    assert f"mv {path.parent} {path.parent}.old" in str(caught.value)
    assert path.read_bytes() == data
