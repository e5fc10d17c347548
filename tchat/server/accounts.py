"""Account rules: names belong to keys; link codes add keys of other devices; keys can be revoked.

A name belongs to the first key that claims it. Another device is added with a link code: its owner
asks for the code on a device that has the name, and enters it on the new one. For a person who has
lost every device, the operator makes a code, which also removes the other keys: they may be in the
wrong hands. A key that was removed can be added again only with a new link code. The name of
an erased person stays reserved: whoever had it next would be taken for that person, and would be a
member of their direct conversations.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from tchat.core.fingerprints import LINK_CODE_LENGTH
from tchat.core.lookalikes import check_new_person
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.machine_clocks import DAY_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.core.group.state import Author
    from tchat.core.protocol.handshake import Hello
    from tchat.store.base import AccountKey, Accounts

LINK_CODE_SECONDS = 600.0
OPERATOR_CODE_SECONDS = 3600.0
"""How long a link code of the operator is valid, who has to send it to the person."""

MAX_KEYS = 32
ESTABLISHED_MS = DAY_MS
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no two digits look alike
_TYPED_LIKE = str.maketrans("OIL", "011", " -")  # letters that people type instead of digits
_PARTS = 3
_PART_LENGTH = LINK_CODE_LENGTH // _PARTS  # together, 60 random bits


class _LinkCode(NamedTuple):
    expires: float  # by `trio.current_time()`
    code: str
    issuer: bytes | None = None  # the key that asked for it, unless the operator did
    replaces: bool = False  # whether all other keys are removed


class AccountManager:
    """Names and their keys. `clock` returns ms since the Unix epoch.

    `on_linked` is called with a name that has got a further key, this key, and the time;
    `on_removed` with a name that has lost a key, this key, and the id of the client that removed
    it, which is empty if no client did.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Callable[[], int],
        on_linked: Callable[[str, bytes, int], None] = lambda *_: None,
        on_removed: Callable[[str, bytes, bytes], None] = lambda *_: None,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._on_linked = on_linked
        self._on_removed = on_removed
        self._link_codes: dict[str, _LinkCode] = {}
        # Apart from the others, so that whoever has a person's lost device cannot void it.
        self._operator_codes: dict[str, _LinkCode] = {}
        # Serializes changes to the keys of names. Otherwise, a link code that is redeemed during
        # the erasure of its name could add a key to the erased name.
        self._key_change = trio.Lock()
        self._revoked: set[tuple[str, bytes]] = set()

    async def claim(self, hello: Hello, name: str, code: str | None) -> str:
        """Return the name as its owner writes it, claiming it for the key if it is free.

        The key has been authenticated. Raises `Refused`: name_taken, key_removed, bad_link for an
        invalid link code, bad_name or lookalike for a new name that could be taken for something
        else.
        """
        person = fold(name)
        if code is not None:
            await self._link(name, hello.key, code)
        await self._check_new(person, name)
        written = await self._accounts.claim(person, name, hello.key, self._clock())
        if written is None:
            raise await self._refusal(person, name, hello.key)
        return written

    async def _check_new(self, person: str, name: str) -> None:
        """Raise `Refused` if the name is one that only somebody who has it already may have."""
        try:
            check_new_person(name)
        except Refused:
            if not await self._accounts.keys(person):
                raise

    async def _refusal(self, person: str, name: str, key: bytes) -> Refused:
        """Return the refusal for a key that does not own a name."""
        if await self._accounts.is_erased(person):
            return Refused(
                Code.NAME_TAKEN,
                f"The operator of this server has erased the name {name}, and nobody can have it"
                " any more. Choose another name.",
            )
        if await self._accounts.was_removed(person, key):
            return Refused(
                Code.KEY_REMOVED,
                f"The key of this device was removed from the name {name}. If it is your name,"
                " type /link on a device that uses it, then join here with --link CODE.",
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

    async def _link(self, name: str, key: bytes, code: str) -> None:
        """Add a key to a name by a link code. Raises `Refused`.

        A key that the name has needs no code, and uses up none, except one of the operator.
        """
        person = fold(name)
        async with self._changing_keys():
            keys = [known.public for known in await self._accounts.keys(person)]
            if key in keys and not self._is_operators(person, code):
                return
            replaces = self._redeem(person, code).replaces
            if len(keys) >= MAX_KEYS and not replaces and key not in keys:
                raise Refused(
                    Code.TOO_MANY, f"The name has {MAX_KEYS} keys; /unlink one of them first."
                )
            at, removed = self._clock(), list[bytes]()
            if replaces:
                removed = await self._accounts.take_over(person, key, at)
                self._link_codes.pop(person, None)
            else:
                await self._accounts.link(person, key, at)
            self._revoked.discard((person, key))
            self._revoked.update((person, one) for one in removed)
            if key not in keys:
                self._on_linked(name, key, at)  # first, so that removed devices learn of it
            for one in removed:
                self._on_removed(name, one, b"")

    @asynccontextmanager
    async def _changing_keys(self) -> AsyncIterator[None]:
        """Change the keys of a name in the block, which is not cancelled.

        A change is written even if the connection that asked for it breaks meanwhile. Then it has
        to take effect, too: a removed key must not keep its connections.
        """
        async with self._key_change:
            with trio.CancelScope(shield=True):
                yield

    def new_link_code(self, author: Author) -> str:
        """Return a code that adds one key to the author's name, within `LINK_CODE_SECONDS`.

        It replaces the name's previous code.
        """
        code = _new_code()
        expires = trio.current_time() + LINK_CODE_SECONDS
        self._link_codes[fold(author.name)] = _LinkCode(expires, _normalized(code), author.key)
        return code

    async def new_operator_code(self, name: str, *, keep_keys: bool) -> str:
        """Return a code that adds a key to a name, within `OPERATOR_CODE_SECONDS`.

        It replaces the operator's previous code for the name. Unless `keep_keys`, all other keys
        are removed when it is redeemed. Raises `Refused` (no_such_name).
        """
        person = fold(name)
        if not await self._accounts.keys(person):
            raise Refused(
                Code.NO_SUCH_NAME,
                f"No key has the name {name}, so there is nothing to link: join with it.",
            )
        code = _new_code()
        expires = trio.current_time() + OPERATOR_CODE_SECONDS
        made = _LinkCode(expires, _normalized(code), replaces=not keep_keys)
        self._operator_codes[person] = made
        return code

    async def keys(self, person: str) -> list[AccountKey]:
        """Return the keys of a name, the oldest first."""
        return await self._accounts.keys(person)

    async def claimed_at(self, name: str) -> int | None:
        """Return when a name was first claimed; None if nobody has it."""
        return await self._accounts.claimed_at(fold(name))

    async def unlink(self, author: Author, key: bytes) -> None:
        """Remove another key from the author's name. Raises `Refused`."""
        person = fold(author.name)
        if key == author.key:
            raise Refused(
                Code.YOURSELF, "You are using this key; remove it from another of your devices."
            )
        async with self._changing_keys():
            if not await self._accounts.unlink(person, key, author.key or b"", self._clock()):
                raise Refused(Code.NO_SUCH_KEY, "Your name has no such key; /keys lists them.")
            self._revoked.add((person, key))
            self._on_removed(author.name, key, author.client)

    async def erase(self, name: str) -> None:
        """Remove all keys from a name and reserve it, so that nobody can claim it any more."""
        person = fold(name)
        async with self._changing_keys():
            self._link_codes.pop(person, None)
            self._operator_codes.pop(person, None)
            keys = await self._accounts.erase(person, name, self._clock())
            self._revoked.update((person, key) for key in keys)

    def is_revoked(self, author: Author) -> bool:
        """Return whether the key was removed from the name since the server started."""
        return author.key is not None and (fold(author.name), author.key) in self._revoked

    def _is_operators(self, person: str, typed: str) -> bool:
        """Return whether this is the operator's link code for a name."""
        return self._is_valid(person, self._operator_codes.get(person), typed)

    def _redeem(self, person: str, typed: str) -> _LinkCode:
        """Use up a link code of the name, and return it. Raises `Refused` (bad_link)."""
        for codes in (self._operator_codes, self._link_codes):
            if self._is_valid(person, codes.get(person), typed):
                return codes.pop(person)
        raise Refused(
            Code.BAD_LINK,
            "This link code was used, has expired or belongs to another name;"
            " /link makes a new one.",
        )

    def _is_valid(self, person: str, code: _LinkCode | None, typed: str) -> bool:
        if code is None or code.expires < trio.current_time():
            return False
        if code.issuer is not None and (person, code.issuer) in self._revoked:
            # A stolen device must not regain the name with a code that it requested earlier.
            return False
        given = _normalized(typed).encode(errors="replace")
        return hmac.compare_digest(code.code.encode(), given)


def _new_code() -> str:
    parts = ("".join(secrets.choice(_ALPHABET) for _ in range(_PART_LENGTH)) for _ in range(_PARTS))
    return "-".join(parts)


def is_established(claimed: int | None, now: int) -> bool:
    """Return whether a name was claimed `ESTABLISHED_MS` ago, or earlier.

    What is reserved for such names cannot be had by claiming many new ones. The age of a name is
    not that of its keys: whoever has a new device keeps it.
    """
    return claimed is not None and claimed <= now - ESTABLISHED_MS


def _normalized(code: str) -> str:
    return code.upper().translate(_TYPED_LIKE)
