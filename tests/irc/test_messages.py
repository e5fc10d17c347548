"""IRC messages: every message is one line that means the same when it is parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.irc.formatting import MOST_LINES, lines_of, message_lines, text_from_irc
from tchat.irc.messages import LINE_SIZE, MalformedError, Message, cut, parse, split
from tchat.irc.names import channel_of, group_of, nick_of, person_of

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXTS = ANY.map(lambda text: text.translate({13: "r", 10: "n", 0: "0"}))
WORDS = TEXTS.map(lambda text: text.replace(" ", "_").lstrip(":")).filter(bool)
KEYS = st.from_regex(r"\+?[a-z][a-z0-9./-]{0,9}", fullmatch=True)
TAG_VALUES = ANY.map(lambda text: text.replace("\0", ""))
MESSAGES = st.builds(
    lambda command, words, last, source, tags: Message(command, (*words, last), source, tags),
    st.sampled_from(["PRIVMSG", "MODE", "JOIN", "353"]),
    st.lists(WORDS, max_size=2),
    TEXTS,
    st.none() | WORDS,
    st.dictionaries(KEYS, TAG_VALUES, max_size=3),
)


def test_line_of_a_message() -> None:
    message = Message(
        "PRIVMSG", ("#ops", "hello you"), "bob!bob@tchat", {"time": "1", "+x": "a; b\\"}
    )
    line = b"@time=1;+x=a\\:\\sb\\\\ :bob!bob@tchat PRIVMSG #ops :hello you\r\n"
    assert message.encode() == line
    assert parse(line[:-2]) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nick alice", Message("NICK", ("alice",))),
        (b"PRIVMSG  #ops   ::)", Message("PRIVMSG", ("#ops", ":)"))),
        (b"AWAY :", Message("AWAY", ("",))),
        (b"AWAY", Message("AWAY")),
        (b"@a=1\\;b;=x;c= :s WHO x ", Message("WHO", ("x",), "s", {"a": "1", "b": "", "c": ""})),
        (b"X " + b"a " * 14 + b"b c", Message("X", ("a",) * 14 + ("b c",))),
    ],
)
def test_lines_of_clients_are_parsed(line: bytes, message: Message) -> None:
    assert parse(line) == message


@pytest.mark.parametrize("line", [b"", b" ", b":source", b"@a=b", b"12 x", b"\xff", b"PING \0"])
def test_malformed_lines_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(line)


@given(MESSAGES)
def test_messages_survive_a_round_trip(message: Message) -> None:
    assert parse(message.encode().removesuffix(b"\r\n")) == message


@given(st.binary(max_size=200))
def test_hostile_bytes_are_parsed_or_refused(line: bytes) -> None:
    try:
        message = parse(line)
    except MalformedError:
        return
    assert parse(message.encode().removesuffix(b"\r\n")).command == message.command


@given(st.lists(ANY, min_size=1, max_size=4), ANY, st.dictionaries(KEYS, ANY, max_size=2))
def test_no_text_forges_another_message(
    params: list[str], source: str, tags: dict[str, str]
) -> None:
    line = Message("PRIVMSG", tuple(params), source, tags).encode()
    assert line.endswith(b"\r\n")
    assert not set(line[:-2]) & set(b"\r\n\0")
    parsed = parse(line[:-2])
    assert (parsed.command, len(parsed.params)) == ("PRIVMSG", len(params))
    assert parsed.tags.keys() == tags.keys()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
def test_lines_have_at_most_512_bytes(text: str) -> None:
    line = Message("PRIVMSG", ("#ops", text), "bob!bob@tchat").encode()
    assert len(line) <= LINE_SIZE
    line.decode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(4, 50))
def test_split_texts_lose_nothing(text: str, size: int) -> None:
    pieces = split(text, size)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= size for piece in pieces)


def test_texts_are_split_between_words() -> None:
    assert split("one two three", 9) == ["one two ", "three"]
    assert split("ééééé", 5) == ["éé", "éé", "é"]
    assert cut("éé", 3) == "é"


@pytest.mark.parametrize("name", ["alice", "Björn", "9lives", "-dash", ".dot", "日本", "a.b-c_d"])
def test_names_are_mapped_and_back(name: str) -> None:
    nick = nick_of(name)
    assert person_of(nick) == name
    assert not nick[0].isascii() or nick[0].isalpha() or nick[0] == "^"
    assert group_of(channel_of(name)) == name


@pytest.mark.parametrize(
    ("typed", "posted"),
    [
        ("hello", "hello"),
        ("\x01ACTION waves\x01", "/me waves"),
        ("\x01VERSION\x01", None),
        ("\x02bold\x02 \x0304,05red\x03 \x04ff0000x\x0f", "bold red x"),
    ],
)
def test_texts_from_irc(typed: str, posted: str | None) -> None:
    assert text_from_irc(typed) == posted


def test_message_of_many_lines_is_bounded() -> None:
    """Otherwise one message would be 8,000 messages in an IRC client, and half a megabyte."""
    lines = message_lines("\n".join(map(str, range(8000))))
    assert len(lines) == MOST_LINES
    assert "↵".join(lines).split("↵") == list(map(str, range(8000)))
    short = "\n".join(map(str, range(MOST_LINES)))
    assert message_lines(short) == short.split("\n")


def test_lines_of_a_text() -> None:
    assert lines_of("one\n\n\x01three\x02") == ["one", " ", "three"]
    assert lines_of("one\r\ntwo\n\n") == ["one", "two"]
    assert lines_of("") == [" "]
