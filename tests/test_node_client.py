"""A client in another language, from PROTOCOL.md alone: Node, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import DRIVEN, launching

if TYPE_CHECKING:
    from tests.processes import Launcher, Process, Server

NODE_DIRECTORY = Path(__file__).with_name("node")
VECTORS = Path(__file__).parent / "core" / "vectors.json"
GROUP = "lab"
LEAST_VERSION = 20


def node() -> str:
    """Return the path of Node; skip the test if there is none, or it is too old."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(shown.removeprefix("v").partition(".")[0]) < LEAST_VERSION:
        pytest.skip(f"node {shown.strip()} is too old")
    return found


async def start(launch: Launcher, server: Server, *pin: str) -> Process:
    """Start the Node client of Nora, always with the same file for its state."""
    address, state = server.address, launch.home / "nora.json"
    where = (address.host, address.port, "nora", GROUP, state)
    return await launch.program(node(), NODE_DIRECTORY / "client.mjs", *where, *pin, user="nora")


async def pin_of(server: Server) -> str:
    """Return the pin that a server prints when it starts."""
    return (await server.out.containing("this server's key is ")).rpartition(" ")[2]


def test_node_client_uses_only_what_node_has() -> None:
    sources = [path.read_text(encoding="utf-8") for path in NODE_DIRECTORY.glob("*.mjs")]
    imported = re.findall(r'^import .* from "(.+)";', "".join(sources), re.MULTILINE)
    assert imported
    assert [name for name in imported if not name.startswith(("node:", "./"))] == []


def test_node_encodings_match_the_vectors() -> None:
    command = [node(), str(NODE_DIRECTORY / "vectors.mjs"), str(VECTORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"[1-9]\d* frames, [1-9]\d* signatures\n", done.stdout)


async def test_node_client_joins_posts_and_catches_up(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        pin = await pin_of(server)
        alice = await launch.join(server.address, "alice", group=GROUP)
        await alice.sees("alice created lab")
        await alice.type("before Nora came")
        await alice.sees("before Nora came")

        nora = await start(launch, server)
        await nora.sees(f"pin {pin}", "welcome nora", "outsider", "waiting")
        await alice.sees("nora asks to join")
        await alice.type("/approve nora")
        await nora.sees("approved by alice", "member", "<alice> before Nora came")

        await nora.type("hello from Node: 你好 👍🏽")
        await nora.sees("posted 5")
        await alice.sees("<nora> hello from Node: 你好 👍🏽")
        await alice.type("hello Nora")
        await nora.sees("<alice> hello Nora")

        await nora.type("/offline")
        await nora.sees("offline")
        await nora.type("typed while offline")
        await alice.type("while you were away", "and more")
        await alice.sees("while you were away", "and more")
        await nora.type("/online")
        await alice.sees("<nora> typed while offline")
        await nora.sees("welcome nora")
        await nora.sees("<alice> while you were away", "<alice> and more")
        assert await nora.end() == 0

        await alice.type("after Nora had ended")
        await alice.sees("after Nora had ended")
        again = await start(launch, server)
        await again.sees("welcome nora", "member", "<alice> after Nora had ended")
        assert await again.end() == 0
        assert [line for line in again.lines if line.startswith("<")] == [
            "<alice> after Nora had ended"
        ]


async def test_node_client_sends_once_over_a_crash(tmp_path: Path) -> None:
    """It reconnects by itself, and sends what was not answered again, under the same number."""
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice", group=GROUP)
        await alice.sees("alice created lab")
        await alice.type("/policy open")
        await alice.sees("anyone may join")
        nora = await start(launch, server)
        await nora.sees("member")
        await nora.type("one")
        await nora.sees("posted")

        await server.kill()
        await nora.type("two", "three")
        await launch.serve(port=server.address.port)
        await nora.sees("welcome nora", "posted", "posted")
        await alice.sees("<nora> two", "<nora> three")
        await nora.type("four")
        await alice.sees("<nora> four")
        assert alice.heard == [f"<nora> {text}" for text in ("one", "two", "three", "four")]


async def test_node_client_refuses_another_key(tmp_path: Path) -> None:
    async with launching(tmp_path / "first", tls=True) as launch:
        server = await launch.serve()
        alice = await launch.pipe(server.address, "alice", *DRIVEN, group=GROUP)
        await alice.sees("alice created lab")
        pin = await pin_of(server)
        wrong = "sha256:" + "A" * 43
        stranger = await start(launch, server, wrong)
        assert await stranger.exit() == 1
        assert stranger.lines == []
        assert stranger.err.all == [f"wrong_pin: The server's key is {pin}, not {wrong}."]
        nora = await start(launch, server, pin)
        await nora.sees(f"pin {pin}", "waiting")

        async with launching(tmp_path / "second", tls=True) as other:
            impostor = await other.serve()
            deceived = await start(launch, impostor)
            assert await deceived.exit() == 1
            found = await pin_of(impostor)
        assert deceived.err.all == [f"wrong_pin: The server's key is {found}, not {pin}."]


async def test_node_client_reports_refusals(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        nora = await start(launch, server)
        assert await nora.exit() == 1
        assert nora.err.all[0].startswith("no_such_group: ")
