"""When drafts are saved: soon after typing, at once when a line is sent, again after a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.client.drafts import Drafts
from tchat.ui.tui.draft_saver import DELAY_SECONDS, RETRY_SECONDS, DraftSaver

if TYPE_CHECKING:
    from tchat.errors import Refused


class Scene(Drafts):
    """Drafts that are written to a list; `broken` makes writing fail."""

    def __init__(self) -> None:
        super().__init__()
        self.line = ""
        self.broken = False
        self.saved: list[tuple[float, str]] = []
        self.told: list[str] = []
        self.saver = DraftSaver(self, lambda: None, self.tell)

    def tell(self, refusal: Refused) -> None:
        self.told.append(refusal.sentence)

    def pending(self) -> bytes | None:
        last = self.saved[-1][1] if self.saved else ""
        return None if last == self.line else self.line.encode()

    def write(self, data: bytes) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.saved.append((trio.from_thread.run_sync(trio.current_time), data.decode()))

    def type(self, text: str, *, sent: bool = False) -> None:
        self.line = text
        self.saver.on_typed(sent=sent)


@pytest.fixture
async def scene(nursery: trio.Nursery, mock_clock: trio.testing.MockClock) -> Scene:
    scene = Scene()
    nursery.start_soon(scene.saver.run)
    await trio.testing.wait_all_tasks_blocked()
    return scene


async def until_saved(scene: Scene, text: str) -> None:
    while not scene.saved or scene.saved[-1][1] != text:
        await trio.testing.wait_all_tasks_blocked()


async def test_typing_is_saved_within_the_delay(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    """Also while the person goes on typing."""
    for text in ("a", "ab", "abc"):
        scene.type(text)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.saved == []
        mock_clock.jump(DELAY_SECONDS / 3)
        await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(DELAY_SECONDS / 3)
    await until_saved(scene, "abc")
    assert len(scene.saved) == 1


async def test_sent_line_is_removed_at_once(scene: Scene) -> None:
    scene.type("a", sent=True)
    await until_saved(scene, "a")
    scene.type("")
    await trio.testing.wait_all_tasks_blocked()
    assert scene.saved[-1][1] == "a"
    scene.type("", sent=True)
    await until_saved(scene, "")


async def test_failure_is_told_once_and_tried_again(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.broken = True
    for text in ("a", "b"):
        scene.type(text, sent=True)
        for _ in range(3):
            mock_clock.jump(RETRY_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
    while not scene.told:
        await trio.testing.wait_all_tasks_blocked()
    assert len(scene.told) == 1
    assert scene.saver.save() == scene.told[0]
    scene.broken = False
    # A thread that was about to write "a" while the disk was broken may do it now.
    while [text for _, text in scene.saved][-1:] != ["b"]:
        mock_clock.jump(RETRY_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
