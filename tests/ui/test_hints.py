"""Hints: a refusal names the command that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.errors import Code, Refused
from tchat.ui.chat.hints import with_hint
from tchat.ui.commands.table import COMMANDS

if TYPE_CHECKING:
    from tchat.core.protocol.frames import Standing


@pytest.mark.parametrize(
    ("code", "standing", "hint"),
    [
        (Code.NO_SUCH_MEMBER, "member", " /members lists the members."),
        (Code.NO_SUCH_REQUEST, "member", " /requests lists who asks to join."),
        (Code.NO_SUCH_FILE, "member", " /files lists the files."),
        (Code.NO_SUCH_KEY, "outsider", " /keys lists your keys."),
        (Code.NOT_MEMBER, "outsider", " /join asks to join."),
        (Code.NOT_MEMBER, "waiting", ""),
        (Code.NOT_MEMBER, None, ""),
        (Code.STORAGE_FULL, "member", ""),
    ],
)
def test_a_refusal_names_the_command_that_helps(
    code: Code, standing: Standing | None, hint: str
) -> None:
    assert with_hint(Refused(code, "No."), standing) == f"No.{hint}"


def test_a_sentence_with_a_command_gets_no_hint() -> None:
    refusal = Refused(Code.NO_SUCH_MEMBER, "carol is not a member yet; /deny denies a request.")
    assert with_hint(refusal, "member") == refusal.sentence


def test_hints_name_commands_that_exist() -> None:
    for code in Code:
        words = with_hint(Refused(code, ""), "outsider").split()
        assert all(COMMANDS.find(word) for word in words if word.startswith("/"))
