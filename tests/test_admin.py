"""`tchat admin` as an operator runs it: real processes, beside a running server and without one."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.exits import DATA, SOFTWARE
from tests.processes import launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.processes import Launcher, Person, Server


async def admin(launch: Launcher, *arguments: object, status: int = 0) -> list[str]:
    """Run a subcommand of `tchat admin` on the launcher's data; return its lines of output."""
    program = await launch.tchat("admin", *arguments, "--data", launch.home / "data")
    assert await program.exit() == status, program.err
    return program.lines


@pytest.mark.parametrize("running", [True, False])
async def test_a_backup_is_taken_and_verified(tmp_path: Path, running: bool) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.type("marzipan")
        await alice.sees("<alice> marzipan")
        if not running:
            assert await server.stop() == 0
        (line,) = await admin(launch, "backup", tmp_path / "backup")
        assert line == f"{tmp_path / 'backup'}: the database and 0 files (0 B)"
        assert await admin(launch, "verify") == ["1 group with 2 events, 0 files (0 B): no faults"]
        (line,) = await admin(launch, "verify", "--json")
        assert json.loads(line)["whole"] is True


async def test_faults_are_lines_and_an_exit_status(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        assert await server.stop() == 0
        (tmp_path / "data" / "server-cert.pem").write_text("damaged")
        fault, count, advice = await admin(launch, "verify", status=DATA)
        assert fault.startswith("keys: server-cert.pem: ")
        assert count == "0 groups with 0 events, 0 files (0 B): 1 fault"
        assert advice.endswith("copy server-key.pem and server-cert.pem from a backup.")
        (line,) = await admin(launch, "verify", "--json", status=DATA)
        assert json.loads(line)["whole"] is False


@pytest.mark.parametrize("command", [["backup", "target"], ["verify"]])
async def test_a_wrong_directory_is_one_line(tmp_path: Path, command: list[str]) -> None:
    async with launching(tmp_path) as launch:
        program = await launch.tchat("admin", *command, "--data", tmp_path / "nothing")
        assert "There is no server data in" in await program.fails(SOFTWARE)
        program = await launch.tchat("admin", *command, "--json", "--data", tmp_path / "nothing")
        assert await program.exit() == SOFTWARE
        assert json.loads(program.lines[0])["error"] == "cannot_start"


# ------------------------------------------------------------------ reports


@asynccontextmanager
async def two_in_a_group(home: Path) -> AsyncIterator[tuple[Launcher, Server, Person, Person]]:
    """Start a server, and clients of alice, the admin of #ops, and bob, a member."""
    async with launching(home, tls=True) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.type("/policy open")
        await alice.sees("anyone may join")
        bob = await launch.join(server.address, "bob")
        await alice.sees("bob joined")
        yield launch, server, alice, bob


async def test_reports_say_what_is_there(tmp_path: Path) -> None:
    async with two_in_a_group(tmp_path) as (launch, server, alice, _):
        await alice.type("/topic of the day", "hello", "/msg bob psst")
        await alice.sees("of the day", "<alice> hello", "psst")
        (line,) = await admin(launch, "stats", "--json")
        stats = json.loads(line)
        assert (stats["groups"], stats["direct"], stats["people"]) == (1, 1, 2)
        assert (stats["running"]["connections"], stats["running"]["people_online"]) == (2, 2)
        assert (stats["trash_files"], stats["trash_bytes"]) == (0, 0)
        assert (stats["begun_uploads"], stats["running"]["max_transfers"]) == (0, 1000)
        lines = await admin(launch, "stats")
        assert (
            lines[-1]
            == "files may take: 10.7 GB each person, 107.4 GB each group, unlimited in total"
        )
        assert any(line.startswith("disk: ") and "of which files leave" in line for line in lines)
        head, direct, ops = await admin(launch, "groups")
        assert head.startswith("NAME        MEMBERS  WAITING  EVENTS")
        assert direct.split()[:3] == ["@alice,bob", "2", "0"]
        assert ops.split()[:4] == ["ops", "2", "0", "5"]
        names = [line.split()[0] for line in await admin(launch, "people")]
        assert names == ["NAME", "alice", "bob"]
        (line,) = await admin(launch, "show", "OPS", "--json")
        ops = json.loads(line)
        assert (ops["admin"], ops["topic"], ops["policy"]) == ("alice", "of the day", "open")
        assert [member["name"] for member in ops["members"]] == ["alice", "bob"]
        assert "topic: of the day" in await admin(launch, "show", "ops")
        assert await server.stop() == 0
        assert (await admin(launch, "stats"))[-1] == "no server is running"


async def test_an_export_has_everything_of_a_person(tmp_path: Path) -> None:
    async with two_in_a_group(tmp_path) as (launch, _, alice, bob):
        await alice.type("from alice", "/msg bob secret of alice")
        await bob.sees("from alice", "secret of alice")
        await bob.type("from bob", "/kick alice")
        await alice.sees("from bob")
        found = json.loads("".join(await admin(launch, "export", "Alice")))
        assert (found["name"], found["groups"]["ops"]) == ("alice", "member")
        assert [event["text"] for event in found["events"] if event["kind"] == "posted"] == [
            "secret of alice",
            "from alice",
        ]
        assert all(event["actor"] == "alice" for event in found["events"])
        assert [key["until"] for key in found["keys"]] == [None]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["show", "nowhere"], "no_such_group"),
        (["show", "@alice"], "bad_name"),
        (["export", "nobody"], "no_such_name"),
        (["export", "no name"], "bad_name"),
        (["set-admin", "nowhere", "nobody"], "no_such_group"),
    ],
)
async def test_an_unknown_name_is_one_line(tmp_path: Path, command: list[str], code: str) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        assert await admin(launch, *command, status=DATA) == []
        assert await server.stop() == 0
        (line,) = await admin(launch, *command, "--json", status=DATA)
        assert json.loads(line)["error"] == code


