"""Lines of the input: cut anywhere into reads, of any length, of any bytes."""

from __future__ import annotations

import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from tchat.core.text import TEXT_LIMIT
from tchat.ui.plain.typed import PART_LIMIT, TypedLine, TypedLines, split_text

WORDS = ["\n", "\r\n", "\r", "\0", "ü", "漢字", "\U0001f469\u200d\U0001f467", "/leave"]
PIECES = st.one_of(st.binary(max_size=8), st.sampled_from([word.encode() for word in WORDS]))


class CutReader:
    """A descriptor whose reads return the given pieces, one by one."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.descriptor, self._write = os.pipe()
        self._pieces = [piece for piece in pieces if piece]

    def lines(self) -> list[TypedLine]:
        """Return all lines; each piece is read alone."""
        typed, found = TypedLines(self.descriptor), []
        try:
            for piece in self._pieces:
                os.write(self._write, piece)
                found += self._complete(typed, piece)
            os.close(self._write)
            while (line := typed.read()) is not None:
                found.append(line)
        finally:
            os.close(self.descriptor)
        return found

    def _complete(self, typed: TypedLines, piece: bytes) -> list[TypedLine]:
        """Read as many lines as the piece has ended."""
        return [line for _ in range(piece.count(b"\n")) if (line := typed.read()) is not None]


def lines_of(*pieces: bytes) -> list[TypedLine]:
    return CutReader(list(pieces)).lines()


@given(st.lists(PIECES, max_size=12))
def test_any_cutting_gives_the_same_lines(pieces: list[bytes]) -> None:
    assert lines_of(*pieces) == lines_of(b"".join(pieces))


@given(st.lists(PIECES, max_size=12))
def test_no_byte_takes_others_with_it(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    expected = data.decode(errors="replace").split("\n")
    expected = [line.removesuffix("\r") for line in expected[:-1]] + expected[-1:]
    lines = lines_of(data)
    assert [line.text for line in lines] == (expected if expected[-1] else expected[:-1])
    assert any(line.damaged for line in lines) == (b"".join(pieces) != _reencoded(data))


def _reencoded(data: bytes) -> bytes:
    return data.decode(errors="ignore").encode()


def test_a_long_line_comes_in_parts() -> None:
    text = "漢" * PART_LIMIT  # three bytes each: no part may end inside of one
    first, *rest, last = _read_all(text.encode() + b"\nnext\n")
    assert last == TypedLine("next")
    parts = [first, *rest]
    assert "".join(part.text for part in parts) == text
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(part.text.encode()) <= PART_LIMIT for part in parts)
    assert not any(part.damaged for part in parts)


def _read_all(data: bytes) -> list[TypedLine]:
    """Read from a file: a pipe cannot hold as much."""
    descriptor = os.memfd_create("lines")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        typed = TypedLines(descriptor)
        return list(iter(typed.read, None))
    finally:
        os.close(descriptor)


def test_an_endless_line_fills_no_memory() -> None:
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    try:
        typed = TypedLines(descriptor)
        for _ in range(20):
            assert typed.read() == TypedLine("\0" * PART_LIMIT, more=True)
    finally:
        os.close(descriptor)


def test_a_non_blocking_input_is_waited_for() -> None:
    """Another program that shares the terminal or pipe may have made it so."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    found: list[TypedLine | None] = []
    thread = threading.Thread(target=lambda: found.append(TypedLines(reader).read()))
    thread.start()
    os.write(writer, b"late\n")
    thread.join()
    os.close(reader)
    os.close(writer)
    assert found == [TypedLine("late")]


@given(st.text(st.sampled_from("a \u00fc漢👍"), max_size=30), st.integers(1, 4000))
def test_a_split_text_is_whole_and_fits(text: str, times: int) -> None:
    parts = split_text(text * times)
    assert "".join(parts) == text * times
    assert all(len(part.encode()) <= TEXT_LIMIT for part in parts)


def test_a_text_is_split_between_words() -> None:
    parts = split_text("word " * 10_000)
    assert len(parts) > 1
    assert all(part.endswith(" ") for part in parts[:-1])
