"""Connect to a server and compare its key with the remembered pin (TOFU), or verify its CA.

A server is identified by the pin of its key. On first use the server is trusted, with a notice, and
its pin is saved; from then on it has to present the same key. This is trust on first use, as in
SSH, with the same limit: an attacker who intercepts the very first connection and every later one
is not noticed, unless the pin was given beforehand, by `--pin` or an invite.

A first connection tries the system's certificate authorities. A server that they verify needs no
pin: it is saved as CA-verified, and from then on every connection has to pass the same
verification.

A server may rotate its key: the former key has signed the next one, and the server shows that with
its certificate (see `net.key_chain`). A client that knows any former key accepts the present one,
saves its pin instead, and tells the person.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.client.server_directory import WITHOUT_TLS
from tchat.client.server_keys import ServerNames
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, Refused, TchatError
from tchat.net.address import Address, is_local
from tchat.net.link import Link
from tchat.net.tls import NotTls, ServerBusy, Untrusted, client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.known_servers import KnownServer, KnownServers


def first_visit_notice(pin: bytes) -> str:
    """Return the notice about a server that was trusted on first use."""
    return (
        f"New server: its key {pin_text(pin)} is saved. Compare it with the key that the server"
        " printed when it started."
    )


def rotation_notice(pin: bytes) -> str:
    """Return the notice about a server that has changed its key in the orderly way."""
    return (
        f"The server has a new key, {pin_text(pin)}, which its former key has signed. It is saved"
        " instead of the former one."
    )


class Connector:
    """Opens verified connections to one server.

    `known` are the known servers; `pin` is the pin that the server is expected to have. `plain`
    means without TLS, and so without verification. `server_pin` is the server's pin on the last
    connection; `ca_verified` says whether a certificate authority verified it then. `rotated` says
    whether the last `remember` replaced the server's former pin by this one.
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
        self.server_pin = b""
        self.ca_verified = False
        self.rotated = False
        self._known = known
        self._pin = pin
        self._first_pin = b""
        self._was_known: bool | None = None
        self._first: Link | Exception | None = None

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_local(self.address.host)

    @property
    def is_known(self) -> bool:
        """Whether there was a server at this address that this client has saved the key of."""
        return self._known.find(self.address) is not None

    def names(self) -> list[str]:
        """Return the names under which local files keep what is about this server, the best first.

        Its identity is the pin of its first key: the same server may have several addresses and
        rotate its key, and an address may get another server. It has the name of its address, too,
        if that was known before: earlier versions used it, and so does a first visit that did not
        reach the server. A server without TLS or with a certificate authority has only its address.
        Raises `StartupError`.
        """
        if self.plain:
            return [f"{self.address}{WITHOUT_TLS}"]
        known = self._known.find(self.address)
        if self._was_known is None:  # before `remember` adds it
            self._was_known = known is not None
        first = self._identity(known)
        if not first:
            return [str(self.address)]
        pins = [first, self._pin or (known and known.pin) or first]
        names = [pin_text(pin) for pin in dict.fromkeys(pins)]
        return [*names, *([str(self.address)] if self._was_known else [])]

    def server_names(self) -> ServerNames:
        """Return what identifies the server to `ServerKeys`. Raises `StartupError`."""
        name, *_ = self.names()
        known = None if self.plain else self._known.find(self.address)
        has_pin = not self.plain and (known is None or known.pin is not None)
        first = self._identity(known) if has_pin else b""
        host = "localhost" if self.is_local else self.address.host.lower().rstrip(".")
        key = pin_text(first) if first else host
        address = str(Address(host, self.address.port))
        return ServerNames(name, key, address, bool(self._was_known))

    def _identity(self, known: KnownServer | None) -> bytes:
        """Return the pin of the server's first key; empty if it has none, or none is known."""
        learned = b"" if self.ca_verified else self._first_pin
        return (known and known.identity) or learned or self._pin or b""

    @asynccontextmanager
    async def identified(self, seconds: float) -> AsyncIterator[None]:
        """Learn the pin of a server that is not known yet, so that `names` has it from the start.

        The connection made for that, in at most `seconds`, is the one that the first `open` in the
        block returns; if it fails, that call fails in the same way. Raises `StartupError`.
        """
        if not (self.plain or self._known.find(self.address)):
            try:
                with trio.fail_after(seconds):
                    self._first = await self.open()
            except (TchatError, OSError, UnicodeError, trio.BrokenResourceError) as error:
                self._first = error
            except trio.TooSlowError as error:
                self._first = error
        try:
            yield
        finally:
            if isinstance(self._first, Link):
                await self._first.abort()

    async def open(self) -> Link:
        """Open a connection and verify the server.

        Raises `Refused` (server_changed, not_encrypted), `Busy`, `ProtocolError`, OSError or
        `trio.BrokenResourceError`.
        """
        first, self._first = self._first, None
        if isinstance(first, Link):
            return first
        if first is not None:
            raise first
        if self.plain:
            return await Link.connect(self.address, None)
        known = self._known.find(self.address)
        try:
            link, ca_verified = await self._connect_verified(known)
        except ServerBusy as error:
            raise Busy("the server has too many connections that are still logging in") from error
        except NotTls as error:
            if known is not None:
                # Not final: this may be an outage, or an attacker who will go away.
                raise trio.BrokenResourceError(
                    "the server used TLS before and now answers without it: somebody may be"
                    " intercepting the connection"
                ) from error
            raise Refused(
                Code.NOT_ENCRYPTED,
                f"{self.address} does not speak TLS. If it was started with --no-tls, join with"
                " --no-tls.",
            ) from error
        # Set only now: an unverified pin must not be shown to anybody.
        self.server_pin, self.ca_verified = link.server_pin(), ca_verified
        if known is None:
            self._first_pin = next(iter(link.former_pins()), self.server_pin)
        return link

    def remember(self) -> bytes | None:
        """Save the server of the last connection, after a successful handshake.

        Returns its pin if it was trusted on first use, so that the person can be told. Raises
        `StartupError`.
        """
        if self.plain:
            return None
        on_first_use = self._pin is None and not self.ca_verified
        if not self.ca_verified:
            # Binding for this process, even if the file is edited meanwhile.
            self._pin = self.server_pin
        known = self._known.find(self.address)
        self.rotated = bool(known and known.pin and known.pin != self.server_pin)
        if known is not None and known.pin is not None and self.rotated:
            self._known.replace(self.address, known.pin, self.server_pin)
        if known is not None:
            return None
        pin = None if self.ca_verified else self.server_pin
        self._known.add(self.address, pin, self._first_pin if pin else None)
        return self.server_pin if on_first_use else None

    async def _connect_verified(self, known: KnownServer | None) -> tuple[Link, bool]:
        """Open a connection; return the link, and whether the server is CA-verified."""
        if known is None:
            return await self._connect_new()
        if known.pin is None:
            return await self._connect_ca_verified(known.line), True
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
        shown = link.server_pin()
        if not _has_had(link, pin):
            await link.abort()
            raise Refused(
                Code.SERVER_CHANGED,
                f"The key of {self.address} has changed. It was {pin_text(pin)} and is now"
                f" {pin_text(shown)}. Either somebody is intercepting the connection and could read"
                " all you write, or the server was set up again: ask its operator. If the new key"
                f" is right, remove line {line} of {self._known.path} and join again.",
            )
        return await self._check(link, self._pin or pin)

    async def _connect_ca_verified(self, line: int) -> Link:
        try:
            link = await self._connect(verified=True)
        except Untrusted as error:
            if error.by_date:
                raise Refused(Code.SERVER_CHANGED, _not_valid_now(self.address, error)) from error
            raise Refused(
                Code.SERVER_CHANGED,
                f"{self.address} used to have a certificate that your system trusts, and now has"
                f" none ({error}). Somebody may be intercepting the connection. If you know the"
                f" reason, remove line {line} of {self._known.path} and join again.",
            ) from error
        return link if self._pin is None else await self._check(link, self._pin)

    async def _check(self, link: Link, pin: bytes) -> Link:
        """Return the link if the server has or had the expected pin. Raises `Refused`."""
        shown = link.server_pin()
        if _has_had(link, pin):
            return link
        await link.abort()
        raise Refused(
            Code.SERVER_CHANGED,
            f"{self.address} is not the expected server: its key is {pin_text(shown)}, but"
            f" {pin_text(pin)} was expected. Either somebody is intercepting the"
            " connection, or the pin belongs to another server.",
        )

    async def _connect(self, *, verified: bool) -> Link:
        return await Link.connect(self.address, client_context(verified=verified))


def _not_valid_now(address: Address, error: Untrusted) -> str:
    """Return the sentence about a certificate whose time is over, or has not come yet."""
    today = datetime.now().astimezone()
    return (
        f"The certificate of {address} is not valid on {today:%Y-%m-%d}, the date of this machine's"
        f" clock ({error}). If that date is wrong, set the clock; otherwise ask the server's"
        " operator to renew the certificate."
    )


def _has_had(link: Link, pin: bytes) -> bool:
    """Return whether a server has a pin, or had it before its key was rotated."""
    return link.server_pin() == pin or pin in link.former_pins()