# ------------------------------------------------------------------ changes


@pytest.mark.parametrize("running", [True, False])
async def test_a_member_becomes_the_admin(tmp_path: Path, running: bool) -> None:
    async with two_in_a_group(tmp_path) as (launch, server, alice, bob):
        if not running:
            assert await server.stop() == 0
        assert await admin(launch, "set-admin", "ops", "bob") == ["bob is the admin of ops."]
        assert await admin(launch, "set-admin", "ops", "eve", status=DATA) == []
        if not running:
            server = await launch.serve(port=server.address.port)
        await bob.sees("the operator made bob the admin: that is you")
        await alice.type("/policy approval")
        await alice.sees("Only the admin, bob, may do this")
        (line,) = await admin(launch, "show", "ops", "--json")
        assert json.loads(line)["admin"] == "bob"


@pytest.mark.parametrize("running", [True, False])
async def test_a_group_is_removed(tmp_path: Path, running: bool) -> None:
    async with two_in_a_group(tmp_path) as (launch, server, alice, bob):
        await bob.type("marzipan4711")
        await alice.sees("marzipan4711")
        if not running:
            assert await server.stop() == 0
        (line,) = await admin(launch, "remove-group", "ops")
        assert line == "The group ops is closed, and its messages are erased."
        for path in (tmp_path / "data").iterdir():
            assert not path.is_file() or b"marzipan4711" not in path.read_bytes()
        if not running:
            server = await launch.serve(port=server.address.port)
        for person in (alice, bob):
            await person.sees("closed" if running else "no longer a member")
        assert await admin(launch, "remove-group", "ops", status=DATA) == []
        assert await admin(launch, "verify") == ["1 group with 5 events, 0 files (0 B): no faults"]
        carol = await launch.join(server.address, "carol")
        await carol.sees("carol created ops, and you are its admin")


async def test_a_direct_conversation_cannot_be_removed(tmp_path: Path) -> None:
    async with two_in_a_group(tmp_path) as (launch, _, alice, _bob):
        await alice.type("/msg bob psst")
        await alice.sees("psst")
        program = await launch.tchat(
            "admin", "remove-group", "@alice,bob", "--data", tmp_path / "data"
        )
        assert "This cannot be done in a direct conversation." in await program.fails(DATA)


async def test_a_person_is_erased(tmp_path: Path) -> None:
    async with two_in_a_group(tmp_path) as (launch, _, alice, bob):
        await bob.type("marzipan4711", "/msg alice nougat4711")
        await alice.sees("marzipan4711", "nougat4711")
        (line,) = await admin(launch, "erase", "bob")
        assert line == (
            "bob is erased: 2 messages and 0 files in 2 groups. Nobody can have the name any more."
        )
        assert await bob.exit() == 1
        await alice.sees("bob left the group")
        for path in (tmp_path / "data").iterdir():
            assert not path.is_file() or b"4711" not in path.read_bytes()
