"""Resumed transfers: connections break or stall, and a file arrives whole, sent about once."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tchat.client import backoff
from tchat.client.files import transfer as files_module
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code
from tests.client.journey import DATA, WAYS, journey
from tests.client.scene import MIB, Scene, noise, scenery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.fault_proxy import Side, Verdict

    Watch = Callable[[Side, dict[str, Any]], Verdict]

LARGE = noise(24 * MIB - 777, seed=1)
ONCE_AND_A_TENTH = 1.1


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.002)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.01)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scenery(tmp_path) as scene:
        yield scene


# ------------------------------------------------------------------ connections that break


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [11, 12])
async def test_twelve_breaks_cost_under_ten_percent(scene: Scene, way: str, seed: int) -> None:
    print("seed", seed)
    trip = await journey(scene, way, LARGE)
    trip.payload.cut_after(*Random(seed).sample(range(len(LARGE)), 12))
    await trip.go()
    await trip.check()
    assert trip.payload.planned == 0
    print(way, "ratio", trip.ratio)
    assert 1 <= trip.ratio < ONCE_AND_A_TENTH
    assert len(scene.proxy.of_type("from")) - (way == "down") >= 10


@pytest.mark.parametrize("way", WAYS)
async def test_a_break_every_150_kb_still_completes(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    step = 150_000
    trip.payload.cut_after(*range(step, len(DATA), step))
    await trip.go()
    await trip.check()


@pytest.mark.parametrize("way", WAYS)
async def test_breaks_at_piece_boundaries(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    ends = range(PIECE_SIZE, len(DATA), PIECE_SIZE)
    trip.payload.cut_after(0, 1, *(end + off for end in ends for off in (-1, 0, 1)), len(DATA) - 1)
    await trip.go()
    await trip.check()
    assert trip.ratio < 1.5


def once(word: str, verdict: Verdict, skip: int = 0) -> Watch:
    """Return a watch that applies the verdict to one frame of a type, after `skip` others."""
    left = skip

    def watch(_: Side, frame: dict[str, Any]) -> Verdict:
        nonlocal left
        if frame["type"] != word:
            return "pass"
        left -= 1
        return verdict if left == -1 else "pass"

    return watch


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verdict", ["cut", "tear"])
@pytest.mark.parametrize("word", ["transfer", "ready", "have", "from", "piece", "stored"])
async def test_breaks_at_each_transfer_frame(
    scene: Scene, way: str, verdict: Verdict, word: str
) -> None:
    trip = await journey(scene, way)
    scene.proxy.watch = once(word, verdict, skip=2 if word == "piece" else 0)
    await trip.go()
    await trip.check()
    assert trip.transferred <= len(DATA) + 64 * 1024


@pytest.mark.parametrize("word", ["upload", "download", "ticket", "share", "ok", "event"])
@pytest.mark.parametrize("way", WAYS)
async def test_the_chat_connection_breaks_during_the_request(
    scene: Scene, way: str, word: str
) -> None:
    trip = await journey(scene, way)
    scene.proxy.watch = once(word, "cut")
    await trip.go()
    await trip.check()
    assert trip.transferred == len(DATA)
    assert list(scene.ops.state.files) == [1]


@pytest.mark.parametrize("way", WAYS)
async def test_a_transfer_without_progress_is_given_up(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    before = len(scene.proxy.of_type("transfer"))
    scene.proxy.watch = lambda _, frame: "cut" if frame["type"] == "have" else "pass"
    refusal = await trip.fail()
    assert (refusal.code, "makes no progress" in refusal.sentence) == (Code.IDLE, True)
    assert len(scene.proxy.of_type("transfer")) - before < 10
    assert scene.saved == []
    assert trip.transferred == 0
    scene.proxy.watch = lambda _, __: "pass"
    await trip.go()
    await trip.check()


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_stalled_connection_is_replaced(
    scene: Scene, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = await journey(scene, way)
    monkeypatch.setattr(files_module, "STALL_SECONDS", 3.0)
    trip.payload.stall_after(3 * PIECE_SIZE + 17)
    await trip.go()
    assert trip.payload.stalled.is_set()
    assert trip.ratio < ONCE_AND_A_TENTH
