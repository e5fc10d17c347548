"""Lines from standard input, whatever it is: a terminal, a pipe, a file, nothing."""

from __future__ import annotations

import codecs
import os

import trio


class TypedLines:
    """Reads lines from a file descriptor.

    Not through `sys.stdin`: a thread that waits in its buffer when the program ends holds a lock
    that the interpreter then wants, whereas one that waits in `os.read` may be left behind.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._text = ""
        self._ended = False

    def read(self) -> str | None:
        """Return the next line without its end; None when there are no more. Blocks."""
        while "\n" not in self._text and not self._ended:
            data = os.read(self._descriptor, 65536)
            self._ended = not data
            self._text += self._decode(data, final=self._ended)
        line, newline, self._text = self._text.partition("\n")
        return line.removesuffix("\r") if line or newline else None

    async def receive(self) -> str | None:
        """Return the next line without its end; None when there are no more."""
        return await trio.to_thread.run_sync(self.read, abandon_on_cancel=True)
