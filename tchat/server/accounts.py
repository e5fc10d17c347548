"""Account rules: names belong to keys; link codes add keys of other devices; keys can be revoked.

A name belongs to the first key that claims it. Another device is added with a link code: its owner
asks for the code on a device that has the name, and enters it on the new one. A key that was
removed, by its owner or by the operator, can be added again only with a new link code. The name of
an erased person stays reserved: whoever had it next would be taken for that person, and would be a
member of their direct conversations.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

import trio

from tchat.core.fingerprints import LINK_CODE_LENGTH
from tchat.core.lookalikes import check_new_person
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tchat.core.group.state import Author
    from tchat.core.protocol.handshake import Hello
    from tchat.store.base import AccountKey, Accounts

LINK_CODE_SECONDS = 600.0
MAX_KEYS = 32
ESTABLISHED_MS = 24 * 3600 * 1000
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no two digits look alike
_TYPED_LIKE = str.maketrans("OIL", "011", " -")  # letters that people type instead of digits
_PARTS = 3
_PART_LENGTH = LINK_CODE_LENGTH // _PARTS  # together, 60 random bits


class _LinkCode(NamedTuple):
    expires: float  # by `trio.current_time()`
    code: str
    issuer: bytes | None  # the key that asked for it


class AccountManager:
    """Names and their keys. `clock` returns ms since the Unix epoch.

    `on_linked` is called with a person (folded) whose name has got a further key, this key, and the
    time.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Callable[[], int],
        on_linked: Callable[[str, bytes, int], None] = lambda *_: None,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._on_linked = on_linked
        self._link_codes: dict[str, _LinkCode] = {}
        # Serializes changes to the keys of names. Otherwise, a link code that is redeemed during
        # the release of its name could add a key to the released name.
        self._key_change = trio.Lock()
        self._revoked: set[tuple[str, bytes]] = set()

    async def claim(self, hello: Hello, name: str, code: str | None) -> str:
        """Return the name as its owner writes it, claiming it for the key if it is free.

        The key has been authenticated. Raises `Refused`: name_taken, bad_link for an invalid link
        code, bad_name or lookalike for a new name that could be taken for something else.
        """
        person = fold(name)
        if code is not None:
            await self._link(person, hello.key, code)
        await self._check_new(person, name)
        written = await self._accounts.claim(person, name, hello.key, self._clock())
        if written is not None:
            return written
        raise await self._why_not(person, name)

    async def _check_new(self, person: str, name: str) -> None:
        """Raise `Refused` if the name is one that only somebody who has it already may have."""
        try:
            check_new_person(name)
        except Refused:
            if not await self._accounts.keys(person):
                raise

    async def _why_not(self, person: str, name: str) -> Refused:
        """Return why a key cannot claim a name."""
        if await self._accounts.is_erased(person):
            return Refused(
                Code.NAME_TAKEN,
                f"The operator of this server has erased the name {name}, and nobody can have it"
                " any more. Choose another name.",
            )
        other = await self._accounts.lookalike(person, name)
        if other is not None and not await self._accounts.keys(person):
            return Refused(
                Code.LOOKALIKE,
                f"The name {name} looks like {other}, which somebody else has on this server."
                " Choose another name.",
            )
        return Refused(
            Code.NAME_TAKEN,
            f"The name {name} belongs to another key. If it is your name, type /link on a"
            " device that uses it, then join here with --link CODE. Otherwise choose another"
            " name.",
        )

    async def _link(self, person: str, key: bytes, code: str) -> None:
        """Add a key to a name by a link code, unless the name has the key. Raises `Refused`."""
        async with self._key_change:
            keys = [known.public for known in await self._accounts.keys(person)]
            if key in keys:
                return
            self._redeem(person, code)
            if len(keys) >= MAX_KEYS:
                raise Refused(
                    Code.TOO_MANY, f"The name has {MAX_KEYS} keys; /unlink one of them first."
                )
            at = self._clock()
            await self._accounts.link(person, key, at)
            self._revoked.discard((person, key))
            self._on_linked(person, key, at)

    def new_link_code(self, author: Author) -> str:
        """Return a code that adds one key to the author's name, within `LINK_CODE_SECONDS`.

        It replaces the name's previous code.
        """
        parts = (
            "".join(secrets.choice(_ALPHABET) for _ in range(_PART_LENGTH)) for _ in range(_PARTS)
        )
        code = "-".join(parts)
        expires = trio.current_time() + LINK_CODE_SECONDS
        self._link_codes[fold(author.name)] = _LinkCode(expires, _normalized(code), author.key)
        return code

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name, the oldest first."""
        return await self._accounts.keys(person)

    async def unlink(self, author: Author, key: bytes) -> None:
        """Remove another key from the author's name. Raises `Refused`."""
        person = fold(author.name)
        if key == author.key:
            raise Refused(
                Code.YOURSELF, "You are using this key; remove it from another of your devices."
            )
        async with self._key_change:
            if not await self._accounts.unlink(person, key, author.key or b"", self._clock()):
                raise Refused(Code.NO_SUCH_KEY, "Your name has no such key; /keys lists them.")
            self._revoked.add((person, key))

    async def release(self, name: str) -> None:
        """Remove all keys from a name, so that anybody may claim it. Raises `Refused`."""
        person = fold(name)
        async with self._key_change:
            self._link_codes.pop(person, None)
            keys = await self._accounts.keys(person)
            if not await self._accounts.release(person, self._clock()):
                raise Refused(Code.NO_SUCH_NAME, f"Nobody has the name {name}.")
            self._revoked.update((person, key.public) for key in keys)

    async def erase(self, name: str) -> None:
        """Remove all keys from a name and reserve it, so that nobody can claim it any more."""
        person = fold(name)
        async with self._key_change:
            self._link_codes.pop(person, None)
            keys = await self._accounts.erase(person, name, self._clock())
            self._revoked.update((person, key) for key in keys)

    def is_revoked(self, author: Author) -> bool:
        """Return whether the key was removed from the name since the server started."""
        return author.key is not None and (fold(author.name), author.key) in self._revoked

    def _redeem(self, person: str, typed: str) -> None:
        """Use up the name's link code. Raises `Refused` (bad_link)."""
        expires, code, issuer = self._link_codes.get(person, _LinkCode(0.0, "", None))
        given = _normalized(typed).encode(errors="replace")
        is_void = expires < trio.current_time() or (
            # A stolen device must not regain the name with a code that it requested earlier.
            issuer is not None and (person, issuer) in self._revoked
        )
        if is_void or not hmac.compare_digest(code.encode(), given):
            raise Refused(
                Code.BAD_LINK,
                "This link code was used, has expired or belongs to another name;"
                " /link makes a new one.",
            )
        del self._link_codes[person]


def is_established(keys: Iterable[AccountKey], now: int) -> bool:
    """Return whether a name with these keys was claimed `ESTABLISHED_MS` ago, or earlier.

    What is reserved for such names cannot be had by claiming many new ones.
    """
    return min((key.since for key in keys), default=now) <= now - ESTABLISHED_MS


def _normalized(code: str) -> str:
    return code.upper().translate(_TYPED_LIKE)
