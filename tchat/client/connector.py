"""Connect to a server and verify its identity: pinned keys (TOFU), known servers, CA certificates.

A server is known by the pin of its key. On first use it is trusted, with a notice, and remembered;
from then on it has to show the same key. This is trust on first use, as in SSH, with the same
limit: an attacker who intercepts the very first connection, and every later one, is not noticed,
unless the pin was given beforehand, by `--pin` or by an invite.

A first connection tries the system's certificate authorities. A server that they vouch for needs no
pin: it is remembered as such, and held to it from then on.

KnownServer servers are kept in a file that people can read and edit, one line for each:

    chat.example.org:7777 sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM
    [2001:db8::7]:7777 ca

That is the address as it was typed, and the pin of the server's key, or `ca` for a server that
authorities vouched for. The first line for an address counts. The program only adds lines; removing
one is up to people, so that a changed key is never accepted automatically.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.core.fingerprints import pin_text, read_pin
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import Address, is_local
from tchat.net.link import Link
from tchat.net.tls import NotTls, ServerBusy, Untrusted, client_context

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = (
    "# The servers that this client knows. If the key of one has changed for a reason that you"
    " know,\n# remove its line.\n"
)
_BY_CA = "ca"


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server's pin, None if authorities vouched for it, and its line in the file."""

    pin: bytes | None
    line: int


