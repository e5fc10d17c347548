"""Check a data directory before a server uses it, so that no mistake destroys what is there.

SQLite creates a database where there is none, deletes a write-ahead log that has no database,
applies any log that lies beside a database, and takes over a file of another program; then the
first sweep would remove every file that the new database does not know. So the states that neither
a server nor a crash leaves behind are refused first, by reading alone:

- keys, files or the remains of a database, but no `tchat.db`. A server creates the database before
  anything else, and gives it its name when it is complete, so it is never empty either;
- a `tchat.db` that is not tchat's, shorter than it says, or with the write-ahead log of another
  state: the log begins with pages that the file does not have;
- a `tchat.db` with a second name: a server on the other one would have other locks.

After it is opened, a database is compared with what the file `lock` records about the last use:

- the number of commits at that time. A database with fewer has been restored from an older copy; if
  files beside it are in no index, they are newer than it, and it is refused (a crash leaves such
  files, too, but no fewer commits). Without a record, the times of the files have to tell it.
- that the server has not ended, and the inode of its database. Another inode then means a copy,
  perhaps one made while the server wrote: such a copy is checked as a whole before it is used.
"""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import stat
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, ProtocolError, StartupError
from tchat.links import check_link
from tchat.store.blobs import blob_path, trash_path
from tchat.store.sqlite.damage import is_damage
from tchat.store.sqlite.log import checksum
from tchat.store.sqlite.pages import lost_rows
from tchat.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tchat.store.sqlite.wal import CommittedPages, committed_pages, find_damage
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from io import FileIO

