"""Server context: the services, limits and counters that all connections of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.fingerprints import fingerprint
from tchat.core.protocol.frames import KeyAdded, KeyRemoved
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.accounts import AccountManager
from tchat.server.bans import Bans
from tchat.server.clock import ServerClock
from tchat.server.connection_quota import ConnectionQuota
from tchat.server.fair_queue import FairQueue
from tchat.server.faults import not_handled
from tchat.server.group_quota import GroupQuota
from tchat.server.groups.environment import GroupEnvironment
from tchat.server.groups.registry import Registry
from tchat.server.ledger import Ledger
from tchat.server.limits import Limits
from tchat.server.network_rates import NetworkRates
from tchat.server.presence import Presence
from tchat.server.rate_limiter import RateLimiter
from tchat.server.stored_bytes import StoredBytes
from tchat.server.tickets import Tickets
from tchat.server.unauthenticated import UnauthenticatedLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tchat.core.group.state import Author
    from tchat.core.protocol.frames import Standing
    from tchat.net.address import Address, Networks
    from tchat.net.tls import Credentials
    from tchat.server.log import Log
    from tchat.store.base import DataDamaged, Store

STOPPING = (Code.SHUTTING_DOWN, "The server is stopping; this client will reconnect.")
FAILING = (
    Code.INTERNAL,
    "The server has to stop because of a fault, which is in its log; this client will reconnect.",
)


@dataclass(slots=True)
class ServerContext:
    """One server's services, limits and counters.

    `clock` returns ms since the Unix epoch (see `server.clock`), `rate_clock` the seconds of a
    monotonic clock, for the rate limits of people. `handshakes` contains the cancel scopes of
    connections that are authenticating. `started` is by `clock`. `open_connections` counts all
    connections, `busy_replies` the busy refusals that are being sent. Connections from `proxies`
    begin with a header of the PROXY protocol. `serving` says whether there can be any connections.
    `own_keys` is the directory with the key and the certificate that tchat made for the server, if
    it uses them. `on_fatal` is as in `GroupEnvironment`.
    """

    store: Store
    registry: Registry
    log: Log
    accounts: AccountManager
    group_quota: GroupQuota
    bans: Bans
    presence: Presence = field(default_factory=Presence)
    limits: Limits = field(default_factory=Limits)
    credentials: Credentials | None = None
    clock: ServerClock = field(default_factory=ServerClock)
    rate_clock: Callable[[], float] = trio.current_time
    tickets: Tickets = field(default_factory=Tickets)
    search_queue: FairQueue = field(
        default_factory=partial(FairQueue, "searches", people=64, each=4)
    )
    history_queue: FairQueue = field(
        default_factory=partial(FairQueue, "reads", people=10_000, each=64)
    )
    handshakes: set[trio.CancelScope] = field(default_factory=set)
    open_connections: int = 0
    busy_replies: int = 0
    stopping: bool = False
    proxies: Networks = ()
    serving: bool = False
    own_keys: Path | None = None
    on_fatal: Callable[[str, Exception], bool] = not_handled
    started: int = field(init=False)
    stored_bytes: StoredBytes = field(init=False)
    rate_limiter: RateLimiter = field(init=False)
    ledger: Ledger = field(init=False)
    transfer_ledger: Ledger = field(init=False)
    unauthenticated: UnauthenticatedLimiter = field(init=False)
    connection_quota: ConnectionQuota = field(init=False)
    network_rates: NetworkRates = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.stored_bytes = StoredBytes(self.store.files)
        self.store.blobs.set_reserve(self.limits.disk_reserve)
        self.store.blobs.set_clock(self.clock)
        self.rate_limiter = RateLimiter(self.limits, self.rate_clock)
        self.ledger = Ledger(self.limits)
        self.transfer_ledger = Ledger(self.limits.for_transfers)
        self.unauthenticated = UnauthenticatedLimiter(self.limits)
        self.connection_quota = ConnectionQuota(self.limits)
        self.network_rates = NetworkRates(self.limits, self.rate_clock)

    @property
    def pin(self) -> bytes:
        """The server's pin, the SHA-256 of its TLS key; empty without TLS."""
        return self.credentials.pin if self.credentials else b""

    def check_person(self, author: Author, peer: Address | None) -> None:
        """Raise `Refused` for a key that was removed (key_removed), and for whoever is banned."""
        if self.accounts.is_revoked(author):
            raise Refused(Code.KEY_REMOVED, "This key has just been removed from the name.")
        self.bans.check_person(author)
        self.bans.check_address(peer)

    def disconnect_keys(self, name: str, key: bytes | None, sentence: str) -> None:
        """Disconnect a person's clients that authenticated with `key`, or all if it is None.

        Their file transfers end, too.
        """
        self.presence.disconnect_keys(name, key, sentence)
        self.tickets.revoke(
            lambda permission, _: (
                fold(permission.user) == fold(name) and key in (None, permission.key)
            )
        )

    def on_key_linked(self, name: str, key: bytes, at: int) -> None:
        """Tell a person's clients that the name has got a further key."""
        self.presence.notify([fold(name)], KeyAdded(key, at))
        self.log.line("key_added", user=name, key=fingerprint(key))

    def on_key_removed(self, name: str, key: bytes, by: bytes) -> None:
        """Disconnect clients with a key that the name has lost, and tell the person's others.

        `by` is the id of the client that removed it, which knows.
        """
        self.disconnect_keys(name, key, "The key of this device was removed from your name.")
        for connection in self.presence.connections_of(fold(name)):
            author = connection.author
            if author.client != by and not self.accounts.is_revoked(author):
                connection.notify(KeyRemoved(key))
        self.log.line("key_removed", user=name, key=fingerprint(key))

    def apply(self, limits: Limits, credentials: Credentials | None) -> None:
        """Use other limits and other credentials from now on."""
        self.limits = self.rate_limiter.limits = self.unauthenticated.limits = limits
        self.connection_quota.limits = self.network_rates.limits = limits
        self.tickets.limits = limits
        self.store.blobs.set_reserve(limits.disk_reserve)
        self.ledger.set_limits(limits)
        self.transfer_ledger.set_limits(limits.for_transfers)
        self.group_quota.limit = limits.groups_per_user
        self.registry.set_limits(limits.group)
        self.credentials = credentials

    def stop(self, code: Code = STOPPING[0], sentence: str = STOPPING[1]) -> None:
        """Refuse new connections, and send a goodbye to all open ones."""
        self.stopping = True
        for handshake in self.handshakes:
            handshake.cancel()
        for connection in self.presence.connections():
            connection.disconnect(code, sentence)


