"""Known-servers file: the pins of servers that this client trusts (TOFU), one server per line.

    chat.example.org:7777 sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM
    [2001:db8::7]:7777 ca

A line holds the address as it was typed, and the pin of the server's key, or `ca` for a server
whose certificate the system's certificate authorities verified. If there are several lines for one
address, the first applies. tchat only adds lines; a changed key is accepted only after the person
has removed the line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.fingerprints import pin_text, read_pin
from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.address import Address

_HEADER = (
    "# The servers that this client knows. If you know why a server's key has changed,\n"
    "# remove its line.\n"
)
_CA_VERIFIED = "ca"


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A known server: its pin, None if it is CA-verified; and its line number in the file."""

    pin: bytes | None
    line: int


class KnownServers:
    """The known servers in the file at `path`; without a path, in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._added: list[str] = []

    def find(self, address: Address) -> KnownServer | None:
        """Return the entry for an address. Raises `StartupError`."""
        for number, line in enumerate(self._lines(), start=1):
            words = line.split("#", 1)[0].split()
            if words and words[0].lower() == _key(address):
                return KnownServer(self._read_entry(words, number), number)
        return None

    def add(self, address: Address, pin: bytes | None) -> None:
        """Remember a server. Raises `StartupError`."""
        line = f"{_key(address)} {_CA_VERIFIED if pin is None else pin_text(pin)}\n"
        self._added.append(line)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One appending write, so that several clients may add lines at the same time.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self.path, flags, 0o600), "a+b") as file:
                file.seek(0)
                before = file.read()
                start = "" if before.endswith(b"\n") else "\n" if before else _HEADER
                file.write((start + line).encode())
        except OSError as error:
            raise self._unusable(error) from error

    def _lines(self) -> list[str]:
        if self.path is None:
            return self._added
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeError) as error:
            raise self._unusable(error) from error

    def _read_entry(self, words: list[str], number: int) -> bytes | None:
        if words[1:] == [_CA_VERIFIED]:
            return None
        try:
            return read_pin("".join(words[1:2]))
        except ValueError as error:
            raise StartupError(
                Code.CANNOT_START, f"Line {number} of {self.path} is not valid: {error}."
            ) from error

    def _unusable(self, error: Exception) -> StartupError:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        return StartupError(Code.CANNOT_START, f"{self.path} cannot be used: {reason}.")


def _key(address: Address) -> str:
    return str(address).lower()
