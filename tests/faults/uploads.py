"""Upload small files and share them in a crew's group, through the protocol alone."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import trio

from tests.faults.members import BROKEN
from tests.faults.wire import VERSION, Refusal, Wire, log_in

if TYPE_CHECKING:
    from random import Random

    from tests.faults.members import Crew

_PIECE = 1 << 20
_LARGEST = 60_000


async def upload(crew: Crew, ticket: bytes, data: bytes) -> None:
    """Send a file on a connection of its own. Raises `Refusal`."""
    wire = Wire(await crew.dial())
    async with wire.stream:
        await wire.send({"type": "transfer", "version": VERSION, "ticket": ticket})
        await wire.next("ready")
        offset = (await wire.next("have"))["offset"]
        await wire.send({"type": "from", "offset": offset})
        for begin in range(offset, len(data), _PIECE):
            end = min(begin + _PIECE, len(data))
            digest = hashlib.sha256(data[:end]).digest()
            await wire.send({"type": "piece", "size": end - begin, "sha256": digest})
            await wire.stream.send_all(data[begin:end])
        await wire.next("stored")


async def share_files(crew: Crew, rng: Random, number: int = 1 << 30) -> int:
    """Upload and share files as the first member, until the server goes; return how many."""
    member, shared = crew.members[0], 0
    crew.sharing += 1
    try:
        wire = Wire(await crew.dial())
        async with wire.stream:
            await log_in(wire, member.name, member.private, secrets.token_bytes(8))
            while shared < number and crew.busy:
                shared += 1
                data = rng.randbytes(rng.randint(1, _LARGEST))
                await _share(crew, wire, shared, data)
                await trio.sleep(0.05)
    except* BROKEN:
        pass
    finally:
        crew.sharing -= 1
        crew.notify()
    return shared


async def _share(crew: Crew, wire: Wire, number: int, data: bytes) -> None:
    group, size = crew.group, len(data)
    ask: dict[str, Any] = {"type": "upload", "id": 2 * number, "group": group, "size": size}
    answer = await wire.answer({**ask, "head": hashlib.sha256(data[:_PIECE]).digest()})
    if answer["type"] != "ticket":
        raise Refusal(answer.get("code", answer["type"]))
    await upload(crew, answer["ticket"], data)
    share = {"type": "share", "id": 2 * number + 1, "n": number, "group": group}
    sha256 = hashlib.sha256(data).digest()
    await wire.answer({**share, "name": f"file-{number}.bin", "size": size, "sha256": sha256})
