"""Nicknames: each name has one of its own, whatever a server sends as a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.text import check_name, fold
from tchat.errors import Refused
from tchat.irc.messages import Message, parse
from tchat.irc.names import SERVER, SERVICE, nick_of, person_of, source_of

FORBIDDEN = set(" !@:,*?#&$%+~\0\r\n\t\x1b")
NAMES = st.text(st.sampled_from("*!@: #&^.-1ax\n\r\u202eé\u0301"), max_size=12) | st.text()


@pytest.mark.parametrize(
    ("name", "nick"),
    [
        ("alice", "alice"),
        ("Élodie", "Élodie"),
        ("3alice", "^3alice"),
        ("-x", "^-x"),
        (SERVICE, "^2a^tchat"),
        (SERVER, "^74^chat.localhost"),
        ("alice!root@tchat", "^61^lice^21^root^40^tchat"),
        (":alice b", "^3a^alice^20^b"),
        ("#ops", "^23^ops"),
        ("^3alice", "^5e^3alice"),
        ("", "^xe3b0c44298fc1c14^"),
    ],
)
def test_each_name_has_a_nickname_of_its_own(name: str, nick: str) -> None:
    assert nick_of(name) == nick
    assert source_of(name) == f"{nick}!{nick}@tchat"


@given(NAMES)
def test_nicknames_are_one_valid_word(name: str) -> None:
    nick = nick_of(name)
    assert nick
    assert not FORBIDDEN & set(nick)
    assert nick[0] not in "0123456789-."
    assert fold(nick) not in (SERVICE, SERVER)
    line = Message("PRIVMSG", ("#ops", "hi"), source_of(name)).encode()
    assert parse(line.removesuffix(b"\r\n")).params == ("#ops", "hi")


@given(NAMES)
def test_nicknames_lead_back_to_their_names(name: str) -> None:
    nick = nick_of(name)
    assert person_of(nick) == (nick if nick.startswith("^x") else name)


@pytest.mark.parametrize("nick", ["^d800^x", "^dfff^x^", "^110000^x", "^ffffff^x"])
def test_nickname_of_no_character_is_a_text(nick: str) -> None:
    """Whoever types it gets an answer: a surrogate could not be sent to the server."""
    assert person_of(nick) == nick


@given(NAMES)
def test_only_valid_names_look_like_themselves(name: str) -> None:
    try:
        is_name = check_name(name) == name
    except Refused:
        is_name = False
    assert (nick_of(name).removeprefix("^") == name) == (is_name and fold(name) != SERVER)
