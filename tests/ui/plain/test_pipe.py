"""Text that comes through a pipe: every line is a message, and nothing of it is lost silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Join, Kick
from tchat.core.group.messages import Posted
from tchat.core.text import TEXT_LIMIT
from tests.helpers import GROUP, log_of, members, raw_client, running_server, texts
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Person


async def write(person: Person, data: bytes) -> None:
    """Write bytes into the program's standard input."""
    assert person.running.stdin is not None
    await person.running.stdin.send_all(data)


def own_lines(person: Person) -> list[str]:
    """Return the notices and errors, without their times and those at every start."""
    lines = [line.partition("] ")[2] for line in person.lines]
    usual = ("/help lists", "created ops", "arlier messages")
    return [line for line in lines if line[0] in "-!" and not any(word in line for word in usual)]


async def pipe_into(home: Path, data: bytes, *options: str) -> tuple[int, list[str], list[str]]:
    """Pipe bytes into a client of alice, the only member.

    Return its status, what it had to say, and the messages that the server has.
    """
    async with (
        running_server() as server,
        members(server, "alice"),
        launching(home) as launch,
    ):
        launch.install_identity("alice")
        alice = await launch.pipe(server.address, "alice", *options)
        await write(alice, data)
        status = await alice.end()
        return status, own_lines(alice), texts(await log_of(server.store))


# ------------------------------------------------------------------ never a command


