"""What a service manager, a proxy and Prometheus see of a server: real sockets and processes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tomllib
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.cli import parser
from tchat.errors import ProtocolError
from tchat.net.address import Address
from tchat.net.proxy_protocol import read_proxy_header
from tchat.net.systemd import inherited_listeners
from tchat.net.tcp import port_of
from tchat.server.context import make_context
from tchat.server.log import Log
from tchat.server.metrics import serve_metrics
from tchat.server.settings import read_serve_settings
from tests.helpers import GUARD
from tests.memory_store import MemoryStore
from tests.processes import launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"


# ------------------------------------------------------------------ examples


def test_the_example_settings_are_valid() -> None:
    read_serve_settings(tomllib.loads((DEPLOY / "tchat.toml").read_text()))


def test_settings_that_are_commented_out_are_valid() -> None:
    text = (DEPLOY / "tchat.toml").read_text()
    everything = re.sub(r"(?m)^# (\w+ = )", r"\1", text)
    found = read_serve_settings(tomllib.loads(everything))
    assert {"metrics", "cert", "key", "log_level", "proxy_protocol"} < found.keys()


def commands_in(name: str) -> list[str]:
    """Return what a file of the unit starts."""
    lines = (DEPLOY / name).read_text().splitlines()
    return [line.partition("=")[2] for line in lines if re.match("ExecStart=.", line)]


@pytest.mark.parametrize("name", ["tchat.service", "tchat.service.d/certificate.conf"])
def test_the_unit_starts_a_command_that_exists(name: str) -> None:
    (command,) = commands_in(name)
    parser().parse_args(command.split()[1:])


SYSTEMD_ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.parametrize("drop_in", [False, True])
@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path, drop_in: bool) -> None:
    """Without a word, also with the drop-in; what it cannot know is where tchat is installed."""
    shutil.copytree(DEPLOY, tmp_path, dirs_exist_ok=True)
    if not drop_in:
        shutil.rmtree(tmp_path / "tchat.service.d")
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("/opt/tchat/bin/tchat", sys.executable))
    assert (
        analyze("verify", "--man=no", tmp_path / "tchat.service", tmp_path / "tchat.socket") == ""
    )
    # The exposure is from 0 (none) to 100; that of most services of a distribution is above 90.
    assert "OK" in analyze(
        "security", "--offline=yes", "--threshold=20", tmp_path / "tchat.service"
    )


def analyze(*words: str | Path) -> str:
    """Run systemd-analyze, which has to succeed; return all it prints."""
    assert SYSTEMD_ANALYZE is not None
    done = subprocess.run(
        [SYSTEMD_ANALYZE, *words], text=True, capture_output=True, check=False, timeout=GUARD
    )
    assert done.returncode == 0, done
    return done.stdout + done.stderr


CONTAINER = (DEPLOY / "Containerfile").read_text()


def test_the_container_starts_commands_that_exist() -> None:
    (entry,), (serve,), (check,) = (
        re.findall(rf"(?m)^{word}.*(\[.*\])$", CONTAINER)
        for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    )
    assert json.loads(entry) == ["tchat"]
    parser().parse_args(json.loads(serve))
    assert json.loads(check)[0] == "tchat"
    parser().parse_args(json.loads(check)[1:])


def test_the_container_has_what_the_package_needs() -> None:
    copied = [
        ROOT / source
        for sources in re.findall(r"(?m)^COPY ([^-].*) \S+$", CONTAINER)
        for source in sources.split()
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    needed = ["pyproject.toml", project["project"]["readme"], "tchat/__init__.py", *shared]
    for name in (*needed, *project["project"]["license-files"]):
        path = ROOT / name
        assert path.exists()
        assert any(path.is_relative_to(one) for one in copied), name


# ------------------------------------------------------------------ the service manager


async def test_the_service_manager_is_told_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tchat.toml"
    path.write_text("")
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        await manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        async def state() -> list[str]:
            with trio.fail_after(GUARD):
                return (await manager.recv(1000)).decode().splitlines()

        async with launching(tmp_path) as launch:
            server = await launch.serve("--config", path)
            assert await state() == ["READY=1"]
            server.running.send_signal(signal.SIGHUP)
            assert (await state())[0] == "RELOADING=1"
            assert (await state())[0] == "READY=1"
            assert await server.stop() == 0
            assert await state() == ["STOPPING=1"]


MANAGER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""A service manager: puts a socket where it belongs, and becomes the service."""


