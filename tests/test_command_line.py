"""The command line end to end: prompts, exit statuses, signals, pipes, --help."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
import trio

from tchat import __version__
from tchat.cli import admin, main, parser
from tchat.cli.command_line import SUBCOMMANDS
from tchat.core.fingerprints import PIN_SIZE, TOKEN_SIZE, invite_text
from tchat.exits import USAGE
from tchat.net.address import Address
from tchat.store.open import open_store
from tchat.store.sqlite.schema import APPLICATION_ID
from tests.command_lines import first_command
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, log_of, texts
from tests.processes import launching, proxied_server
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
INVITE = invite_text(bytes(TOKEN_SIZE), bytes(PIN_SIZE))


def exit_status(*arguments: str) -> object:
    """Return the status with which argparse ends the program."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)
    return caught.value.code


def test_a_link_code_is_checked_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    join = ("join", "localhost", "7777", "--link")
    assert parser().parse_args([*join, "abcd-efgh-jkmn"]).link == "abcd-efgh-jkmn"
    assert exit_status(*join, "nonsense") == 2
    assert "a link code is 12 letters and digits" in capsys.readouterr().err


# ------------------------------------------------------------------ the server's console


async def test_the_console_of_a_server(tmp_path: Path) -> None:
    async with proxied_server(tmp_path) as (launch, server, proxy):
        alice = await launch.join(proxy.address, "alice")
        await server.sees("alice connected from 127.0.0.1:", "new group ops by alice")
        bob = await launch.join(proxy.address, "bob")
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
        await server.sees("bob disconnected (closed by the client)")
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
        assert [kind for kind in kinds if kind != "running_as_root"] == [
            "listening",
            "invitation",
            "user_connected",
            "group_created",
            "user_disconnected",
            "stopping",
        ]


# ------------------------------------------------------------------ names that are asked for


@pytest.mark.parametrize(
    ("arguments", "missing", "status"),
    [
        (["join", "127.0.0.1", "1", "--group", "ops"], "username", 2),
        (["join", "127.0.0.1", "1", "--user", "ci"], "group name", 2),
        (["join", "127.0.0.1", "1", "--commands"], "username", 2),
        (["say", "127.0.0.1", "1", "--group", "ops"], "username", USAGE),
        (["send", "127.0.0.1", "1", "--group", "ops", __file__], "username", USAGE),
        (["get", "127.0.0.1", "1", "--group", "ops", "1"], "username", USAGE),
    ],
)
async def test_a_pipe_never_answers_prompts(
    tmp_path: Path, arguments: list[str], missing: str, status: int
) -> None:
    """The first line of a pipe became the username, and was claimed."""
    async with launching(tmp_path) as launch:
        program = await launch.tchat(*arguments)
        await program.type("mallory", "ops")
        assert await program.end() == status
        assert program.lines == []
        (line,) = program.err.all
        option = "--user" if missing == "username" else "--group"
        assert line == (
            f"tchat: The {missing} is missing, and there is no terminal to ask for it:"
            f" add {option} NAME."
        )
        assert not (tmp_path / "nobody").exists()


@pytest.mark.parametrize(("user", "group"), [("not a name", "ops"), ("alice", "#ops")])
async def test_invalid_name_option_is_an_error(tmp_path: Path, user: str, group: str) -> None:
    async with launching(tmp_path) as launch:
        wrong = await launch.join(Address("127.0.0.1", 1), user, group=group)
        assert "letters, digits and _ - . only" in await wrong.fails()


# ------------------------------------------------------------------ how programs end


