"""Commands that give access: invites for people, link codes and keys for a person's devices."""

from __future__ import annotations

import re
import secrets
import shlex
import time
from typing import TYPE_CHECKING, Protocol

from tchat.core.fingerprints import TOKEN_SIZE, fingerprint, invite_text, token_digest
from tchat.core.group.membership import Invite
from tchat.core.protocol.frames import KeyList, KeysRequest, LinkCode, LinkRequest, Unlink
from tchat.core.text import check_name, clean_line, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, WrongUsage

if TYPE_CHECKING:
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window

_DAY_MS = 24 * 3600 * 1000
_UNITS = {"m": 60_000, "h": 3_600_000, "d": _DAY_MS}
_DURATION = re.compile(r"(\d{1,5})([mhd])")
_LEAST_DIGITS = 4


# ---------------------------------------------------------------------- invites


class InviteContext(Protocol):
    """The window in which an invite is made."""

    session: Session
    replica: Replica

    def notice(self, text: str) -> None:
        """Show a notice."""

    def hand_out(self, text: str) -> None:
        """Show a line for copying."""


async def make_invite(window: InviteContext, argument: str) -> None:
    """Make an invite, and show the command line that uses it. Raises `Refused`."""
    name, lasts = _read_options(argument)
    token = secrets.token_bytes(TOKEN_SIZE)
    group, connector = window.replica.name, window.session.connector
    await window.session.request(lambda i, n: Invite(i, n, group, token_digest(token), lasts, name))
    whom = name or "the first person who runs it"
    if connector.is_local:
        host = connector.address.host
        window.notice(f"On another machine, replace {host} with this machine's name or address.")
    window.notice(f"This command lets {whom} join within {_duration(lasts)}:")
    window.hand_out(_join_line(window.session, group, token, name))


async def invite(chat: Chat, window: Window, argument: str) -> None:
    """Make an invite to the current group."""
    await make_invite(window, argument)


def _join_line(session: Session, group: str, token: bytes, name: str | None) -> str:
    connector = session.connector
    words = ["python", "-m", "tchat", "join", connector.address.host, str(connector.address.port)]
    if connector.plain:
        words += ["--no-tls"] if connector.is_local else ["--no-tls", "--insecure"]
    if name is not None:
        words.append(f"--user={name}")
    # A certificate authority vouches for names, not for keys: such a server may change its key,
    # and a client with the old key's pin could not connect.
    pin = b"" if connector.ca_verified else connector.server_pin
    return shlex.join([*words, f"--group={group}", "--invite", invite_text(token, pin)])


def _read_options(argument: str) -> tuple[str | None, int]:
    """Return the name that an invite is for, if any, and its duration in ms. Raises `Refused`."""
    name, lasts = None, _DAY_MS
    words = argument.split()
    while words:
        match words:
            case ["--for", who, *words]:
                name = check_name(who)
            case ["--expires", text, *words] if found := _DURATION.fullmatch(text):
                lasts = int(found[1]) * _UNITS[found[2]]
            case _:
                raise WrongUsage
    return name, lasts


def _duration(ms: int) -> str:
    for unit, size in (("day", _DAY_MS), ("hour", 3_600_000), ("minute", 60_000)):
        if ms >= size and ms % size == 0:
            number = ms // size
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "0 minutes"


# ---------------------------------------------------------------------- devices


async def link(chat: Chat, window: Window, _: str) -> None:
    """Show a code that links another device to the person's name."""
    session = chat.session
    answer = await session.ask(LinkRequest)
    if isinstance(answer, LinkCode):
        minutes = answer.lasts // 60_000
        options = shlex.join(["--user", session.user, "--link", clean_line(answer.code)])
        window.notice(
            f"On the other device, run tchat join within {minutes} minutes with: {options}"
        )


async def show_keys(chat: Chat, window: Window, _: str) -> None:
    """Show the keys that are linked to the person's name."""
    for key, since in await _keys(chat.session):
        day = time.strftime("%Y-%m-%d", time.localtime(since / 1000))
        here = ", this device" if key == chat.session.key else ""
        window.notice(f"{fingerprint(key)} since {day}{here}")


async def unlink(chat: Chat, window: Window, begun: str) -> None:
    """Remove a key, given by the beginning of its fingerprint, from the person's name."""
    digits = begun.replace("-", "").lower()
    keys = [key for key, _ in await _keys(chat.session)]
    found = [key for key in keys if fingerprint(key).replace("-", "").startswith(digits)]
    if len(found) != 1 or len(digits) < _LEAST_DIGITS:
        raise Refused(
            Code.NO_SUCH_KEY,
            f"{quote_name(begun)} does not identify one of your keys;"
            f" type at least its first {_LEAST_DIGITS} digits.",
        )
    await chat.session.ask(lambda i: Unlink(i, found[0]))
    window.notice(f"{fingerprint(found[0])} is no longer linked to your name.")


async def _keys(session: Session) -> list[tuple[bytes, int]]:
    answer = await session.ask(KeysRequest)
    if not isinstance(answer, KeyList):
        return []
    return [(key.key, key.since) for key in answer.keys]


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "invite",
        "people",
        "makes a single-use command that lets somebody join",
        invite,
        "[--for NAME] [--expires 24h]",
        example="--for bob --expires 30m",
        admin=True,
    ),
    CommandSpec("link", "devices", "makes a code that links another device to your name", link),
    CommandSpec("keys", "devices", "lists the keys linked to your name", show_keys),
    CommandSpec(
        "unlink",
        "devices",
        "removes a key from your name",
        unlink,
        "KEY",
        "unlink which key of those that /keys lists?",
        example="3f2a-91c0",
    ),
)