class KnownServers:
    """The known servers in the file at `path`; without a path, those of this process only."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._added: list[str] = []

    def find(self, address: Address) -> KnownServer | None:
        """Return the entry of a server, if there is one. Raises `StartupError`."""
        for number, line in enumerate(self._lines(), start=1):
            words = line.split("#", 1)[0].split()
            if words and words[0].lower() == _key(address):
                return KnownServer(self._read(words, number), number)
        return None

    def add(self, address: Address, pin: bytes | None) -> None:
        """Remember a server. Raises `StartupError`."""
        line = f"{_key(address)} {_BY_CA if pin is None else pin_text(pin)}\n"
        self._added.append(line)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One write to the end, so that several clients may append at the same time.
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

    def _read(self, words: list[str], number: int) -> bytes | None:
        if words[1:] == [_BY_CA]:
            return None
        try:
            return read_pin("".join(words[1:2]))
        except ValueError as error:
            raise StartupError(
                Code.CANNOT_START, f"Line {number} of {self.path} is not valid: {error}."
            ) from error

    def _unusable(self, error: Exception) -> StartupError:
        reason = getattr(error, "strerror", None) or "it is not text"
        return StartupError(Code.CANNOT_START, f"{self.path} cannot be used: {reason}.")


def _key(address: Address) -> str:
    return str(address).lower()


@dataclass(frozen=True, slots=True)
class NewServer:
    """A server trusted on first use: its pin is remembered from now on."""

    pin: bytes


def new_server_text(server: NewServer) -> str:
    """Return the notice to a person about a server that was trusted on first use."""
    return (
        f"new server: its key {pin_text(server.pin)} is saved; compare it with the one that the"
        " server printed when it started"
    )


class Connector:
    """Opens verified connections to one server.

    `known` are the known servers, `pin` is the one that the server is expected to have; `plain` is
    without TLS, and so without verification. `seen` is the pin of the last connection's server, and
    `vouched` whether authorities vouched for it.
    """

    def __init__(
        self,
        address: Address,
        known: KnownServers,
        pin: bytes | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self.address = address
        self.plain = plain
        self.seen = b""
        self.vouched = False
        self._known = known
        self._pin = pin

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_local(self.address.host)

    def names(self) -> list[str]:
        """Return the keys under which data about this server is stored, the most reliable first.

        That is its pin, if one is known, and its address. Raises `StartupError`.
        """
        if self.plain:
            return [f"{self.address} without TLS"]
        known = self._known.find(self.address)
        pin = self._pin or (known and known.pin)
        return [*([pin_text(pin)] if pin else []), str(self.address)]

    async def open(self) -> Link:
        """Open a connection and verify the server.

        Raises `Refused` (server_changed, not_encrypted), `Busy`, `ProtocolError`, OSError or
        `trio.BrokenResourceError`.
        """
        if self.plain:
            return await Link.connect(self.address, None)
        known = self._known.find(self.address)
        try:
            link, vouched = await self._connect_verified(known)
        except ServerBusy as error:
            raise Busy("the server has too many connections that are still logging in") from error
        except NotTls as error:
            if known is not None:
                # Not final: this may be an outage, or an attacker who will be gone again.
                raise trio.BrokenResourceError(
                    "the server answers without TLS, which it used to speak: somebody may be"
                    " intercepting the connection"
                ) from error
            raise Refused(
                Code.NOT_ENCRYPTED,
                f"{self.address} does not speak TLS. If it was started with --no-tls, join with"
                " --no-tls.",
            ) from error
        # Set only now: an unverified pin must not get into anything that is shown.
        self.seen, self.vouched = link.server_pin(), vouched
        return link

    def remember(self) -> NewServer | None:
        """Remember the server of the last connection, now that it has accepted us.

        Returns the server if it was trusted on first use, which a person should be told. Raises
        `StartupError`.
        """
        if self.plain:
            return None
        on_first_use = self._pin is None and not self.vouched
        if not self.vouched:
            self._pin = self.seen  # binding for this process, even if the file is edited meanwhile
        if self._known.find(self.address) is not None:
            return None
        self._known.add(self.address, None if self.vouched else self.seen)
        return NewServer(self.seen) if on_first_use else None

    async def _connect_verified(self, known: KnownServer | None) -> tuple[Link, bool]:
        """Open a connection; return it, and whether authorities vouched for the server."""
        if known is None:
            return await self._connect_new()
        if known.pin is None:
            return await self._connect_vouched(known.line), True
        return await self._connect_pinned(known.pin, known.line), False

    async def _connect_new(self) -> tuple[Link, bool]:
        """Open the first connection to a server; check the pin, if one was given."""
        if self._pin is not None:
            return await self._check(await self._connect(verified=False), self._pin), False
        try:
            return await self._connect(verified=True), True
        except Untrusted:
            return await self._connect(verified=False), False

    async def _connect_pinned(self, pin: bytes, line: int) -> Link:
        link = await self._connect(verified=False)
        seen = link.server_pin()
        if seen != pin:
            await link.abort()
            raise Refused(
                Code.SERVER_CHANGED,
                f"The key of {self.address} has changed. It was {pin_text(pin)} and is now"
                f" {pin_text(seen)}. Either somebody is intercepting the connection and could read"
                " all you write, or the server was set up anew: ask its operator. If the new key is"
                f" right, remove line {line} of {self._known.path} and join again.",
            )
        return await self._check(link, self._pin or pin)

    async def _connect_vouched(self, line: int) -> Link:
        try:
            link = await self._connect(verified=True)
        except Untrusted as error:
            raise Refused(
                Code.SERVER_CHANGED,
                f"{self.address} used to have a certificate that your system trusts, and now has"
                f" none ({error}). Somebody may be intercepting the connection. If you know the"
                f" reason, remove line {line} of {self._known.path} and join again.",
            ) from error
        return link if self._pin is None else await self._check(link, self._pin)

    async def _check(self, link: Link, pin: bytes) -> Link:
        """Return the link if the server has the expected pin. Raises `Refused`."""
        seen = link.server_pin()
        if seen == pin:
            return link
        await link.abort()
        raise Refused(
            Code.SERVER_CHANGED,
            f"{self.address} is not the expected server: its key is {pin_text(seen)}, expected was"
            f" {pin_text(pin)}. Either somebody is intercepting the connection, or the pin belongs"
            " to another server.",
        )

    async def _connect(self, *, verified: bool) -> Link:
        return await Link.connect(self.address, client_context(verified=verified))