async def serve_on(port: socket.socket, data: Path, *options: str) -> trio.Process:
    """Start a server with an inherited socket; its HOST and PORT are others."""
    serve = ["-m", "tchat", "serve", "localhost", "1", "--data", str(data), *options]
    return await trio.lowlevel.open_process(
        [sys.executable, "-c", MANAGER, str(port.fileno()), *serve],
        pass_fds=[port.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_an_inherited_socket_is_used(tmp_path: Path) -> None:
    """With LISTEN_FDS, the host and the port on the command line are not."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        number = port.getsockname()[1]
        running = await serve_on(port, tmp_path / "data")
        try:
            async with launching(tmp_path) as launch:
                ping = await launch.tchat("ping", "127.0.0.1", number, "--timeout", 20)
                assert await ping.exit() == 0, ping.err
        finally:
            running.terminate()
            await running.wait()
    assert running.stdout is not None
    out = b"".join([bytes(data) async for data in running.stdout])
    assert f"listening on 127.0.0.1:{number}" in out.decode()
    assert f"join 127.0.0.1 {number}" in out.decode()


async def test_an_inherited_socket_must_not_expose_plaintext(tmp_path: Path) -> None:
    """Although HOST on the command line is local."""
    with socket.create_server(("0.0.0.0", 0)) as port:  # noqa: S104
        with trio.fail_after(GUARD):
            running = await serve_on(port, tmp_path / "data", "--no-tls")
            assert running.stderr is not None
            err = b"".join([bytes(data) async for data in running.stderr])
            assert await running.wait() != 0
    assert "With --no-tls on 0.0.0.0, everybody" in err.decode()


def test_inherited_sockets_are_not_inherited_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if they were for another process."""
    for name, value in (("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "x")):
        monkeypatch.setenv(name, value)
    assert inherited_listeners() == []
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


# ------------------------------------------------------------------ metrics


async def test_metrics_are_served_over_http(tmp_path: Path) -> None:
    (probe,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = probe.socket.getsockname()[1]
    await probe.aclose()
    async with launching(tmp_path) as launch:
        server = await launch.serve("--metrics", f"127.0.0.1:{port}")
        alice = await launch.join(server.address, "alice")
        await alice.type("hello")
        await alice.sees("<alice> hello")
        text = await http_get(port, "/metrics")
        assert text.startswith("HTTP/1.1 200 OK\r\n")
        assert "tchat_connections 1.0" in text
        assert "tchat_people_online 1.0" in text
        assert "tchat_events_total 2.0" in text
        assert 'tchat_log_lines_total{event="user_connected"} 1.0' in text
        assert (await http_get(port, "/secrets")).startswith("HTTP/1.1 404 ")


async def test_faulty_metrics_do_not_stop_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("prometheus_client.generate_latest", fail)
    log = Log("text", io.StringIO())
    async with trio.open_nursery() as nursery:
        context = make_context(MemoryStore(), log, nursery)
        (listener,) = await nursery.start(serve_metrics, context, Address("127.0.0.1", 0))
        for _ in range(2):
            text = await http_get(port_of(listener), "/metrics")
            assert text.startswith("HTTP/1.1 500 ")
        assert log.counts["fault"] == 2
        nursery.cancel_scope.cancel()
    log.close()


async def http_get(port: int, path: str) -> str:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with trio.fail_after(GUARD):
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return b"".join([bytes(data) async for data in stream]).decode()


# ------------------------------------------------------------------ a proxy

V2 = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 7777)
LONG = FOUR + bytes(65535 - len(FOUR))
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4711, 7777) + b"ext"


async def header_of(sent: bytes) -> tuple[Address | None, bytes]:
    """Send a header and the byte after it; return what is read, and what is left."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        stream = await listener.accept()
        async with client, stream:
            await client.send_all(sent + b"!")
            with trio.fail_after(GUARD):
                return await read_proxy_header(stream), bytes(await stream.receive_some(10))


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 7777\r\n", Address("192.0.2.7", 4711)),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 7777\r\n", Address("2001:db8::7", 4711)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (V2 + struct.pack("!BBH", 0x21, 0x11, len(FOUR)) + FOUR, Address("192.0.2.7", 4711)),
        (V2 + struct.pack("!BBH", 0x21, 0x21, len(SIX)) + SIX, Address("2001:db8::7", 4711)),
        (V2 + struct.pack("!BBH", 0x20, 0x00, 0), None),
        (V2 + struct.pack("!BBH", 0x20, 0x11, 3) + b"any", None),
        (V2 + struct.pack("!BBH", 0x21, 0x00, 3) + b"ext", None),
        (V2 + struct.pack("!BBH", 0x21, 0x31, 216) + bytes(216), None),
        (V2 + struct.pack("!BBH", 0x21, 0x11, 65535) + LONG, Address("192.0.2.7", 4711)),
    ],
)
async def test_a_header_names_the_client(sent: bytes, address: Address | None) -> None:
    assert await header_of(sent) == (address, b"!")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00 a TLS hello",
        b"PROXY TCP4 somewhere 10.0.0.1 4711 7777\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 4711 7777\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 7777\r\n",
        b"PROXY " + b"x" * 200,
        V2 + struct.pack("!BBH", 0x21, 0x11, 4) + b"four",
        V2 + struct.pack("!BBH", 0x21, 0x31, 4) + b"unix",
        V2 + struct.pack("!BBH", 0x21, 0x41, 0),
        V2 + struct.pack("!BBH", 0x22, 0x11, len(FOUR)) + FOUR,
    ],
)
async def test_a_wrong_header_is_refused(sent: bytes) -> None:
    with pytest.raises(ProtocolError, match="PROXY protocol"):
        await header_of(sent)


async def test_the_log_has_the_address_behind_the_proxy(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--proxy-protocol", "192.0.2.0/24,127.0.0.1")
        async with proxy(server.address, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 7777\r\n") as door:
            alice = await launch.join(door, "alice")
            await alice.sees("alice created ops")
            await server.sees("alice connected from 192.0.2.7:4711")
        check = await launch.tchat("ping", server.address, "--proxy-protocol")
        assert await check.exit() == 0
        direct = await launch.tchat("ping", server.address)
        assert await direct.exit() != 0
        await server.sees("This server expects a header of the PROXY protocol")


async def test_only_a_proxy_can_claim_addresses(tmp_path: Path) -> None:
    """Others, such as a health check, connect directly, and their header is none."""
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--proxy-protocol", "192.0.2.0/24")
        direct = await launch.tchat("ping", server.address)
        assert await direct.exit() == 0
        async with proxy(server.address, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 7777\r\n") as door:
            forged = await launch.tchat("ping", door)
            assert await forged.exit() != 0
        await server.sees("refused 127.0.0.1")


async def test_connections_without_their_header_are_limited(tmp_path: Path) -> None:
    """The first one makes room for the one that is too many."""
    async with launching(tmp_path) as launch:
        server = await launch.serve(
            "--proxy-protocol", "127.0.0.1", "--handshake-time", 600, "--max-strangers", 3
        )
        async with silent(server.address, 4) as answers:
            with trio.fail_after(GUARD):
                assert await answers.receive() == b""


async def test_a_silent_proxy_leaves_room_for_its_address(tmp_path: Path) -> None:
    """All clients of a proxy come from one address."""
    async with launching(tmp_path) as launch:
        server = await launch.serve("--proxy-protocol", "127.0.0.1", "--max-strangers-each", 1)
        async with silent(server.address, 3):
            check = await launch.tchat("ping", server.address, "--proxy-protocol", "--no-tls")
            assert await check.exit() == 0, check.err


@asynccontextmanager
async def silent(server: Address, number: int) -> AsyncIterator[trio.MemoryReceiveChannel[bytes]]:
    """Open connections that send nothing; give what the server sends on any of them."""
    sending, answers = trio.open_memory_channel[bytes](number)

    async def listen(stream: trio.SocketStream) -> None:
        await sending.send(bytes(await stream.receive_some()))

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for _ in range(number):
            stream = await trio.open_tcp_stream(server.host, server.port)
            nursery.start_soon(listen, await stack.enter_async_context(stream))
        yield answers
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def proxy(server: Address, header: bytes) -> AsyncIterator[Address]:
    """Forward connections to a server, each with a header in front."""

    async def forward(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream(server.host, server.port) as onward:
            await onward.send_all(header)
            async with trio.open_nursery() as both:
                both.start_soon(copy, client, onward, both)
                both.start_soon(copy, onward, client, both)

    async def copy(one: trio.SocketStream, other: trio.SocketStream, both: trio.Nursery) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in one:
                await other.send_all(data)
        both.cancel_scope.cancel()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, forward, [listener])
        yield Address("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()
