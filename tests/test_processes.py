"""tchat as people use it: real processes, real pipes, and what each person sees, step by step."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.net.address import Address
from tchat.store.sqlite import open_store
from tests.helpers import (
    GROUP,
    Launcher,
    Person,
    Server,
    Tap,
    launching,
    log_of,
    tapped,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parent.parent


@asynccontextmanager
async def tapped_server(home: Path) -> AsyncIterator[tuple[Launcher, Server, Tap]]:
    """Start a server whose every frame is checked on its way."""
    async with launching(home) as launch:
        server = await launch.serve()
        async with tapped(server.address) as tap:
            yield launch, server, tap


@asynccontextmanager
async def two_people(home: Path) -> AsyncIterator[tuple[Person, Person]]:
    """Alice, the admin, with Bob as a member."""
    async with tapped_server(home) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(tap.address, "bob")
        await alice.sees("bob asks to join")
        await alice.type("/2 bob")
        await alice.sees("bob joined")
        await bob.sees("in ops with 2 members")
        yield alice, bob


async def all_see(people: list[Person], *parts: str) -> None:
    for person in people:
        await person.sees(*parts)


# ------------------------------------------------------------------ the nine commands


async def test_the_nine_commands_by_number(tmp_path: Path) -> None:
    plan = tmp_path / "plan.bin"
    plan.write_bytes(bytes(range(256)) * 4000)
    async with tapped_server(tmp_path) as (launch, server, tap):
        # Whoever comes first founds the group and is its admin; the others ask.
        alice = await launch.join(tap.address, "alice")
        await alice.sees("* alice created ops and you are its admin", "* in ops with you alone")
        bob = await launch.join(tap.address, "bob")
        carol = await launch.join(tap.address, "carol")
        await all_see([bob, carol], "* waiting for alice to approve you; /3 leaves")
        await alice.sees("* bob asks to join: /approve bob or /deny bob", "* carol asks to join")

        # /1 lists the requests, /2 approves: it asks whom, unless it is told.
        await alice.type("/1")
        asked = await alice.out.containing("* asking to join (2): ")
        assert set(re.findall("bob|carol", asked)) == {"bob", "carol"}
        await alice.type("/2")
        await alice.sees("* approve whom? (")
        await alice.type("bob")
        await all_see([alice, bob], "* bob joined, approved by alice")
        await bob.sees("* in ops with 2 members")
        await alice.type("/2 carol")
        await all_see([alice, bob, carol], "* carol joined, approved by alice")
        await alice.type("/1")
        await alice.sees("* asking to join: nobody")

        # What is typed is said.
        await bob.type("hello, everybody", "  spaces kept  ", "//2 is a message too")
        for text in ("<bob> hello, everybody", "<bob>   spaces kept  ", "<bob> /2 is a message"):
            await all_see([alice, bob, carol], text)

        # /4 lists the members, /5 those online, /7 tells the admin.
        await carol.type("/4", "/5", "/7")
        await carol.sees(
            "* members (3): alice (admin), bob, carol",
            "* online (3): alice (admin), bob, carol",
            "* the admin is alice",
        )

        # Only the admin may /1, /2, /6 and /8.
        for command in ("/1", "/2 carol", "/2", "/6 bob", "/8 carol", "/8", "/deny carol"):
            await bob.type(command)
            await bob.sees("! Only the admin may do this, and that is alice.")

        # /9 sends a file, which the others find among what they received.
        await bob.type(f"/9 {plan}")
        await all_see([alice, bob, carol], "* bob shared plan.bin (1.0 MB), file 1")
        for person in (alice, carol):
            await person.sees(f"* file 1 saved as {person.downloads / 'plan.bin'}")
            assert (person.downloads / "plan.bin").read_bytes() == plan.read_bytes()
        await carol.type("/9")
        await carol.sees("* send which file?")
        await carol.type(str(tmp_path / "not there"))
        await carol.sees(f"! {tmp_path / 'not there'} cannot be sent: No such file")
        await carol.type("/9", str(plan))
        await alice.sees("* carol shared plan.bin (1.0 MB), file 2", "* file 2 saved as")
        await bob.sees("* file 2 saved as")

        # /6 makes another the admin.
        await alice.type("/6")
        await alice.sees("* make whom the admin? (bob, carol)")
        await alice.type("bob")
        await bob.sees("* alice made bob the admin: that is you")
        await all_see([alice, carol], "* alice made bob the admin")
        await alice.type("/8 carol", "/7")
        await alice.sees("! Only the admin may do this, and that is bob.", "* the admin is bob")

        # /8 ends a membership; the person is told at once, and may ask again.
        await bob.type("/8")
        await bob.sees("* kick whom? (alice, carol)")
        await bob.type("carol")
        await all_see([alice, bob, carol], "* bob kicked carol")
        await carol.sees("* bob kicked you out of the group; /join asks again, /3 leaves")
        await bob.type("carol cannot hear this")
        await alice.sees("<bob> carol cannot hear this")
        await carol.type("may I speak?", "/4")
        await carol.sees("! You are not a member of this group; /join", "! You are not a member;")
        await carol.type("/join")
        await carol.sees("* waiting for bob to approve you")
        await bob.sees("* carol asks to join")
        await bob.type("/deny carol")
        await carol.sees("* bob denied your request; /join asks again, /3 leaves")
        await carol.type("/join")
        await bob.sees("* carol asks to join")
        await bob.type("/2 carol")
        await all_see([alice, bob, carol], "* carol joined, approved by bob")
        assert "<bob> carol cannot hear this" in carol.heard  # the log is one for all members

        # /3 leaves the chat, not the group.
        await alice.type("/3")
        assert await alice.exit() == 0
        await tap.passes(type="presence", offline=["alice"])
        await carol.type("is alice away?")
        await bob.sees("<carol> is alice away?")
        await bob.type("/4", "/5")
        await bob.sees(
            "* members (3): bob (admin), carol, alice", "* online (2): bob (admin), carol"
        )

        # One who was away is given everything on return, once and in order.
        await bob.type("first", "second")
        await carol.sees("<bob> second")
        returned = await launch.join(tap.address, "alice")
        await returned.sees("* in ops with 3 members")
        assert returned.heard == ["<carol> is alice away?", "<bob> first", "<bob> second"]
        await returned.type("I am back")
        await bob.sees("<alice> I am back")

        # Programs know by the exit status whether anything was refused.
        assert [await person.end() for person in (returned, bob, carol)] == [0, 1, 1]
        assert await server.stop() == 0


async def test_the_nine_commands_by_word(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("some notes")
    async with tapped_server(tmp_path) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice", group="Straße")
        await alice.sees("* alice created Straße")
        bob = await launch.join(tap.address, "Bob", group="strasse")
        await bob.sees("* waiting for alice")
        await alice.sees("* Bob asks to join")
        await alice.type("/requests", "/approve BOB")
        await alice.sees("* asking to join (1): Bob", "* Bob joined")
        await bob.sees("* in Straße with 2 members")
        await bob.type("/MEMBERS", "/online", "/admin")
        await bob.sees("* members (2): alice (admin), Bob", "* online (2)", "* the admin is alice")
        await alice.type(f"/send {notes}")
        await bob.sees("* alice shared notes.txt (10 B), file 1", "* file 1 saved as")
        assert (bob.downloads / "notes.txt").read_text() == "some notes"
        await bob.type("/get 1")
        await bob.sees(f"* file 1 saved as {bob.downloads / 'notes.txt'}")
        await bob.type("/get 2")
        await bob.sees("! The group has no file 2.")
        await alice.type("/transfer bob")
        await bob.sees("* alice made Bob the admin: that is you")
        await bob.type("/kick alice")
        await alice.sees("* Bob kicked alice", "* Bob kicked you out of the group")
        await alice.type("/quit")
        assert await alice.exit() == 0
        await bob.type("/leave")
        await bob.sees("* you left the group")
        assert await bob.exit() == 0
        # The last one left: whoever comes now founds the group anew, and sees nothing of before.
        carol = await launch.join(tap.address, "carol", group="strasse")
        await carol.sees("* carol created", "with you alone")
        assert len(carol.lines) == 2


async def test_help_lists_every_command(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice")
        await alice.type("/help")
        for number in range(1, 10):
            await alice.sees(f"* /{number}  /")
        await alice.type("/frobnicate")
        await alice.sees("! There is no command /frobnicate; /help lists them, // sends a slash.")


async def test_one_who_waits_may_go_and_is_in_on_return(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(tap.address, "bob")
        await bob.sees("* waiting for alice")
        await bob.type("/3")
        assert await bob.exit() == 0
        await alice.type("/2 bob")
        await alice.sees("* bob joined")
        bob = await launch.join(tap.address, "bob")
        await bob.sees("* bob joined, approved by alice", "* in ops with 2 members")


async def test_one_who_waits_may_take_the_request_back(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(tap.address, "bob")
        await alice.sees("bob asks to join")
        await bob.type("/leave")
        assert await bob.exit() == 0
        await alice.sees("* bob does not ask to join any more")
        await alice.type("/1", "/2 bob")
        await alice.sees("* asking to join: nobody", "! bob has not asked to join")


async def test_a_question_may_be_left_unanswered(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (alice, bob):
        await alice.type("/8")
        await alice.sees("* kick whom? (bob)")
        await alice.type("")
        await alice.sees("! Nothing was done")
        await alice.type("/8", "/7", "just talking")
        await alice.sees("* kick whom?", "* the admin is alice")
        await bob.sees("<alice> just talking")


async def test_lines_have_the_form_that_programs_rely_on_whatever_is_said(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (alice, bob):
        await bob.type("hello", "/kick alice", "\x1b]0;owned\x07 \u202edesrever\u202c \x9b2J done")
        await bob.sees("<bob> hello", "! Only", "done")
        await alice.sees("done")
        for line in [*alice.lines, *bob.lines]:
            assert re.fullmatch(r"\[\d\d:\d\d\] (<\w+> .+|[*!] .+)", line), line
            assert line.isprintable()
        assert alice.heard == ["<bob> hello", "<bob> ␛]0;owned␇ desrever \ufffd2J done"]


async def test_two_terminals_of_one_person_hear_the_same(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, _, tap):
        one = await launch.join(tap.address, "alice")
        await one.sees("in ops with you alone")
        two = await launch.join(tap.address, "alice")
        await two.sees("in ops with you alone")
        for n in range(20):
            await (one if n % 2 else two).type(f"text {n}")
        for n in range(20):
            await one.sees(f"<alice> text {n}")
            await two.sees(f"<alice> text {n}")
        assert one.heard == two.heard
        assert len(one.heard) == 20


# ------------------------------------------------------------------ the server's console


async def test_the_console_of_a_server(tmp_path: Path) -> None:
    async with tapped_server(tmp_path) as (launch, server, tap):
        alice = await launch.join(tap.address, "alice")
        await server.sees("alice connected from 127.0.0.1:", "new group ops by alice")
        bob = await launch.join(tap.address, "bob")
        await server.sees("bob connected from", "bob asks to join ops")
        await alice.type("/2 bob")
        await server.sees("alice approved bob for ops")
        await bob.sees("in ops")
        await bob.type(f"/9 {__file__}")
        await server.sees("bob sent test_processes.py (")
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
            "user_connected",
            "group_created",
            "user_disconnected",
            "stopping",
        ]


# ------------------------------------------------------------------ names that are asked for


async def test_username_and_group_are_asked_for_when_missing(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.tchat("join", "127.0.0.1", server.address.port, "--plain")
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
        await alice.sees("in ops with you alone")
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
        (tmp_path / "alice").touch()
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
        await alice.sees("in ops")
        alice.running.send_signal(signal.SIGINT)
        assert await alice.exit() == 130
        assert alice.err.all == []


# ------------------------------------------------------------------ addresses


async def test_localhost_is_one_server_whatever_it_means(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve(host="localhost")
        assert server.lines[0].endswith(f" listening on localhost:{server.address.port}")
        alice = await launch.join(server.address, "alice")
        await alice.sees("in ops")
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
        await alice.sees("in ops")


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
        await alice.sees("in ops")
        script = await launch.join(server.address, "script")
        await script.type("a")
        assert await script.end() == 1
        await script.sees("! You are not a member yet: alice has to approve you.")


async def test_a_pipe_that_brings_nothing_shows_what_was_missed(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in ops")
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
        await alice.sees("in ops")
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
        await alice.sees("in ops")
        async with tapped(server.address) as tap:
            where = (tap.address.host, tap.address.port, "--group", GROUP)
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