async def test_a_pipe_neither_sends_files_nor_leaves(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    lines = ["$ make", f"/send {secret}", "/leave", "//x", "/9", "/quit", "/3", "all done"]
    data = "".join(f"{line}\n" for line in lines).encode()
    assert await pipe_into(tmp_path, data) == (0, [], lines)


async def test_the_option_makes_commands_of_lines(tmp_path: Path) -> None:
    status, said, sent = await pipe_into(tmp_path, b"one\n/admin\n//x\n", "--commands")
    assert (status, said, sent) == (0, ["-- The admin is alice."], ["one", "/x"])


@pytest.mark.parametrize("options", [(), ("--commands",)])
async def test_pipe_is_told_where_commands_work(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A notice names commands that the pipe would post: the first one says so, and no other."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        launching(tmp_path) as launch,
    ):
        launch.install_identity("bob")
        bob = await launch.pipe(server.address, "bob", *options)
        await bob.sees("You are in #ops")
        await alice.command(Kick, "bob")
        await bob.sees("kicked you from this group. /join asks to join again")
        await write(bob, b"one\n")
        await bob.sees("(/resend sends it again, /discard deletes it)")
        assert await bob.end() == 1
        told = [line for line in own_lines(bob) if "at a terminal" in line]
        sentence = (
            "-- Lines of this input are messages, also /join: commands work at a terminal, or"
            " with --commands."
        )
        assert told == [sentence] * (not options)


async def test_a_piped_line_is_no_action(tmp_path: Path) -> None:
    """It would lose the letters that the program has printed."""
    assert await pipe_into(tmp_path, b"/me is a directory\n") == (0, [], [" /me is a directory"])


# ------------------------------------------------------------------ any bytes


async def test_blank_lines_of_a_pipe_are_skipped(tmp_path: Path) -> None:
    data = b"\none\n   \n\t\r\n\r\n\xe2\x80\x8b\ntwo"
    assert await pipe_into(tmp_path, data) == (0, [], ["one", "two"])


async def test_control_characters_of_a_pipe_are_shown(tmp_path: Path) -> None:
    data = b"a\0b\n\0\n\x1b[31mred\n10%\r20%\r\n"
    sent = ["a␀b", "␀", "␛[31mred", "10%␍20%"]
    assert await pipe_into(tmp_path, data) == (0, [], sent)


async def test_bytes_that_are_no_utf8_are_told_once(tmp_path: Path) -> None:
    status, said, sent = await pipe_into(tmp_path, b"fine\nM\xfcller\nS\xf6hne\nund \xc3\xbc\n")
    assert status == 0
    assert sent == ["fine", "M\ufffdller", "S\ufffdhne", "und ü"]
    (notice,) = said
    assert notice.startswith("-- Line 2 of the input is not valid UTF-8; invalid bytes were")


@pytest.mark.parametrize(("letter", "size"), [("x", 200_000), ("漢", 30_000), ("\0", 20_000)])
async def test_a_long_line_arrives_in_parts(tmp_path: Path, letter: str, size: int) -> None:
    status, said, sent = await pipe_into(tmp_path, f"one\n{letter * size}\nend\n".encode())
    assert status == 0
    assert (sent[0], sent[-1]) == ("one", "end")
    assert "".join(sent[1:-1]) == ("␀" if letter == "\0" else letter) * size
    assert all(len(text.encode()) <= TEXT_LIMIT for text in sent)
    (notice,) = said
    assert notice.startswith("-- Line 2 of the input is longer than a message may be")
    assert notice.endswith(f"split into {len(sent) - 2} messages.")


async def test_a_long_line_with_commands_is_refused(tmp_path: Path) -> None:
    status, said, sent = await pipe_into(tmp_path, b"x" * 300_000 + b"\nend\n", "--commands")
    assert (status, sent) == (1, ["end"])
    assert said == ["! A message has at most 16 KiB; send a longer text as a file."]


# ------------------------------------------------------------------ founding


async def test_a_mistyped_group_is_not_founded(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        async with raw_client(server.address, "alice") as alice:
            await alice.command(Join, group="ops")
        for options in ((), ("--commands",)):
            ci = await launch.pipe(server.address, "ci", *options, group="osp")
            await write(ci, b"build failed\n")
            assert await ci.fails() == (
                "tchat: There is no group osp. Check its name; --create founds it."
            )
        assert await log_of(server.store, "osp") == []
        # An existing group is asked as ever.
        ci = await launch.pipe(server.address, "ci", group="ops")
        await ci.sees("-- Waiting for alice to approve you")


async def test_lines_after_a_refused_join_are_refused(tmp_path: Path) -> None:
    """The lines that follow a `/join` that is refused are refused, too."""
    async with running_server() as server, launching(tmp_path) as launch:
        async with raw_client(server.address, "alice") as alice:
            await alice.command(Join)
        launch.install_identity("alice")
        script = await launch.pipe(server.address, "alice", "--commands")
        await script.type("one", "/join lbo", "two")
        assert await script.end() == 1
        assert own_lines(script)[:2] == [
            "-- What you type now goes to #lbo.",
            "! There is no group lbo. Check its name; --create founds it.",
        ]
        assert texts(await log_of(server.store)) == ["one"]
        assert await log_of(server.store, "lbo") == []


async def test_the_option_founds_the_group(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        ci = await launch.pipe(server.address, "ci", "--create")
        await write(ci, b"hello\n")
        assert await ci.end() == 0
        bodies = [event.body for event in await log_of(server.store, GROUP)]
        assert bodies[1:] == [Posted("hello")]


async def test_tabs_reach_others_unchanged(tmp_path: Path) -> None:
    """Printed as they are, so that programs find the columns again."""
    async with running_server() as server, members(server, "alice", "bob"):
        async with launching(tmp_path) as launch:
            launch.install_identity("alice")
            launch.install_identity("bob")
            bob = await launch.join(server.address, "bob")
            alice = await launch.pipe(server.address, "alice")
            await write(alice, b"name\tvalue\tx\n\tgcc -o a a.c\n")
            assert await alice.end() == 0
            await bob.sees("gcc")
            assert bob.heard == ["<alice> name\tvalue\tx", "<alice> \tgcc -o a a.c"]
        assert texts(await log_of(server.store)) == ["name\tvalue\tx", "\tgcc -o a a.c"]


def saved_names(home: Path) -> list[Path]:
    """Return the files of the names that were last used."""
    return list(home.rglob("last_names.json"))


async def test_only_names_that_the_server_accepts_are_remembered(tmp_path: Path) -> None:
    async with running_server() as server, members(server, "alice"), launching(tmp_path) as launch:
        launch.install_identity("alice")
        mistyped = await launch.pipe(server.address, "alice", "--group", "opz")
        assert await mistyped.end() == 1
        assert saved_names(tmp_path) == []
        alice = await launch.pipe(server.address, "alice")
        assert await alice.end() == 0
        assert len(saved_names(tmp_path)) == 1
