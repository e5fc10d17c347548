"""Read lines from standard input: a terminal, a pipe, a file, or nothing.

A pipe may contain any bytes. Lines are decoded as UTF-8, and invalid bytes are replaced. A line
that is longer than `PART_LIMIT` is returned in parts, so that input without line breaks does not
fill the memory.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.core.text import TEXT_LIMIT
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

PART_LIMIT = 64 * 1024
"""Longest part of a line, in bytes."""

_CONTINUATION = range(0x80, 0xC0)
_MOST_CONTINUATIONS = 3


@dataclass(frozen=True, slots=True)
class TypedLine:
    """A line without its end, or a part of a line; `more` says that it goes on in the next one.

    `damaged` says that it was not valid UTF-8; U+FFFD replaces the invalid bytes.
    """

    text: str
    more: bool = False
    damaged: bool = False


class TypedLines:
    """Reads lines from a file descriptor; `copy` is called with all bytes, as they are read.

    Not through `sys.stdin`: a thread that blocks there holds the buffer's lock, which the
    interpreter needs to exit. A thread that blocks in `os.read` may be abandoned.
    """

    def __init__(
        self, descriptor: int = 0, copy: Callable[[bytes], object] = lambda _: None
    ) -> None:
        self._descriptor = descriptor
        self._copy = copy
        self._bytes = bytearray()
        self._searched = 0
        self._ended = False

    def read(self) -> TypedLine | None:
        """Return the next line, or part of one; None when there are no more. Blocks.

        Raises `Refused` (file_unreadable).
        """
        while (line := self._next()) is None and not self._ended:
            data = self.read_some()
            self._ended = not data
            self._bytes += data
        return line

    async def receive(self) -> TypedLine | None:
        """Return what `read` returns, while other tasks run."""
        return await trio.to_thread.run_sync(self.read, abandon_on_cancel=True)

    def read_some(self) -> bytes:
        """Return what can be read next, however many lines; empty at the end. Blocks.

        Not to be mixed with `read`. Raises `Refused` (file_unreadable).
        """
        while True:
            try:
                data = os.read(self._descriptor, PART_LIMIT)
            except BlockingIOError:  # another program has made the pipe non-blocking
                select.select([self._descriptor], [], [])
                continue
            except OSError as error:
                raise Refused(
                    Code.FILE_UNREADABLE, f"The input cannot be read: {error.strerror}."
                ) from error
            self._copy(data)
            return data

    def _next(self) -> TypedLine | None:
        """Remove the next line or part from the bytes that were read, if it is complete."""
        end = self._bytes.find(b"\n", self._searched, PART_LIMIT + 1)
        if end >= 0:
            return self._take(end, 1)
        if len(self._bytes) > PART_LIMIT:
            return self._take(_character_end(self._bytes, PART_LIMIT), 0, more=True)
        self._searched = len(self._bytes)
        return self._take(len(self._bytes), 0) if self._ended and self._bytes else None

    def _take(self, size: int, skip: int, *, more: bool = False) -> TypedLine:
        data = bytes(self._bytes[:size])
        del self._bytes[: size + skip]
        self._searched = 0
        if skip:
            data = data.removesuffix(b"\r")
        try:
            return TypedLine(data.decode(), more)
        except UnicodeDecodeError:
            return TypedLine(data.decode(errors="replace"), more, damaged=True)


def _character_end(data: bytearray, end: int) -> int:
    """Return where to cut so that no character is cut in two, at `end` or a little before it."""
    for back in range(_MOST_CONTINUATIONS + 1):
        if data[end - back] not in _CONTINUATION:
            return end - back
    return end  # not UTF-8 in any case


def split_text(text: str) -> list[str]:
    """Return a text in parts that each fit into a message, cut after a space where possible."""
    parts = [first_part(text)]
    while text := text[len(parts[-1]) :]:
        parts.append(first_part(text))
    return parts


def first_part(text: str) -> str:
    """Return as much of a text as fits into a message, cut after a space where possible."""
    data = text[: TEXT_LIMIT + 1].encode()  # no more than can count
    if len(data) <= TEXT_LIMIT:
        return text
    part = data[:TEXT_LIMIT].decode(errors="ignore")
    earliest = len(part) * 3 // 4
    space = max(part.rfind(" ", earliest), part.rfind("\t", earliest))
    return part[: space + 1] if space >= 0 else part
