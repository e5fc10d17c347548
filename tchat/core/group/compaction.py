"""Compaction of the folded state: how large it can become, and what it forgets to stay so small.

Clients refuse a snapshot of more than `snapshots.SNAPSHOT_LIMIT`, each batch copies the state, and
saving and loading it takes time in proportion to its size. So everything in it has a bound, with
which the largest snapshot is smaller than `snapshots.STATE_BUDGET`. There are two kinds of bounds:

- A command that would add too much is *refused*: members, requests, invites, bans and files
  (`feature.GroupLimits`), and the lengths of names and texts. This is for what people can remove.
- The oldest entries are *forgotten*: edits, keys of former members, kicks, clients and denials.
  This is for what only grows.

The server and every client have to forget the same, at whatever event their state began. So it
depends only on the state that all of them have, and happens at each event whose seq is a multiple
of `PERIOD`: a collection can exceed its bound by `PERIOD`, since an event adds at most one entry to
each. And erasing an event must not change the state that a log leads to: an erased event has only
its header. For `edits`, the distance between seqs therefore decides, not how many there are; for
`counts`, which outlives a closed group, nothing but the headers of events.

What is lost:

- *Edits* more than `EDITS_SPAN` events ago: quotations of a message that was last edited so long
  ago show its first text, until the history with the edit is loaded. A pinned message keeps its
  edits. To delete a message with all its edits, the server searches the log for those that the
  state may have forgotten (`last_forgotten_edit`).
- *Keys* of former members: a request to join with such a key is described as "new here".
- *Kicks*: invites that were made before a forgotten kick, and that the person could use, are
  removed.
- *Clients* beyond the latest `CLIENTS_EACH` of a person or `CLIENTS` of the group: if one of them
  comes back and repeats a command, the command is refused, since it may have been executed.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from tchat.core.text import fold

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from tchat.core.group.state import Group

PERIOD = 1024
"""The number of events between two compactions."""

EDITS_SPAN = 1 << 16
"""Edits are remembered for so many events."""

KEYS = 8192
"""Most keys that are remembered, except that each member keeps the latest."""

KICKS = 2048
"""Most kicks that are remembered, besides those of banned people."""

KEYS_OF_A_BAN = 16
"""Most keys that one ban holds for: the latest that the person was admitted with."""

CLIENTS = 16_384
"""Most clients whose command numbers are remembered."""

CLIENTS_EACH = 256
"""Most clients of one person whose command numbers are remembered."""

DENIALS = 1024
"""Most denials that are remembered."""


def compact(group: Group) -> None:
    """Forget the oldest entries. Call it after each event that `is_due`."""
    _forget_edits(group)
    _forget_keys(group)
    _forget_kicks(group)
    _forget_clients(group)


def is_due(seq: int) -> bool:
    """Return whether the state has to be compacted after event `seq`."""
    return seq % PERIOD == 0


def last_forgotten_edit(group: Group) -> int:
    """Return the last seq of which the state may have forgotten that it is an edit."""
    return group.seq - EDITS_SPAN


def recent_edits(seqs: tuple[int, ...], now: int) -> tuple[int, ...]:
    """Return the edits that are remembered when the message is edited again by event `now`."""
    return tuple(seq for seq in seqs if seq > now - EDITS_SPAN)


def _forget_edits(group: Group) -> None:
    """Forget messages whose last edit is too old; they come first."""
    old: list[int] = []
    for message, edits in group.edits.items():
        if message == group.pinned:
            continue
        if edits.seqs and edits.seqs[-1] > group.seq - EDITS_SPAN:
            break
        old.append(message)
    for message in old:
        del group.edits[message]


def _forget_keys(group: Group) -> None:
    """Forget the oldest keys of former members, then those of members who have later ones."""
    if len(group.keys) <= KEYS:
        return
    _forget_some(group, _keys_of_others(group, group.members))
    if len(group.keys) > KEYS:
        _forget_some(group, _keys_but_the_latest(group))


def _forget_some(group: Group, keys: Iterator[bytes]) -> None:
    group.drop_keys(list(islice(keys, len(group.keys) - KEYS)))


def _keys_of_others(group: Group, people: Container[str]) -> Iterator[bytes]:
    return (key for key, name in group.keys.items() if fold(name) not in people)


def _keys_but_the_latest(group: Group) -> Iterator[bytes]:
    latest = {keys[-1] for keys in group.keys_by_person.values()}
    return (key for key in group.keys if key not in latest)


def _forget_kicks(group: Group) -> None:
    excess = len(group.kicked) - len(group.banned) - KICKS
    if excess <= 0:
        return
    others = [person for person in group.kicked if person not in group.banned]
    _void_invites(group, {person: group.kicked.pop(person) for person in others[:excess]})


def _void_invites(group: Group, kicks: dict[str, int]) -> None:
    """Remove the invites from before kicks that are forgotten, and that these people could use."""
    latest = max(kicks.values(), default=0)
    for digest, invitation in list(group.invites.items()):
        kick = latest if invitation.name is None else kicks.get(invitation.name, 0)
        if invitation.seq < kick:
            del group.invites[digest]


def _forget_clients(group: Group) -> None:
    """Forget the clients of people who have many, then those that were last used first."""
    if len(group.counts) <= CLIENTS_EACH:
        return
    each = Counter(map(itemgetter(0), group.counts))  # faster than the loop below
    if len(group.counts) <= CLIENTS and max(each.values()) <= CLIENTS_EACH:
        return
    kept: Counter[str] = Counter()
    left = CLIENTS
    old = []
    for client in reversed(group.counts):
        person, _ = client
        if left and kept[person] < CLIENTS_EACH:
            kept[person] += 1
            left -= 1
        else:
            old.append(client)
    for client in old:
        del group.counts[client]
    group.forgotten += len(old)
