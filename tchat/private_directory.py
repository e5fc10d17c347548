"""Directories of secrets and logs: refuse those in which other users could replace files.

A private file is no safer than the directories above it: whoever may write one of them can put
another file, or another directory, in its place. OpenSSH checks its files in the same way
(`StrictModes`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tchat.errors import Code, StartupError


def check_directory(directory: Path, what: str) -> None:
    """Raise `StartupError` if other users may write a directory or one of those above it.

    In a directory with the sticky bit, such as `/tmp`, they cannot replace what is not theirs, so
    this is allowed above the directory itself. A directory that does not exist yet is created with
    a mode that is right; only those above it are checked. `what` is the noun in the sentence.
    """
    path = Path(os.path.abspath(directory))  # noqa: PTH100  # links are followed one by one
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            continue  # missing; or unreadable, which whatever uses it reports
        if not stat.S_ISDIR(found.st_mode):
            continue  # as /dev/null: whatever uses it reports that, too
        is_sticky = bool(found.st_mode & stat.S_ISVTX) and place != path
        if _others_may_write(found) and not is_sticky:
            raise StartupError(
                Code.CANNOT_START,
                f"Other users of this machine may write {place}, so they could replace {what}."
                f" Run: chmod go-w {place}",
            )


def _others_may_write(found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(found)


def _is_private_group(found: os.stat_result) -> bool:
    """Return whether the group of a directory has no member but its owner.

    Many systems give each user a group of their own, and new directories are writable by it.
    """
    import grp  # here: hardly any directory needs them
    import pwd

    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:  # no such user or group, as in a container
        return found.st_gid == os.getegid()
    return group.gr_gid == owner.pw_gid and set(group.gr_mem) <= {owner.pw_name}