async def test_signal_stops_server_and_clients_reconnect(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops; nobody else is here yet")
        server.running.send_signal(signal.SIGTERM)
        await alice.sees("-- connection lost (The server is stopping")
        assert await server.exit() == 0
        assert server.err.all == []
        assert "stopping on SIGTERM" in "".join(server.lines)
        await launch.serve(port=server.address.port)
        await alice.sees("-- connected again")
        await alice.type("still here")
        await alice.sees("<alice> still here")


async def test_keyboard_interrupt_stops_the_server(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        server.running.send_signal(signal.SIGINT)
        assert await server.exit() == 0
        assert server.err.all == []
        assert "stopping on SIGINT" in "".join(server.lines)


async def test_closing_its_terminal_stops_the_server(tmp_path: Path) -> None:
    """In order: the clients are told, and come back when it runs again."""
    async with launching(tmp_path) as launch:
        where = ["127.0.0.1", "0", "--data", str(tmp_path / "data"), "--no-tls"]
        with Terminal(["serve", *where], str(tmp_path)) as terminal:
            await trio.to_thread.run_sync(terminal.sees, "to join:")
            port = int(terminal.text.partition("127.0.0.1:")[2].split()[0])
            alice = await launch.join(Address("127.0.0.1", port), "alice")
            await alice.sees("in #ops")
            assert await trio.to_thread.run_sync(terminal.close) == 0
            await alice.sees("-- connection lost (The server is stopping")
        await launch.serve(port=port)
        await alice.sees("-- connected again")


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--invite", "Paste the invite, the last word of the command that"),
        ("--link", "Paste the link code, the last word of the command that /link prints"),
    ],
)
def test_prompt_of_a_secret_says_what_to_paste(tmp_path: Path, option: str, what: str) -> None:
    with Terminal(["join", "127.0.0.1", "1", option, "-"], str(tmp_path), 100) as terminal:
        terminal.sees(what)
        terminal.type("nonsense\n")
        terminal.sees(f"argument {option}: ")
        assert terminal.end() == 2
        assert "nonsense" not in terminal.text


