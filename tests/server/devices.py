"""Devices and keys of a person, with a raw client: handshakes, link codes, lists of keys."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import Failed, KeyList, KeysRequest, LinkCode, LinkRequest
from tchat.core.protocol.handshake import Welcome
from tchat.server.accounts import LINK_CODE_SECONDS
from tests.helpers import RawClient, hello_of, identity_of, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.helpers import RunningServer


class Gate:
    """Stops the first task that calls `stop`, until `release`; `reached` is set when it waits."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self._released = trio.Event()

    async def stop(self) -> None:
        """Wait here, unless another task did before."""
        if not self.reached.is_set():
            self.reached.set()
            await self._released.wait()

    def release(self) -> None:
        """Let the waiting task go on."""
        self._released.set()


async def introduce(
    raw: RawClient, user: str, device: str = "", link: str | None = None, owner: str = ""
) -> Welcome | Failed:
    """Do a handshake with a device's key (of `owner`, if not of `user`); return the answer."""
    identity = identity_of(owner or user, device)
    hello = replace(hello_of(user, raw.client), key=identity.public)
    await raw.send(hello)
    await raw.send(await raw.proof(hello, identity, link))
    answer = await raw.receive()
    assert isinstance(answer, Welcome | Failed)
    return answer


async def handshake_result(
    server: RunningServer, user: str, device: str = "", link: str | None = None, owner: str = ""
) -> str:
    """Connect and disconnect; return the name as the server writes it, or the code of a refusal."""
    async with raw_client(server.address) as raw:
        answer = await introduce(raw, user, device, link, owner)
        if isinstance(answer, Failed):
            assert await raw.until_end() == []
            return answer.code
        return answer.user


@asynccontextmanager
async def device_of(
    server: RunningServer, user: str, device: str, link: str | None = None
) -> AsyncIterator[RawClient]:
    """Connect another device while the block runs."""
    async with raw_client(server.address) as raw:
        answer = await introduce(raw, user, device, link)
        assert isinstance(answer, Welcome), answer
        yield raw


async def link_code(raw: RawClient) -> str:
    """Return a new link code."""
    answer = await raw.ask(LinkRequest)
    assert isinstance(answer, LinkCode)
    assert answer.lasts == LINK_CODE_SECONDS * 1000
    return answer.code


async def keys_of(raw: RawClient) -> list[bytes]:
    """Return the keys of the person's name, the oldest first."""
    answer = await raw.ask(KeysRequest)
    assert isinstance(answer, KeyList)
    assert [key.since for key in answer.keys] == sorted(key.since for key in answer.keys)
    return [key.key for key in answer.keys]
