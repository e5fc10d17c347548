"""Wires that break and stand still: a file arrives whole all the same, and about once."""

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

    from tests.tap import Side, Verdict

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


# ------------------------------------------------------------------ wires that break


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [11, 12])
async def test_a_wire_that_breaks_again_and_again_costs_little(
    scene: Scene, way: str, seed: int
) -> None:
    print("seed", seed)
    trip = await journey(scene, way, LARGE)
    trip.cargo.cut_after(*Random(seed).sample(range(len(LARGE)), 12))
    await trip.go()
    await trip.check()
    assert trip.cargo.planned == 0
    print(way, "ratio", trip.ratio)
    assert 1 <= trip.ratio < ONCE_AND_A_TENTH
    assert len(scene.tap.of_type("from")) - (way == "down") >= 10


@pytest.mark.parametrize("way", WAYS)
async def test_a_wire_that_never_holds_for_long_is_got_across_all_the_same(
    scene: Scene, way: str
) -> None:
    trip = await journey(scene, way)
    step = 150_000
    trip.cargo.cut_after(*range(step, len(DATA), step))
    await trip.go()
    await trip.check()


@pytest.mark.parametrize("way", WAYS)
async def test_a_wire_may_break_around_the_ends_of_pieces(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    ends = range(PIECE_SIZE, len(DATA), PIECE_SIZE)
    trip.cargo.cut_after(0, 1, *(end + off for end in ends for off in (-1, 0, 1)), len(DATA) - 1)
    await trip.go()
    await trip.check()
    assert trip.ratio < 1.5


def once(word: str, verdict: Verdict, skip: int = 0) -> Watch:
    """Return what does that to one frame of a type, after so many of it."""
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
async def test_a_wire_may_break_at_every_frame(
    scene: Scene, way: str, verdict: Verdict, word: str
) -> None:
    trip = await journey(scene, way)
    scene.tap.watch = once(word, verdict, skip=2 if word == "piece" else 0)
    await trip.go()
    await trip.check()
    assert trip.carried <= len(DATA) + 64 * 1024


@pytest.mark.parametrize("word", ["upload", "download", "ticket", "share", "ok", "event"])
@pytest.mark.parametrize("way", WAYS)
async def test_the_chat_may_break_while_a_file_is_asked_for(
    scene: Scene, way: str, word: str
) -> None:
    trip = await journey(scene, way)
    scene.tap.watch = once(word, "cut")
    await trip.go()
    await trip.check()
    assert trip.carried == len(DATA)
    assert list(scene.ops.state.files) == [1]


@pytest.mark.parametrize("way", WAYS)
async def test_a_wire_that_always_breaks_at_once_is_given_up(scene: Scene, way: str) -> None:
    trip = await journey(scene, way)
    before = len(scene.tap.of_type("transfer"))
    scene.tap.watch = lambda _, frame: "cut" if frame["type"] == "have" else "pass"
    refusal = await trip.fail()
    assert (refusal.code, "makes no progress" in refusal.sentence) == (Code.IDLE, True)
    assert len(scene.tap.of_type("transfer")) - before < 10
    assert scene.saved == []
    assert trip.carried == 0
    scene.tap.watch = lambda _, __: "pass"
    await trip.go()
    await trip.check()


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_wire_that_stands_still_is_given_up_and_another_goes_on(
    scene: Scene, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = await journey(scene, way)
    monkeypatch.setattr(files_module, "STALL_SECONDS", 3.0)
    trip.cargo.stall_after(3 * PIECE_SIZE + 17)
    await trip.go()
    assert trip.cargo.stalled.is_set()
    assert trip.ratio < ONCE_AND_A_TENTH
