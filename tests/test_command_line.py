"""The programs as the command line starts and ends them: consoles, questions, statuses, pipes."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.net.address import Address
from tchat.store.sqlite.store import open_store
from tests.helpers import GROUP, log_of, texts
from tests.processes import launching, tapped_server
from tests.tap import tapped

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent


# ------------------------------------------------------------------ the server's console


async def test_the_console_of_a_server(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, server, tap):
        alice = await launch.join(tap.address, "alice")
        await server.sees("alice connected from 127.0.0.1:", "new group ops by alice")
        bob = await launch.join(tap.address, "bob")
        await server.sees("bob connected from", "bob asks to join ops")
        await alice.type("/2 bob")
        await server.sees("alice approved bob for ops")
        await bob.sees("in #ops")
        await bob.type(f"/9 {__file__}")
        await server.sees("bob sent test_command_line.py (")
        await alice.type("/6 bob")
        await server.sees("alice made bob the admin of ops")
        await bob.sees("that is you")
        await bob.type("/8 alice")
        await server.sees("bob kicked alice from ops")
        await bob.type("/3")
        await server.sees("bob disconnected (left)")
        assert await server.stop() == 0
        assert "stopping on SIGTERM" in "".join(server.lines)
        assert server.err.all == []


async def test_a_console_for_programs(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve("--log-format", "json")
        ready = json.loads(server.lines[0])
        assert ready["message"] == f"listening on {server.address}"
        alice = await launch.join(server.address, "alice")
        await server.sees('"group_created"')
        assert await alice.end() == 0
        await server.sees('"user_disconnected"')
        assert await server.stop() == 0
        kinds = [json.loads(line)["event"] for line in server.lines]
        assert kinds == [
            "listening",
            "invitation",
            "user_connected",
            "group_created",
            "user_disconnected",
            "stopping",
        ]


# ------------------------------------------------------------------ names that are asked for


async def test_username_and_group_are_asked_for_when_missing(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.tchat("join", "127.0.0.1", server.address.port, "--plain", "--no-tls")
        await alice.err.prompt("username: ")
        await alice.type("not a name!")
        await alice.err.containing("username is made of letters")
        await alice.err.prompt("username: ")
        await alice.type("")
        await alice.err.containing("at least one character")
        await alice.err.prompt("username: ")
        await alice.type(" alice ")
        await alice.err.prompt("group name: ")
        await alice.type("#ops")
        await alice.err.containing("group name is made of letters")
        await alice.err.prompt("group name: ")
        await alice.type("ops", "hello")
        await alice.sees("* alice created ops", "<alice> hello")
        assert all(line.startswith("[") for line in alice.lines)
        assert await alice.end() == 0


async def test_a_question_that_nobody_answers_ends_the_program(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        nobody = await launch.tchat("join", "127.0.0.1", 1, "--plain", "--user", "nobody")
        await nobody.err.prompt("group name: ")
        assert await nobody.end() == 1


@pytest.mark.parametrize(("user", "group"), [("not a name", "ops"), ("alice", "#ops")])
async def test_a_name_on_the_command_line_that_cannot_be_is_an_error(
    tmp_path: Path, user: str, group: str
) -> None:
    async with launching(tmp_path) as launch:
        wrong = await launch.join(Address("127.0.0.1", 1), user, group=group)
        assert "letters, digits and _ - . only" in await wrong.fails()


# ------------------------------------------------------------------ how programs end


async def test_a_signal_stops_a_server_in_good_order_and_its_people_wait(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops; nobody else is here yet.")
        server.running.send_signal(signal.SIGTERM)
        await alice.sees("* connection lost (The server is stopping")
        assert await server.exit() == 0
        assert server.err.all == []
        assert "stopping on SIGTERM" in "".join(server.lines)
        await launch.serve(port=server.address.port)
        await alice.sees("* connected again")
        await alice.type("still here")
        await alice.sees("<alice> still here")


async def test_a_keyboard_interrupt_stops_a_server_in_good_order(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        server.running.send_signal(signal.SIGINT)
        assert await server.exit() == 0
        assert server.err.all == []
        assert "stopping on SIGINT" in "".join(server.lines)


async def test_a_port_that_is_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        port = server.address.port
        second = await launch.tchat("serve", "127.0.0.1", port, "--data", tmp_path / "other")
        assert "port is in use" in await second.fails()


async def test_a_data_directory_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        await launch.serve()
        second = await launch.tchat("serve", "127.0.0.1", 0, "--data", tmp_path / "data")
        assert "Another tchat server is using the data directory" in await second.fails()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "two..dots"])
async def test_a_host_that_cannot_be_listened_on_is_said_in_one_line(
    tmp_path: Path, host: str
) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.tchat("serve", host, 0, "--data", tmp_path / "data")
        assert "Cannot listen on" in await server.fails()


def occupied(home: Path) -> Path:
    (home / "file").touch()
    return home / "file"


def under_a_file(home: Path) -> Path:
    return occupied(home) / "data"


def no_database(home: Path) -> Path:
    (home / "broken").mkdir()
    (home / "broken" / "tchat.db").write_bytes(b"this is no database " * 500)
    return home / "broken"


def of_the_future(home: Path) -> Path:
    (home / "newer").mkdir()
    with sqlite3.connect(home / "newer" / "tchat.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    return home / "newer"


@pytest.mark.parametrize("make", [occupied, under_a_file, no_database, of_the_future])
async def test_a_data_directory_that_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.tchat("serve", "127.0.0.1", 0, "--data", make(tmp_path))
        assert "data directory" in await server.fails()


async def test_to_join_where_nothing_listens_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = Address("127.0.0.1", unused.getsockname()[1])
        async with launching(tmp_path) as launch:
            alice = await launch.join(nowhere, "alice")
            assert f"Cannot connect to {nowhere}: nothing listens there" in await alice.fails()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots"])
async def test_to_join_a_host_that_cannot_be_is_said_in_one_line(tmp_path: Path, host: str) -> None:
    async with launching(tmp_path) as launch:
        alice = await launch.join(Address(host, 4000), "alice")
        assert f"Cannot connect to {host}:4000" in await alice.fails()


async def test_a_client_without_a_place_for_its_state_says_so_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        (tmp_path / "alice").mkdir()
        (tmp_path / "alice" / "slots").touch()
        alice = await launch.join(server.address, "alice")
        assert "state directory" in await alice.fails()


@pytest.mark.parametrize("arguments", [[], ["serve", "h", "99999"]])
async def test_a_wrong_command_line_shows_how_it_is_used(
    tmp_path: Path, arguments: list[str]
) -> None:
    async with launching(tmp_path) as launch:
        program = await launch.tchat(*arguments)
        assert await program.exit() == 2
        assert "usage: tchat" in str(program.err)


async def test_a_keyboard_interrupt_ends_a_client_without_a_traceback(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        alice.running.send_signal(signal.SIGINT)
        assert await alice.exit() == 130
        assert alice.err.all == []


# ------------------------------------------------------------------ addresses


async def test_localhost_is_one_server_whatever_it_means(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve(host="localhost")
        assert server.lines[0].endswith(f" listening on localhost:{server.address.port}")
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        bob = await launch.join(Address("127.0.0.1", server.address.port), "bob")
        await alice.sees("bob asks to join")
        assert await bob.end() == 0


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_served_and_written_in_brackets(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve(host="::1")
        assert server.lines[0].endswith(f" listening on [::1]:{server.address.port}")
        alice = await launch.join(server.address, "alice")
        await server.sees("alice connected from [::1]:")
        await alice.sees("in #ops")


# ------------------------------------------------------------------ pipes


async def test_what_is_piped_in_is_said_and_the_program_ends_well(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type("a", "b")
        assert await script.end() == 0
        assert script.heard == ["<script> a", "<script> b"]


async def test_a_script_that_was_refused_something_knows(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type("a", "/kick nobody", "b")
        assert await script.end() == 1
        assert script.heard == ["<script> a", "<script> b"]
        assert sum("! nobody is not a member" in line for line in script.lines) == 1


async def test_what_is_piped_in_by_one_who_waits_is_refused(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        script = await launch.join(server.address, "script")
        await script.type("a")
        assert await script.end() == 1
        await script.sees("! You are not a member yet: alice has to approve you.")


async def test_a_pipe_that_brings_nothing_shows_what_was_missed(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        reader = await launch.join(server.address, "reader")
        await alice.sees("reader asks")
        assert await reader.end() == 0
        await alice.type("/2 reader", *(f"text {n}" for n in range(50)))
        await alice.sees("<alice> text 49")
        for expected in (50, 0):
            reader = await launch.join(server.address, "reader")
            assert await reader.end() == 0
            assert reader.heard == [f"<alice> text {n}" for n in range(expected)]


async def test_what_was_said_before_leaving_is_delivered(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        for n in range(3):
            script = await launch.join(server.address, "script")
            await script.type(f"last words {n}", "/3")
            assert await script.exit() == 0
        assert await server.stop() == 0
    async with open_store(tmp_path / "data") as store:
        assert texts(await log_of(store)) == [f"last words {n}" for n in range(3)]


async def test_a_long_script_is_said_in_order(tmp_path: Path) -> None:
    words = [f"text {n}" for n in range(1000)]
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type(*words)
        assert await script.end() == 0
        assert script.heard == [f"<script> {text}" for text in words]


async def test_whoever_reads_our_output_may_go(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        assert alice.running.stdout is not None
        await alice.running.stdout.aclose()
        await alice.type("hello", "hello?")
        assert await alice.exit() == 1
        assert alice.err.all == []


# ------------------------------------------------------------------ examples


async def test_the_echo_bot_echoes(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        async with tapped(server.address) as tap:
            where = (tap.address.host, tap.address.port, "--group", GROUP, "--no-tls")
            bot = await launch.script(ROOT / "examples" / "echo_bot.py", *where, user="echo")
            await alice.sees("echo asks to join")
            await alice.type("!echo history", "/2 echo")
            await tap.passes(type="attached", standing="member")
            await alice.type("!echo hello", "not for the bot", "!echo and good bye")
            await alice.sees("<echo> hello", "<echo> and good bye")
            assert [line for line in alice.heard if line.startswith("<echo>")] == [
                "<echo> hello",
                "<echo> and good bye",
            ]
            bot.running.send_signal(signal.SIGINT)
            assert await bot.exit() == 130


async def test_a_bot_without_a_server_says_so_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        bot = await launch.script(
            ROOT / "examples" / "echo_bot.py", "127.0.0.1", 1, "--group", "ops", user="echo"
        )
        assert "Cannot connect to 127.0.0.1:1" in await bot.fails()
