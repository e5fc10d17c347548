"""Control socket: garbage and silent peers, and a server that does not answer the operator."""

from __future__ import annotations

import io
import json
import stat
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.errors import Code, Refused, StartupError, StorageError, root_of
from tchat.net.address import Address
from tchat.server.app import ServerConfig, serve
from tchat.server.control import perform, status_of
from tchat.server.log import Log
from tchat.server.operations.changes import CHANGES
from tchat.store.open import open_store
from tests.helpers import (
    GUARD,
    NO_RATE_LIMITS,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.context import ServerContext


@asynccontextmanager
async def server_with_control_socket(data: Path) -> AsyncIterator[Log]:
    """Run a server with a control socket in `data`; it has to survive the block."""
    stop = trio.Event()
    log = Log("text", io.StringIO())
    config = ServerConfig(Address("127.0.0.1", 0), data, NO_RATE_LIMITS)
    async with open_store(data) as store, trio.open_nursery() as nursery:
        await nursery.start(serve, config, None, store, log, stop)
        yield log
        stop.set()
    log.close()


async def control_reply(data: Path, sent: bytes) -> object:
    """Send bytes to the control socket; return the answer."""
    with trio.fail_after(GUARD):
        stream = await trio.open_unix_socket(str(data / "control"))
        async with stream:
            await stream.send_all(sent)
            await stream.send_eof()
            received = b""
            async for data_received in stream:
                received += data_received
            return json.loads(received)


async def refusal_of(data: Path, name: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await perform(data, "link", name=name)
    return caught.value


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"help\n", Code.MALFORMED),
        (b"{}", Code.MALFORMED),
        (b"\xff\xfe\n", Code.MALFORMED),
        (b"[" * 60_000 + b"\n", Code.MALFORMED),
        (b"[]\n", Code.UNKNOWN_TYPE),
        (b'{"command": "format-disk", "arguments": {}}\n', Code.UNKNOWN_TYPE),
        (b'{"command": "link", "arguments": {}}\n', Code.MALFORMED),
        (b'{"command": "link", "arguments": {"name": "no name"}}\n', Code.BAD_NAME),
        (b'{"command": "link", "arguments": {"name": 5}}\n', Code.MALFORMED),
        (b'{"command": "ban", "arguments": {"kind": [], "value": "x"}}\n', Code.MALFORMED),
        (b'{"command": [], "arguments": {}}\n', Code.UNKNOWN_TYPE),
    ],
    ids=[
        *("words", "no end", "no text", "deep", "no command", "unknown", "none", "bad name"),
        *("wrong type", "list", "list for the command"),
    ],
)
async def test_garbage_on_the_control_socket_is_refused(
    sent: bytes, code: Code, tmp_path: Path
) -> None:
    async with server_with_control_socket(tmp_path):
        answer = await control_reply(tmp_path, sent)
        assert isinstance(answer, dict)
        assert answer["error"] == code
        assert (await refusal_of(tmp_path, "nobody")).code == Code.NO_SUCH_NAME


async def test_silent_client_does_not_block_the_control_socket(
    tmp_path: Path,
) -> None:
    async with (
        server_with_control_socket(tmp_path),
        await trio.open_unix_socket(str(tmp_path / "control")),
    ):
        assert (await refusal_of(tmp_path, "nobody")).code == Code.NO_SUCH_NAME


async def test_a_long_path_has_a_control_socket(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 20) / ("path" * 20)
    async with server_with_control_socket(data):
        assert (data / "control").is_socket()
        assert (await refusal_of(data, "nobody")).code == Code.NO_SUCH_NAME


async def test_the_control_socket_is_private(tmp_path: Path) -> None:
    async with server_with_control_socket(tmp_path):
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
    assert not (tmp_path / "control").exists()


async def test_a_long_command_shows_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchat.server.control.SIGN_OF_LIFE_SECONDS", 0.01)
    ready = trio.Event()

    async def think(_: ServerContext) -> dict[str, object]:
        await ready.wait()
        return {"thought": True}

    monkeypatch.setitem(CHANGES, "think", think)
    async with server_with_control_socket(tmp_path):
        stream = await trio.open_unix_socket(str(tmp_path / "control"))
        async with stream:
            await stream.send_all(b'{"command": "think", "arguments": {}}\n')
            received = await stream.receive_some()
            ready.set()
            async for more in stream:
                received += more
    first, *_, last = received.splitlines()
    assert (json.loads(first), json.loads(last)) == ({"working": True}, {"done": {"thought": True}})


