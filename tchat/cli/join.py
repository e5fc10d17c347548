"""`tchat join`: the chat, full screen or as plain lines."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import RECENT, count, explain
from tchat.cli.full_screen import is_plain
from tchat.cli.names import ask_name, can_ask
from tchat.client.config.options import (
    HISTORY,
    add_create,
    add_server_options,
    apply_settings,
    invite_token,
    path_argument,
    session_for,
    try_connection,
)
from tchat.errors import Code, OutputError, Refused, TchatError, root_of
from tchat.streams import complain, print_line

if TYPE_CHECKING:
    import argparse

    from tchat.client.config.settings import Settings
    from tchat.client.session import Session
    from tchat.ui.plain.typed import TypedLines

LOGIN_SECONDS = 10.0
"""How long the chat waits for the answer to a name that was asked for, before it begins."""

_NAME_CODES = frozenset({Code.BAD_NAME, Code.LOOKALIKE, Code.NAME_TAKEN})

_DESCRIPTION = """\
Join a group and chat. A group that does not exist is founded, with you as its
admin; otherwise its admin has to approve you, unless you have an invite. On the
first connection the server's key is saved, and checked from then on.

If the input is not a terminal, each of its lines is a message, even one that
begins with /; a group is founded only with --create. With --commands, lines that
begin with / are commands, for programs that drive tchat through a pipe.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat join`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat join localhost 7777 --user alice --group ops", "join or found #ops"),
        ("tchat join chat.example.org 7777 --invite INVITE", "use an invite"),
        ("tchat join work", "join a server from the configuration file"),
        (
            "tail -F app.log | tchat join localhost 7777 --user logs --group ops --plain",
            "post the lines of a program",
        ),
    )
    add_server_options(parser, nicknames=True)
    parser.add_argument("--user", metavar="NAME", help="your username (default: prompt for it)")
    parser.add_argument("--group", metavar="NAME", help="the group (default: prompt for it)")
    parser.add_argument("--plain", action="store_true", help="lines of text instead of full screen")
    parser.add_argument(
        "--downloads", type=path_argument, metavar="DIR", help="where downloaded files are saved"
    )
    lines = parser.add_argument_group("plain mode")
    lines.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    lines.add_argument(
        "--history",
        type=count,
        metavar="N",
        help="print the N latest messages of a group at the start, also those that you have seen"
        f" (default: all that you missed; {HISTORY} of a group that is new to you)",
    )
    lines.add_argument(
        "--commands",
        action="store_true",
        help="take lines of a pipe that begin with / as commands, not as messages",
    )
    add_create(lines)
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before /leave, /kick and the like"
    )
    parser.set_defaults(run=_join)


def _join(given: argparse.Namespace) -> int:
    try:
        return _enter_chat(given)
    except BaseException as error:
        root = root_of(error)
        if given.json and isinstance(root, TchatError) and not isinstance(root, OutputError):
            from tchat.ui.plain.formats import error_object

            print_line(error_object(root))
        raise


def _enter_chat(given: argparse.Namespace) -> int:
    import trio

    from tchat.client.config.paths import last_names_file
    from tchat.client.config.settings import config_file, load_config
    from tchat.client.last_names import read_last_names
    from tchat.net.address import Address
    from tchat.ui.plain.typed import TypedLines

    typed, settings = TypedLines(), load_config(config_file())
    groups = apply_settings(given, settings)
    given.plain = is_plain(given.plain or given.json or settings.plain)
    last = read_last_names(last_names_file(), Address(given.host, given.port))
    group = given.group or next(iter(groups), None)
    absent = ""
    if (given.user is None or group is None) and can_ask():
        absent = trio.run(try_connection, given)  # before anything is typed for a wrong address
    if absent:
        complain(f"{absent} You can write meanwhile; it is sent when the server is back.")
    others = () if given.group else groups[1:]
    while True:
        user = ask_name(given.user, "username", "--user", typed, last.user)
        if user is None:
            return 1
        group = ask_name(group, "group name", "--group", typed, last.group)
        if group is None:
            return 1
        login = _Login(asked=given.user is None and not absent)
        try:
            return trio.run(partial(_chat, given, settings, user, (group, *others), typed, login))
        except BaseException as error:
            refusal = root_of(error)
            if not login.can_ask_again(refusal):
                raise
            complain(str(refusal))


@dataclass
class _Login:
    """Whether the username was `asked` for, and whether the person is `done` logging in with it."""

    asked: bool
    done: bool = False

    async def wait(self, session: Session) -> None:
        """Wait until the server has accepted a name that was asked for, `LOGIN_SECONDS` at most.

        Until then, the terminal belongs to the prompts, so that they can ask again.
        """
        import trio

        if self.asked:
            with trio.move_on_after(LOGIN_SECONDS):
                await session.wait_for_connection()
        self.done = True

    def can_ask_again(self, error: BaseException) -> bool:
        """Return whether the server has refused the name that was asked for."""
        is_refusal = isinstance(error, Refused) and error.code in _NAME_CODES
        return self.asked and not self.done and is_refusal


async def _chat(
    given: argparse.Namespace,
    settings: Settings,
    user: str,
    groups: tuple[str, ...],
    typed: TypedLines,
    login: _Login,
) -> int:
    from tchat.client.config.paths import (
        download_directory,
        known_keys_file,
        last_names_file,
        preferences_file,
        saved_files_file,
        searched_file,
        state_directory,
    )
    from tchat.client.files.automatic import AutomaticSaving
    from tchat.client.known_keys import KnownKeys
    from tchat.client.last_names import save_last_names
    from tchat.client.preferences import Preferences
    from tchat.client.searched import Searched
    from tchat.ui.chat.chat import Start

    typing = sys.stdin.isatty()  # otherwise the input is a pipe or a file: text of any origin
    recent = max(RECENT, given.history or 0)
    # A person may write while a server that they know is down; a script has to learn of it.
    async with session_for(given, user, recent, persistent=typing) as session:
        await login.wait(session)
        names = session.connector.names()
        preferences = Preferences(
            preferences_file(), names, user, ignore=settings.ignore, mute=settings.mute
        )
        start = Start(
            session,
            groups,
            given.downloads or settings.downloads or download_directory(),
            invite_token(given),
            preferences,
            Searched(searched_file(), names, user, preferences.ignored),
            KnownKeys(known_keys_file(), names, user),
            AutomaticSaving(saved_files_file(), names, user, settings.automatic),
            founds=typing or given.create,
            assume_yes=given.yes,
            linked=given.link is not None,
            drafts=state_directory() / "drafts",
            on_entered=partial(
                save_last_names, last_names_file(), session.connector.address, user, groups[0]
            ),
        )
        if given.plain:
            from tchat.ui.plain.frontend import PlainOptions, run_plain

            options = PlainOptions(
                typing or given.commands, given.json, given.history, terminal=typing
            )
            return await run_plain(start, typed, options)
        from tchat.ui.tui.app import run_curses  # here, since curses is not available everywhere

        return await run_curses(start, settings)
    raise AssertionError("unreachable")
