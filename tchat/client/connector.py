"""How a client reaches its server, and is sure that it is still the same one.

A server is known by the pin of its key. One that is met for the first time is accepted, with a
notice, and remembered; from then on it has to show the same key. This is what SSH does, and it
holds as far: somebody who stands in between at the very first meeting, and at every later one, is
not found out, unless the pin was given beforehand, by `--pin` or by an invite.

A first meeting is tried with the system's certificate authorities first. A server that they vouch
for is remembered as that, needs no pin, and is held to it from then on.

The servers that this client has met, in a file that people can read and change.

    chat.example.org:7777 sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM
    [2001:db8::7]:7777 ca

One line for each: the address as it was typed, and the pin of the server's key, or `ca` for a
server that the system's certificate authorities vouched for. What stands first holds. Lines are
added by this program and removed by people: a key that changes is never accepted by itself.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.core.fingerprints import pin_text, read_pin
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import Address, connect, is_local
from tchat.net.link import Link
from tchat.net.tls import client_context, open_tls, pin_seen

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.address import Address

_HEADER = (
    "# The servers this client has met. If the key of one has changed for a reason that you"
    " know,\n# remove its line.\n"
)
_VOUCHED = "ca"


@dataclass(frozen=True, slots=True)
class Known:
    """What a server was when it was met: its pin, or None if authorities vouched; and where."""

    pin: bytes | None
    line: int


class KnownServers:
    """The file at `path`; without a path, what was met in this process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._added: list[str] = []

    def find(self, address: Address) -> Known | None:
        """Return what is known of a server. Raises `StartupError`."""
        for number, line in enumerate(self._lines(), start=1):
            words = line.split("#", 1)[0].split()
            if words and words[0].lower() == _key(address):
                return Known(self._read(words, number), number)
        return None

    def add(self, address: Address, pin: bytes | None) -> None:
        """Remember a server. Raises `StartupError`."""
        line = f"{_key(address)} {_VOUCHED if pin is None else pin_text(pin)}\n"
        self._added.append(line)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # In one write behind the end, so that several clients may do it at once.
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
        if words[1:] == [_VOUCHED]:
            return None
        try:
            return read_pin("".join(words[1:2]))
        except ValueError as error:
            raise StartupError(
                Code.CANNOT_START, f"Line {number} of {self.path} cannot be understood: {error}."
            ) from error

    def _unusable(self, error: Exception) -> StartupError:
        reason = getattr(error, "strerror", None) or "it is not text"
        return StartupError(Code.CANNOT_START, f"{self.path} cannot be used: {reason}.")


def _key(address: Address) -> str:
    return str(address).lower()


_BUSY = "TLSV1_ALERT_ACCESS_DENIED"
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


@dataclass(frozen=True, slots=True)
class Met:
    """A server that was met for the first time: its pin is remembered from now on."""

    pin: bytes


def meeting(met: Met) -> str:
    """Return what a person should know about a server that was met for the first time."""
    return (
        f"first visit to this server; its key, {pin_text(met.pin)}, is remembered: it should be the"
        " one that the server printed when it started"
    )


