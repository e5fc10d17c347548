"""Error codes and exceptions: a stable code for programs, a sentence for people."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """Every error code of tchat. Codes are stable: a published code keeps its meaning."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Attach the meaning, which the table in the documentation shows."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # The rules of a group.
    NOT_MEMBER = "not_member", "only members of the group may do this"
    NOT_APPROVED = "not_approved", "the person waits for approval: only members may do this"
    NOT_ADMIN = "not_admin", "only the group's admin may do this"
    ALREADY_MEMBER = "already_member", "the person is already a member"
    NO_SUCH_MEMBER = "no_such_member", "no member has that name"
    NO_SUCH_REQUEST = "no_such_request", "nobody with that name has asked to join"
    NO_SUCH_FILE = "no_such_file", "the group has no file with that number"
    YOURSELF = "yourself", "you cannot do this to yourself"
    BAD_INVITE = "bad_invite", "the invite is unknown, used, expired, or for somebody else"
    GROUP_FULL = (
        "group_full",
        "the group has reached its limit of members, requests, invites, bans or files",
    )
    NO_SUCH_GROUP = "no_such_group", "the group does not exist, and the client does not found it"
    GROUPS_FULL = "groups_full", "the person has reached the limit of groups"
    BANNED = "banned", "the person is banned from the group and cannot join or use an invite"
    NO_SUCH_BAN = "no_such_ban", "nobody with that name is banned from the group"
    NO_SUCH_MESSAGE = "no_such_message", "the message does not exist, or was deleted"
    LOG_REPLACED = (
        "log_replaced",
        "the message or file is another one, or none: the server was restored from a backup",
    )
    NOT_AUTHOR = "not_author", "only the author of the message may do this"
    EDITED_OFTEN = "edited_often", "the message has reached the limit of edits"
    BLOCKED = "blocked", "you have blocked the person, so you cannot write to them"
    DIRECT = "direct", "a direct conversation has no admin, requests, files or invites"
    NO_COMMON_GROUP = (
        "no_common_group",
        "direct messages need a group that both people are members of",
    )
    DENIED = "denied", "the admin denied the request to join less than an hour ago"
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        "the group no longer knows whether this command, sent long ago, was executed",
    )
    GROUP_TOO_LARGE = "group_too_large", "the group's state is larger than a client accepts"
    # Input.
    BAD_NAME = "bad_name", "a name has 1-32 characters: letters, digits, _ - ."
    EMPTY_TEXT = "empty_text", "a message needs at least one visible character"
    TEXT_TOO_LONG = "text_too_long", "a message holds at most 16 KiB of UTF-8"
    UNKNOWN_COMMAND = "unknown_command", "there is no command with that name"
    MISSING_ARGUMENT = "missing_argument", "the command needs an argument"
    NOT_CONFIRMED = "not_confirmed", "the question was not answered with y, and nothing was done"
    # Files.
    BAD_FILE = "bad_file", "the file's name, size or digest is not valid"
    FILE_TOO_LARGE = "file_too_large", "the file is larger than the server allows"
    FILE_UNREADABLE = "file_unreadable", "the file does not exist, or cannot be read or written"
    FILE_CHANGED = (
        "file_changed",
        "the file changed while it was read, or was corrupted during the transfer",
    )
    FILE_DAMAGED = "file_damaged", "the server's copy of the file is damaged"
    CANCELLED = (
        "cancelled",
        "the person cancelled it; a partial transfer is kept and can be resumed",
    )
    NO_SUCH_TRANSFER = "no_such_transfer", "no transfer with that number is active"
    NOT_UPLOADED = "not_uploaded", "the file has to be uploaded before it can be shared"
    BAD_TICKET = "bad_ticket", "the transfer ticket is unknown, used or expired"
    QUOTA_EXCEEDED = (
        "quota_exceeded",
        "the files of the person, the group or the server are together larger than it allows",
    )
    # Identity.
    NAME_TAKEN = "name_taken", "the name belongs to another key"
    LOOKALIKE = (
        "lookalike",
        "the name looks like another person's or group's, or a reserved one",
    )
    BAD_PROOF = "bad_proof", "the signature is not valid, so the key is not authenticated"
    BAD_LINK = "bad_link", "the link code is unknown, used, expired, or for another name"
    NO_SUCH_KEY = "no_such_key", "the name has no such key"
    NO_SUCH_NAME = "no_such_name", "nobody has that name"
    KEY_REMOVED = "key_removed", "the key was removed from the name"
    SERVER_CHANGED = "server_changed", "the server's key is not the known or expected one"
    NOT_ENCRYPTED = "not_encrypted", "one side uses TLS and the other does not"
    # The protocol.
    MALFORMED = "malformed", "the bytes are not a valid frame"
    FRAME_TOO_LARGE = "frame_too_large", "a frame is longer than the limit"
    UNKNOWN_TYPE = "unknown_type", "the type of the frame is unknown"
    BAD_VERSION = "bad_version", "client and server have no protocol version in common"
    HANDSHAKE = "handshake", "the handshake was invalid or took too long"
    TOO_MANY = "too_many", "the connection has reached a limit"
    RATE_LIMITED = "rate_limited", "too fast, by more than a short delay; retry after `wait` ms"
    BUSY = "busy", "the server is too busy for this; retry later"
    TOO_SLOW = "too_slow", "it took too long and was stopped; a transfer can be resumed"
    REPLACED = "replaced", "the same client has connected again; this older connection is closed"
    IDLE = "idle", "nothing was received for too long"
    # The server's state.
    LOG_DAMAGED = (
        "log_damaged",
        "what the server stored of this is damaged and cannot be read; its operator has been told",
    )
    STORAGE_FULL = "storage_full", "the server's disk is full; nothing was changed"
    SHUTTING_DOWN = "shutting_down", "the server is stopping; clients reconnect automatically"
    INTERNAL = "internal", "an internal error, which the server has logged"
    # Starting up.
    CANNOT_START = "cannot_start", "an address, a directory, a terminal or a key cannot be used"
    BAD_CONFIG = "bad_config", "the configuration file is not valid"


class TchatError(Exception):
    """An expected error: `code` for programs, and a sentence, `str()`, for people."""

    def __init__(self, code: Code | str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Refused(TchatError):
    """A request was refused, and nothing was changed.

    With `wait`, in milliseconds, it may be retried after that; otherwise a retry would be refused
    again.
    """

    def __init__(self, code: Code | str, sentence: str, wait: int | None = None) -> None:
        super().__init__(code, sentence)
        self.wait = wait


class ProtocolError(TchatError):
    """The other side violated the protocol; its connection is closed."""


class StorageError(TchatError):
    """The log cannot be read or written any more; the server stops rather than lose data."""


class StartupError(TchatError):
    """The program cannot start; the sentence says what to change."""


class Unavailable(StartupError):
    """The server cannot be reached."""


class UsageError(TchatError):
    """An argument is missing or not valid; the sentence says which. The exit status is 2 or 64."""


class OutputError(TchatError):
    """Standard output cannot be written; `abandoned` if its reader has gone, which is no fault."""

    def __init__(self, error: OSError) -> None:
        sentence = f"The output cannot be written: {error.strerror}."
        super().__init__(Code.FILE_UNREADABLE, sentence)
        self.abandoned = error.errno == errno.EPIPE


def root_of(error: BaseException) -> BaseException:
    """Return the first exception in nested groups that is no cancellation; else `error` itself."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    roots = map(root_of, error.exceptions)
    return next((one for one in roots if isinstance(one, Exception | KeyboardInterrupt)), error)
