"""Command lines that join the same server, to be pasted by other people or on other devices."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tchat.core.fingerprints import invite_text
from tchat.invocation import program_words
from tchat.net.address import notes_for_elsewhere

if TYPE_CHECKING:
    from tchat.client.connector import Connector


def words_to_join(connector: Connector) -> list[str]:
    """Return the words of a command that joins on the same server."""
    words = [*program_words(), "join", connector.address.host, str(connector.address.port)]
    if connector.plain:
        words += ["--no-tls"] if connector.is_local else ["--no-tls", "--insecure"]
    return words


def invite_command(connector: Connector, group: str, token: bytes, name: str | None) -> str:
    """Return the command line with which `name`, or anybody, uses the token of an invite."""
    words = words_to_join(connector)
    if name is not None:
        words.append(f"--user={name}")
    invite = invite_text(token, pin_to_check(connector))
    return shlex.join([*words, f"--group={group}", "--invite", invite])


def pin_to_check(connector: Connector) -> bytes:
    """Return the pin by which another client can verify the server; empty if it has none.

    A certificate authority vouches for names, not for keys: such a server may change its key, and a
    client with the old key's pin could not connect.
    """
    return b"" if connector.ca_verified else connector.server_pin


def notes_on_host(connector: Connector) -> list[str]:
    """Return what to change of the server's host in a command for another machine, if at all."""
    return notes_for_elsewhere(connector.address.host)
