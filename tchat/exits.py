"""Exit statuses of the commands for scripts, and of bots: those of sysexits.h.

A script can tell what to do: give up (64, 65, 70, 77, 78), or try again later (69, 75).
"""

from __future__ import annotations

from tchat.errors import Code, OutputError, TchatError, Unavailable, UsageError

USAGE = 64
"""The command line is wrong."""

DATA = 65
"""What was to be sent, or a name, is not valid; a file cannot be read or written."""

UNAVAILABLE = 69
"""The server cannot be reached, or the connection was lost for too long (`--patience`)."""

SOFTWARE = 70
"""Anything else failed, such as a fault of the program."""

OUTPUT = 74
"""Standard output cannot be written, or its reader has gone, as in `tchat tail | head -n 1`.

Of `serve`: its data cannot be read or written any more.
"""

TEMPORARY = 75
"""Something is too busy or full, or took too long; the same command may succeed later."""

PERMISSION = 77
"""The server or the group declines this, or it is not the server that was expected."""

CONFIGURATION = 78
"""The configuration file is not valid."""

STATUSES: dict[int, tuple[Code, ...]] = {
    DATA: (
        Code.BAD_NAME,
        Code.EMPTY_TEXT,
        Code.TEXT_TOO_LONG,
        Code.BAD_FILE,
        Code.FILE_TOO_LARGE,
        Code.FILE_UNREADABLE,
        Code.FILE_CHANGED,
        Code.FILE_DAMAGED,
        Code.LOG_DAMAGED,
        Code.NO_SUCH_FILE,
        Code.NO_SUCH_GROUP,
        Code.NO_SUCH_NAME,
        Code.NO_SUCH_MESSAGE,
        Code.LOG_REPLACED,
        Code.NO_SUCH_MEMBER,
        Code.NO_SUCH_BAN,
        Code.NO_SUCH_REQUEST,
        Code.NO_SUCH_KEY,
        Code.ALREADY_MEMBER,
        Code.YOURSELF,
        Code.DIRECT,
    ),
    UNAVAILABLE: (Code.SHUTTING_DOWN,),
    SOFTWARE: (
        Code.UNKNOWN_COMMAND,
        Code.MISSING_ARGUMENT,
        Code.NOT_CONFIRMED,
        Code.CANCELLED,
        Code.NO_SUCH_TRANSFER,
        Code.NOT_UPLOADED,
        Code.BAD_TICKET,
        Code.MALFORMED,
        Code.FRAME_TOO_LARGE,
        Code.UNKNOWN_TYPE,
        Code.BAD_VERSION,
        Code.HANDSHAKE,
        Code.REPLACED,
        Code.CANNOT_START,
    ),
    TEMPORARY: (
        Code.RATE_LIMITED,
        Code.BUSY,
        Code.TOO_MANY,
        Code.IDLE,
        Code.TOO_SLOW,
        Code.STORAGE_FULL,
        Code.QUOTA_EXCEEDED,
        Code.GROUP_FULL,
        Code.GROUPS_FULL,
        Code.DENIED,
        Code.INTERNAL,
    ),
    PERMISSION: (
        Code.NOT_MEMBER,
        Code.NOT_APPROVED,
        Code.NOT_ADMIN,
        Code.NOT_AUTHOR,
        Code.EDITED_OFTEN,
        Code.GROUP_TOO_LARGE,
        Code.OUTCOME_UNKNOWN,
        Code.BANNED,
        Code.BLOCKED,
        Code.BAD_INVITE,
        Code.NAME_TAKEN,
        Code.LOOKALIKE,
        Code.BAD_PROOF,
        Code.BAD_LINK,
        Code.KEY_REMOVED,
        Code.NO_COMMON_GROUP,
        Code.SERVER_CHANGED,
        Code.NOT_ENCRYPTED,
    ),
    CONFIGURATION: (Code.BAD_CONFIG,),
}
"""The error codes for each status; `SOFTWARE` is also for codes of later versions."""

_BY_CODE = {str(code): status for status, codes in STATUSES.items() for code in codes}


def exit_status(error: TchatError) -> int:
    """Return the exit status for an error."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, OutputError):
        return OUTPUT
    return _BY_CODE.get(str(error.code), SOFTWARE)
