"""The commands by which people and devices come in: invites, link codes, and the keys of a name."""

from __future__ import annotations

import re
import secrets
import shlex
import time
from typing import TYPE_CHECKING, Protocol

from tchat.core.fingerprints import TOKEN_SIZE, fingerprint, invite_text, token_digest
from tchat.core.group.commands import Invite
from tchat.core.protocol.frames import KeyList, KeysRequest, LinkCode, LinkRequest, Unlink
from tchat.core.text import check_name, clean_line, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.client.replica import Replica
    from tchat.client.session import Session

_DAY_MS = 24 * 3600 * 1000
_UNITS = {"m": 60_000, "h": 3_600_000, "d": _DAY_MS}
_DURATION = re.compile(r"(\d{1,5})([mhd])")
_LEAST_DIGITS = 4


class Asker(Protocol):
    """Who typed the command: in which session and group, and how to show them something."""

    session: Session
    replica: Replica

    def notice(self, text: str) -> None:
        """Show a line."""

    def hand_out(self, text: str) -> None:
        """Show a line where it can be copied."""


async def invite(asker: Asker, argument: str) -> None:
    """Make an invite and show the line to paste."""
    name, lasts = _read_options(argument)
    token = secrets.token_bytes(TOKEN_SIZE)
    group = asker.replica.name
    await asker.session.request(lambda i, n: Invite(i, n, group, token_digest(token), lasts, name))
    whom = f"{name} in" if name else "whoever pastes it first in, once"
    if asker.session.connector.is_local:
        host = asker.session.connector.address.host
        asker.notice(f"on other machines, this machine's name has to stand in place of {host}")
    asker.notice(f"this line lets {whom}, within {_duration(lasts)}:")
    asker.hand_out(_join_line(asker.session, group, token, name))


async def link(asker: Asker, _: str = "") -> None:
    """Show a code that makes another device the person's, too."""
    answer = await asker.session.ask(LinkRequest)
    if isinstance(answer, LinkCode):
        minutes = answer.lasts // 60_000
        options = shlex.join(["--user", asker.session.user, "--link", clean_line(answer.code)])
        asker.notice(f"on the other device, within {minutes} minutes: join with {options}")


async def show_keys(asker: Asker, _: str = "") -> None:
    """Show the keys that the person's name belongs to."""
    for key, since in await _keys(asker.session):
        day = time.strftime("%Y-%m-%d", time.localtime(since / 1000))
        here = ", this device" if key == asker.session.key else ""
        asker.notice(f"{fingerprint(key)} since {day}{here}")


async def unlink(asker: Asker, begun: str) -> None:
    """Take a key, of which the fingerprint or its beginning was typed, from the person's name."""
    digits = begun.replace("-", "").lower()
    keys = [key for key, _ in await _keys(asker.session)]
    found = [key for key in keys if fingerprint(key).replace("-", "").startswith(digits)]
    if len(found) != 1 or len(digits) < _LEAST_DIGITS:
        raise Refused(
            Code.NO_SUCH_KEY, f"{quote_name(begun)} is not one of your keys; /keys lists them."
        )
    await asker.session.ask(lambda i: Unlink(i, found[0]))
    asker.notice(f"{fingerprint(found[0])} does not belong to your name any more")


COMMANDS: dict[str, Callable[[Asker, str], Awaitable[None]]] = {
    "invite": invite,
    "link": link,
    "keys": show_keys,
    "unlink": unlink,
}
"""What these commands do, by their words; each is given what was typed behind it."""


async def _keys(session: Session) -> list[tuple[bytes, int]]:
    answer = await session.ask(KeysRequest)
    if not isinstance(answer, KeyList):
        return []
    return [(key.key, key.since) for key in answer.keys]


def _join_line(session: Session, group: str, token: bytes, name: str | None) -> str:
    connector = session.connector
    words = ["python", "-m", "tchat", "join", connector.address.host, str(connector.address.port)]
    if connector.plain:
        words += ["--no-tls"] if connector.is_local else ["--no-tls", "--insecure"]
    if name is not None:
        words.append(f"--user={name}")
    # One that authorities vouch for may change its key whenever they vouch anew.
    pin = b"" if connector.ca_verified else connector.server_pin
    return shlex.join([*words, f"--group={group}", "--invite", invite_text(token, pin)])


def _read_options(argument: str) -> tuple[str | None, int]:
    """Return for whom an invite is and how many ms it lasts. Raises `Refused`."""
    name, lasts = None, _DAY_MS
    words = argument.split()
    while words:
        match words:
            case ["--for", who, *words]:
                name = check_name(who)
            case ["--expires", text, *words] if found := _DURATION.fullmatch(text):
                lasts = int(found[1]) * _UNITS[found[2]]
            case _:
                raise Refused(
                    Code.MISSING_ARGUMENT,
                    "It is /invite [--for NAME] [--expires 24h], with m, h or d for the time.",
                )
    return name, lasts


def _duration(ms: int) -> str:
    for unit, size in (("day", _DAY_MS), ("hour", 3_600_000), ("minute", 60_000)):
        if ms >= size and ms % size == 0:
            number = ms // size
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "0 minutes"
