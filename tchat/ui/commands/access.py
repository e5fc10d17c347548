"""Commands that give access: invites for people, link codes and keys for a person's devices."""

from __future__ import annotations

import re
import secrets
import shlex
from typing import TYPE_CHECKING, Protocol

from tchat.client.join_command import (
    invite_command,
    notes_on_host,
    pin_to_check,
    words_to_join,
)
from tchat.core.fingerprints import TOKEN_SIZE, fingerprint, pin_text, token_digest
from tchat.core.group.membership import Invite
from tchat.core.protocol.frames import LinkCode, LinkRequest, Unlink
from tchat.core.text import check_name, clean_line, quote_name
from tchat.errors import Code, Refused
from tchat.machine_clocks import DAY_MS
from tchat.ui.chat.commands import CommandSpec, WrongUsage
from tchat.ui.chat.lines import minute_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window

_UNITS = {"m": 60_000, "h": 3_600_000, "d": DAY_MS}
_DURATION = re.compile(r"(\d{1,5})([mhd])")
_LEAST_DIGITS = 4


# ---------------------------------------------------------------------- invites


class InviteContext(Protocol):
    """The window in which an invite is made."""

    session: Session
    replica: Replica

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        """Show a line for copying, below the sentences `about` it."""


async def make_invite(window: InviteContext, argument: str) -> None:
    """Make an invite, and show the command line that uses it. Raises `Refused`."""
    name, lasts = _read_options(argument)
    token = secrets.token_bytes(TOKEN_SIZE)
    group, connector = window.replica.name, window.session.connector
    await window.session.request(lambda i, n: Invite(i, n, group, token_digest(token), lasts, name))
    whom = name or "the first person who runs it"
    about = [
        "It works once. Keep it secret: send it over a channel that you trust.",
        *notes_on_host(connector),
        f"This command lets {whom} join within {_duration(lasts)}:",
    ]
    window.hand_out(invite_command(connector, group, token, name), about)


async def invite(chat: Chat, window: Window, argument: str) -> None:
    """Make an invite to the current group."""
    await make_invite(window, argument)


def _read_options(argument: str) -> tuple[str | None, int]:
    """Return the name that an invite is for, if any, and its duration in ms. Raises `Refused`."""
    name, lasts = None, DAY_MS
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
    for unit, size in (("day", DAY_MS), ("hour", 3_600_000), ("minute", 60_000)):
        if ms >= size and ms % size == 0:
            number = ms // size
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "0 minutes"


# ---------------------------------------------------------------------- devices


async def link(chat: Chat, window: Window, _: str) -> None:
    """Show the command that links another device to the person's name."""
    session, connector = chat.session, chat.session.connector
    answer = await session.ask(LinkRequest)
    if not isinstance(answer, LinkCode):
        return
    words = [*words_to_join(connector), f"--user={session.user}"]
    if not window.direct:
        words.append(f"--group={window.replica.name}")
    if pin := pin_to_check(connector):
        words += ["--pin", pin_text(pin)]
    about = [
        "It works once. Keep it secret: whoever runs it can use your name.",
        *notes_on_host(connector),
        f"Run this command on your other device, within {answer.lasts // 60_000} minutes:",
    ]
    window.hand_out(shlex.join([*words, "--link", clean_line(answer.code)]), about)


async def show_keys(chat: Chat, window: Window, _: str) -> None:
    """Show the keys that are linked to the person's name."""
    for key in await chat.session.my_keys():
        here = ", this device" if key.key == chat.session.key else ""
        window.notice(f"{fingerprint(key.key)} since {minute_text(key.since)}{here}")


async def unlink(chat: Chat, window: Window, begun: str) -> None:
    """Remove a key, given by the beginning of its fingerprint, once that is confirmed."""
    digits = begun.replace("-", "").lower()
    keys = await chat.session.my_keys()
    found = [one for one in keys if fingerprint(one.key).replace("-", "").startswith(digits)]
    if len(found) != 1 or len(digits) < _LEAST_DIGITS:
        raise Refused(
            Code.NO_SUCH_KEY,
            f"{quote_name(begun)} does not identify one of your keys;"
            f" type at least its first {_LEAST_DIGITS} digits.",
        )
    key = found[0].key
    question = (
        f"Remove the key {fingerprint(key)}, added {minute_text(found[0].since)}, from your name?"
        " Its device is disconnected, and needs a new /link to use your name again."
    )
    # The server refuses the key of this device.
    ask = None if key == chat.session.key else question
    chat.confirm(lambda: ask, lambda: window.start(_unlink, chat, window, key))


async def _unlink(chat: Chat, window: Window, key: bytes) -> None:
    await chat.session.ask(lambda i: Unlink(i, key))
    window.notice(f"{fingerprint(key)} is no longer linked to your name.")


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
    CommandSpec("link", "devices", "makes a command that links another device to your name", link),
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
