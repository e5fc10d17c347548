"""End-to-end security: server keys, pins, TLS, identities, device links, invites, bots."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.exits import DATA, SOFTWARE
from tchat.net.address import Address
from tests.helpers import GROUP
from tests.prepared import AFRESH
from tests.processes import DRIVEN, launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.processes import Launcher, Person, Process, Server

ROOT = Path(__file__).parent.parent
ECHO = ROOT / "examples" / "echo.py"


async def join_command(process: Process, text: str) -> list[str]:
    """Wait for a line with a `python -m tchat` command; return its arguments, shell-parsed."""
    line = await process.out.containing(text)
    python, option, module, *words = shlex.split(line[line.index(sys.executable) :])
    assert (python, option, module) == (sys.executable, "-m", "tchat")
    return words


async def join_as_admin(launch: Launcher, server: Server, *options: object) -> Person:
    alice = await launch.join(server.address, "alice", *options)
    await alice.sees("-- You are in #ops; nobody else is here yet")
    return alice


@asynccontextmanager
async def group_of_alice(tmp_path: Path) -> AsyncIterator[tuple[Launcher, Server, Person]]:
    """Start a server with TLS, and a client of alice, who founds the group."""
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        yield launch, server, await join_as_admin(launch, server)


async def join_from_device(
    launch: Launcher, server: Server, home: str, *options: object
) -> Process:
    """Start a client of alice from the home directory `home`."""
    where = (server.address.host, server.address.port, "--group", GROUP, "--plain", *DRIVEN)
    return await launch.tchat("join", *where, "--user", "alice", *options, user=home)


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


# ------------------------------------------------------------------ the server's key


async def test_the_join_command_a_server_prints_works(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        key = (await server.out.containing("this server's key is ")).rpartition(" ")[2]
        words = await join_command(server, "to join: ")
        host, port = server.address.host, str(server.address.port)
        assert words == ["join", host, port, "--pin", key]
        who = ("--user", "alice", "--group", GROUP, "--create")
        alice = await launch.tchat(*words, *who, user="alice")
        await alice.sees("-- You are in #ops; nobody else is here yet")
        assert not any("New server" in line for line in alice.lines)
        assert await alice.end() == 0
        for name in ("server-key.pem", "server-cert.pem"):
            assert is_private(tmp_path / "data" / name)


async def test_a_first_visit_is_reported_once(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        key = (await server.out.containing("this server's key is ")).rpartition(" ")[2]
        alice = await launch.join(server.address, "alice")
        await alice.sees(f"New server: its key {key} is saved.")
        await alice.sees("in #ops")
        assert await alice.end() == 0
        again = await launch.join(server.address, "alice")
        await again.sees("in #ops")
        assert not any("New server" in line for line in again.lines)


async def test_a_changed_server_key_is_refused(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        await join_as_admin(launch, server)
        assert await server.stop() == 0
        for name in ("server-key.pem", "server-cert.pem"):
            (tmp_path / "data" / name).unlink()
        await launch.serve(port=server.address.port)
        line = await (await launch.join(server.address, "alice")).fails()
        assert f"The key of {server.address} has changed" in line
        assert f"remove line 3 of {tmp_path / 'alice' / 'known_servers'}" in line


async def test_a_reconnecting_client_refuses_a_changed_key(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        assert await server.stop() == 0
        await alice.sees("-- connection lost")
        (tmp_path / "data").rename(tmp_path / "moved away")
        await launch.serve(port=server.address.port)
        assert await alice.exit() == 1
        assert "has changed" in str(alice.err)


async def test_a_wrong_pin_is_refused(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        pin = f"sha256:{43 * 'A'}"
        line = await (await launch.join(server.address, "alice", "--pin", pin)).fails()
        assert "is not the expected server" in line
        assert pin in line


@pytest.mark.parametrize("option", ["--cert", "--key"])
async def test_cert_and_key_options_require_each_other(tmp_path: Path, option: str) -> None:
    async with launching(tmp_path, tls=True) as launch:
        where = ("127.0.0.1", 0, "--data", tmp_path / "data")
        server = await launch.tchat("serve", *where, option, tmp_path / "file")
        assert "--cert and --key have to be given together" in await server.fails()
        assert not (tmp_path / "data").exists()


async def test_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "alice"
    for directory in (data, home):
        directory.mkdir()
        directory.chmod(0o777)
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.tchat("serve", "127.0.0.1", 0, "--data", data)
        assert f"chmod go-w {data}" in await server.fails()
        assert list(data.iterdir()) == []
        data.chmod(0o700)
        alice = await launch.join((await launch.serve()).address, "alice")
        assert f"chmod go-w {home}" in await alice.fails()


@pytest.mark.skipif(os.geteuid() != 0, reason="root only")
async def test_server_of_root_warns(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        await server.sees("running as root")


async def test_an_invalid_server_key_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "server-key.pem").touch(0o600)
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.tchat("serve", "127.0.0.1", 0, "--data", tmp_path / "data")
        assert "server-key.pem" in await server.fails()


async def test_a_first_visit_is_reported_despite_refusal(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        await join_as_admin(launch, server)
        where = (server.address.host, server.address.port, "--group", "other", "--create")
        refused = await launch.tchat("join", *where, "--user", "alice", user="bob")
        assert await refused.exit() == 1
        bob = await launch.tchat("join", *where, "--user", "bob", user="bob")
        await bob.sees("in #other")
        assert "New server" in str(refused.out) + str(refused.err) + str(bob.out)


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])  # noqa: S104  # what people type
async def test_join_command_of_all_interfaces_works(tmp_path: Path, host: str) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve(host=host)
        words = await join_command(server, "to join: ")
        assert words[1] not in ("0.0.0.0", "*")  # noqa: S104  # no address to connect to
        who = ("--user", "alice", "--group", GROUP, "--create")
        alice = await launch.tchat(*words, *who, user="alice")
        await alice.sees("-- You are in #ops; nobody else is here yet")


# ------------------------------------------------------------------ without TLS


async def test_serving_others_without_tls_requires_insecure(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        where = ("0.0.0.0", 0, "--data", tmp_path / "data")  # noqa: S104
        server = await launch.tchat("serve", *where, "--no-tls")
        assert "add --insecure" in await server.fails()
        assert not (tmp_path / "data").exists()
        open_to_all = await launch.serve("--insecure", host="0.0.0.0")  # noqa: S104
        words = await join_command(open_to_all, "to join: ")
        assert {"--no-tls", "--insecure"} <= {*words}
        here = Address("127.0.0.1", open_to_all.address.port)
        alice = await launch.join(here, "alice")
        await alice.sees("in #ops")


async def test_joining_others_without_tls_requires_insecure(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        who = ("--user", "alice", "--group", GROUP, "--plain")
        alice = await launch.tchat("join", "192.0.2.1", 7, "--no-tls", *who, user="alice")
        assert "add --insecure" in await alice.fails()
        assert not (tmp_path / "alice").exists()


async def test_a_tls_mismatch_is_explained_on_both_sides(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        wrong = await launch.join(server.address, "alice", "--no-tls")
        assert "This server speaks TLS" in await wrong.fails()
        assert await server.stop() == 0
        plain = await launch.serve("--no-tls")
        lost = await launch.join(plain.address, "alice")
        assert "does not speak TLS. If it was started with --no-tls" in await lost.fails()


# ------------------------------------------------------------------ names and devices


async def test_an_identity_readable_by_others_is_refused(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        assert await alice.end() == 0
        identity = tmp_path / "alice" / "identity"
        assert is_private(identity)
        assert is_private(tmp_path / "alice" / "known_servers")
        identity.chmod(0o640)
        line = await (await launch.join(server.address, "alice")).fails()
        assert line.endswith(f"chmod 600 {identity}")
        identity.chmod(0o600)
        await join_as_admin(launch, server)


async def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        mallory = await join_from_device(launch, server, "mallory")
        assert await mallory.exit() == 1
        assert "The name alice belongs to another key" in str(mallory.err)
        await alice.type("still here")
        await alice.sees("<alice> still here")


async def test_a_device_is_linked_and_unlinked(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        await alice.type("/link")
        code = (await alice.out.containing(" --link ")).rpartition(" ")[2]
        phone = await join_from_device(launch, server, "phone", "--link", code)
        await phone.sees("-- This device is linked to your name, alice; /keys lists all that are.")
        await phone.sees("-- You are in #ops; nobody else is here yet")
        await alice.type("hello from the laptop")
        await phone.sees("<alice> hello from the laptop")
        await phone.type("/keys")
        key = (await phone.out.containing(", this device")).split()[2]
        assert await phone.end() == 0
        phone = await join_from_device(launch, server, "phone")
        await phone.sees("in #ops")
        assert "is linked to your name" not in str(phone.out)
        await alice.type(f"/unlink {key}")
        await alice.sees(f"-- {key} is no longer linked to your name.")
        assert await phone.exit() == 1
        assert "The key of this device was removed" in str(phone.err)
        reused = await join_from_device(launch, server, "phone", "--link", code)
        assert await reused.exit() == 1
        assert "This link code was used, has expired" in str(reused.err)


async def test_an_operator_gives_a_name_back(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        link = ("admin", "link")
        nobody = await launch.tchat(*link, "bob", "--data", tmp_path / "data")
        assert await nobody.exit() == DATA
        assert "No key has the name bob" in str(nobody.err)
        done = await launch.tchat(*link, "ALICE", "--data", tmp_path / "data")
        assert await done.exit() == 0
        code = (await done.out.containing(" --link ")).rpartition(" ")[2]
        stranger = await join_from_device(launch, server, "stranger")
        assert await stranger.exit() == 1
        found = await join_from_device(launch, server, "found", "--link", code)
        await found.sees("-- This device is linked to your name, alice; /keys lists all that are.")
        await found.sees("-- You are in #ops; nobody else is here yet")
        assert await alice.exit() == 1
        assert "The key of this device was removed" in str(alice.err)
        again = await join_from_device(launch, server, "alice")
        assert await again.exit() == 1
        assert "The key of this device was removed from the name alice" in str(again.err)


async def test_absent_device_is_told_of_removals(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        keys = []
        for home in ("phone", "desk"):
            await alice.type("/link")
            code = (await alice.out.containing(" --link ")).rpartition(" ")[2]
            device = await join_from_device(launch, server, home, "--link", code)
            await device.sees("-- This device is linked to your name")
            await device.type("/keys")
            keys.append((await device.out.containing(", this device")).split()[2])
            assert await device.end() == 0
        await alice.type(f"/unlink {keys[0]}")
        await alice.sees(f"-- {keys[0]} is no longer linked to your name.")
        desk = await join_from_device(launch, server, "desk")
        await desk.sees(f"-- A device was removed from your name: its key was {keys[0]}.")


async def test_a_rotated_key_is_told_at_once(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        await alice.type("/invite")
        words = await join_command(alice, " --invite ")
        done = await launch.tchat("admin", "rotate-key", "--data", tmp_path / "data")
        assert await done.exit() == 0
        key = (await server.out.containing("this server's new key, ")).rpartition(" ")[2]
        assert await server.stop() == 0
        again = await launch.serve(port=server.address.port)
        await alice.sees(f"-- The server has a new key, {key}, which its former key has signed.")
        assert key in await again.out.containing("this server's key is ")
        bob = await join_by_invite(launch, words, "bob", *DRIVEN)
        await bob.sees("-- You are in #ops")
        assert key in (tmp_path / "bob" / "known_servers").read_text()


async def test_linking_in_a_wrong_directory_fails(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        lost = tmp_path / "nothing here"
        wrong = await launch.tchat("admin", "link", "alice", "--data", lost)
        assert f"There is no server data in {lost}" in await wrong.fails(SOFTWARE)
        assert not lost.exists()


# ------------------------------------------------------------------ invites


async def join_by_invite(
    launch: Launcher, words: list[str], user: str, *options: object
) -> Process:
    return await launch.tchat(*words, "--plain", "--user", user, *options, user=user)


async def test_an_invite_admits_one_person_without_approval(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, _, alice):
        await alice.type("/invite")
        words = await join_command(alice, "--invite")
        bob = await join_by_invite(launch, words, "bob")
        await bob.sees("-- You are in #ops with 1 other member")
        assert not any("New server" in line or "waiting" in line for line in bob.lines)
        await bob.type("nobody had to approve me")
        await alice.sees("<bob> nobody had to approve me")
        carol = await join_by_invite(launch, words, "carol")
        assert await carol.exit() == 1
        assert "invite" in str(carol.err)
        await alice.type("/4")
        await alice.sees("-- members (2): ")


async def test_a_personal_invite_admits_nobody_else(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, _, alice):
        await alice.type("/invite --for bob --expires 5m")
        words = await join_command(alice, "--invite")
        assert "--user=bob" in words
        mallory = await join_by_invite(launch, words, "mallory")
        assert await mallory.exit() == 1
        assert "invite" in str(mallory.err)
        bob = await launch.tchat(*words, "--plain", user="bob")
        await bob.sees("-- You are in #ops with 1 other member")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_invite_does_not_stay_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user of the machine can read the command lines of all processes."""
    monkeypatch.setenv(AFRESH, "yes")
    async with group_of_alice(tmp_path) as (launch, _, alice):
        await alice.type("/invite")
        words = await join_command(alice, "--invite")
        bob = await join_by_invite(launch, words, "bob")
        await bob.sees("-- You are in #ops with 1 other member")
        shown = await trio.Path(f"/proc/{bob.running.pid}/cmdline").read_text()
        invite = words[words.index("--invite") + 1]
        hidden = [word.replace(invite, "*" * len(invite)) for word in words]
        assert shown.split("\0")[3 : 3 + len(words)] == hidden


