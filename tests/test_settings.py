"""The configuration file and the command line together, end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes import DRIVEN, launching

if TYPE_CHECKING:
    from pathlib import Path


# ------------------------------------------------------------------ what was settled in the file


async def test_nickname_joins_all_its_groups(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        write_config(
            tmp_path / "alice",
            "plain = true",
            "[servers.work]",
            'host = "127.0.0.1"',
            f"port = {server.address.port}",
            'user = "alice.b"',
            'groups = ["ops", "lab"]',
            "no_tls = true",
        )
        alice = await launch.tchat("join", "work", "--create", user="alice")
        await alice.sees("-- alice.b created ops", "#lab [")
        assert await alice.end() == 0
        # The command line has the last word.
        den = ("--group", "den", "--user", "al", "--create")
        alice = await launch.tchat("join", "work", *den, user="alice")
        await alice.sees("-- al created den")
        assert await alice.end() == 0
        assert not any("lab" in line for line in alice.lines)


async def test_user_and_group_may_be_configured(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        write_config(tmp_path / "alice", 'user = "alice"', 'group = "ops"', 'ignore = ["bob"]')
        where = ("127.0.0.1", server.address.port, "--no-tls")
        alice = await launch.tchat("join", *where, *DRIVEN, user="alice")
        await alice.sees("-- alice created ops")
        await alice.type("/ignore")
        await alice.sees("-- ignored (1): bob")
        (tmp_path / "a.txt").write_text("data")
        sent = await launch.tchat(
            "send", *where, "--group", "ops", tmp_path / "a.txt", user="alice"
        )
        assert await sent.exit() == 0
        await alice.sees("-- alice shared a.txt")
        assert await alice.end() == 0


@pytest.mark.parametrize(
    ("lines", "arguments", "sentence"),
    [
        ([], ["work"], "-m tchat join work PORT. Only a server"),
        ([], ["127.0.0.1"], "-m tchat join 127.0.0.1 PORT"),
        (["plain = 1"], ["127.0.0.1", "1"], "expected true or false"),
        ([f"mute = {'[' * 5000}"], ["127.0.0.1", "1"], "nested too deeply"),
        (["usr = 'alice'"], ["127.0.0.1", "1"], "did you mean 'user'?"),
        (["[servers.work]", "host = 'h'"], ["work"], "servers.work has no port"),
    ],
)
async def test_invalid_setting_is_reported_in_one_line(
    tmp_path: Path, lines: list[str], arguments: list[str], sentence: str
) -> None:
    async with launching(tmp_path) as launch:
        write_config(tmp_path / "alice", *lines)
        alice = await launch.tchat("join", *arguments, user="alice")
        assert sentence in await alice.fails()


def write_config(home: Path, *lines: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text("\n".join(lines))


# ------------------------------------------------------------------ the demo


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "The demo needs a terminal."),
        (["--user", "Ada"], "Ada is one of the demo's bots; choose another --user."),
        (["--user", "no name"], "letters, digits and _ - . only"),
    ],
)
async def test_impossible_demo_is_reported_in_one_line(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    async with launching(tmp_path) as launch:
        demo = await launch.tchat("demo", *arguments)
        assert sentence in await demo.fails()
