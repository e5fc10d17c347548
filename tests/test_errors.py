"""Error codes are stable: each is used, unique, and written like its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tchat
from tchat.errors import Code, Refused, root_of
from tchat.exits import STATUSES
from tchat.streams import run_reporting

SOURCES = [path for path in Path(tchat.__file__).parent.rglob("*.py") if path.name != "errors.py"]


@pytest.mark.parametrize("code", list(Code), ids=str)
def test_every_code_is_used(code: Code) -> None:
    assert any(f"Code.{code.name}" in path.read_text() for path in SOURCES)


@pytest.mark.parametrize("code", list(Code), ids=str)
def test_a_code_is_spelled_like_its_name(code: Code) -> None:
    assert code == code.name.lower()
    assert re.fullmatch("[a-z_]+", code)


def test_every_code_has_one_exit_status() -> None:
    listed = [code for codes in STATUSES.values() for code in codes]
    assert sorted(listed) == sorted(Code)


def test_a_refusal_prints_one_line_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise ExceptionGroup("tasks", [Refused(Code.BAD_NAME, "No such name.")])

    assert run_reporting(refuse) == 1
    assert capsys.readouterr().err == "tchat: No such name.\n"


def test_an_interrupt_exits_with_130_silently(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt() -> None:
        raise BaseExceptionGroup("tasks", [KeyboardInterrupt()])

    assert run_reporting(interrupt) == 130
    assert capsys.readouterr().err == ""


def test_an_unexpected_exception_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_reporting(lambda: 1 / 0)


def test_root_of_nested_groups_is_first_exception() -> None:
    error = ValueError("x")
    assert root_of(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