class Connector:
    """Opens connections to one server.

    `known` are the servers that were met before, `pin` is what this one is said to be; `plain` is
    without TLS, and so without any certainty. `seen` and `vouched` are of the last connection.
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
        """Whether the server is on this very machine."""
        return is_local(self.address.host)

    def names(self) -> list[str]:
        """Return by what this server can be recognised from run to run, the surest first.

        That is its pin, if one is known, and its address. Raises `StartupError`.
        """
        if self.plain:
            return [f"{self.address} without TLS"]
        known = self._known.find(self.address)
        pin = self._pin or (known and known.pin)
        return [*([pin_text(pin)] if pin else []), str(self.address)]

    async def open(self) -> Link:
        """Open a connection to the server, if it is the right one.

        Raises `Refused` (server_changed, not_encrypted), `Busy`, OSError or
        `trio.BrokenResourceError`.
        """
        if self.plain:
            return Link(await connect(self.address))
        known = self._known.find(self.address)
        link, verified = await self._open(known)
        # Only now: what has not been checked yet must not get into anything that is shown.
        self.seen, self.vouched = pin_seen(link.stream), verified
        return link

    def remember(self) -> Met | None:
        """Remember the server of the last connection, now that it has let us in.

        Returns what a person should hear of it, if it was believed without proof. Raises
        `StartupError`.
        """
        if self.plain:
            return None
        believed = self._pin is None and not self.vouched
        if not self.vouched:
            self._pin = self.seen  # for as long as this program runs, whatever becomes of the file
        if self._known.find(self.address) is not None:
            return None
        self._known.add(self.address, None if self.vouched else self.seen)
        return Met(self.seen) if believed else None

    async def _open(self, known: Known | None) -> tuple[Link, bool]:
        """Open a connection; return it, and whether authorities vouched for the server."""
        if known is None:
            return await self._meet()
        try:
            if known.pin is None:
                return await self._open_vouched(known.line), True
            return await self._open_pinned(known.pin, known.line), False
        except Refused as refusal:
            if refusal.code != Code.NOT_ENCRYPTED:
                raise
            raise trio.BrokenResourceError(
                "it answers without TLS, which it used to speak: somebody may stand in between"
            ) from refusal

    async def _meet(self) -> tuple[Link, bool]:
        """Open the first connection to a server: with its pin, if that was given."""
        if self._pin is not None:
            return await self._checked(await self._open_tls(verified=False), self._pin), False
        try:
            return await self._open_tls(verified=True), True
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            return await self._open_tls(verified=False), False

    async def _open_pinned(self, pin: bytes, line: int) -> Link:
        link = await self._open_tls(verified=False)
        seen = pin_seen(link.stream)
        if seen != pin:
            await trio.aclose_forcefully(link.stream)
            raise Refused(
                Code.SERVER_CHANGED,
                f"The key of {self.address} has changed. It was {pin_text(pin)} and is now"
                f" {pin_text(seen)}. Either somebody stands in between and would read all you"
                " say, or the server was set up anew: ask its operator. If the new key is right,"
                f" remove line {line} of {self._known.path} and join again.",
            )
        return await self._checked(link, self._pin or pin)

    async def _open_vouched(self, line: int) -> Link:
        try:
            link = await self._open_tls(verified=True)
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            raise Refused(
                Code.SERVER_CHANGED,
                f"{self.address} used to have a certificate that your system trusts, and has none"
                f" now ({error.__cause__.verify_message}). Somebody may stand in between. If you"
                f" know why, remove line {line} of {self._known.path}.",
            ) from error
        return link if self._pin is None else await self._checked(link, self._pin)

    async def _checked(self, link: Link, pin: bytes) -> Link:
        """Return the connection if it shows the pin that was meant. Raises `Refused`."""
        seen = pin_seen(link.stream)
        if seen == pin:
            return link
        await trio.aclose_forcefully(link.stream)
        raise Refused(
            Code.SERVER_CHANGED,
            f"{self.address} is not the server that was meant: its key is {pin_text(seen)}, and"
            f" should be {pin_text(pin)}. Somebody may stand in between, or the pin is of another"
            " server.",
        )

    async def _open_tls(self, *, verified: bool) -> Link:
        stream = await connect(self.address)
        try:
            encrypted = await open_tls(stream, client_context(verified=verified), self.address.host)
            pin_seen(encrypted)  # can be understood
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError):
                self._explain(error)
            raise
        return Link(encrypted)

    def _explain(self, error: trio.BrokenResourceError) -> None:
        """Raise `Refused` for a failure that has a better name."""
        reason = getattr(error.__cause__, "reason", None)
        if reason == _BUSY:
            raise Busy("too many connections are introducing themselves there") from error
        if reason in _NOT_TLS:
            raise Refused(
                Code.NOT_ENCRYPTED,
                f"{self.address} does not speak TLS. If it was started with --no-tls, join with"
                " --no-tls.",
            ) from error
