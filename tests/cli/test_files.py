"""`tchat send` and `tchat get` with standard input, names and nicknames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.exits import DATA, USAGE
from tests.cli.running import GROUP, scene

if TYPE_CHECKING:
    from pathlib import Path


async def test_input_is_sent_as_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    async with scene() as here:
        assert await here.run("send", "-", "--name", "dump.sql", given=data) == (0, "", "")
        done = await here.run("get", 1, "--to", f"{tmp_path}/")
        assert done.out == f"{tmp_path}/dump.sql\n"
        assert (tmp_path / "dump.sql").read_bytes() == data


async def test_a_long_input_is_refused_and_not_kept() -> None:
    async with scene() as here:
        left = here.home / "input-of-a-killed-process"
        left.write_bytes(b"secret")
        words = ("-", "--name", "dump.sql", "--max-input", "1K")
        done = await here.run("send", *words, given=bytes(1025), status=DATA)
        assert (
            done.err
            == "tchat: The input is larger than 1.0 KB; allow more with --max-input SIZE.\n"
        )
        assert list(here.home.glob("input-*")) == []
        await here.run("send", *words, given=bytes(1024))
        assert [file.size for file in here.group.files] == [1024]


async def test_a_file_gets_the_given_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with scene() as here:
        await here.run("send", tmp_path / "a.txt", "--name", "b.txt")
        done = await here.run("get", 1, "--to", f"{tmp_path}/")
        assert done.out == f"{tmp_path}/b.txt\n"


async def test_numbers_after_a_nickname_are_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with scene() as here:
        host, _, port = here.server.address.rpartition(":")
        (here.home / "config.toml").write_text(
            f'[servers.work]\nhost = "{host}"\nport = {port}\nuser = "ci"\ngroups = ["{GROUP}"]\n'
        )
        await here.run_bare("send", "work", tmp_path / "a.txt")
        for server in (["work"], [host, port, "--user", "ci", "--group", GROUP]):
            to = tmp_path / str(len(server))
            assert (await here.run_bare("get", *server, "1", "--to", to)).out == f"{to}\n"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("send", []),
        ("send", ["-"]),
        ("send", ["-", "a.txt", "--name", "b"]),
        ("send", ["-", "--name", ""]),
        ("send", ["a.txt", "--name", " "]),
        ("get", []),
    ],
)
async def test_unclear_arguments_are_refused(verb: str, words: list[str]) -> None:
    async with scene() as here:
        done = await here.run(verb, *words, status=USAGE)
        assert len(done.err.splitlines()) == 1


async def test_private_conversations_have_no_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with scene() as here:
        for words in (("send", tmp_path / "a.txt"), ("get", 1)):
            done = await here.run(*words, "--group", "@alice", status=DATA)
            assert done.err == "tchat: Private conversations have no files; use a group.\n"
