"""What commands work on that run in the process of the tests: a server, and data of one."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tchat.cli import main
from tests.cli.in_process import Place
from tests.helpers import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a server in a process, with a group that has a message and a file."""
    directory = tmp_path_factory.mktemp("server")
    where = ["127.0.0.1", "0", "--data", str(directory / "data"), "--rate-limit", "off"]
    with subprocess.Popen(
        [sys.executable, "-m", "tchat", "serve", *where], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        home = directory / "ci"

        async def fill() -> None:
            async with tchat.connect(address, user="ci", home=home) as ci:
                group = await ci.join(GROUP, create=True)
                await group.say("hello")
                await group.send_file(Path(__file__), name="a.txt")
                await group.send_file(Path(__file__), name="b.txt")

        trio.run(fill)
        yield Place(address, home)
        process.terminate()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data of a server that has stopped, with alice, bob, a group, and a ban."""
    directory = tmp_path_factory.mktemp("template")

    async def fill() -> None:
        async with (
            tchat.testing.open_server(directory) as server,
            server.connect("alice") as alice,
            server.connect("bob") as bob,
        ):
            group = await alice.join(GROUP, create=True)
            await group.set_policy("open")
            await bob.join(GROUP)
            await (await alice.talk_to("bob")).say("hello")

    trio.run(fill)
    assert main(["admin", "ban", "--name", "mallory", "--data", str(directory / "server")]) == 0
    return directory / "server"


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    """Return a copy of the data, which the test may change."""
    return shutil.copytree(template, tmp_path / "data")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, with an empty home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(logging, "raiseExceptions", True)  # restored at the end: commands reset it