@pytest.mark.parametrize(("ignored", "word"), [(False, "SIGHUP"), (True, "SIGTERM")])
async def test_hangup_stops_the_server_unless_ignored(
    tmp_path: Path, ignored: bool, word: str
) -> None:
    """The log names the signal; a server that was started by nohup goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        async with launching(tmp_path) as launch:
            server = await launch.serve()
            alice = await launch.join(server.address, "alice")
            server.running.send_signal(signal.SIGHUP)
            if ignored:
                await alice.sees("in #ops")
                server.running.terminate()
            assert await server.exit() == 0
            assert next(line for line in server.lines if "stopping on" in line).endswith(word)
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_no_arguments_show_two_examples(tmp_path: Path) -> None:
    """On a screen of 24 lines, to be pasted; as for other usage errors, the exit status is 2."""
    async with launching(tmp_path) as launch:
        tchat = await launch.tchat()
        assert await tchat.exit() == 2
        shown = tchat.err.all
        assert tchat.lines == []
        assert len(shown) < 24
        program = f"  {sys.executable} -m tchat "
        assert max(len(line.removeprefix(program)) for line in shown) < 60
        commands = [line.removeprefix(program).split() for line in shown if program in line]
        assert [words[0] for words in commands] == ["serve", "join", "demo", "--help"]
        for words in commands[:-1]:
            parser().parse_args(words)


async def test_used_port_is_reported_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        port = server.address.port
        second = await launch.tchat("serve", "127.0.0.1", port, "--data", tmp_path / "other")
        assert "port is already in use" in await second.fails()
        assert not (tmp_path / "other").exists()


async def test_used_data_directory_is_reported_in_one_line(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        await launch.serve()
        second = await launch.tchat("serve", "127.0.0.1", 0, "--data", tmp_path / "data")
        assert "Another tchat server is using the data directory" in await second.fails()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "two..dots"])
async def test_unusable_host_is_reported_in_one_line(tmp_path: Path, host: str) -> None:
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
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    return home / "newer"


@pytest.mark.parametrize("make", [occupied, under_a_file, no_database, of_the_future])
async def test_unusable_data_directory_is_reported(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.tchat("serve", "127.0.0.1", 0, "--data", make(tmp_path))
        assert str(tmp_path) in await server.fails()


async def test_refused_connection_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = Address("127.0.0.1", unused.getsockname()[1])
        async with launching(tmp_path) as launch:
            alice = await launch.join(nowhere, "alice")
            assert f"Cannot connect to {nowhere}: connection refused" in await alice.fails()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots"])
async def test_invalid_host_is_reported_in_one_line(tmp_path: Path, host: str) -> None:
    async with launching(tmp_path) as launch:
        alice = await launch.join(Address(host, 4000), "alice")
        assert f"Cannot connect to {host}:4000" in await alice.fails()


async def test_unusable_state_directory_is_reported(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        (tmp_path / "alice").mkdir()
        (tmp_path / "alice" / "servers").touch()
        alice = await launch.join(server.address, "alice")
        assert "state directory" in await alice.fails()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["server"], 2), (["serve", "h", "99999"], 2), (["say"], USAGE), (["tail", "-n", "x"], USAGE)],
)
async def test_wrong_command_line_is_reported_in_one_line(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    async with launching(tmp_path) as launch:
        program = await launch.tchat(*arguments)
        assert await program.exit() == status
        (line,) = program.err.all
        assert line.startswith("tchat")
        assert line.endswith(" --help)")


async def test_keyboard_interrupt_ends_client_without_traceback(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        alice.running.send_signal(signal.SIGINT)
        assert await alice.exit() == 130
        assert alice.err.all == []


# ------------------------------------------------------------------ --help and --version

ADMIN = [f"admin {name}" for name in admin.SUBCOMMANDS]
COMMANDS = [*(command.name for command in SUBCOMMANDS), *ADMIN]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(*command.split(), "--help") == 0
    _, found, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert found
    assert f"tchat {command}" in examples


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_valid_command_lines(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_status(*command.split(), "--help")
    lines = capsys.readouterr().out.partition("\nexamples:\n")[2].splitlines()
    examples = [line.rpartition("tchat ")[2] for line in lines if " tchat " in line]
    assert examples
    for example in examples:
        parser().parse_args(first_command(example.replace("INVITE", INVITE)))


@pytest.mark.parametrize(
    ("command", "status"),
    [(["serve", "localhost", "7777"], 2), (["admin", "link", "al"], USAGE)],
)
def test_data_directory_is_required_without_a_home(
    command: list[str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_data_path", unknown)
    assert parser().parse_args([*command, "--data", "here"]).data == Path("here")
    # For serve, the settings file may have it, which is read later.
    assert (main(command) if command[0] == "serve" else exit_status(*command)) == status
    assert "required: --data" in capsys.readouterr().err
    assert exit_status(*command, "--help") == 0
    assert "default: None" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["say", "--help"], ["tail", "--help"]]
)
def test_help_imports_no_heavy_library(words: list[str]) -> None:
    heavy = ("trio", "cryptography", "cbor2", "ssl", "sqlite3", "_curses")
    lines = f"""
import sys
from tchat.cli import main
try:
    main({words!r})
except SystemExit:
    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--version") == 0
    assert capsys.readouterr().out == f"tchat {__version__}\n"
    assert version("tchat") == __version__


# ------------------------------------------------------------------ addresses


