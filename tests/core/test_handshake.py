"""How a connection may begin."""

from __future__ import annotations

import pytest

from tchat.core.frames import Ping
from tchat.core.handshake import VERSION, Hello, Transfer, agree, check_hello
from tchat.errors import Code, ProtocolError, Refused
from tests.core.examples import CLIENT, TICKET


@pytest.mark.parametrize("opening", [Hello(VERSION, "alice", CLIENT), Transfer(VERSION, TICKET)])
def test_a_connection_begins_with_hello_or_transfer(opening: Hello | Transfer) -> None:
    assert check_hello(opening) is opening


def test_nothing_else_is_a_beginning() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_hello(Ping())
    assert caught.value.code == Code.HANDSHAKE


@pytest.mark.parametrize("opening", [Hello(0, "alice", CLIENT), Transfer(0, TICKET)])
def test_there_is_no_version_0(opening: Hello | Transfer) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_hello(opening)
    assert caught.value.code == Code.BAD_VERSION


def test_a_newer_client_is_welcome_and_both_speak_what_both_know() -> None:
    newer = Hello(VERSION + 8, "alice", CLIENT)
    assert check_hello(newer) is newer
    assert agree(newer.version) == VERSION


def test_an_older_version_is_spoken_with_those_who_know_no_other() -> None:
    assert agree(VERSION - 1) == VERSION - 1


def test_a_bad_username_is_refused_so_that_another_can_be_chosen() -> None:
    with pytest.raises(Refused, match="username") as caught:
        check_hello(Hello(VERSION, "two words", CLIENT))
    assert caught.value.code == Code.BAD_NAME


@pytest.mark.parametrize("client", [b"", CLIENT[:-1], CLIENT + b"\x00"])
def test_a_client_id_has_8_bytes(client: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_hello(Hello(VERSION, "alice", client))
    assert caught.value.code == Code.HANDSHAKE