DATABASE = "tchat.db"
LOCK = "lock"
FILES = "files"
CLOCK = "clock"
SALVAGED = "salvaged"
"""The directory of a complete new database that `salvage` is about to put in place."""
KEYS = ("server-key.pem", "server-cert.pem")
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite appends to the name of a database, for the files that belong to it."""

# The header of a database: https://www.sqlite.org/fileformat2.html#the_database_header.
_HEADER_SIZE = 100
_MAGIC = b"SQLite format 3\0"
_MODE, _COUNTER, _PAGES, _USER_VERSION, _APPLICATION_ID, _PAGES_VALID_FOR = 19, 24, 28, 60, 68, 92
_ROLLBACK_MODE = 1
_RECORD_SIZE = 128
_GRACE_MS = 3600 * 1000  # how much newer than the last event an upload may be that a crash ended


class Unusable(StartupError):
    """The directory has a fault that `set_aside` removes, by moving `aside` out of the way."""

    def __init__(self, sentence: str, aside: tuple[str, ...]) -> None:
        super().__init__(Code.CANNOT_START, sentence)
        self.aside = aside


_EVERYTHING = (DATABASE, *(DATABASE + suffix for suffix in COMPANIONS), FILES)
_WAL = (f"{DATABASE}-wal", f"{DATABASE}-shm")


def _advice(directory: Path) -> str:
    """Return how to begin anew, as the end of a sentence."""
    return (
        f"to begin anew, run: tchat admin set-aside --data {directory} (it moves what is there"
        " into a new directory, and deletes nothing)"
    )


# ------------------------------------------------------------------ before anything is created


def check_present(directory: Path) -> bool:
    """Return whether a directory has a database, as far as names and sizes tell.

    What is on a disk that is not mounted is not missing: nothing is begun anew without it.

    Raises `StartupError` if the directory cannot be one, or if what is there shows that its
    database is missing. Nothing is opened, so a server may use the directory meanwhile.
    """
    if directory.is_symlink() and not directory.exists():
        raise _refusal(
            f"The data directory {directory} is a symbolic link to {directory.readlink()}, which"
            " does not exist. Mount or create that one, or give another directory with --data."
        )
    if directory.exists() and not directory.is_dir():
        raise _refusal(
            f"The data directory {directory} is not a directory. Give another one with --data."
        )
    for name in (DATABASE, FILES, LOCK):
        check_link(directory / name)
    if (directory / LOCK).exists() and not (directory / LOCK).is_file():
        raise _refusal(
            f"{directory / LOCK} is not a file. Move it away; the server makes a new one: mv"
            f" {directory / LOCK} {directory / LOCK}.old"
        )
    left = _remains(directory)  # first: whoever creates a database does so before these
    path = directory / DATABASE
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if (directory / SALVAGED / DATABASE).exists():
            raise _refusal(
                f"Salvaging {directory} was interrupted, so that it has no {DATABASE} yet. Run"
                f" salvage again, which finishes it: tchat admin salvage --data {directory}"
            ) from None
        if left:
            raise Unusable(
                f"The data directory {directory} has {_listed(left)}, but no {DATABASE}."
                f"{_renamed(directory)} Restore"
                f" {DATABASE} from a backup, or give another directory with --data;"
                f" {_advice(directory)}.",
                _EVERYTHING,
            ) from None
        return False
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(
            f"{path} is not a file. Restore it from a backup, or give another directory with"
            f" --data; {_advice(directory)}.",
            _EVERYTHING,
        )
    if not found.st_size:
        raise Unusable(
            f"{path} is empty; a server never leaves it so. Restore it from a backup, or give"
            f" another directory with --data; {_advice(directory)}.",
            _EVERYTHING,
        )
    return True


def require_present(directory: Path) -> None:
    """Raise `StartupError` if a directory has no database."""
    if not check_present(directory):
        what = f"it has no {DATABASE}" if directory.exists() else "it does not exist"
        raise _refusal(
            f"There is no server data in {directory}: {what}. Give the directory of a server with"
            " --data."
        )


def check_unopened(directory: Path) -> bool:
    """Return whether a locked directory has a database; raise `StartupError` if it is unusable.

    Raises OSError or sqlite3.Error.
    """
    if not check_present(directory):
        return False
    check_exclusive(directory)
    check_files(directory)
    check_companions(directory)
    check_database(directory)
    check_log_ahead(directory)
    check_copy(directory)
    return True


def check_files(directory: Path) -> None:
    """Raise `StartupError` unless the files of a directory with a database can be used.

    Without them a server would start all the same, and refuse each upload and download.
    """
    for place in (directory / FILES, trash_path(directory / FILES)):
        if place.exists() and not place.is_dir():
            raise Unusable(
                f"{place} is not a directory. Restore it from a backup, or go on without it: tchat"
                f" admin set-aside --data {directory} (it moves what is there into a new directory,"
                " and deletes nothing).",
                (str(place.relative_to(directory)),),
            )
        if place.exists() and not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise _refusal(_not_writable(place))


def check_exclusive(directory: Path) -> None:
    """Raise `StartupError` if another server could use the same database, or this one cannot."""
    path = directory / DATABASE
    if path.is_symlink():
        raise _refusal(
            f"{path} is a symbolic link, so that two servers could use one database. Give the"
            f" directory of the database itself: --data {path.resolve().parent}"
        )
    if path.stat().st_nlink > 1:
        raise _refusal(
            f"{path} has a second name (a hard link), so that another server, or a backup, would"
            f" share it. Run: cp -p {path} {path}.copy && mv {path}.copy {path}"
        )
    for place in (path, directory):
        if not os.access(place, os.R_OK | os.W_OK):
            raise _refusal(_not_writable(place))


def _renamed(directory: Path) -> str:
    """Return a sentence that names a file that may be the database under another name."""
    found = sorted(
        path
        for path in directory.iterdir()
        if path.is_file()
        and path.name.lower().startswith(DATABASE)
        and path.name not in (DATABASE + suffix for suffix in COMPANIONS)
    )
    if not found:
        return ""
    return f" If {found[0].name} is it, rename that: mv {found[0]} {directory / DATABASE}."


def check_companions(directory: Path) -> None:
    """Raise `StartupError` if what is beside the database is nothing that a server can write.

    SQLite says only that it cannot open "the database file", and without its file, the clock is
    trusted more than it should be.
    """
    for name in (*(DATABASE + suffix for suffix in COMPANIONS), CLOCK):
        path = directory / name
        check_link(path)
        if not path.exists():
            continue
        if not path.is_file():
            raise Unusable(
                f"{path} is not a file. Move it away, and start the server: tchat admin set-aside"
                f" --data {directory} (it deletes nothing).",
                (name,),
            )
        if not os.access(path, os.R_OK | os.W_OK):
            raise _refusal(_not_writable(path))


def _remains(directory: Path) -> list[str]:
    """Return the names of what a server has left that had a database."""
    left = [name for name in KEYS if (directory / name).exists()]
    if any(files for _, _, files in os.walk(directory / FILES)):
        left.append(f"{FILES}/")
    left += [
        DATABASE + suffix
        for suffix in COMPANIONS
        if _size_of(directory / (DATABASE + suffix)) is not None
    ]
    if not left and read_record(directory).commits:
        left.append(f"a {LOCK} file that says that it had a database")
    return left


def explain_error(directory: Path, error: OSError) -> str:
    """Return why a directory cannot be used, and what to do if that is known."""
    if is_disk_full(error):
        return full(directory)
    in_the_way = isinstance(error, IsADirectoryError | FileExistsError | NotADirectoryError)
    if in_the_way and error.filename not in (None, str(directory)):
        return (
            f"The data directory {directory} cannot be used: {error.filename}: {error.strerror}."
            " Move that away, or give another directory with --data."
        )
    place = directory
    if isinstance(error.filename, str) and error.filename != str(directory):
        place = Path(error.filename)
    where = "" if place == directory else f"{place}: "
    sentence = f"The data directory {directory} cannot be used: {where}{error.strerror}."
    for existing in (place, *place.parents):
        # A directory above one that cannot be searched seems to be missing, too.
        with suppress(OSError):
            if existing.exists() and not os.access(existing, os.R_OK | os.W_OK):
                return f"{sentence} {_not_writable(existing)}"
            if existing.exists() and existing in (directory, *directory.parents):
                break
    return f"{sentence} Look at its disk, or give another directory with --data."


def full(directory: Path) -> str:
    """Return that the disk of a directory is full, and what to do."""
    existing = next(one for one in (directory, *directory.parents) if one.exists())
    found = os.statvfs(existing)
    what = "has no room for another file (no free inodes)" if not found.f_favail else "is full"
    return (
        f"The disk of {directory} {what}, or a quota is used up. Nothing is lost: make room there,"
        " and try again."
    )


def unreadable(directory: Path, error: sqlite3.Error) -> str:
    """Return why SQLite cannot open a database for reading, and what to do."""
    sentence = f"The data directory {directory} cannot be read: {error}."
    places = [directory / name for name in (DATABASE, *(DATABASE + one for one in COMPANIONS))]
    for place in (directory, *(one for one in places if one.exists())):
        # Even to read, SQLite writes what programs share that use a write-ahead log.
        if not os.access(place, os.R_OK | os.W_OK):
            return f"{sentence} {_not_writable(place)} Or read a copy of the whole directory."
    return sentence


def _not_writable(place: Path) -> str:
    found = place.stat()
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{place} is on a file system that is mounted read-only. Mount it writable."
    if found.st_uid == os.geteuid():
        return f"{place} is read-only. Run: chmod u+rw{'x' if place.is_dir() else ''} {place}"
    return (
        f"{place} belongs to the user {_name_of(found.st_uid)}, and {_name_of(os.geteuid())} may"
        f" not write it. Start tchat as {_name_of(found.st_uid)}, or give another directory with"
        " --data."
    )


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


# ------------------------------------------------------------------ the database, unopened


def check_database(directory: Path) -> None:
    """Raise `StartupError` unless the database in a locked directory is tchat's and complete.

    The file is read, not opened by SQLite, which would change it or its companions. No connection
    of this process may have it open, because closing a file releases the locks of all others. Does
    nothing if there is no database. Raises OSError.
    """
    path = directory / DATABASE
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise Unusable(
            f"{path} is not a database of SQLite, or its beginning is damaged. Restore it from a"
            f" backup, or give another directory with --data; {_advice(directory)}.",
            _EVERYTHING,
        )
    wal = path.with_name(f"{path.name}-wal")
    # Without checksums first, which are needed to tell a log from the torn end of one.
    for check in (False, True):
        log = committed_pages(wal, check=check)
        if _belongs(header, size, log):
            break
    else:
        raise Unusable(
            f"{wal} does not belong to {path}, which is another copy, such as one from a backup, or"
            " is truncated; both together would be damaged. Keep the log: it may have acknowledged"
            f" changes that nothing else has. If {DATABASE} was truncated, keep what both have:"
            f" tchat admin salvage --data {directory}. If it is another copy, put back the one that"
            " was beside the log; or restore a backup: tchat admin restore BACKUP --data"
            f" {directory} (what is there is kept beside it); or go on without the log: tchat admin"
            f" set-aside --data {directory} (it deletes nothing, but what only the log has is not"
            " in use).",
            _WAL,
        )
    is_ours = _number(header, _APPLICATION_ID) == APPLICATION_ID
    begin = header if is_ours or log is None or log.first is None else log.first
    check_ours(directory, _number(begin, _APPLICATION_ID), _number(begin, _USER_VERSION))
    has, pages = size // _page_size(header), _number(header, _PAGES)
    is_counted = _number(header, _COUNTER) == _number(header, _PAGES_VALID_FOR)
    journal = path.with_name(f"{path.name}-journal")
    if not (log and log.size) and is_counted and has < pages and not _size_of(journal):
        raise Unusable(
            f"{path} is truncated: it has {has} of {pages} pages. Restore it from a backup; without"
            f" one, keep what can be read: tchat admin salvage --data {directory}; or"
            f" {_advice(directory)}.",
            _EVERYTHING,
        )


def check_log_ahead(directory: Path) -> None:
    """Raise `StartupError` if damage of the write-ahead log would lose acknowledged changes.

    SQLite would silently ignore everything behind the damage, and overwrite it. Takes 0.1 ms for
    each page of the log, which is empty after a graceful end. Raises OSError.
    """
    path = directory / DATABASE
    wal = path.with_name(f"{path.name}-wal")
    damage = find_damage(wal)
    if damage is not None and lost_rows(path, damage):
        raise _refusal(
            f"{wal} is damaged: {damage.sentence} What was acknowledged would be lost. To keep what"
            f" is behind the damage, run: tchat admin salvage --data {directory} (it deletes"
            " nothing); or restore a backup."
        )


def _belongs(header: bytes, size: int, log: CommittedPages | None) -> bool:
    """Return whether a write-ahead log may be that of the database with this header and size."""
    if log is None or not log.size:
        return True
    is_same_program = log.first is None or (
        _number(log.first, _APPLICATION_ID) in (_number(header, _APPLICATION_ID), APPLICATION_ID)
    )
    # Whatever is not in the log has been in the file since before it began.
    has = range(1, size // _page_size(header) + 1)
    return (
        is_same_program
        and header[_MODE] != _ROLLBACK_MODE
        and log.page_size == _page_size(header)
        and all(page in has or page in log.pages for page in range(1, log.size + 1))
    )


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 1 << 16 if size <= 1 else size


def check_ours(directory: Path, application: int, version: int) -> None:
    """Raise `StartupError` unless the two numbers in a database are those of this tchat."""
    path = directory / DATABASE
    if application != APPLICATION_ID:
        raise Unusable(
            f"{path} is not a server's database: another program wrote it. Give another directory"
            f" with --data, or restore it from a backup; {_advice(directory)}.",
            _EVERYTHING,
        )
    if version > len(MIGRATIONS):
        raise _refusal(
            f"The data directory {directory} was written by a newer version of tchat; start that"
            " version, or a newer one."
        )


def check_kind(directory: Path) -> None:
    """Raise `StartupError` if a database is another program's, or newer than this tchat.

    SQLite reads it without its companions, and creates none. A server may use it.
    """
    uri = f"{(directory / DATABASE).absolute().as_uri()}?mode=ro&immutable=1"
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(uri, uri=True)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        check_ours(directory, application, version)


def _number(header: bytes, at: int) -> int:
    return int.from_bytes(header[at : at + 4], "big")


# ------------------------------------------------------------------ the record of the last use


@dataclass(frozen=True, slots=True)
class Record:
    """What `lock` says: at least so many commits were durable; `running` is the database's inode.

    `running` is 0 after a graceful end. `known` is false without a record.
    """

    commits: int = 0
    running: int = 0
    known: bool = False


def read_record(directory: Path) -> Record:
    """Return the record of the last use; that of an unused directory if there is none."""
    try:
        text = (directory / LOCK).read_bytes()[:_RECORD_SIZE]
        found = json.loads(text)
        return Record(int(found["commits"]), int(found["running"]), known=True)
    except (OSError, ValueError, TypeError, KeyError):
        return Record()


def write_record(lock: FileIO, commits: int, running: int) -> None:
    """Write the record into the locked file, in place and at one size.

    It is not synced, and an error is ignored: a record that lags behind, or is missing, only
    notices less.
    """
    values = asdict(Record(commits, running))
    del values["known"]
    with suppress(OSError):
        os.pwrite(lock.fileno(), json.dumps(values).ljust(_RECORD_SIZE - 1).encode() + b"\n", 0)


def commits_of(connection: sqlite3.Connection) -> int | None:
    """Return the number of commits in the logs: segments are never removed.

    None if the last one cannot be read, which costs posting, but not the start (see `soundness`).
    """
    try:
        (commits,) = connection.execute("SELECT ifnull(max(rowid), 0) FROM segments").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return None
    return int(commits)


# ------------------------------------------------------------------ copies, and older databases


def check_copy(directory: Path) -> None:
    """Raise `Unusable` if a copy of a directory was made while its server wrote, and is damaged.

    Takes as long as reading the database, but only for a copy of a directory whose server had not
    ended. Raises sqlite3.Error.
    """
    path = directory / DATABASE
    running = read_record(directory).running
    if not running or not path.exists() or running == path.stat().st_ino:
        return
    try:
        with closing(open_for_reading(directory)) as connection:
            connection.create_function("segment_checksum", 4, checksum, deterministic=True)
            connection.execute("BEGIN")
            whole = _is_whole(connection)
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        raise Unusable(
            f"{path} is damaged: it was copied, or restored, while a server was writing it. Make"
            f" copies with: tchat admin backup. Restore it from such a backup; or"
            f" {_advice(directory)}.",
            _EVERYTHING,
        )


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """Open the database in a locked directory. Raises sqlite3.Error."""
    path = directory / DATABASE
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if not _size_of(path.with_name(f"{path.name}-wal")):
        uri += "&immutable=1"  # so that SQLite creates no companions
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Return whether the structure of a database and all its logs are without gaps and damage."""
    if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        return False
    gaps = (
        "SELECT EXISTS (SELECT 1 FROM (SELECT first,"
        " lag(last, 1, 0) OVER (PARTITION BY group_id ORDER BY last) AS before FROM segments)"
        " WHERE first <> before + 1) OR EXISTS (SELECT 1 FROM groups WHERE last <>"
        " ifnull((SELECT max(last) FROM segments WHERE group_id = id), 0))"
    )
    if connection.execute(gaps).fetchone()[0]:
        return False
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(segments)")]
    wrong = (
        "SELECT EXISTS (SELECT 1 FROM segments"
        " WHERE crc IS NOT segment_checksum(group_id, first, last, frames))"
    )
    return "crc" not in columns or not connection.execute(wrong).fetchone()[0]