async def test_localhost_is_reachable_by_name_and_address(tmp_path: Path) -> None:
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
async def test_ipv6_address_is_written_in_brackets(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve(host="::1")
        assert server.lines[0].endswith(f" listening on [::1]:{server.address.port}")
        alice = await launch.join(server.address, "alice")
        await server.sees("alice connected from [::1]:")
        await alice.sees("in #ops")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_printed_address_is_accepted_by_every_program(tmp_path: Path, host: str) -> None:
    """As one argument, and before or after the options, also with brackets around the host only."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    (tmp_path / "notes.txt").write_text("notes")
    async with launching(tmp_path) as launch:
        first = await launch.serve(host=host)
        printed = first.lines[0].rpartition(" ")[2]
        assert await first.stop() == 0
        options = ("--no-tls", "--user", "alice", "--group", "ops")
        server = await launch.tchat("serve", printed, "--data", tmp_path / "data", "--no-tls")
        await server.sees(f"listening on {printed}")
        chat = await launch.tchat("join", "--plain", "--create", printed, *options, user="alice")
        await chat.sees("in #ops")
        apart = (f"[{host}]", first.address.port)
        other = await launch.tchat("join", *options, *apart, "--plain", user="alice")
        await other.sees("in #ops")
        sending = await launch.tchat(
            "send", *options, printed, tmp_path / "notes.txt", user="alice"
        )
        assert await sending.exit() == 0
        to = tmp_path / "a:1"  # an address in another place is none
        getting = await launch.tchat("get", printed, "1", *options, "--to", to, user="alice")
        assert await getting.exit() == 0
        assert to.read_text() == "notes"
        bot = await launch.script(
            ROOT / "examples" / "echo.py",
            printed,
            "--group",
            "ops",
            "--no-tls",
            user="bot",
        )
        await chat.sees("echo asks to join")
        bot.running.terminate()


# ------------------------------------------------------------------ pipes


async def test_piped_lines_are_posted(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type("a", "b")
        assert await script.end() == 0
        assert script.heard == ["<script> a", "<script> b"]


async def test_refusal_in_a_script_sets_exit_status(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type("a", "/kick nobody", "b")
        assert await script.end() == 1
        assert script.heard == ["<script> a", "<script> b"]
        assert sum("! nobody is not a member" in line for line in script.lines) == 1


async def test_piped_lines_before_approval_are_refused(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        script = await launch.join(server.address, "script")
        await script.type("a")
        assert await script.end() == 1
        await script.sees("! You are not a member yet: alice has to approve you.")


async def test_empty_pipe_shows_missed_messages(tmp_path: Path) -> None:
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


async def test_messages_before_leave_are_delivered(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        for n in range(3):
            script = await launch.join(server.address, "script")
            await script.type(f"last words {n}", "/3")
            assert await script.exit() == 0
        assert await server.stop() == 0
    async with open_store(tmp_path / "data") as store:
        assert texts(await log_of(store)) == [f"last words {n}" for n in range(3)]


async def test_long_script_is_posted_in_order(tmp_path: Path) -> None:
    words = [f"text {n}" for n in range(1000)]
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        script = await launch.join(server.address, "script")
        await script.type(*words)
        assert await script.end() == 0
        assert script.heard == [f"<script> {text}" for text in words]


async def test_closed_output_pipe_ends_the_program_quietly(tmp_path: Path) -> None:
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


async def test_echo_answers(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        async with fault_proxy(server.address) as proxy:
            where = (proxy.address.host, proxy.address.port, "--group", GROUP, "--no-tls")
            bot = await launch.script(ROOT / "examples" / "echo.py", *where, user="echo")
            await alice.sees("echo asks to join")
            await alice.type("!echo history", "/2 echo")
            await proxy.passes(type="attached", standing="member")
            await alice.type("!echo hello", "not for the bot", "!echo and good bye")
            await alice.sees("<echo> hello", "<echo> and good bye")
            assert [line for line in alice.heard if line.startswith("<echo>")] == [
                "<echo> hello",
                "<echo> and good bye",
            ]
            bot.running.send_signal(signal.SIGINT)
            assert await bot.exit() == 130


async def test_bot_without_server_is_reported(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        bot = await launch.script(
            ROOT / "examples" / "echo.py", "127.0.0.1", 1, "--group", "ops", user="echo"
        )
        assert await bot.exit() == 69
        assert "Cannot connect to 127.0.0.1:1" in str(bot.err)
