"""Commands about files: send, list, get, cancel a transfer, remove."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import trio

from tchat.core.group.files import RemoveFile
from tchat.core.text import clean_line, fold, quote_name, size_text
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, Offers
from tchat.ui.chat.completion import matching
from tchat.ui.chat.files import file_details, file_table, list_files
from tchat.ui.chat.lines import progress_text
from tchat.ui.text.paths import complete_path, complete_paths, parse_paths

if TYPE_CHECKING:
    from tchat.core.group.state import File
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window

_NEWEST = 20
_NUMBER = re.compile("[0-9]{1,9}")


async def send(chat: Chat, window: Window, typed: str) -> None:
    """Send files or folders, each in its own transfer."""
    window.require_member()
    for path in await trio.to_thread.run_sync(parse_paths, typed):
        window.start(chat.transfers.sending(window.replica, path))


async def show_files(chat: Chat, window: Window, typed: str) -> None:
    """List the newest files, or all, or show the details of one."""
    window.require_member()
    if typed not in ("", "all"):
        await _show_details(window, _file(window, typed))
        return
    found, older = await list_files(chat.session, window.replica, math.inf if typed else _NEWEST)
    if not found:
        window.notice("There are no files yet. /send PATH shares one.")
        return
    count = f"the newest {len(found)}; /files all lists all" if older else str(len(found))
    window.notice(f"files ({count}):")
    for line in file_table(found, window.session.clock()):
        window.notice(line)


async def _show_details(window: Window, file: File) -> None:
    found, _ = await list_files(window.session, window.replica, 1, file.number + 1)
    if not found or found[0].file.number != file.number:
        name = clean_line(file.name)
        raise Refused(Code.NO_SUCH_FILE, f"{name} is no longer kept on the server.")
    for line in file_details(found[0], window.session.clock()):
        window.notice(line)


async def get(chat: Chat, window: Window, typed: str) -> None:
    """Save a file to the downloads directory, or to a given path."""
    window.require_member()
    number, _, path = typed.partition(" ")
    await window.files.save(_file(window, number), path.strip())


def remove(chat: Chat, window: Window, typed: str) -> None:
    """Remove a file from the group, once that is confirmed."""
    window.require_member()
    group, chosen = window.replica.name, _file(window, typed)
    number = chosen.number

    def question() -> str:
        file = _file(window, typed)
        return (
            f"Remove file {number} ({clean_line(file.name)}, {size_text(file.size)})"
            f" from {window.title} for everybody?"
        )

    def run() -> None:
        window.submit(lambda i, n: RemoveFile(i, n, group, number, chosen.sha256))

    chat.confirm(question, run)


def cancel(chat: Chat, window: Window, typed: str) -> None:
    """Cancel a transfer; it resumes when the file is sent or saved again."""
    if not _NUMBER.fullmatch(typed):
        show_transfers(chat)
        raise Refused(
            Code.NO_SUCH_TRANSFER, f"{quote_name(typed)} is not the number of a transfer."
        )
    chat.transfers.cancel(int(typed))


def show_transfers(chat: Chat) -> None:
    """Show the transfers under way. Raises `Refused` (no_such_transfer) if there are none."""
    if not chat.transfers.active:
        raise Refused(Code.NO_SUCH_TRANSFER, "Nothing is being sent or saved.")
    for progress in chat.transfers.progress():
        chat.current.notice(f"{progress.number}: {progress_text(progress)}")


def _file(window: Window, typed: str) -> File:
    if window.direct:
        raise Refused(Code.DIRECT, "Conversations of two people have no files; groups have.")
    number = int(typed) if _NUMBER.fullmatch(typed) else 0
    file = window.replica.state.files.get(number)
    if file is None:
        raise Refused(Code.NO_SUCH_FILE, f"The group has no file {quote_name(typed)}.")
    return file


# ---------------------------------------------------------------------- completion


def transfer_numbers(chat: Chat) -> list[str]:
    """Return the numbers of the transfers under way."""
    return [str(transfer.number) for transfer in chat.transfers.active]


def file_numbers(chat: Chat) -> list[str]:
    """Return the numbers of the group's files, the newest first."""
    return [str(number) for number in chat.current.replica.state.files][::-1]


def removable_files(chat: Chat) -> list[str]:
    """Return the numbers of the files that the person may remove, the newest first."""
    state, user = chat.current.replica.state, chat.session.user
    if state.is_admin(user):
        return file_numbers(chat)
    own = (file for file in state.files.values() if fold(file.by) == fold(user))
    return [str(file.number) for file in own][::-1]


def _paths(_: Chat, begun: str) -> Offers:
    return Offers(0, complete_paths(begun))


def _number_then_path(chat: Chat, begun: str) -> Offers:
    number, space, begun_path = begun.partition(" ")
    if not space:
        return Offers(0, matching(file_numbers(chat), number))
    return Offers(0, [f"{number} {path}" for path in complete_path(begun_path)])


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "send",
        "basics",
        "sends files or folders to the group",
        send,
        "PATH",
        "send which file?",
        example="~/report.pdf",
        completer=_paths,
        number=9,
        takes_path=True,
    ),
    CommandSpec(
        "files",
        "files",
        "lists the newest files, or all, or shows details of one",
        show_files,
        "[N|all]",
        example="3",
        choices=file_numbers,
    ),
    CommandSpec(
        "get",
        "files",
        "saves a file",
        get,
        "N [PATH]",
        "get which file?",
        example="3 ~/report.pdf",
        choices=file_numbers,
        completer=_number_then_path,
    ),
    CommandSpec(
        "cancel",
        "files",
        "cancels sending or saving a file",
        cancel,
        "N",
        "cancel which transfer?",
        example="1",
        choices=transfer_numbers,
        before_asking=show_transfers,
        lapses=True,
    ),
    CommandSpec(
        "remove",
        "files",
        "removes a file from the group",
        remove,
        "N",
        "remove which file?",
        example="3",
        choices=removable_files,
    ),
)
