"""Names and paths outside ASCII, in a locale for which Python has only ASCII."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.native_paths import native, readable
from tchat.core.group.files import FileShared
from tchat.core.group.messages import Posted
from tchat.core.text import fold
from tests.helpers import log_of, running_server
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "größe"


@pytest.fixture(params=[{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}])
def _locale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_locale")
async def test_names_and_paths_are_utf8(tmp_path: Path) -> None:
    (tmp_path / "plän.txt").write_text("the plan")
    (tmp_path / "bilder für alle").mkdir()
    (tmp_path / "bilder für alle" / "ä").write_text("a picture")
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "jürgen", group=GROUP)
        await alice.type("hallo", "/topic Grüße", f"/send {tmp_path / 'plän.txt'}")
        await alice.sees("hallo", "file 1")
        await alice.type(f"/get 1 {tmp_path / 'kopie-ü.txt'}", "/get 1")
        await alice.sees("saved as", "saved as")
        assert await alice.end() == 0, alice.lines
        downloads = tmp_path / "jürgen" / "received"
        assert [path.name for path in downloads.iterdir()] == ["plän.txt"]
        where = ("127.0.0.1", server.address.port, "--no-tls", "--user=jürgen", f"--group={GROUP}")
        send = await launch.tchat("send", *where, tmp_path / "bilder für alle", user="jürgen")
        assert await send.exit() == 0, str(send.err)
        get = await launch.tchat("get", *where, 2, "--to", tmp_path / "neu für", user="jürgen")
        assert await get.exit() == 0, str(get.err)
        assert get.lines == [str(tmp_path / "neu für")]
        bodies = [event.body for event in await log_of(server.store, fold(GROUP))]
        assert Posted("hallo") in bodies
        names = [body.name for body in bodies if isinstance(body, FileShared)]
        assert names == ["plän.txt", "bilder für alle.tar"]


@pytest.mark.usefixtures("_locale")
async def test_invalid_names_end_in_a_sentence(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        environment = launch.environment("nobody")
        program = [sys.executable, "-m", "tchat", "join", "127.0.0.1", "1", "--group", "ops"]
        command: list[bytes] = [*map(os.fsencode, program), b"--user=j\xfcrgen"]
        done = await trio.run_process(
            command, env=environment, check=False, capture_stderr=True, stdin=b""
        )
        assert done.returncode == 1
        assert done.stderr.startswith(b"tchat: A username may contain letters")
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("text", ["plan", "plän", "a\nb", "漢字", "\udcff", "ä\udcff"])
def test_paths_survive_both_ways(text: str) -> None:
    assert readable(native(text)) == text
