"""Registration of an IRC client: CAP, PASS or SASL PLAIN, NICK and USER.

Nobody gets further without the password. The nickname that a client asks for is ignored: people
have the names that they have on the server.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import trio

from tchat.irc.connection import CAPABILITIES, names_and_values
from tchat.irc.messages import Message
from tchat.irc.names import SERVER
from tchat.irc.password import is_right

if TYPE_CHECKING:
    from tchat.irc.connection import Connection

REGISTER_SECONDS = 30.0
"""Seconds in which a client has to register."""

_ATTEMPTS = 3
_SASL_SIZE = 400  # the parts of a longer response would have this size
_VERSION_WITH_VALUES = 302


async def register(connection: Connection, password: str) -> bool:
    """Register a client, and return whether it may stay."""
    with trio.move_on_after(REGISTER_SECONDS):
        return await _Registration(connection, password).run()
    await connection.say_error("Registration took too long.")
    return False


async def negotiate(connection: Connection, message: Message) -> None:
    """Answer a CAP message, except END."""
    word = message.params[0].upper() if message.params else ""
    match word:
        case "LS":
            version = message.params[1] if len(message.params) > 1 else "0"
            values = version.isdecimal() and int(version[:9]) >= _VERSION_WITH_VALUES
            await _answer(connection, "LS", names_and_values(CAPABILITIES, values=values))
        case "LIST":
            await _answer(connection, "LIST", " ".join(sorted(connection.capabilities)))
        case "REQ":
            wanted = message.params[-1].split()
            removed = {name[1:] for name in wanted if name.startswith("-")}
            added = {name for name in wanted if not name.startswith("-")}
            known = added | removed <= CAPABILITIES.keys()
            if known:
                connection.capabilities = (connection.capabilities | added) - removed
            await _answer(connection, "ACK" if known else "NAK", " ".join(wanted))
        case _:
            await connection.numeric("410", word or "*", "Invalid CAP command")


async def _answer(connection: Connection, word: str, text: str) -> None:
    await connection.send(Message("CAP", (connection.nick, word, text), SERVER))


class _Registration:
    def __init__(self, connection: Connection, password: str) -> None:
        self._connection = connection
        self._password = password
        self._nick = self._user = False
        self._negotiating = False
        self._admitted = False
        self._in_sasl = False
        self._attempts = 0

    async def run(self) -> bool:
        while (message := await self._connection.receive()) is not None:
            if message.command == "QUIT":
                break
            await self._handle(message)
            if self._attempts >= _ATTEMPTS:
                await self._connection.say_error("Too many wrong passwords.")
                break
            if self._nick and self._user and not self._negotiating:
                if not self._admitted:
                    await self._refuse()
                return self._admitted
        return False

    async def _refuse(self) -> None:
        await self._connection.numeric(
            "464", "Password incorrect. Use the one that tchat irc printed at its first start."
        )
        await self._connection.say_error("Password incorrect.")

    async def _handle(self, message: Message) -> None:
        connection, params = self._connection, message.params
        match message.command:
            case "CAP":
                word = params[0].upper() if params else ""
                self._negotiating = word in ("LS", "REQ") or (self._negotiating and word != "END")
                if word != "END":
                    await negotiate(connection, message)
            case "PASS" if params:
                self._check(params[-1])
            case "AUTHENTICATE" if params:
                await self._authenticate(params[0])
            case "NICK":
                self._nick = True
                if params and params[0]:
                    connection.nick = params[0][:32]
            case "USER":
                self._user = True
            case "PING":
                await connection.send(Message("PONG", (SERVER, *params[:1]), SERVER))
            case "PONG" | "PASS" | "AUTHENTICATE":
                pass
            case _:
                await connection.numeric("451", "You have not registered")

    def _check(self, given: str) -> None:
        # Some clients can send a user name with the password only as USER:PASSWORD.
        candidates = (given, given.partition(":")[2])
        self._admitted = any(is_right(one, self._password) for one in candidates)
        self._attempts += not self._admitted

    async def _authenticate(self, word: str) -> None:
        """Handle SASL PLAIN (RFC 4616): AUTHENTICATE PLAIN, +, and the response in Base64."""
        connection = self._connection
        if not self._in_sasl:
            if word.upper() == "PLAIN":
                self._in_sasl = True
                await connection.send(Message("AUTHENTICATE", ("+",)))
            else:
                await connection.numeric("908", "PLAIN", "are available SASL mechanisms")
                await connection.numeric("904", "SASL authentication failed")
            return
        self._in_sasl = False
        if word == "*":
            await connection.numeric("906", "SASL authentication aborted")
            return
        self._check(_password_in(word))
        if self._admitted:
            nick = connection.nick
            await connection.numeric("900", f"{nick}!{nick}@tchat", nick, "You are now logged in")
            await connection.numeric("903", "SASL authentication successful")
        else:
            await connection.numeric("904", "SASL authentication failed")


def _password_in(response: str) -> str:
    """Return the password in a response; an empty one if it is not valid."""
    if len(response) >= _SASL_SIZE:
        return ""
    try:
        parts = base64.b64decode(response, validate=True).decode().split("\0")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return parts[2] if len(parts) == 3 else ""  # authzid, authcid, password
