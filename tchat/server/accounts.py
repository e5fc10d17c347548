"""Whose names are whose, while the server runs: keys, link codes, and who is in how many groups.

A name belongs to the first key that claims it. Further keys join it by a code, which somebody
who is the person already asks for and types in on the other device. A key that was taken away,
by the person or by the operator, does not come back by itself.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from tchat.core.group.direct import is_direct
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.core.group.state import Author
    from tchat.core.protocol.frames import Standing
    from tchat.core.protocol.handshake import Hello
    from tchat.store.base import AccountKey, Accounts, Store

CODE_SECONDS = 600.0
MOST_KEYS = 32
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing looks like another
_LOOKS_LIKE = str.maketrans("OIL", "011", " -")  # how people type it
_GROUPS, _GROUP = 3, 4  # 60 bits
_MOST_REMEMBERED = 10_000


class AccountManager:
    """Knows whose key is whose. `clock` gives ms since the Unix epoch."""

    def __init__(self, accounts: Accounts, clock: Callable[[], int]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._codes: dict[str, tuple[float, str, bytes | None]] = {}
        # One change to whose keys are whose at a time: a code that was redeemed while its name was
        # being released would own it.
        self._changing = trio.Lock()
        self._barred: set[tuple[str, bytes]] = set()

    async def claim(self, hello: Hello, name: str, code: str | None) -> str:
        """Return how the person of a proved hello is written.

        Raises `Refused`: name_taken, or bad_link for a code that does not hold.
        """
        person = fold(name)
        if code is not None:
            await self._link(person, hello.key, code)
        written = await self._accounts.claim(person, name, hello.key, self._clock())
        if written is None:
            raise Refused(
                Code.NAME_TAKEN,
                f"The name {name} belongs to another key. If it is yours, type /link where you are"
                f" {name} and come with the code: join --link CODE. Otherwise take another name.",
            )
        return written

    async def _link(self, person: str, key: bytes, code: str) -> None:
        """Make a key one of the name's, unless it is. Raises `Refused`."""
        async with self._changing:
            keys = [known.public for known in await self._accounts.keys(person)]
            if key in keys:
                return
            self._redeem(person, code)
            if len(keys) >= MOST_KEYS:
                raise Refused(
                    Code.TOO_MANY, f"The name has {MOST_KEYS} keys; /unlink one of them first."
                )
            await self._accounts.link(person, key, self._clock())
            self._barred.discard((person, key))

    def new_code(self, author: Author) -> str:
        """Return a code that adds a key to the name, once and soon; an earlier one is void."""
        person = fold(author.name)
        groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        code = "-".join(groups)
        self._codes[person] = (trio.current_time() + CODE_SECONDS, _plain(code), author.key)
        return code

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name, the oldest first."""
        return await self._accounts.keys(person)

    async def unlink(self, author: Author, key: bytes) -> None:
        """Take a key from the author's name. Raises `Refused`."""
        person = fold(author.name)
        if key == author.key:
            raise Refused(
                Code.YOURSELF, "This is the key you are using; remove it from another device."
            )
        async with self._changing:
            if not await self._accounts.unlink(person, key, author.key or b"", self._clock()):
                raise Refused(Code.NO_SUCH_KEY, "Your name has no such key; /keys lists them.")
            self._barred.add((person, key))

    async def release(self, name: str) -> None:
        """Take all keys from a name. Raises `Refused` (no_such_name)."""
        person = fold(name)
        async with self._changing:
            self._codes.pop(person, None)
            keys = await self._accounts.keys(person)
            if not await self._accounts.release(person, self._clock()):
                raise Refused(Code.NO_SUCH_NAME, f"Nobody has the name {name}.")
            self._barred.update((person, key.public) for key in keys)

    def is_barred(self, author: Author) -> bool:
        """Return whether the key was taken from the name while its owner was at the door."""
        return author.key is not None and (fold(author.name), author.key) in self._barred

    def _redeem(self, person: str, typed: str) -> None:
        deadline, code, by = self._codes.get(person, (0.0, "", None))
        given = _plain(typed).encode(errors="replace")
        void = deadline < trio.current_time() or (by is not None and (person, by) in self._barred)
        if void or not hmac.compare_digest(code.encode(), given):
            raise Refused(
                Code.BAD_LINK, "That link code was used, has expired, or is of another name."
            )
        del self._codes[person]


class GroupQuota:
    """In which groups people are, or ask to be: of those who lately asked to join one.

    Conversations of two do not count.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._groups: OrderedDict[str, set[str]] = OrderedDict()

    async def load(self, person: str) -> None:
        """Know a person's groups."""
        if person not in self._groups:
            groups = {g for g in await self._store.groups_of(person) if not is_direct(g)}
            # Another task may have loaded and changed them meanwhile.
            self._groups.setdefault(person, groups)
        self._groups.move_to_end(person)
        while len(self._groups) > _MOST_REMEMBERED:
            self._groups.popitem(last=False)

    def reserve(self, person: str, group: str) -> None:
        """Count one more group for a person who is loaded. Raises `Refused` (groups_full)."""
        groups = self._groups.get(person)
        if groups is None or (group not in groups and len(groups) >= self._limit):
            raise Refused(
                Code.GROUPS_FULL, f"You are in {self._limit} groups, which is all one may be in."
            )
        groups.add(group)

    def moved(self, group: str, standings: Mapping[str, Standing]) -> None:
        """Note what people are to a group now."""
        for person, standing in standings.items():
            if standing == "outsider" and person in self._groups:
                self._groups[person].discard(group)


def _plain(code: str) -> str:
    return code.upper().translate(_LOOKS_LIKE)
