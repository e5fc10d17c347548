"""A device that is linked to a name is reported on all other devices: at once, or at the start."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tchat.core.fingerprints import fingerprint
from tchat.core.protocol.frames import Unlink
from tests.helpers import identity_of, members, raw_client, running_server
from tests.server.devices import device_of, introduce, link_code
from tests.ui.typist import typing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.typist import Typist

REMOVED = "A device was removed from your name: its key was"
LINKED = "A device was linked to your name: its key is"


def _is_told(typist: Typist, times: int) -> bool:
    return sum(LINKED in line.text for line in typist.lines) == times


@pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])
async def test_linked_device_is_told_at_once(rewrites: bool) -> None:
    digits = fingerprint(identity_of("alice", "laptop").public)
    async with (
        running_server() as server,
        typing(server, rewrites=rewrites) as here,
        raw_client(server.address) as there,
    ):
        await introduce(there, "alice")
        async with device_of(server, "alice", "laptop", await link_code(there)):
            told = await here.shows(LINKED)
        assert told.startswith(f"{LINKED} {digits}, added ")
        assert told.endswith(f"If that was not you, /unlink {digits} removes it.")
        await here.types(f"/unlink {digits}")
        await here.shows(f"{digits} is no longer linked to your name.")


@pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])
async def test_removed_device_is_told_at_once(rewrites: bool) -> None:
    digits = fingerprint(identity_of("alice", "laptop").public)
    async with (
        running_server() as server,
        typing(server, rewrites=rewrites) as here,
        raw_client(server.address) as there,
    ):
        await introduce(there, "alice")
        async with device_of(server, "alice", "laptop", await link_code(there)):
            await here.shows(LINKED)
        await there.ask(lambda i: Unlink(i, identity_of("alice", "laptop").public))
        told = await here.shows(REMOVED)
        assert f"{REMOVED} {digits}. If that was not you, /keys lists those that are left." in told


async def test_device_that_is_linked_again_is_told_again() -> None:
    digits = fingerprint(identity_of("alice", "laptop").public)
    async with (
        running_server() as server,
        typing(server) as here,
        raw_client(server.address) as there,
    ):
        await introduce(there, "alice")
        for told in (1, 2):
            async with device_of(server, "alice", "laptop", await link_code(there)):
                await here.until(partial(_is_told, here, told), f"notice {told}")
            await here.types(f"/unlink {digits}")


async def test_linked_device_is_told_at_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        async with typing(server, known_keys=file) as before:
            await before.types("/keys")
        async with device_of(server, "alice", "laptop", await link_code(alice)):
            pass
        for told in (1, 0):
            async with typing(server, known_keys=file) as after:
                await after.types("/keys")
                lines = [line.text for line in after.lines]
                assert sum(line.startswith(LINKED) for line in lines) == told
        async with typing(server, known_keys=tmp_path / "new", device="laptop") as laptop:
            await laptop.types("/keys")
            assert not any(line.text.startswith(LINKED) for line in laptop.lines)
