"""Command-line options of clients and bots (server, pin, invite); open a session with them.

This is imported for every command line, also for `--help`; what opens the session is not.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tchat.client.config.secret_arguments import add_secret
from tchat.client.config.settings import Server, config_file
from tchat.client.native_paths import native, readable
from tchat.core.fingerprints import LINK_CODE_LENGTH, read_invite, read_pin
from tchat.errors import Code, StartupError
from tchat.exits import USAGE
from tchat.invocation import command_line
from tchat.net.address import split_address
from tchat.streams import print_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tchat.client.config.settings import Settings
    from tchat.client.session import Session
    from tchat.net.address import Address

T = TypeVar("T")

CREATE_HINT = "Check its name; --create founds it."
"""The hint for a group that does not exist, in programs with the option of `add_create`."""


def join_hint(address: Address, user: str, group: str) -> str:
    """Return the hint for a group that a person is no member of, in commands that only use it."""
    command = command_line("join", address.host, address.port, "--user", user, "--group", group)
    return f"Join it first ({command}), or pass --invite."


HISTORY = 50
"""The number of messages that plain mode prints of a group that is new to the person."""


class AddressParser(argparse.ArgumentParser):
    """Parser of the command lines of the server, clients and bots.

    It takes HOST:PORT, as programs print it, for the two arguments HOST and PORT. Words are decoded
    as UTF-8 if the locale's encoding cannot decode them, as typed text is; so an argument that is a
    path needs the type `path_argument`. A wrong command line is reported in a line.
    """

    usage_status = 2
    """The exit status for a wrong command line."""

    def parse_known_args(  # type: ignore[override]  # the overloads are for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; see `argparse.ArgumentParser.parse_known_args`."""
        given = list(map(readable, sys.argv[1:] if args is None else args))
        place = self._place_of_host(given)
        if place is not None:
            host, port = split_address(given[place])
            given[place : place + 1] = [host] if port is None else [host, str(port)]
        if any(action.dest == "words" for action in self._actions):
            given = self._words_last(given)
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:  # argparse would leave it to the parser of the words before
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, in a line, and exit."""
        self.exit(self.usage_status, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ANN401
        """Print a message. Raises `OutputError` if it is for standard output, unlike argparse."""
        if file is sys.stdout:
            print_line(message.rstrip("\n"))
        else:
            super()._print_message(message, file)

    def _words_last(self, given: Sequence[str]) -> list[str]:
        """Return the arguments with the positional ones at the end.

        argparse itself takes the positional arguments before an option as all there are, and then
        rejects those behind it.
        """
        options: list[str] = []
        words: list[str] = []
        left = list(reversed(given))
        while left:
            word = left.pop()
            if word == "--":
                words += reversed(left)
                break
            if word == "-" or not word.startswith("-"):
                words.append(word)
                continue
            options.append(word)
            if left and self._takes_next(word):
                options.append(left.pop())
        return [*options, "--", *words]

    def _takes_next(self, word: str) -> bool:
        """Return whether the value of an option is the argument after it."""
        if word.startswith("--"):
            option = self._option_string_actions.get(word)
            return option is not None and option.nargs != 0
        for place, letter in enumerate(word[1:], start=2):  # "-fn" and "10", or "-fn10"
            option = self._option_string_actions.get(f"-{letter}")
            if option is None or option.nargs != 0:
                return option is not None and place == len(word)
        return False

    def _place_of_host(self, given: list[str]) -> int | None:
        """Return the index of the first positional argument, if that is HOST."""
        positional = [action.dest for action in self._actions if not action.option_strings]
        if positional[:1] != ["host"]:
            return None
        place = 0
        while place < len(given) and given[place].startswith("-"):
            word, equals, _ = given[place].partition("=")
            option = self._option_string_actions.get(word)
            place += 1 if equals or option is None or option.nargs == 0 else 2
        return place if place < len(given) else None


class ScriptParser(AddressParser):
    """Parser of a program for scripts: a wrong command line exits with 64, as in sysexits.h."""

    usage_status = USAGE


def path_argument(text: str) -> Path:
    """Return a path of the command line; for argparse."""
    if not text:  # Path("") is the current directory, which is never meant
        raise argparse.ArgumentTypeError("a path cannot be empty")
    return Path(native(text))


def add_address(parser: argparse.ArgumentParser, host: str, port: str) -> None:
    """Add the arguments HOST and PORT; an `AddressParser` takes them as one, too."""
    parser.add_argument("host", metavar="HOST", help=host)
    parser.add_argument("port", metavar="PORT", type=_port, help=port)


def add_server_options(parser: argparse.ArgumentParser, *, nicknames: bool = False) -> None:
    """Add the options that select a server and authenticate it.

    With `nicknames`, PORT is optional, and HOST may be the nickname of a server in the
    configuration file; see `apply_settings`.
    """
    if nicknames:
        parser.add_argument(
            "host", metavar="HOST", help="the server's address, or its nickname in config.toml"
        )
        parser.add_argument("port", metavar="PORT", type=_port, nargs="?", help="its TCP port")
    else:
        add_address(parser, "the server's name or address", "its TCP port")
    add_session_options(parser)


def add_session_options(parser: argparse._ActionsContainer) -> None:
    """Add the options that authenticate a server, and this person to it."""
    add_server_checks(parser)
    add_secret(
        parser,
        "--invite",
        "TCHAT_INVITE",
        read_invite,
        metavar="INVITE",
        help="an invite from /invite: join without approval",
        where="the invite, the last word of the command that the group's admin got from /invite",
    )
    add_secret(
        parser,
        "--link",
        "TCHAT_LINK",
        _link_code,
        metavar="CODE",
        help="a code from /link: use your name on this device, too",
        where="the link code, the last word of the command that /link prints on your other device",
    )
    parser.add_argument("--insecure", action="store_true", help="allow --no-tls for any server")


def add_server_checks(parser: argparse._ActionsContainer) -> None:
    """Add the options that authenticate a server."""
    parser.add_argument(
        "--pin",
        type=argument_type(read_pin),
        metavar="PIN",
        help="the pin that the server's key has to match: sha256:...",
    )
    parser.add_argument(
        "--no-tls", action="store_true", help="no encryption; for a local server without TLS"
    )


def add_create(parser: argparse._ActionsContainer) -> None:
    """Add the option that lets a program found a group; a person at a terminal needs none."""
    parser.add_argument(
        "--create",
        action="store_true",
        help="found the group if it does not exist, even without a terminal",
    )


def apply_settings(given: argparse.Namespace, config: Settings) -> tuple[str, ...]:
    """Complete the command line from the configuration file; return the groups to join.

    Raises `StartupError` if the port is missing and the host is not a server in the file.
    """
    server = config.servers.get(given.host)
    if given.port is not None:
        server = Server(given.host, given.port)
    if server is None:
        raise StartupError(
            Code.CANNOT_START,
            f"Port missing: {command_line('join', given.host, 'PORT')}. Only a server that has a"
            f" name in {config_file()} needs no port, and {given.host} is none of them.",
        )
    server = config.complete(server)
    given.host, given.port = server.host, server.port
    given.user = given.user or server.user
    given.pin = given.pin or server.pin
    given.no_tls = given.no_tls or server.no_tls
    return server.groups


@asynccontextmanager
async def session_for(
    given: argparse.Namespace,
    user: str,
    recent: int | None = None,
    *,
    unread: bool = True,
    persistent: bool = False,
) -> AsyncIterator[Session]:
    """Run a session of `user` with the server in the options while the block runs.

    For `recent`, `unread` and `persistent`, see `open_user_session`. Raises `Refused` (bad_name) or
    `StartupError`.
    """
    from tchat.client.config.opening import open_user_session  # here, since it needs Trio and TLS

    async with open_user_session(
        _server_of(given),
        user,
        link=given.link,
        insecure=given.insecure,
        recent=recent,
        unread=unread,
        persistent=persistent,
    ) as session:
        yield session


async def try_connection(given: argparse.Namespace) -> str:
    """Connect to the server in the options, and disconnect; see `try_server`."""
    from tchat.client.config.opening import try_server

    return await try_server(_server_of(given), insecure=given.insecure)


def _server_of(given: argparse.Namespace) -> Server:
    from tchat.client.config.opening import expected_pin

    invited = given.invite[1] if given.invite else None
    pin = expected_pin(given.pin, invited, no_tls=given.no_tls)
    return Server(given.host, given.port, pin=pin, no_tls=given.no_tls)


def invite_token(given: argparse.Namespace) -> bytes | None:
    """Return the token of the invite, if one was given."""
    token: bytes | None = given.invite[0] if given.invite else None
    return token


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number from 0 to 65535")
    return port


def _link_code(text: str) -> str:
    """Return a link code as it was typed. Raises ValueError for what cannot be one."""
    if len(text.replace("-", "").replace(" ", "")) != LINK_CODE_LENGTH or not text.isascii():
        raise ValueError(
            f"a link code is {LINK_CODE_LENGTH} letters and digits, the last word of the command"
            " that /link prints"
        )
    return text


def argument_type(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return an argparse type that calls `read` and turns its ValueError into a usage error."""

    def argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return argument
