"""`tchat irc` as a process: what it prints, and that it loses no message."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.exits import SOFTWARE
from tchat.net.address import Address
from tchat.net.tcp import port_of
from tests.helpers import GUARD
from tests.irc.client import IrcClient
from tests.processes import launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.processes import Launcher, Process, Server


async def door(launch: Launcher, server: Server) -> tuple[Process, int]:
    """Start bob's door; return it and its port."""
    options = ("--user", "bob", "--no-tls", "--listen", "127.0.0.1:0")
    process = await launch.tchat("irc", server.address, *options, user="bob")
    line = await process.out.containing("listening for IRC clients of bob on 127.0.0.1:")
    return process, int(line.rpartition(":")[2])


async def first_door(launch: Launcher, server: Server) -> tuple[Process, int, str]:
    """Start bob's door for the first time; return it, its port, and the password that it prints."""
    process, port = await door(launch, server)
    line = await process.out.containing("password: ")
    return process, port, line.removeprefix("password: ")


@asynccontextmanager
async def irc_client(port: int, password: str, creates: str = "") -> AsyncIterator[IrcClient]:
    """Connect and register; then found a group, if its channel is given."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        irc = IrcClient(stream)
        await irc.send(f"PASS {password}", "NICK bob", "USER bob 0 * :bob")
        await irc.until(" 001 ")
        if creates:
            await irc.send(f"PRIVMSG *tchat :create {creates}")
            await irc.until(f"366 bob {creates}")
        yield irc


async def test_password_is_printed_at_the_first_start(tmp_path: Path) -> None:
    """That is the first start that succeeds: who has seen no password needs it printed."""
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch:
            server = await launch.serve()
            options = ("--user", "bob", "--no-tls", "--listen", str(server.address))
            process = await launch.tchat("irc", server.address, *options, user="bob")
            assert await process.exit() == SOFTWARE  # the port is taken
            process, port, password = await first_door(launch, server)
            await process.sees(f"/connect 127.0.0.1 {port} {password}", "-password=")
            async with irc_client(port, password) as irc:
                process.running.terminate()
                assert await irc.closed() == "ERROR :tchat irc is stopping."
            assert await process.exit() == 128 + signal.SIGTERM
            process, port = await door(launch, server)
            await process.sees("the password is in", "PASSWORD", "/connect tchat")
            async with irc_client(port, password):
                assert password not in str(process.out)


async def test_ctrl_c_ends_quietly(tmp_path: Path) -> None:
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch:
            process, _ = await door(launch, await launch.serve())
            process.running.send_signal(signal.SIGINT)
            assert await process.exit() == 130
            assert process.err.all == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_end_it_while_it_connects(tmp_path: Path, number: signal.Signals) -> None:
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch:
            (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            address = Address("127.0.0.1", port_of(silent))
            process = await launch.tchat("irc", address, "--user", "bob", user="bob")
            async with await silent.accept():
                process.running.send_signal(number)
                assert await process.exit() == 128 + number
            await silent.aclose()


async def test_nothing_written_while_disconnected_is_lost(tmp_path: Path) -> None:
    """The server is stopped, a message written, and the door killed; then both are started."""
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch:
            server = await launch.serve()
            process, port, password = await first_door(launch, server)
            async with irc_client(port, password, creates="#ops") as irc:
                await server.stop()
                await irc.until("The connection to the server is lost")
                await irc.send("PRIVMSG #ops :kept", "TOPIC #ops :x")
                assert " 400 bob TOPIC " in await irc.line()
                await irc.sync()
                process.running.kill()
                await process.running.wait()
            server = await launch.serve(port=server.address.port)
            process, port = await door(launch, server)
            async with irc_client(port, password) as irc:
                assert await irc.until("PRIVMSG #ops") == ":bob!bob@tchat PRIVMSG #ops :kept"


async def test_reconnections_are_told(tmp_path: Path) -> None:
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch:
            server = await launch.serve()
            _, port, password = await first_door(launch, server)
            async with irc_client(port, password, creates="#ops") as irc:
                await server.stop()
                lost = await irc.until("The connection to the server is lost")
                assert lost.startswith(":tchat.localhost NOTICE bob :")
                await irc.send("WHOIS bob", "WHO #ops")  # nobody is known to be offline
                lines = await irc.sync()
                assert not any(" 301 " in line for line in lines)
                assert any(" 352 " in line and " H@ " in line for line in lines)
                await irc.send("PRIVMSG #ops :kept")
                await launch.serve(port=server.address.port)
                await irc.until("Connected to the server again.")
                alice = await launch.join(server.address, "alice")
                await irc.until("alice asks to join #ops")
                await irc.send("PRIVMSG *tchat :approve #ops alice")
                await irc.until("alice!alice@tchat JOIN #ops")
                await irc.send("PRIVMSG #ops :welcome")
                await alice.sees("<bob> welcome")


async def test_useless_starts_end_with_one_line(tmp_path: Path) -> None:
    with trio.fail_after(GUARD):
        async with launching(tmp_path) as launch, trio.open_nursery() as nursery:

            async def start(status: int, *arguments: str) -> None:
                process = await launch.tchat("irc", *arguments, user="bob")
                assert await process.exit() == status
                assert len(process.err.all) == 1, process.err
                assert process.lines == []

            for status, arguments in (
                (69, ("127.0.0.1:1", "--user", "bob", "--listen", "127.0.0.1:0")),
                (64, ("nickname", "--user", "bob", "--listen", "127.0.0.1:0")),
                (64, ("127.0.0.1:1", "--user", "bob", "--listen", "0.0.0.0:0")),
                (64, ("127.0.0.1:1", "--listen", "127.0.0.1:0")),
                (64, ("127.0.0.1:1", "--user", "bob", "--pin", "x", "--listen", "127.0.0.1:0")),
            ):
                nursery.start_soon(start, status, *arguments)
