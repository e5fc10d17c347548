"""A real pseudo-terminal with a program in it, and an emulator that shows what it painted."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING

import ptyprocess
import pyte

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

GUARD_SECONDS = 30.0


class Terminal:
    """`python -m tchat` with `arguments`, in a terminal of `width` by `height` cells."""

    def __init__(
        self, arguments: list[str], home: str, width: int = 80, height: int = 24, **extra: str
    ) -> None:
        environment = {**os.environ, "TERM": "xterm-256color", "TCHAT_HOME": home}
        environment |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **extra}
        self.screen = pyte.Screen(width, height)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._process = ptyprocess.PtyProcess.spawn(
            [sys.executable, "-m", "tchat", *arguments],
            env=environment,
            dimensions=(height, width),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.close(force=True)

    @property
    def text(self) -> str:
        """What the screen shows, row by row."""
        return "\n".join(row.rstrip() for row in self.screen.display)

    def type(self, text: str) -> None:
        r"""Press keys; "\r" is Enter."""
        self._process.write(text.encode())

    def resize(self, width: int, height: int) -> None:
        """Change the terminal's size; the program gets SIGWINCH."""
        self.screen.resize(height, width)
        self._process.setwinsize(height, width)

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._process.kill(number)

    def sees(self, *texts: str) -> None:
        """Wait until the screen shows all of `texts`."""
        self.until(lambda: all(text in self.text for text in texts), f"{texts}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Take output until the condition holds."""
        guard = time.monotonic() + GUARD_SECONDS
        while not condition():
            assert time.monotonic() < guard, f"never came: {what}\n{self.text}"
            assert self._receive(), f"the program ended before: {what}\n{self.text}"

    def end(self) -> int:
        """Wait until the program has ended and return its exit status."""
        while self._receive():
            pass
        self._process.wait()
        status = self._process.exitstatus
        assert status is not None
        return int(status)

    def _receive(self) -> bool:
        """Take output if there is some; return False once the program has ended."""
        ready, _, _ = select.select([self._process.fd], [], [], 0.5)
        if ready:
            try:
                data = self._process.read(65536)
            except EOFError:
                return False
            self.raw += data
            self._stream.feed(data)
        return True
