"""`tchat ping` as a health check: what it prints, and its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.fingerprints import pin_text
from tchat.exits import PERMISSION, TEMPORARY, UNAVAILABLE
from tchat.net.tls import make_credentials
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tls", [True, False])
async def test_a_healthy_server_answers(tmp_path: Path, tls: bool) -> None:
    async with launching(tmp_path, tls=tls) as launch:
        server = await launch.serve()
        pinned = (
            ("--pin", pin_text(make_credentials(tmp_path / "data").pin)) if tls else ("--no-tls",)
        )
        program = await launch.tchat("ping", server.address, *pinned)
        assert await program.exit() == 0
        assert program.lines[0].startswith(f"{server.address} answered in ")
        assert await server.stop() == 0
        assert not any("connected" in line or "refused" in line for line in server.lines)


async def test_a_nickname_brings_the_address_and_the_key(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        home = tmp_path / "nobody"
        home.mkdir()
        for pin, status in (
            (make_credentials(tmp_path / "data").pin, 0),
            (bytes(32), PERMISSION),
        ):
            (home / "config.toml").write_text(
                f'[servers.work]\nhost = "127.0.0.1"\nport = {server.address.port}\n'
                f'pin = "{pin_text(pin)}"\n'
            )
            program = await launch.tchat("ping", "work")
            assert await program.exit() == status


async def test_something_else_than_a_server_is_unavailable(tmp_path: Path) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\0\0\0\4SMTP")
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with launching(tmp_path) as launch, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        port = listener.socket.getsockname()[1]
        program = await launch.tchat("ping", "127.0.0.1", port, "--no-tls")
        await program.fails(UNAVAILABLE)
        nursery.cancel_scope.cancel()


async def test_a_server_that_does_not_run_is_unavailable(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        assert await server.stop() == 0
        program = await launch.tchat("ping", server.address)
        assert await program.exit() == UNAVAILABLE
        assert program.err.all == [
            f"tchat: {server.address} cannot be reached: connection refused."
        ]


async def test_a_silent_server_is_a_temporary_failure(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, launching(tmp_path) as launch:
        port = listener.socket.getsockname()[1]
        program = await launch.tchat("ping", "127.0.0.1", port, "--timeout", 0.2)
        assert await program.exit() == TEMPORARY
        assert "did not answer within 0.2 s" in str(program.err)


async def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        program = await launch.tchat("ping", server.address, "--pin", pin_text(bytes(32)))
        assert await program.exit() == PERMISSION
        assert "has another key: sha256:" in str(program.err)
        plain = await launch.tchat("ping", server.address, "--no-tls")
        assert await plain.exit() == PERMISSION
