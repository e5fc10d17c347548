"""Quitting the client: downloads finish, undelivered messages are reported, nothing hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat import exits
from tchat.core.fingerprints import invite_text, token_digest
from tchat.core.group.membership import Approve, Ban, Invite, Kick, Unban
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path


async def test_quitting_waits_for_an_automatic_download(tmp_path: Path) -> None:
    plan = tmp_path / "plan.bin"
    plan.write_bytes(bytes(range(256)) * 4000)
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(server.address, "bob")
        await alice.sees("bob asks to join")
        await alice.type("/2 bob")
        await bob.sees("in #ops with 1 other member")
        assert await bob.end() == 0
        await alice.type(f"/9 {plan}")
        await alice.sees("file 1")
        bob = await launch.join(server.address, "bob")
        await bob.type("/3")
        assert await bob.end() == 0
        assert (bob.downloads / "plan.bin").read_bytes() == plan.read_bytes()


async def test_quitting_reports_undelivered_messages(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("nobody else")
        await server.kill()
        await alice.sees("connection lost")
        await alice.type("nobody will hear this", "/3")
        assert await alice.exit() == 1
        assert sum("connection lost" in line for line in alice.lines) == 1
        assert "! Not finished in time: 1 of your messages, commands or files." in alice.lines[-1]


async def test_a_kick_during_catch_up_ends_the_wait(tmp_path: Path) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.stream.aclose()
        for _ in range(120):
            await alice.post("x" * 16_000)
        async with launching(tmp_path) as launch:
            launch.install_identity("bob")
            reader = await launch.join(server.address, "bob")
            await reader.sees("xxx")
            await alice.command(Kick, "bob")
            assert await reader.end() == 0
            assert "kicked" in reader.lines[-1] or "in #ops" in "".join(reader.lines)


async def test_end_of_input_leaves_a_prompt_unanswered(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.type("/8")
        assert await alice.end() == 1
        assert "! Nothing was done. Usage: /kick NAME" in alice.lines[-1]


async def test_a_kicked_person_rejoins_only_by_command(tmp_path: Path) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.stream.aclose()
        await alice.command(Kick, "bob")
        async with launching(tmp_path) as launch:
            launch.install_identity("bob")
            again = await launch.join(server.address, "bob")
            await again.sees("-- You were kicked from this group. /join asks to join again.")
            await again.type("/join")
            await again.sees("-- Waiting for alice to approve you")
            await alice.command(Approve, "bob")
            await again.sees("-- You are in #ops with 1 other member")


async def test_banned_person_is_told_so(tmp_path: Path) -> None:
    """When they come back, when they ask again, when they write, with an invite, in one-shots."""
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        token = bytes(16)
        await alice.command(Invite, token_digest(token), 60_000)
        await bob.stream.aclose()
        await alice.command(Ban, "bob")
        banned = "You were banned from this group; only its admin can lift the ban."
        async with launching(tmp_path) as launch:
            launch.install_identity("bob")
            again = await launch.join(server.address, "bob")
            await again.sees(f"-- {banned}")
            await again.type("hello", "/join", "/topic")
            await again.sees(*[f"! {banned}"] * 3)
            assert not any("/join" in line for line in again.lines)
            invite = ("--invite", invite_text(token, b""))
            invited = await launch.join(server.address, "bob", *invite)
            assert (await invited.exit(), invited.err.all) == (1, [f"tchat: {banned}"])
            where = [server.address.host, server.address.port, "--no-tls", "--group", GROUP]
            getting = await launch.tchat("get", *where, "--user", "bob", "1", user="bob")
            assert (await getting.exit(), getting.lines) == (exits.PERMISSION, [])
            assert getting.err.all == [f"tchat: {banned}"]
            await alice.command(Unban, "bob")
            await again.type("/join")
            await again.sees("-- Waiting for alice to approve you")


async def test_no_typed_line_crashes_the_client(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "alice")
        await alice.sees("nobody else")
        await alice.type("/get " + "9" * 5000, "/get ²", "/2 " + "y" * 70_000, "z" * 70_000)
        await alice.type("/9 " + "p" * 3000, "/9 \0", "/8 @@", "//ok")
        await alice.sees("! The argument of /get is too long", "! The group has no file ²")
        await alice.sees("! The argument of /approve is too long", "! A message has at most")
        await alice.sees("<alice> /ok")
        assert texts(await log_of(server.store, GROUP)) == ["/ok"]
