"""How a client reaches its server, and is sure that it is still the same one.

A server is known by the pin of its key. One that is met for the first time is accepted, with a
notice, and remembered; from then on it has to show the same key. This is what SSH does, and it
holds as far: somebody who stands in between at the very first meeting, and at every later one, is
not found out, unless the pin was given beforehand, by `--pin` or by an invite.

A first meeting is tried with the system's certificate authorities first. A server that they vouch
for is remembered as that, needs no pin, and is held to it from then on.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.client.introduction import Busy
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, Refused
from tchat.net.address import Address, connect, is_local
from tchat.net.link import Link
from tchat.net.tls import client_context, open_tls, pin_seen

if TYPE_CHECKING:
    from tchat.client.known import KnownServers

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
        self.met: Met | None = None
        self.seen = b""
        self.vouched = False
        self._known = known
        self._pin = pin

    @property
    def is_local(self) -> bool:
        """Whether the server is on this very machine."""
        return is_local(self.address.host)

    async def open(self) -> Link:
        """Open a connection; `seen` is the server's pin then, empty without TLS.

        Raises `Refused` (server_changed, not_encrypted), `Busy`, OSError or
        `trio.BrokenResourceError`.
        """
        if self.plain:
            return Link(await connect(self.address))
        known = self._known.find(self.address)
        if known is None:
            return await self._meet_named(self._pin) if self._pin else await self._meet()
        if known.pin is None:
            return await self._open_vouched(known.line)
        return await self._open_pinned(known.pin, known.line)

    async def _meet(self) -> Link:
        """Open the first connection ever to this server, and remember it."""
        try:
            link = await self._open_tls(verified=True)
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            link = await self._open_tls(verified=False)
            self._known.add(self.address, self.seen)
            self.met = Met(self.seen)
            return link
        self._known.add(self.address, None)
        return link

    async def _meet_named(self, pin: bytes) -> Link:
        """Open the first connection to a server of which the pin was given."""
        link = await self._open_tls(verified=False)
        if self.seen != pin:
            raise await self._not_meant(link, pin)
        self._known.add(self.address, pin)
        return link

    async def _open_pinned(self, pin: bytes, line: int) -> Link:
        link = await self._open_tls(verified=False)
        if self.seen != pin:
            await trio.aclose_forcefully(link.stream)
            raise Refused(
                Code.SERVER_CHANGED,
                f"The key of {self.address} has changed. It was {pin_text(pin)} and is now"
                f" {pin_text(self.seen)}. Either somebody stands in between and would read all you"
                " say, or the server was set up anew: ask its operator. If the new key is right,"
                f" remove line {line} of {self._known.path} and join again.",
            )
        if self._pin not in (None, pin):
            raise await self._not_meant(link, self._pin or b"")
        return link

    async def _open_vouched(self, line: int) -> Link:
        try:
            return await self._open_tls(verified=True)
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            raise Refused(
                Code.SERVER_CHANGED,
                f"{self.address} used to have a certificate that your system trusts, and has none"
                f" now ({error.__cause__.verify_message}). Somebody may stand in between. If you"
                f" know why, remove line {line} of {self._known.path}.",
            ) from error

    async def _not_meant(self, link: Link, pin: bytes) -> Refused:
        await trio.aclose_forcefully(link.stream)
        return Refused(
            Code.SERVER_CHANGED,
            f"{self.address} is not the server that was meant: its key is {pin_text(self.seen)},"
            f" and should be {pin_text(pin)}. Somebody may stand in between, or the pin is of"
            " another server.",
        )

    async def _open_tls(self, *, verified: bool) -> Link:
        stream = await connect(self.address)
        try:
            encrypted = await open_tls(stream, client_context(verified=verified), self.address.host)
            self.seen, self.vouched = pin_seen(encrypted), verified
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
