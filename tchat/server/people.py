"""Whose names are whose, while the server runs: keys, link codes, and who is in how many groups.

A name belongs to the first key that claims it. Further keys join it by a code, which somebody
who is the person already asks for and types in on the other device. A key that was taken away,
by the person or by the operator, does not come back by itself.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

import trio

from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.core.frames import Standing
    from tchat.core.handshake import Hello
    from tchat.core.state import Author
    from tchat.store.base import Accounts, Key, Store

CODE_SECONDS = 600.0
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing looks like another
_LOOKS_LIKE = str.maketrans("OIL", "011", " -")  # how people type it
_GROUPS, _GROUP = 3, 4  # 60 bits


class People:
    """Knows whose key is whose. `clock` gives ms since the Unix epoch."""

    def __init__(self, accounts: Accounts, clock: Callable[[], int]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._codes: dict[str, tuple[float, str]] = {}
        self._barred: set[tuple[str, bytes]] = set()

    async def claim(self, hello: Hello, name: str, code: str | None) -> str:
        """Return how the person of a proved hello is written.

        Raises `Refused`: name_taken, or bad_link for a code that does not hold.
        """
        person = fold(name)
        written = await self._accounts.claim(person, name, hello.key, self._clock())
        if written is None and code is not None:
            self._redeem(person, code)
            await self._accounts.link(person, hello.key, self._clock())
            self._barred.discard((person, hello.key))
            written = await self._accounts.claim(person, name, hello.key, self._clock())
        if written is None:
            raise Refused(
                Code.NAME_TAKEN,
                f"The name {name} belongs to another key. If it is yours, type /link where you are"
                f" {name} and come with the code: join --link CODE. Otherwise take another name.",
            )
        return written

    def new_code(self, person: str) -> str:
        """Return a code that adds a key to the name, once and soon; an earlier one is void."""
        groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        code = "-".join(groups)
        self._codes[person] = (trio.current_time() + CODE_SECONDS, _plain(code))
        return code

    async def keys(self, person: str) -> list[Key]:
        """Return the keys of a name, the oldest first."""
        return await self._accounts.keys(person)

    async def unlink(self, author: Author, key: bytes) -> None:
        """Take a key from the author's name. Raises `Refused`."""
        person = fold(author.name)
        if key == author.key:
            raise Refused(
                Code.YOURSELF, "This is the key you are using; remove it from another device."
            )
        if key not in [known.public for known in await self._accounts.keys(person)]:
            raise Refused(Code.NO_SUCH_KEY, "Your name has no such key; /keys lists them.")
        await self._accounts.unlink(person, key, self._clock())
        self._barred.add((person, key))

    async def release(self, name: str) -> None:
        """Take all keys from a name. Raises `Refused` (no_such_name)."""
        person = fold(name)
        keys = await self._accounts.keys(person)
        if not await self._accounts.release(person, self._clock()):
            raise Refused(Code.NO_SUCH_NAME, f"Nobody has the name {name}.")
        self._codes.pop(person, None)
        self._barred.update((person, key.public) for key in keys)

    def is_barred(self, author: Author) -> bool:
        """Return whether the key was taken from the name while its owner was at the door."""
        return author.key is not None and (fold(author.name), author.key) in self._barred

    def _redeem(self, person: str, typed: str) -> None:
        deadline, code = self._codes.get(person, (0.0, ""))
        given = _plain(typed).encode(errors="replace")
        if deadline < trio.current_time() or not hmac.compare_digest(code.encode(), given):
            raise Refused(
                Code.BAD_LINK, "That link code was used, has expired, or is of another name."
            )
        del self._codes[person]


class Memberships:
    """In which groups people are, or ask to be: those who are here and have asked to join one."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._groups: dict[str, set[str]] = {}

    async def load(self, person: str) -> None:
        """Know a person's groups."""
        if person not in self._groups:
            groups = set(await self._store.groups_of(person))
            # Another task may have loaded and changed them meanwhile.
            self._groups.setdefault(person, groups)

    def reserve(self, person: str, group: str) -> None:
        """Count one more group for a person. Raises `Refused` (groups_full)."""
        groups = self._groups.setdefault(person, set())
        if group not in groups and len(groups) >= self._limit:
            raise Refused(
                Code.GROUPS_FULL, f"You are in {self._limit} groups, which is all one may be in."
            )
        groups.add(group)

    def moved(self, group: str, standings: Mapping[str, Standing]) -> None:
        """Note what people have become to a group."""
        for person, standing in standings.items():
            if standing == "outsider":
                self._groups.get(person, set()).discard(group)

    def forget(self, person: str) -> None:
        """Forget a person who is not here any more."""
        self._groups.pop(person, None)


def _plain(code: str) -> str:
    return code.upper().translate(_LOOKS_LIKE)