def make_context(
    store: Store,
    log: Log,
    groups: trio.Nursery,
    limits: Limits | None = None,
    credentials: Credentials | None = None,
    clock: ServerClock | None = None,
    rate_clock: Callable[[], float] = trio.current_time,
    on_fatal: Callable[[str, Exception], bool] = not_handled,
) -> ServerContext:
    """Create the services of a server; the group actors run in the nursery `groups`."""
    limits = limits or Limits()
    clock = clock or ServerClock(report=log.line)
    quota = GroupQuota(store, limits.groups_per_user)
    presence = Presence()
    tickets = Tickets(limits)

    def on_standing_changed(group: str, standings: Mapping[str, Standing]) -> None:
        quota.on_standing_changed(group, standings)
        tickets.on_standing_changed(group, standings)

    def on_linked(name: str, key: bytes, at: int) -> None:
        context.on_key_linked(name, key, at)

    def on_removed(name: str, key: bytes, by: bytes) -> None:
        context.on_key_removed(name, key, by)

    def on_damage(damaged: DataDamaged) -> None:
        log.line("data_damaged", what=damaged.what, file=store.damage.file, reason=damaged.reason)

    store.damage.listen(on_damage)
    environment = GroupEnvironment(
        store,
        log,
        presence,
        on_standing_changed,
        limits.group,
        clock,
        timer=clock.timer,
        on_fatal=on_fatal,
    )
    context = ServerContext(
        store=store,
        registry=Registry(environment, groups),
        log=log,
        accounts=AccountManager(store.accounts, clock, on_linked, on_removed),
        group_quota=quota,
        bans=Bans(store.maintenance),
        presence=presence,
        limits=limits,
        credentials=credentials,
        clock=clock,
        rate_clock=rate_clock,
        tickets=tickets,
        on_fatal=on_fatal,
    )
    return context
