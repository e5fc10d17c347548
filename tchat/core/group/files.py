"""Shared files of a group: share an uploaded file, remove one.

The log announces a file with its number, name, size and SHA-256. The bytes are transferred on a
separate connection (`tchat.transfer`) and are stored once, however often a file is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.fingerprints import SHA256_SIZE
from tchat.core.group.feature import Body, Command, Event, FileName, LogLine
from tchat.core.group.state import File
from tchat.core.protocol.schema import record
from tchat.core.text import FILE_NAME_LIMIT, fold, size_text
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.group.feature import Context, Facts, Reader
    from tchat.core.group.state import Group


@record
class Share(Command):
    """Share a file that is already uploaded: its name, size in bytes and SHA-256."""

    type = "share"
    allowed = "member"
    name: FileName
    size: int
    sha256: bytes

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the file under the next number."""
        if not self.name or len(self.sha256) != SHA256_SIZE:
            raise Refused(Code.BAD_FILE, "A file needs a name and a SHA-256 digest.")
        if len(self.name.encode()) > FILE_NAME_LIMIT:
            raise Refused(Code.BAD_FILE, f"The name of a file has at most {FILE_NAME_LIMIT} bytes.")
        if len(group.files) >= context.limits.files:
            raise Refused(
                Code.GROUP_FULL,
                f"The group has reached its limit of {context.limits.files} files.",
            )
        return [FileShared(group.numbered + 1, self.name, self.size, self.sha256)]


@record
class FileShared(Body):
    """The actor shared a file: `number` in the group, `size` in bytes."""

    kind = "file_shared"
    changes_files = True
    log_lines = (LogLine("file_shared", "{user} sent {file} ({size} bytes) to {group}"),)
    number: int
    name: str
    size: int
    sha256: bytes

    def apply(self, group: Group, event: Event) -> None:
        """Add the file to the group's files."""
        number = self.number
        group.files[number] = File(number, self.name, self.size, self.sha256, event.actor, event.at)
        group.numbered = max(group.numbered, number)

    def log_facts(self) -> Facts:
        """Return the file's name and size."""
        return {"file": self.name, "size": self.size}

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who shared which file."""
        return f"{event.actor} shared {self.name} ({size_text(self.size)}), file {self.number}"


@record
class RemoveFile(Command):
    """Remove a file from the group (the person who shared it, or the admin).

    With `sha256`, it is refused if that is not the file's digest: after a restore of the server,
    numbers are given again.
    """

    type = "remove_file"
    allowed = "member"
    number: int
    sha256: bytes | None = None

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Remove the file, if the author shared it or is the admin."""
        file = group.files.get(self.number)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, f"The group has no file {self.number}.")
        if self.sha256 not in (None, file.sha256):
            raise Refused(
                Code.LOG_REPLACED,
                f"File {self.number} is another one now: the server was restored from a backup."
                " Nothing was changed.",
            )
        if fold(file.by) != fold(context.name) and not group.is_admin(context.name):
            raise Refused(
                Code.NOT_ADMIN, f"Only {file.by}, who shared it, or the admin may remove this file."
            )
        return [FileRemoved(self.number)]


@record
class FileRemoved(Body):
    """The actor, who had shared the file or is the admin, removed file `number`."""

    kind = "file_removed"
    changes_files = True
    log_lines = (LogLine("file_removed", "{user} removed file {number} from {group}"),)
    number: int

    def apply(self, group: Group, event: Event) -> None:
        """Remove the file."""
        group.files.pop(self.number, None)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who removed which file."""
        name = f" ({reader.file})" if reader.file else ""
        return f"{event.actor} removed file {self.number}{name}"


COMMANDS: tuple[type[Command], ...] = (Share, RemoveFile)
EVENTS: tuple[type[Body], ...] = (FileShared, FileRemoved)
