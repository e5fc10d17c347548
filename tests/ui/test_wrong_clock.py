"""A client whose machine has a wrong clock shows the dates of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes import DRIVEN, launching
from tests.wrong_clock import YEARS, faked_program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("ahead", [YEARS, -YEARS])
async def test_lines_have_the_server_dates(tmp_path: Path, ahead: int) -> None:
    """A line with another date stood before each notice, and before the next message again."""
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        where = (server.address.host, server.address.port, "--user", "alice", "--group", "ops")
        options = ("--plain", "--no-tls", "--yes", *DRIVEN, "--downloads", tmp_path / "received")
        alice = await launch.script(
            faked_program(tmp_path, ahead), "join", *where, *options, user="alice"
        )
        await alice.sees("alice created ops")
        await alice.type("hello", "/topic", "again")
        await alice.sees("<alice> hello", "<alice> again")
        assert await alice.end() == 0
    assert not [line for line in alice.lines if "] -- " in line and line[-4:].isdigit()]
