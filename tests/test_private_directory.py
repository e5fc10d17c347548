"""Directories in which other users could replace files are refused."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from tchat.errors import Code, StartupError
from tchat.private_directory import check_directory


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """Create a directory in a directory."""
    path = tmp_path / "outer" / "inner"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("mode", [0o702, 0o777, 0o1777])
def test_directory_that_others_may_write(inner: Path, mode: int) -> None:
    inner.chmod(mode)
    with pytest.raises(StartupError) as refused:
        check_directory(inner, "the key")
    assert refused.value.code == Code.CANNOT_START
    assert refused.value.sentence.endswith(f"replace the key. Run: chmod go-w {inner}")
    inner.chmod(0o755)
    check_directory(inner, "the key")


@pytest.mark.parametrize("name", ["inner", "missing"])
def test_directories_above_are_checked_too(inner: Path, name: str) -> None:
    outer = inner.parent
    outer.chmod(0o777)
    with pytest.raises(StartupError, match=f"chmod go-w {outer}$"):
        check_directory(outer / name, "the key")
    outer.chmod(0o1777)  # like /tmp: nobody can replace what is not theirs
    check_directory(outer / name, "the key")


def test_private_group_may_write(inner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many systems create directories like this for a user with a group of their own."""
    inner.chmod(0o770)
    owner = pwd.getpwuid(os.geteuid())
    same = inner.stat().st_gid == owner.pw_gid
    assert same, "the group of new directories is the primary one"
    check_directory(inner, "the key")
    other = pwd.struct_passwd((*owner[:3], owner.pw_gid + 1, *owner[4:]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: other)
    with pytest.raises(StartupError):
        check_directory(inner, "the key")


def test_nobody_is_told_to_change_a_device() -> None:
    assert Path("/dev/null").stat().st_mode & stat.S_IWOTH
    check_directory(Path("/dev/null"), "the server's data")
