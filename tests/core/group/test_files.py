"""Shared files: share, number, remove, and the limit of files."""

from __future__ import annotations

import pytest

from tchat.core.group.feature import GroupLimits
from tchat.core.group.files import FileRemoved, FileShared, RemoveFile, Share
from tchat.core.group.membership import (
    Join,
    Leave,
)
from tchat.core.group.state import File
from tchat.errors import Code
from tests.core.script import NOON, Script

DIGEST = bytes(range(32))


def test_files_are_numbered_in_order(crew: Script) -> None:
    assert crew.run("bob", Share, "a.txt", 1, DIGEST) == [FileShared(1, "a.txt", 1, DIGEST)]
    assert crew.run("carol", Share, "a.txt", 1, DIGEST) == [FileShared(2, "a.txt", 1, DIGEST)]
    assert [file.number for file in crew.group.files.values()] == [1, 2]


def test_outsiders_and_requesters_cannot_share(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("dave", Share, "a.txt", 1, DIGEST) == Code.NOT_APPROVED
    assert crew.refused("erin", Share, "a.txt", 1, DIGEST) == Code.NOT_MEMBER


@pytest.mark.parametrize("digest", [b"", DIGEST[:-1], DIGEST + b"\x00"])
def test_shared_file_needs_a_digest(crew: Script, digest: bytes) -> None:
    assert crew.refused("bob", Share, "a.txt", 1, digest) == Code.BAD_FILE


def test_shared_file_needs_a_name(crew: Script) -> None:
    assert crew.refused("bob", Share, "", 1, DIGEST) == Code.BAD_FILE


def test_state_has_sharer_and_time_of_files(crew: Script) -> None:
    crew.run("Bob", Share, "a.txt", 7, DIGEST)
    assert crew.group.files == {1: File(1, "a.txt", 7, DIGEST, "Bob", NOON)}


@pytest.mark.parametrize("who", ["bob", "BOB", "alice"])
def test_sharer_or_admin_removes_a_file(crew: Script, who: str) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    assert crew.run(who, RemoveFile, 1) == [FileRemoved(1)]
    assert crew.group.files == {}
    assert crew.refused(who, RemoveFile, 1) == Code.NO_SUCH_FILE


def test_another_file_is_not_removed(crew: Script) -> None:
    """After a restore of the server, the number is that of a file shared since."""
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    assert crew.refused("bob", RemoveFile, 1, bytes(32)) == Code.LOG_REPLACED
    assert crew.run("bob", RemoveFile, 1, DIGEST) == [FileRemoved(1)]


def test_other_members_cannot_remove_a_file(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("dave", Join)
    assert crew.refused("carol", RemoveFile, 1) == Code.NOT_ADMIN
    assert "bob" in crew.sentence
    assert crew.refused("dave", RemoveFile, 1) == Code.NOT_APPROVED
    assert crew.refused("erin", RemoveFile, 1) == Code.NOT_MEMBER


def test_former_member_cannot_remove_own_file(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", Leave)
    assert crew.refused("bob", RemoveFile, 1) == Code.NOT_MEMBER
    assert crew.run("alice", RemoveFile, 1) == [FileRemoved(1)]


@pytest.mark.parametrize("number", [0, 2, 2**62])
def test_missing_file_cannot_be_removed(crew: Script, number: int) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    assert crew.refused("alice", RemoveFile, number) == Code.NO_SUCH_FILE


def test_number_of_a_removed_file_is_not_reused(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", RemoveFile, 1)
    assert crew.run("bob", Share, "b.txt", 1, DIGEST) == [FileShared(2, "b.txt", 1, DIGEST)]
    assert crew.replayed() == crew.group


def test_repeated_removal_is_idempotent(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", RemoveFile, 1)
    assert crew.again() == []


def test_number_of_files_is_limited() -> None:
    small = Script("small")
    small.limits = GroupLimits(files=2)
    small.joined("alice", "bob")
    for name in ("alice", "bob"):
        small.run(name, Share, "plan.txt", 0, bytes(32))
    assert small.refused("alice", Share, "plan.txt", 0, bytes(32)) == Code.GROUP_FULL
    small.run("bob", RemoveFile, 2)
    small.run("alice", Share, "plan.txt", 0, bytes(32))