async def test_secrets_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group_of_alice(tmp_path) as (launch, _, alice):
        await alice.type("/invite")
        words = await join_command(alice, "--invite")
        place = words.index("--invite")
        monkeypatch.setenv("TCHAT_INVITE", words[place + 1])
        del words[place : place + 2]
        bob = await join_by_invite(launch, words, "bob")
        await bob.sees("-- You are in #ops with 1 other member")
        monkeypatch.setenv("TCHAT_INVITE", "nonsense")
        carol = await join_by_invite(launch, words, "carol")
        assert await carol.exit() == 2
        assert "argument --invite" in str(carol.err)


async def test_secrets_come_from_standard_input(tmp_path: Path) -> None:
    """What follows the first line is what the program sends."""
    async with group_of_alice(tmp_path) as (launch, _, alice):
        await alice.type("/invite")
        words = await join_command(alice, "--invite")
        place = words.index("--invite") + 1
        invite, words[place] = words[place], "-"
        bob = await join_by_invite(launch, words, "bob")
        await bob.type(f"{invite}\nhello")
        await alice.sees("<bob> hello")


async def test_an_invite_is_not_sent_to_another_server(tmp_path: Path) -> None:
    async with group_of_alice(tmp_path) as (launch, server, alice):
        await alice.type("/invite")
        words = await join_command(alice, "--invite")
        assert await server.stop() == 0
        (tmp_path / "data").rename(tmp_path / "moved away")
        await launch.serve(port=server.address.port)
        bob = await join_by_invite(launch, words, "bob")
        assert "is not the expected server" in await bob.fails()


# ------------------------------------------------------------------ bots


async def test_bots_verify_pins_and_use_invites(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        pin = (await server.out.containing("this server's key is ")).rpartition(" ")[2]
        alice = await join_as_admin(launch, server, "--pin", pin)
        where = (server.address.host, server.address.port, "--group", GROUP)
        wrong = await launch.script(ECHO, *where, "--pin", f"sha256:{43 * 'A'}", user="echo")
        assert await wrong.exit() == 77
        assert "is not the expected server" in str(wrong.err)
        await alice.type("/invite --for echo")
        invite = (await join_command(alice, "--invite"))[-1]
        options = ("--pin", pin, "--invite", invite)
        await launch.script(ECHO, *where, *options, user="echo")
        await alice.sees("-- echo joined")
        await alice.type("!echo hello")
        await alice.sees("<echo> hello")
        thief = await launch.script(ECHO, *where, "--pin", pin, user="thief")
        assert await thief.exit() == 77
        assert "The name echo belongs to another key" in str(thief.err)