def check_age(directory: Path, connection: sqlite3.Connection) -> None:
    """Raise `Unusable` if an open database is older than the files beside it."""
    record, commits = read_record(directory), commits_of(connection)
    if commits is None or (record.known and commits >= record.commits):
        return
    unknown = unknown_files(directory, connection)
    if not record.known:
        newest = _newest_ms(connection) + _GRACE_MS
        unknown = [path for path in unknown if path.stat().st_mtime * 1000 > newest]
    if not unknown:
        return
    lacks = f" lacks {record.commits - commits} of its last changes, and" if record.known else ""
    raise Unusable(
        f"{directory / DATABASE} is older than the files beside it: it{lacks} does not have"
        f" {len(unknown)} of the files in {directory / FILES}. If you have restored it, restore"
        f" {FILES} from the same backup, too; or keep it without these files: tchat admin set-aside"
        f" --data {directory} (it moves them into a new directory, and deletes nothing).",
        tuple(str(path.relative_to(directory)) for path in unknown),
    )


def lacking_commits(directory: Path, connection: sqlite3.Connection) -> int:
    """Return how many durable commits an open database lacks: a crash loses none."""
    record, commits = read_record(directory), commits_of(connection)
    return max(record.commits - commits, 0) if record.known and commits is not None else 0


def unknown_files(directory: Path, connection: sqlite3.Connection) -> list[Path]:
    """Return the files below `files` that have the name of a digest and are in no index."""
    files = directory / FILES
    known = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM blobs")}
    found = []
    for path in files.glob("??/*"):
        with suppress(ValueError):
            sha256 = bytes.fromhex(path.name)
            if sha256 not in known and path == blob_path(files, sha256):
                found.append(path)
    return found


def _newest_ms(connection: sqlite3.Connection) -> int:
    """Return the time of the newest event or upload, in ms since the Unix epoch."""
    leased = connection.execute("SELECT ifnull(max(at), 0) FROM held").fetchone()[0]
    row = connection.execute("SELECT frames FROM segments ORDER BY rowid DESC LIMIT 1").fetchone()
    if row is None:
        return int(leased)
    try:
        *_, body = split_frames(row[0])
        return max(int(leased), decode_event(body).at)
    except (ProtocolError, ValueError):  # damaged: the business of whoever reads it
        return int(leased)


def _refusal(sentence: str) -> StartupError:
    return StartupError(Code.CANNOT_START, sentence)


def _size_of(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
