"""Damage costs its group and no other: garbled pages and flipped bits in a server's database."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import THOROUGH
from tests.server.damaged import GROUPS, PAGE_SIZE, make_groups, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.damaged import Served


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data directory, to be copied."""
    data = tmp_path_factory.mktemp("damaged") / "data"
    trio.run(make_groups, data)
    return data


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """Copy the data directory, to damage the copy."""
    shutil.copytree(original, tmp_path / "data", ignore=shutil.ignore_patterns("control"))
    return tmp_path / "data"


async def serve_with(data: Path, content: bytes) -> Served:
    """Serve the directory with a changed database, and check that nothing is wrong."""
    replace_database(data, content)
    served = await serve(data)
    served.check()
    return served


def replace_database(data: Path, content: bytes) -> None:
    """Write other content to the database file."""
    for path in data.glob("tchat.db-*"):
        path.unlink()
    (data / "tchat.db").write_bytes(content)


async def test_whole_data_is_served_whole(data: Path) -> None:
    served = await serve(data)
    served.check()
    assert served.whole == served.found == set(GROUPS)
    assert not served.refusals


async def test_garbled_pages_cost_their_groups_only(data: Path) -> None:
    """A server starts on most of them, and with one page, at most two groups are damaged."""
    whole = (data / "tchat.db").read_bytes()
    pages = len(whole) // PAGE_SIZE
    dice = random.Random(19)
    started = 0
    for page in range(pages) if THOROUGH else dice.sample(range(pages), 20):
        content = bytearray(whole)
        content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = dice.randbytes(PAGE_SIZE)
        served = await serve_with(data, bytes(content))
        if served.refused_start is None:
            started += 1
            assert len(served.whole) >= len(GROUPS) - 2, (page, served)
    assert started >= 15


async def test_flipped_bits_are_never_taken_for_truth(data: Path) -> None:
    whole = (data / "tchat.db").read_bytes()
    dice = random.Random(19)
    for _ in range(400 if THOROUGH else 12):
        content = bytearray(whole)
        bit = dice.randrange(len(whole) * 8)
        content[bit // 8] ^= 1 << bit % 8
        served = await serve_with(data, bytes(content))
        if served.refused_start is None:
            assert len(served.whole) >= len(GROUPS) - 2, (bit, served)
