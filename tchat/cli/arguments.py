"""Arguments that several subcommands have, and the form of their help."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from tchat.client.config.options import add_session_options, path_argument

if TYPE_CHECKING:
    from collections.abc import Callable

RECENT = 200
"""How many of the latest messages of a group are loaded at the start."""

_COUNT_DIGITS = 6
_KEY_LIMIT = 180  # the library's limit, less what commands add for further messages
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def explain(parser: argparse.ArgumentParser, description: str, *rows: tuple[str, str]) -> None:
    """Set the description of a command, shown as it is written, and its examples."""
    parser.description = description
    parser.epilog = examples(*rows)


def examples(*rows: tuple[str, str]) -> str:
    """Return the examples of a --help: each command line below its description."""
    lines = [f"  # {meaning}\n  {command}" for command, meaning in rows]
    return "\n".join(["examples:", *lines])


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the option for the data directory; it is `required` if there is no default."""
    import platformdirs  # here, since most commands have no such option

    try:
        default = platformdirs.user_data_path("tchat", appauthor=False) / "server"
    except RuntimeError:  # the home directory is unknown, as in some containers and services
        default = None
    parser.add_argument(
        "--data",
        type=path_argument,
        default=default,
        required=required and default is None,
        metavar="DIR",
        help="the data directory" + (" (default: %(default)s)" if default else ""),
    )


def add_place(
    parser: argparse.ArgumentParser,
    words: str,
    words_help: str,
    *,
    required: bool = False,
    private: bool = True,
) -> None:
    """Add the arguments that select a server, a group and a user, and the words that follow.

    The server is HOST:PORT, HOST PORT, or a nickname in config.toml; see `cli.place`. With
    `private`, a private conversation may be given as well.
    """
    add_server(parser)
    parser.add_argument("words", nargs="+" if required else "*", metavar=words, help=words_help)
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="the group, or @NAME for a private conversation (default: of config.toml)"
        if private
        else "the group (default: of config.toml)",
    )
    parser.add_argument(
        "--user", metavar="NAME", help="your username (default: of config.toml, or prompt for it)"
    )
    options = parser.add_argument_group("server options")
    add_session_options(options)
    options.add_argument(
        "--patience",
        type=positive_duration,
        metavar="TIME",
        help="give up, with status 69, after so long without a connection (default: 1m; with no end"
        " for tail -f, and until its timeout for ask)",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the argument that selects a server; its port may be the first of the `words`."""
    parser.add_argument(
        "server", metavar="SERVER", help="HOST:PORT, HOST PORT, or its nickname in config.toml"
    )


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add an optional port, as the `words` that `place.server_of` reads it from."""
    parser.add_argument("words", nargs="*", metavar="PORT", help="the port, if SERVER is a host")


def count(text: str) -> int:
    """Return a number of things; for argparse."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999")
    return number


def duration(text: str) -> float:
    """Return a duration in seconds: 30, 10m, 2h, 1d; for argparse."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30s, 10m, 2h or 1d")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def positive_duration(text: str) -> float:
    """Return a duration in seconds that is not 0; for argparse."""
    if not (seconds := duration(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all")
    return seconds


def key(text: str) -> str:
    """Check the key of a message that is posted once; for argparse."""
    if not 0 < len(text) <= _KEY_LIMIT:
        raise argparse.ArgumentTypeError(f"a key has 1 to {_KEY_LIMIT} characters")
    return text


def listed(what: str) -> Callable[[str], list[str]]:
    """Return an argparse type that splits a list at its commas."""

    def split(text: str) -> list[str]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise argparse.ArgumentTypeError(f"{text!r} has an empty {what}")
        return parts

    return split
