"""PROTOCOL.md is enough to write a client: one that imports nothing of tchat talks to a server."""

from __future__ import annotations

import ast
from pathlib import Path

from tchat.core.protocol.handshake import VERSION
from tests.processes import launching

FOREIGN = Path(__file__).with_name("foreign_client.py")


def test_foreign_client_imports_nothing_of_tchat() -> None:
    nodes = list(ast.walk(ast.parse(FOREIGN.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not {name.split(".")[0] for name in names} & {"tchat", "tests"}


async def test_foreign_client_chats_and_transfers_files(tmp_path: Path) -> None:
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve()
        host, port = server.address.host, server.address.port
        client = await launch.script(FOREIGN, host, port, VERSION, user="zoë")
        assert await client.exit() == 0, client.err
        assert client.lines == [
            f"welcome zoë {VERSION}",
            "created at 1",
            "attached as member counted 1",
            "posted at 2",
            "repeated: ok False",
            "past 1 2 created",
            "unknown: unknown_type",
            "shared at 3",
            "resumed: True",
        ]
