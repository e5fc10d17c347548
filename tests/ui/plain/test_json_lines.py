"""`join --json`: one object for each thing that happens, with the documented fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tchat.core.group.messages import Delete, Edit, Post
from tests.helpers import GROUP, members, running_server
from tests.processes import DRIVEN, launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Person, Process


def objects(process: Process | Person) -> list[dict[str, Any]]:
    """Return the objects that were printed, each with a plausible time that is taken out."""
    found = [json.loads(line) for line in process.out.all]
    for item in found:
        assert item.pop("time") > 1_600_000_000_000
    return found


def of_type(process: Process | Person, *types: str) -> list[dict[str, Any]]:
    return [item for item in objects(process) if item["type"] in types]


async def test_each_event_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        launching(tmp_path / "homes") as launch,
    ):
        launch.install_identity("bob")
        bob = await launch.join(server.address, "bob", "--json")
        await bob.sees("/help lists")
        first = await alice.post("two\nlines \u202e, @bob: 漢字 \x1b[31m")
        await bob.sees("two")
        second = (await alice.command(Post, "/me waves", first)).seq
        await bob.sees("waves")
        await alice.command(Edit, first, "one line")
        await alice.command(Delete, second)
        await bob.sees('"deleted"')
        await bob.type("/topic mine", "/msg alice psst", "/query alice", f"/window {GROUP}")
        await bob.type(f"/send {tmp_path / 'a.txt'}")
        await bob.sees("file_shared")
        assert await bob.end() == 1
        for line in bob.out.all:
            assert line.isascii()
            assert line.isprintable()
        assert of_type(bob, "message", "action", "edited", "deleted") == [
            {
                "type": "message",
                "group": "ops",
                "seq": first,
                "from": "alice",
                "text": "two\nlines , @bob: 漢字 ␛[31m",
                "mention": True,
            },
            {
                "type": "action",
                "group": "ops",
                "seq": second,
                "from": "alice",
                "text": "waves",
                "reply_to": first,
                "quote": "alice: two↵lines , @bob: 漢字 ␛[31m",
            },
            {"type": "edited", "group": "ops", "seq": 6, "from": "alice", "target": first}
            | {"text": "one line"},
            {"type": "deleted", "group": "ops", "seq": 7, "from": "alice", "target": second},
            {"type": "message", "group": "@alice", "seq": 1, "from": "bob", "text": "psst"},
        ]
        assert of_type(bob, "error") == [
            {
                "type": "error",
                "group": "ops",
                "code": "not_admin",
                "text": "Only the admin, alice, may do this.",
            }
        ]
        assert of_type(bob, "window") == [
            {"type": "window", "group": "@alice"},
            {"type": "window", "group": "ops"},
        ]
        shared = next(item for item in objects(bob) if item.get("event") == "file_shared")
        assert (shared["from"], shared["number"], shared["name"]) == ("bob", 1, "a.txt")
        assert shared["size"] == 4
        assert {"type", "group", "text"} == set(of_type(bob, "notice")[0])


async def test_errors_that_end_the_program_are_objects(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        where = ("join", server.address.host, server.address.port, "--no-tls", "--json")
        for options, status, code in (
            (("--group", "ops"), 2, "missing_argument"),
            (("--group", "ops", "--user", "no name"), 1, "bad_name"),
            (("--group", "osp", "--user", "ci"), 1, "no_such_group"),
        ):
            program = await launch.tchat(*where, *options)
            assert await program.exit() == status
            (item,) = objects(program)
            assert (item["type"], item["code"]) == ("error", code)
            assert str(program.err).strip() == f"tchat: {item['text']}"


async def test_seen_and_found_objects_are_marked(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "alice")
        await alice.type("the plan", "the rest")
        assert await alice.end() == 0
        again = await launch.pipe(server.address, "alice", *DRIVEN, "--json", "--history", "1")
        await again.type("/search plan", "/jump 1")
        assert await again.end() == 0
        said = [(item["text"], item.get("seen")) for item in of_type(again, "message")]
        assert said == [("the rest", True), ("the plan", True), ("the rest", True)]
        marks = [item.get("found") for item in of_type(again, "message")]
        assert marks == [None, True, True]
