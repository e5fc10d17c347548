"""Nobody gets in without the password, and bad clients harm nobody else."""

from __future__ import annotations

import base64
import stat
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.errors import StartupError, UsageError
from tchat.irc.connection import BURST, INPUT_SIZE, RATE, open_connection
from tchat.irc.listener import MOST_CLIENTS, MOST_STRANGERS, loopback_address
from tchat.irc.messages import Message
from tchat.irc.password import load_or_make
from tchat.irc.registration import register
from tests.irc.client import PASSWORD, scene

if TYPE_CHECKING:
    from pathlib import Path

    from tests.irc.client import IrcClient


def sasl(password: str) -> str:
    return base64.b64encode(f"\0bob\0{password}".encode()).decode()


async def test_welcome_names_the_user_and_the_features() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send(f"PASS {PASSWORD}", "NICK whoever", "USER me 0 * :Me")
        assert await irc.line() == ":tchat.localhost 001 bob :Welcome to tchat, bob!bob@tchat"
        features = await irc.until(" 005 ")
        for token in ("CASEMAPPING=ascii", "CHANTYPES=#", "NETWORK=", "CHATHISTORY=", "UTF8ONLY"):
            assert f" {token}" in features


@pytest.mark.parametrize("given", [["PASS wrong"], [], ["PASS"], ["PASS :"]])
async def test_wrong_password_is_refused(given: list[str]) -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send(*given, "NICK bob", "USER me 0 * :Me", "JOIN #ops")
        assert await irc.closed() == "ERROR :Password incorrect."
        assert not any("JOIN" in line or " 001 " in line for line in irc.lines)


async def test_password_may_follow_a_user_name() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send(f"PASS bob:{PASSWORD}", "NICK bob", "USER me 0 * :Me")
        await irc.until(" 001 ")


async def test_sasl_plain_admits() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send("CAP LS 302", "NICK bob", "USER me 0 * :Me", "CAP REQ :sasl")
        assert "sasl=PLAIN" in await irc.until(" LS ")
        await irc.until("ACK :sasl")
        await irc.send("AUTHENTICATE PLAIN")
        await irc.until("AUTHENTICATE +")
        await irc.send(f"AUTHENTICATE {sasl(PASSWORD)}", "CAP END")
        await irc.until(" 903 ")
        await irc.until(" 001 ")


@pytest.mark.parametrize("response", [sasl("wrong"), "!!", "*", "A" * 400, "AAAA"])
async def test_sasl_with_anything_else_is_refused(response: str) -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send("CAP REQ :sasl", "NICK bob", "USER me 0 * :Me")
        await irc.send("AUTHENTICATE PLAIN", f"AUTHENTICATE {response}", "CAP END")
        assert await irc.closed() == "ERROR :Password incorrect."


async def test_guessing_ends_after_three_passwords() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send("PASS a", "PASS b", "PASS c", f"PASS {PASSWORD}", "NICK b", "USER b 0 * :b")
        assert await irc.closed() == "ERROR :Too many wrong passwords."


async def test_unregistered_clients_cannot_do_anything() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send("PRIVMSG #ops :hello", "LIST", "PING x")
        assert " 451 " in await irc.line()
        assert " 451 " in await irc.line()
        assert await irc.line() == ":tchat.localhost PONG tchat.localhost :x"


async def test_unknown_capabilities_are_refused() -> None:
    async with scene() as here, here.door.connect() as irc:
        await irc.send("CAP REQ :batch nonsense", "CAP REQ :batch", "CAP REQ :-batch", "CAP LIST")
        assert await irc.line() == ":tchat.localhost CAP * NAK :batch nonsense"
        assert await irc.line() == ":tchat.localhost CAP * ACK :batch"
        assert await irc.line() == ":tchat.localhost CAP * ACK :-batch"
        assert await irc.line() == ":tchat.localhost CAP * LIST :"


async def test_registration_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_connection(ours) as connection:
        assert not await register(connection, PASSWORD)
    assert await theirs.receive_some() == b"ERROR :Registration took too long.\r\n"
    assert autojump_clock.current_time() >= 1


async def test_clients_are_limited_in_number() -> None:
    async with scene() as here, AsyncExitStack() as stack:
        for _ in range(MOST_CLIENTS):
            await stack.enter_async_context(here.door.registered())
        async with here.door.connect() as irc:
            await irc.send(f"PASS {PASSWORD}", "NICK bob", "USER me 0 * :Me")
            assert await irc.closed() == "ERROR :Too many IRC clients."


