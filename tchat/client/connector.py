"""Connect to a server and verify that it is the right one: TOFU pins, or certificate authorities.

A server is identified by the pin of its key. The first time that a client connects, it accepts and
saves the key, and says so; from then on the server has to show the same key. As with SSH, this
trust on first use does not detect somebody who intercepts the very first connection and all later
ones, unless the pin was given beforehand, by `--pin` or in an invite.

On the first connection the system's certificate authorities are tried first. A server whose
certificate they verify needs no pin, and has to pass the same verification from then on.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, Refused
from tchat.net.address import Address, connect, is_local
from tchat.net.link import Link
from tchat.net.tls import client_context, open_tls, pin_seen

if TYPE_CHECKING:
    from tchat.client.known_servers import KnownServer, KnownServers

_BUSY = "TLSV1_ALERT_ACCESS_DENIED"
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def first_visit_notice(pin: bytes) -> str:
    """Return what to tell a person who connects to a server for the first time."""
    return (
        f"New server: its key {pin_text(pin)} is saved. Compare it with the key that the server"
        " printed when it started."
    )


class Connector:
    """Opens connections to one server.

    `known` are the known servers; `pin` is the pin that this one is required to show. `plain` means
    without TLS, so the server is not authenticated. `seen` is the pin of the last connection, and
    `vouched` says whether certificate authorities verified it.
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
        """Return the names that identify this server from run to run, the most reliable first.

        These are its pin, if one is known, and its address. Raises `StartupError`.
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
        # Only now: an unverified pin must not get into an invite or onto the screen.
        self.seen, self.vouched = pin_seen(link.stream), verified
        return link

    def remember(self) -> bytes | None:
        """Save the server of the last connection, after the handshake succeeded.

        Returns its pin if it was trusted on first use, so that the person is told; otherwise None.
        Raises `StartupError`.
        """
        if self.plain:
            return None
        believed = self._pin is None and not self.vouched
        if not self.vouched:
            self._pin = self.seen  # for this process, even if somebody changes the file
        if self._known.find(self.address) is not None:
            return None
        self._known.add(self.address, None if self.vouched else self.seen)
        return self.seen if believed else None

    async def _open(self, known: KnownServer | None) -> tuple[Link, bool]:
        """Open a connection; return it, and whether it is CA-verified."""
        if known is None:
            return await self._open_first()
        try:
            if known.pin is None:
                return await self._open_vouched(known.line), True
            return await self._open_pinned(known.pin, known.line), False
        except Refused as refusal:
            if refusal.code != Code.NOT_ENCRYPTED:
                raise
            raise trio.BrokenResourceError(
                "it answers without TLS, although it used TLS before: the connection may be"
                " intercepted"
            ) from refusal

    async def _open_first(self) -> tuple[Link, bool]:
        """Open the first connection to a server: CA-verified, or trusted on first use."""
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
                f" {pin_text(seen)}. Either somebody intercepts the connection and could read all"
                " you write, or the server was set up again: ask its operator. If the new key is"
                f" right, remove line {line} of {self._known.path} and join again.",
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
                f" now ({error.__cause__.verify_message}). Somebody may intercept the connection."
                f" If you know why this changed, remove line {line} of {self._known.path}.",
            ) from error
        return link if self._pin is None else await self._checked(link, self._pin)

    async def _checked(self, link: Link, pin: bytes) -> Link:
        """Return the connection if it shows this pin; otherwise close it and raise `Refused`."""
        seen = pin_seen(link.stream)
        if seen == pin:
            return link
        await trio.aclose_forcefully(link.stream)
        raise Refused(
            Code.SERVER_CHANGED,
            f"The key of {self.address} does not match the pin: it is {pin_text(seen)}, and should"
            f" be {pin_text(pin)}. Somebody may intercept the connection, or the pin belongs to"
            " another server.",
        )

    async def _open_tls(self, *, verified: bool) -> Link:
        stream = await connect(self.address)
        try:
            encrypted = await open_tls(stream, client_context(verified=verified), self.address.host)
            pin_seen(encrypted)  # raises for a certificate that cannot be parsed
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError):
                self._explain(error)
            raise
        return Link(encrypted)

    def _explain(self, error: trio.BrokenResourceError) -> None:
        """Raise `Busy` or `Refused` if the TLS error shows a more precise reason."""
        reason = getattr(error.__cause__, "reason", None)
        if reason == _BUSY:
            raise Busy("too many connections are introducing themselves there") from error
        if reason in _NOT_TLS:
            raise Refused(
                Code.NOT_ENCRYPTED,
                f"{self.address} does not speak TLS. If it was started with --no-tls, join with"
                " --no-tls.",
            ) from error
