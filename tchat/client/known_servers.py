"""Known-servers file: the pins of servers that this client trusts (TOFU), one server per line.

    chat.example.org:7777 sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM
    [2001:db8::7]:7777 ca

A line holds the address as it was typed, and the pin of the server's key, or `ca` for a server
whose certificate the system's certificate authorities verified. A third word is the pin of the
server's first key, if it is another one: the server has rotated its key since then. If there are
several lines for one address, the first applies. tchat adds lines, and changes one only when the
server's former key has signed the next one (see `net.key_chain`); any other key is accepted only
after the person has removed the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.client.shared_records import locked
from tchat.core.fingerprints import pin_text, read_pin
from tchat.errors import Code, StartupError
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.net.address import Address

_HEADER = (
    "# The servers that this client knows. If you know why a server's key has changed,\n"
    "# remove its line.\n"
)
_CA_VERIFIED = "ca"


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A known server: its pin, None if it is CA-verified; and its line number in the file.

    `first` is the pin of its first key, if that is another one.
    """

    pin: bytes | None
    line: int
    first: bytes | None = None

    @property
    def identity(self) -> bytes | None:
        """The pin of the server's first key."""
        return self.first or self.pin


class KnownServers:
    """The known servers in the file at `path`; without a path, in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._added: list[str] = []

    def find(self, address: Address) -> KnownServer | None:
        """Return the entry for an address. Raises `StartupError`."""
        return self._find(self._lines(), address)

    def add(self, address: Address, pin: bytes | None, first: bytes | None = None) -> None:
        """Remember a server. Raises `StartupError`."""
        self._change(lambda lines: lines.append(_entry(address, pin, first)))

    def replace(self, address: Address, old: bytes, new: bytes) -> None:
        """Replace a pin by that of the server's next key; its first pin stays.

        Nothing happens if another process has done it already. Raises `StartupError`.
        """

        def change(lines: list[str]) -> None:
            known = self._find(lines, address)
            if known is not None and known.pin == old:
                lines[known.line - 1] = _entry(address, new, known.identity)

        self._change(change)

    def _find(self, lines: list[str], address: Address) -> KnownServer | None:
        for number, line in enumerate(lines, start=1):
            words = line.split("#", 1)[0].split()
            if words and words[0].lower() == _key(address):
                pin, first = self._read_entry(words[1:], number)
                return KnownServer(pin, number, first)
        return None

    def _change(self, change: Callable[[list[str]], None]) -> None:
        """Change the lines of the file. Raises `StartupError`."""
        if self.path is None:
            change(self._added)
            return
        try:
            with locked(self.path):
                before = self._lines()
                lines = list(before or _HEADER.splitlines())
                change(lines)
                if lines != before:
                    replace_file(self.path, "".join(f"{line}\n" for line in lines).encode())
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

    def _read_entry(self, words: list[str], number: int) -> tuple[bytes | None, bytes | None]:
        """Return the pin in a line, None if it is CA-verified, and the first pin, if given."""
        if words == [_CA_VERIFIED]:
            return None, None
        try:
            return read_pin("".join(words[:1])), read_pin(words[1]) if words[1:] else None
        except ValueError as error:
            raise StartupError(
                Code.CANNOT_START, f"Line {number} of {self.path} is not valid: {error}."
            ) from error

    def _unusable(self, error: Exception) -> StartupError:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        return StartupError(Code.CANNOT_START, f"{self.path} cannot be used: {reason}.")


def _entry(address: Address, pin: bytes | None, first: bytes | None) -> str:
    words = [_key(address), _CA_VERIFIED if pin is None else pin_text(pin)]
    if first is not None and first != pin:
        words.append(pin_text(first))
    return " ".join(words)


def _key(address: Address) -> str:
    return str(address).lower()