async def test_strangers_do_not_lock_the_owner_out() -> None:
    """Connections that never register count separately: each new one ends the oldest of them."""
    async with scene() as here, AsyncExitStack() as stack:
        strangers: list[IrcClient] = []
        for _ in range(MOST_STRANGERS):
            strangers.append(await stack.enter_async_context(here.door.connect()))
            await strangers[-1].send("PING x")
            await strangers[-1].until("PONG")
        async with here.door.registered() as irc:
            await irc.until(" 366 ")
        end = await strangers[0].closed()
        assert end == "ERROR :Too many connections that have not registered."
        await strangers[1].send("PING x")
        await strangers[1].until("PONG")


@pytest.mark.parametrize("given", ["with:colon:inside", "bob:with:colon:inside"])
async def test_password_may_contain_a_colon(given: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(f"PASS {given}\r\nNICK bob\r\nUSER bob 0 * :bob\r\n".encode())
    async with open_connection(ours) as connection:
        assert await register(connection, "with:colon:inside")


async def test_hostile_lines_leave_others_alone() -> None:
    async with scene() as here, here.door.registered() as irc, here.door.registered() as other:
        await irc.until(" 366 ")
        await other.until(" 366 ")
        await irc.stream.send_all(b"x" * (3 * INPUT_SIZE) + b"\r\n")
        assert "417" in await irc.line()
        await irc.stream.send_all(
            b"PRIVMSG #ops :\xff\r\n\r\n \r\n@;=;\\ : \r\nPRIVMSG\r\n\x00\r\n"
        )
        for expected in ("INVALID_MESSAGE", "INVALID_MESSAGE", "461", "INVALID_MESSAGE"):
            assert expected in await irc.line()
        await irc.send("FROBNICATE 1", "WHO", "MODE", "CHATHISTORY", "MODE #ops +" + "o" * 300)
        assert "421 bob FROBNICATE" in await irc.line()
        await irc.sync()
        await irc.send("PRIVMSG #ops :still here")
        assert "still here" in await other.until("PRIVMSG")


async def test_fast_clients_are_read_slowly(mock_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"PING x\r\n" * (BURST + 2))
    async with open_connection(ours) as connection, trio.open_nursery() as nursery:
        for _ in range(BURST):
            await connection.receive()
        nursery.start_soon(connection.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        mock_clock.jump(1 / RATE)


async def test_clients_that_do_not_read_are_dropped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, _ = trio.testing.lockstep_stream_pair()  # sending waits until it is received
    with pytest.RaisesGroup(trio.BrokenResourceError):
        async with open_connection(ours) as connection:
            await connection.send(Message("PING", ("x",)))
            await trio.sleep_forever()
    assert autojump_clock.current_time() >= 1


async def test_cancelled_senders_leave_no_half_lines() -> None:
    """As when a channel is closed (PART) while its messages are being sent."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with open_connection(ours) as connection, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def send() -> None:
            with scope:
                for number in range(3):
                    await connection.send(Message("NOTICE", ("bob", f"line {number}")))

        nursery.start_soon(send)
        received = await theirs.receive_some(5)
        scope.cancel()
        nursery.start_soon(connection.send, Message("PART", ("#ops",)))
        while not received.endswith(b"PART #ops\r\n"):
            received += await theirs.receive_some()
        assert received == b"NOTICE bob :line 0\r\nPART #ops\r\n"


def test_password_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "irc-password"
    password, is_new = load_or_make(path)
    assert is_new
    assert len(password) >= 24
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make(path) == (password, False)


@pytest.mark.parametrize("content", ["", "short", "x" * 500, "\x07" * 20])
def test_invalid_password_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "irc-password"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(StartupError, match="no valid password"):
        load_or_make(path)


def test_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "irc-password"
    load_or_make(path)
    path.chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600"):
        load_or_make(path)


def test_password_is_not_written_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "irc-password"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError):
        load_or_make(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", "127.0.0.1:7000"),
        ("localhost", "localhost:6667"),
        ("[::1]:0", "[::1]:0"),
        ("127.9.9.9", "127.9.9.9:6667"),
    ],
)
def test_loopback_addresses(text: str, address: str) -> None:
    assert str(loopback_address(text)) == address


@pytest.mark.parametrize(
    "text", ["0.0.0.0:6667", "[::]:6667", "192.168.1.2", "example.org", "", "127.0.0.1:99999"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        loopback_address(text)