async def test_a_fault_in_a_command_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: ServerContext) -> dict[str, object]:
        raise ZeroDivisionError

    monkeypatch.setitem(CHANGES, "fail", fail)
    async with server_with_control_socket(tmp_path) as log:
        answer = await control_reply(tmp_path, b'{"command": "fail", "arguments": {}}\n')
        assert isinstance(answer, dict)
        assert answer["error"] == Code.INTERNAL
        assert log.counts["fault"] == 1
        assert (await refusal_of(tmp_path, "nobody")).code == Code.NO_SUCH_NAME


async def test_an_unreliable_store_stops_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: ServerContext) -> dict[str, object]:
        raise StorageError(Code.INTERNAL, "The disk is gone.")

    monkeypatch.setitem(CHANGES, "fail", fail)

    async def run() -> None:
        async with server_with_control_socket(tmp_path):
            with pytest.raises(Refused, match="The disk is gone"):
                await perform(tmp_path, "fail")
            await trio.sleep(GUARD)

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert isinstance(root_of(caught.value), StorageError)


async def test_a_suspended_operator_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing reads the signs of life, until no more can be sent; then the command ends."""
    monkeypatch.setattr("tchat.server.control.SIGN_OF_LIFE_SECONDS", 0)
    monkeypatch.setattr("tchat.server.control.TIMEOUT_SECONDS", 0.5)
    ready = trio.Event()

    async def think(_: ServerContext) -> dict[str, object]:
        await ready.wait()
        return {}

    monkeypatch.setitem(CHANGES, "think", think)
    async with server_with_control_socket(tmp_path) as log:
        stream = await trio.open_unix_socket(str(tmp_path / "control"))
        async with stream:
            await stream.send_all(b'{"command": "think", "arguments": {}}\n')
            await trio.testing.wait_all_tasks_blocked(0.05)
            ready.set()
            await trio.testing.wait_all_tasks_blocked()
            assert (await refusal_of(tmp_path, "nobody")).code == Code.NO_SUCH_NAME
        assert log.counts["fault"] == 0


async def test_a_ban_does_not_wait_for_long_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the status; other commands run one after another."""
    running: list[str] = []

    async def think(_: ServerContext, who: str) -> dict[str, object]:
        running.append(who)
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setitem(CHANGES, "think", think)
    async with server_with_control_socket(tmp_path), trio.open_nursery() as nursery:
        for who in ("first", "second"):
            nursery.start_soon(partial(perform, tmp_path, "think", who=who))
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(GUARD):
            banned = await perform(tmp_path, "ban", kind="name", value="eve")
        assert banned["value"] == "eve"
        assert (await status_of(tmp_path) or {})["people_online"] == 0
        assert running == ["first"]
        nursery.cancel_scope.cancel()


async def test_changes_without_a_server_are_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error: there is no other log, and standard output is the report's."""
    async with server_with_control_socket(tmp_path):
        pass
    await perform(tmp_path, "ban", kind="name", value="eve")
    assert capsys.readouterr().err.endswith("the operator banned the name eve from this server\n")


async def test_an_operator_waits_while_the_server_works(tmp_path: Path) -> None:
    (tmp_path / "tchat.db").touch()
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "control"))
    listener.listen(1)

    async def answer() -> None:
        stream, _ = await listener.accept()
        with stream:
            await stream.send(b'{"working": true}\n{"working":')
            await stream.send(b' true}\n{"done": {"n": 1}}\n')

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await perform(tmp_path, "think") == {"n": 1}


@pytest.mark.parametrize("answer", [b"", b'{"done":'], ids=["none", "half of one"])
async def test_server_that_does_not_answer_is_an_error(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchat.server.control.TIMEOUT_SECONDS", 0.01)
    (tmp_path / "tchat.db").touch()
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "control"))
    listener.listen(1)

    async def reply_badly() -> None:
        stream, _ = await listener.accept()
        with stream:
            await stream.send(answer)
            await trio.sleep_forever()

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply_badly)
            with trio.fail_after(GUARD), pytest.raises(StartupError) as caught:
                await perform(tmp_path, "link", name="bob")
            nursery.cancel_scope.cancel()
    assert "stop it and try again" in caught.value.sentence
