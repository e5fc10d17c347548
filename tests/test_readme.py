"""The README says what is true: its tables, picture and commands are checked against the code."""

from __future__ import annotations

import re
import shlex

import pytest

from tchat.cli import parser
from tchat.client.files.queue import AT_ONCE
from tchat.client.files.transfer import AUTOMATIC_LIMIT
from tchat.core.group.feature import DEFAULT_LIMITS
from tests import picture, readme


@pytest.mark.parametrize("name", sorted(readme.parts()))
def test_a_generated_part_is_up_to_date(name: str) -> None:
    assert readme.marked(readme.README.read_text(), name) == readme.parts()[name], (
        "run: python -m tests.readme"
    )


def test_every_command_line_of_tchat_in_it_is_understood() -> None:
    lines = re.findall(r"bin/python -m tchat (.+)$", readme.README.read_text(), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        given = parser().parse_args(shlex.split(line))
        assert given.run is not None
        assert getattr(given, "host", "localhost") == "localhost"


def test_the_numbers_it_mentions_are_those_of_the_code() -> None:
    text = " ".join(readme.README.read_text().split())
    assert f"a group has at most {DEFAULT_LIMITS.files:,} files" in text
    assert AT_ONCE == 4
    assert "four move at a time" in text
    assert f"up to {AUTOMATIC_LIMIT >> 20} MiB by themselves" in text


def test_the_picture_is_what_the_screen_shows() -> None:
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.painted(), (
        "run: python -m tests.picture"
    )


@pytest.mark.parametrize("name", ["serve", "test"])
def test_one_line_sets_up_and_runs(name: str) -> None:
    text = readme.README.read_text()
    found = re.search(rf"<!-- command: {name} -->\n```sh\n(.+)\n```", text)
    assert found is not None
    assert found[1].startswith("python3 -m venv .venv && .venv/bin/pip install -q ")


def test_the_tests_and_files_it_names_exist() -> None:
    text = readme.README.read_text()
    named = re.findall(r"\]\(([\w/.]+)\)", text)
    for command in re.findall(r"`pytest ([^`]+)`", text):
        named += command.split()
    assert len(named) > 10
    assert [path for path in named if not (readme.README.parent / path).exists()] == []
