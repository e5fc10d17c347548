"""Save standard input to a file: an upload begins with the size and a digest of the content.

The file is in the directory of the person's identity, which nobody else can read, and not in /tmp,
which may be in memory. It is removed afterwards; that of a process that was killed is removed by
the next one that saves its input.
"""

from __future__ import annotations

import fcntl
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import trio

from tchat.client.config.paths import state_directory
from tchat.core.text import size_text
from tchat.errors import Code, Refused
from tchat.streams import input_was_closed
from tchat.ui.plain.typed import TypedLines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_PREFIX = "input-"


@asynccontextmanager
async def saved_input(most: int) -> AsyncIterator[Path]:
    """Save the whole standard input, at most `most` bytes, and give its file. Raises `Refused`."""
    with _saving(), _locked_file(state_directory()) as file:
        await trio.to_thread.run_sync(_copy, file, most, abandon_on_cancel=True)
        yield Path(file.name)


@contextmanager
def _saving() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(
            Code.FILE_UNREADABLE, f"The input cannot be saved: {error.strerror}."
        ) from error


@contextmanager
def _locked_file(directory: Path) -> Iterator[IO[bytes]]:
    """Make a file that is removed at the end; remove those that other processes have left."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in directory.glob(f"{_PREFIX}*"):
        with suppress(OSError), left.open("rb") as file:  # locked, or somebody was faster
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    while True:
        with tempfile.NamedTemporaryFile(prefix=_PREFIX, dir=directory, delete=False) as file:
            path = Path(file.name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists():  # otherwise, another process has removed it before it was locked
                    yield file
                    return
            finally:
                path.unlink(missing_ok=True)


def _copy(file: IO[bytes], most: int) -> None:
    """Copy standard input to a file. Raises `Refused`."""
    if input_was_closed():
        raise Refused(Code.FILE_UNREADABLE, "The input cannot be read: it is closed.")
    typed = TypedLines()
    left = most
    while data := typed.read_some():
        left -= len(data)
        if left < 0:
            raise Refused(
                Code.FILE_TOO_LARGE,
                f"The input is larger than {size_text(most)}; allow more with --max-input SIZE.",
            )
        file.write(data)
    file.flush()
