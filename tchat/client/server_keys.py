"""Which of a person's keys to use with a server: one that is derived for it, and why another.

Each server gets a key of its own (see `net.identity`). It is derived from a name that the server
keeps: the pin of the first key it ever had, so that it may move to another address and rotate its
key; for a server without TLS or with a certificate authority, which has no lasting key, the host.

A name stays with the key that claimed it, and there are two reasons why that is another key:

- An earlier version of tchat claimed it with the identity itself. This key comes first at a server
  that was known before, and last at others, in case the known servers were lost.
- The server was set up again with another key of its own, and kept its accounts. Then the key is
  the one for what was at the same address before.

Other keys are tried only after the server has answered that the name is taken, once each. Such an
attempt shows the server a public key: the identity's own one is known to servers that earlier
versions used, so they could recognise the person; a new identity never shows its own. The others
were known to a server at this address before. What worked is recorded, and comes first next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tchat.client.server_directory import ServerRecord, read_record, read_records, save_record

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.identity import Identity

_MAX_BEFORE = 3  # keys of earlier servers at the same address to try


class ServerNames(NamedTuple):
    """What identifies a server: `name` for local files, `key` for the key that it gets.

    `was_known` says whether this client knew the server before this session.
    """

    name: str
    key: str
    address: str
    was_known: bool


class ServerKeys:
    """The keys of the person with `identity`, for the one server of a session.

    What worked is recorded under the directory `state`.
    """

    def __init__(self, identity: Identity, state: Path) -> None:
        self._identity = identity
        self._state = state
        self._server: ServerNames | None = None
        self._left: list[str | None] = []
        self._current: str | None = None

    def first(self, server: ServerNames) -> Identity:
        """Return the key to begin with; in a session that has begun, the one in use."""
        if self._server is None:
            self._server = server
            self._current, *self._left = _candidates(self._state, self._identity, server)
        return self._key()

    def next(self) -> Identity | None:
        """Return the key to try after the name was found to be taken; None without any."""
        if not self._left:
            return None
        self._current = self._left.pop(0)
        return self._key()

    def on_accepted(self) -> None:
        """Record that the server has accepted the present key; no other is tried any more."""
        self._left.clear()
        if self._server is not None:
            record = ServerRecord(self._server.name, self._server.address, self._current)
            save_record(self._state, record)

    def _key(self) -> Identity:
        if self._current is None:
            return self._identity
        return self._identity.for_server(self._current)


def _candidates(state: Path, identity: Identity, server: ServerNames) -> list[str | None]:
    """Return what the keys to try are derived for, the best first; None is the identity itself."""
    record = read_record(state, server.name)
    found: list[str | None] = [record.key] if record is not None else []
    if record is None and server.was_known:
        found.append(None)
    found.append(server.key)
    before = [one.key for one in read_records(state) if one.address == server.address]
    found += [*before[:_MAX_BEFORE], None]
    return [one for one in dict.fromkeys(found) if one is not None or identity.owns_names]
