"""Key exchange: X25519 only, so that a made-up key of another group costs no computation."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tchat.net.tls import client_context, make_credentials
from tests.client_hello import (
    ALERT,
    FFDHE2048,
    FFDHE8192,
    HANDSHAKE,
    HANDSHAKE_FAILURE,
    P256,
    RETRY,
    X25519,
    client_hello,
    made_up_key,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3, 0), reason="OpenSSL 1.1.1 keeps its default groups"
)

OTHERS = pytest.mark.parametrize("other", [FFDHE8192, FFDHE2048, P256])


def answer_of(context: ssl.SSLContext, hello: bytes) -> bytes:
    """Return what a server sends after the first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    try:
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    except ssl.SSLError:
        return outgoing.read()
    raise AssertionError("one message is no handshake")


@OTHERS
def test_hello_with_another_group_gets_an_alert(other: int, tmp_path: Path) -> None:
    hello = client_hello([other], {other: made_up_key(other)})
    answer = answer_of(make_credentials(tmp_path).context, hello)
    assert (answer[0], answer[-1]) == (ALERT, HANDSHAKE_FAILURE)


@OTHERS
def test_hello_with_another_key_is_asked_again(other: int, tmp_path: Path) -> None:
    hello = client_hello([other, X25519], {other: made_up_key(other)})
    answer = answer_of(make_credentials(tmp_path).context, hello)
    assert answer[0] == HANDSHAKE
    assert answer[11:43] == RETRY  # after the headers of the record and the message, and a version


def test_hello_with_our_group_is_accepted(tmp_path: Path) -> None:
    keys = {group: made_up_key(group) for group in (FFDHE8192, X25519)}
    answer = answer_of(make_credentials(tmp_path).context, client_hello(list(keys), keys))
    assert answer[0] == HANDSHAKE
    assert answer[11:43] != RETRY


@pytest.mark.parametrize("verified", [True, False])
def test_client_offers_one_group_only(verified: bool) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context(verified=verified).wrap_bio(
            incoming, outgoing, server_hostname="localhost"
        ).do_handshake()
    supported_groups = bytes.fromhex("000a 0004 0002 001d")
    assert supported_groups in outgoing.read()


@pytest.mark.parametrize("verified", [True, False])
def test_client_agrees_on_no_other_group(verified: bool, tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make_credentials(tmp_path)
    server.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    server.set_ecdh_curve("ffdhe8192")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(verified=verified).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert answer_of(server, outgoing.read())[0] == ALERT
