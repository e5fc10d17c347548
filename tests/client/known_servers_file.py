"""The known-servers file of a client under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.known_servers import KnownServers

if TYPE_CHECKING:
    from pathlib import Path


class File:
    """A known-servers file on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def entries(self) -> list[str]:
        """The lines that are not comments."""
        return [line for line in self.text.splitlines() if not line.startswith("#")]

    def write(self, text: str) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(text)

    def servers(self) -> KnownServers:
        """Return the known servers as another process reads them."""
        return KnownServers(self.path)
