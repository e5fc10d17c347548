"""What can go wrong, said twice: a stable code for programs and a sentence for people."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Code(StrEnum):
    """Every code that tchat answers with. A code, once published, keeps its meaning."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Attach the sentence that the README's table shows."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # The rules of a group.
    NOT_MEMBER = "not_member", "only members of the group may do this"
    NOT_ADMIN = "not_admin", "only the group's admin may do this"
    ALREADY_MEMBER = "already_member", "the person is a member already"
    NO_SUCH_MEMBER = "no_such_member", "nobody of that name is a member"
    NO_SUCH_REQUEST = "no_such_request", "nobody of that name asked to join"
    NO_SUCH_FILE = "no_such_file", "the group has no file of that number"
    YOURSELF = "yourself", "this cannot be done to oneself"
    BAD_INVITE = "bad_invite", "the invite is unknown, used, expired, or somebody else's"
    GROUP_FULL = "group_full", "the group has as many members, requests, invites or bans as it may"
    GROUPS_FULL = "groups_full", "the person is in as many groups as one may be"
    BANNED = "banned", "the person was banned from the group, and cannot come back by themselves"
    NO_SUCH_BAN = "no_such_ban", "nobody of that name is banned from the group"
    NO_SUCH_MESSAGE = "no_such_message", "the group has no such message, or not any more"
    NOT_AUTHOR = "not_author", "only who wrote the message may do this"
    EDITED_OFTEN = "edited_often", "the message was edited as often as one may be"
    DIRECT = "direct", "a conversation of two has no admin, requests, files or invites"
    NO_COMMON_GROUP = "no_common_group", "one can write to people with whom one shares a group"
    # What people type.
    BAD_NAME = "bad_name", "a name has 1-32 characters: letters, digits, _ - ."
    EMPTY_TEXT = "empty_text", "a message needs at least one visible character"
    TEXT_TOO_LONG = "text_too_long", "a message holds at most 16 KiB of UTF-8"
    UNKNOWN_COMMAND = "unknown_command", "there is no command of that name"
    MISSING_ARGUMENT = "missing_argument", "the command needs an argument"
    # Files.
    BAD_FILE = "bad_file", "the file's name, size or digest cannot be right"
    FILE_TOO_LARGE = "file_too_large", "the file is above the server's limit"
    FILE_UNREADABLE = "file_unreadable", "the file is not there, or cannot be read or written"
    FILE_CHANGED = "file_changed", "the file changed or broke while it travelled"
    FILE_DAMAGED = "file_damaged", "the server's copy of the file is not what it was"
    CANCELLED = "cancelled", "the person ended the transfer; what came across is kept"
    NO_SUCH_TRANSFER = "no_such_transfer", "no transfer of that number is under way"
    NOT_UPLOADED = "not_uploaded", "the server does not hold the file that is to be shared"
    BAD_TICKET = "bad_ticket", "the transfer ticket is unknown, used or expired"
    QUOTA_EXCEEDED = "quota_exceeded", "the person's files together are above the server's limit"
    # Who is who.
    NAME_TAKEN = "name_taken", "the name belongs to another key"
    BAD_PROOF = "bad_proof", "the signature does not prove that the key is the person's"
    BAD_LINK = "bad_link", "the link code is unknown, used, expired, or of another name"
    NO_SUCH_KEY = "no_such_key", "the name has no such key"
    NO_SUCH_NAME = "no_such_name", "nobody has that name"
    KEY_REMOVED = "key_removed", "the key does not belong to the name any more"
    SERVER_CHANGED = "server_changed", "the server is not the one that was met before"
    NOT_ENCRYPTED = "not_encrypted", "one side speaks TLS and the other does not"
    # The wire.
    MALFORMED = "malformed", "the bytes are not a frame of this protocol"
    FRAME_TOO_LARGE = "frame_too_large", "a frame is longer than the limit"
    UNKNOWN_TYPE = "unknown_type", "this side does not know that type of frame"
    BAD_VERSION = "bad_version", "the two sides share no protocol version"
    HANDSHAKE = "handshake", "the connection did not introduce itself properly or in time"
    TOO_MANY = "too_many", "the limit for one connection is reached"
    RATE_LIMITED = "rate_limited", "too much at once; `wait` says after how many ms to go on"
    BUSY = "busy", "too many connections are introducing themselves; try again"
    REPLACED = "replaced", "the same client has connected anew; this connection is the older one"
    IDLE = "idle", "nothing was heard from the other side for too long"
    # The server's condition.
    STORAGE_FULL = "storage_full", "the server's disk is full; nothing was changed"
    SHUTTING_DOWN = "shutting_down", "the server is stopping; clients reconnect by themselves"
    INTERNAL = "internal", "the server met a fault of its own and wrote it to its log"
    # Starting up.
    CANNOT_START = "cannot_start", "an address, a directory or a terminal cannot be used"
    BAD_CONFIG = "bad_config", "the configuration file says something that cannot be right"


class TchatError(Exception):
    """Something a person should hear about: `code` for programs, `str()` for people."""

    def __init__(self, code: Code | str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Refused(TchatError):
    """The rules say no. Nothing was changed, and the same request would be refused again.

    Unless it says to `wait`, in milliseconds: after that it may be allowed.
    """

    def __init__(self, code: Code | str, sentence: str, wait: int | None = None) -> None:
        super().__init__(code, sentence)
        self.wait = wait


class ProtocolError(TchatError):
    """The other side sent what the protocol does not allow; its connection is closed."""


class StorageError(TchatError):
    """The log cannot be written or read any more; the server stops rather than pretend."""


class StartupError(TchatError):
    """A program cannot start; the sentence says what to change."""


def root_of(error: BaseException) -> BaseException:
    """Return the first plain exception inside a group, or the exception itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def run_reporting(main: Callable[[], object]) -> int:
    """Run a program and return its exit status; a `TchatError` is one line on stderr and 1."""
    try:
        main()
    except BaseException as error:
        root = root_of(error)
        if isinstance(root, KeyboardInterrupt):
            return 130
        if isinstance(root, OSError) and root.errno in _UNWRITABLE:
            # Nobody takes our output any more. Python would complain once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if root.errno != errno.EPIPE:
                complain(f"tchat: The output cannot be written: {root.strerror}.")
            return 1
        if not isinstance(root, TchatError):
            raise
        complain(f"tchat: {root}")
        return 1
    return 0


def complain(text: str, end: str = "\n") -> None:
    """Write to standard error, if there is one that takes it."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)
