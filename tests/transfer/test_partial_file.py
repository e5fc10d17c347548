"""Partial files: resumed, verified, and truncated to what is valid."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.transfer.partial_file import BrokenPiece, PartialFile
from tchat.transfer.pieces import EMPTY_DIGEST, count_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = os.urandom(3 * PIECE_SIZE + 1000)
DIGESTS = [hashlib.sha256(DATA[: (n + 1) * PIECE_SIZE]).digest() for n in range(4)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "part"


def opened(place: Path, size: int = len(DATA)) -> PartialFile:
    part = PartialFile(place, size)
    part.open()
    return part


def add_pieces(part: PartialFile, count: int) -> None:
    """Add complete pieces from the current offset on."""
    for n in range(len(part.digests), len(part.digests) + count):
        end = min((n + 1) * PIECE_SIZE, len(DATA))
        part.add(DATA[part.offset : end], DIGESTS[n])


def begun(place: Path, pieces: int, more: bytes = b"") -> None:
    """Leave a partial file with `pieces` complete pieces and the start of another."""
    part = opened(place)
    add_pieces(part, pieces)
    if more:
        part.add_incomplete(more)
    part.close()


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


class Vanishing(type(Path())):  # type: ignore[misc]  # the class depends on the system
    """A path whose file is removed just before it is looked at, at some of the times."""

    looks = 0
    removals: tuple[int, ...] = ()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        type(self).looks += follow_symlinks  # `lstat` comes here, too
        if follow_symlinks and self.looks in self.removals:
            self.unlink(missing_ok=True)
        return super().stat(follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]


@pytest.mark.parametrize("removals", [(1,), (2,), (1, 2)])
def test_file_removed_while_opened_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, removals: tuple[int, ...]
) -> None:
    """The clean-up of old uploads may remove it at any moment until it is locked."""
    monkeypatch.setattr(Vanishing, "looks", 0)
    monkeypatch.setattr(Vanishing, "removals", removals)
    part = opened(Vanishing(place))
    add_pieces(part, 1)
    part.close()
    again = opened(place)
    assert again.offset == PIECE_SIZE
    again.close()


def test_a_file_is_complete_with_all_pieces(place: Path) -> None:
    part = opened(place)
    add_pieces(part, 3)
    assert (part.offset, part.is_complete) == (3 * PIECE_SIZE, False)
    add_pieces(part, 1)
    assert part.is_complete
    assert part.digest == hashlib.sha256(DATA).digest()
    assert place.read_bytes() == DATA
    part.close()


@pytest.mark.parametrize("pieces", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1, 999])
def test_a_partial_file_is_resumed(place: Path, pieces: int, more: int) -> None:
    start = pieces * PIECE_SIZE
    begun(place, pieces, DATA[start : start + more])
    part = opened(place)
    assert part.offset == start + more
    assert part.digest == (DIGESTS[pieces - 1] if pieces else EMPTY_DIGEST)
    add_pieces(part, 4 - pieces)
    assert part.is_complete
    assert place.read_bytes() == DATA
    part.close()


def test_a_complete_file_is_complete_when_reopened(place: Path) -> None:
    begun(place, 4)
    part = opened(place)
    assert part.is_complete
    part.close()


@pytest.mark.parametrize("flipped", [0, PIECE_SIZE - 1, PIECE_SIZE, 2 * PIECE_SIZE + 5])
def test_a_flipped_byte_costs_its_piece_onwards(place: Path, flipped: int) -> None:
    begun(place, 3, DATA[3 * PIECE_SIZE :][:500])
    with place.open("r+b") as file:
        file.seek(flipped)
        file.write(bytes([DATA[flipped] ^ 1]))
    part = opened(place)
    assert part.offset == flipped - flipped % PIECE_SIZE
    assert place.stat().st_size == part.offset
    add_pieces(part, 4 - len(part.digests))
    assert place.read_bytes() == DATA
    part.close()


def test_a_flipped_byte_in_an_incomplete_piece(
    place: Path,
) -> None:
    flipped = bytes([DATA[PIECE_SIZE] ^ 1])
    begun(place, 1, flipped + DATA[PIECE_SIZE + 1 : PIECE_SIZE + 500])
    part = opened(place)
    rest = DATA[part.offset : 2 * PIECE_SIZE]
    with pytest.raises(BrokenPiece):
        part.add(rest, DIGESTS[1])
    assert (part.offset, part.doubt) == (PIECE_SIZE, True)
    add_pieces(part, 3)
    assert part.is_complete
    assert not part.doubt
    assert place.read_bytes() == DATA
    part.close()


def test_a_flipped_digest_costs_its_piece(place: Path) -> None:
    begun(place, 3)
    sums = place.with_name("part.sums")
    data = bytearray(sums.read_bytes())
    data[40] ^= 1
    sums.write_bytes(data)
    part = opened(place)
    assert part.digests == DIGESTS[:1]
    add_pieces(part, 3)
    assert place.read_bytes() == DATA
    part.close()


def test_a_last_piece_without_digest_is_incomplete(place: Path) -> None:
    begun(place, 4)
    sums = place.with_name("part.sums")
    sums.write_bytes(sums.read_bytes()[:-32])
    part = opened(place)
    assert not part.is_complete
    assert part.digest == DIGESTS[2]
    part.rewind()
    add_pieces(part, 1)
    assert part.digest == DIGESTS[3]
    part.close()


@pytest.mark.parametrize("length", [0, 31, 33, 95])
def test_truncated_digests_cost_pieces(place: Path, length: int) -> None:
    begun(place, 3)
    sums = place.with_name("part.sums")
    sums.write_bytes(sums.read_bytes()[:length])
    part = opened(place)
    assert part.digests == DIGESTS[: length // 32]
    assert part.offset == length // 32 * PIECE_SIZE
    add_pieces(part, 4 - len(part.digests))
    assert part.is_complete
    part.close()


def test_a_file_that_is_too_long_is_truncated(place: Path) -> None:
    begun(place, 4)
    with place.open("ab") as file:
        file.write(b"more")
    part = opened(place)
    assert part.is_complete
    assert place.read_bytes() == DATA
    part.close()


def test_a_broken_piece_is_discarded(place: Path) -> None:
    part = opened(place)
    add_pieces(part, 1)
    with pytest.raises(BrokenPiece):
        part.add(bytes(PIECE_SIZE), DIGESTS[1])
    assert place.stat().st_size == PIECE_SIZE
    add_pieces(part, 3)
    assert place.read_bytes() == DATA
    part.close()


def test_rewind_to_start_discards_everything(place: Path) -> None:
    begun(place, 2)
    part = opened(place)
    part.rewind(to_start=True)
    assert (part.offset, part.digest, place.stat().st_size) == (0, EMPTY_DIGEST, 0)
    add_pieces(part, 4)
    assert place.read_bytes() == DATA
    part.close()


def test_a_partial_file_is_locked(place: Path) -> None:
    first = opened(place)
    with pytest.raises(BlockingIOError):
        opened(place)
    first.close()
    opened(place).close()


def test_an_empty_partial_file_is_removed(place: Path) -> None:
    opened(place).close()
    assert names(place) == []


def test_a_discarded_file_leaves_nothing(place: Path) -> None:
    part = opened(place)
    add_pieces(part, 2)
    part.discard()
    part.close()
    assert names(place) == []


@pytest.mark.parametrize("kept", [True, False])
def test_a_complete_file_is_moved_to_its_name(place: Path, kept: bool) -> None:
    part = opened(place)
    add_pieces(part, 4)
    target, sums = place.with_name("file"), place.with_name("file.sums")
    part.move_to(target, sums if kept else None)
    part.close()
    assert target.read_bytes() == DATA
    assert names(place) == (["file", "file.sums"] if kept else ["file"])
    if kept:
        assert sums.read_bytes() == b"".join(DIGESTS)


def test_an_empty_file_is_complete_at_once(place: Path) -> None:
    part = opened(place, 0)
    assert part.is_complete
    assert part.digest == EMPTY_DIGEST
    part.move_to(place.with_name("empty"))
    part.close()
    assert names(place) == ["empty"]


PLANTS: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda place, mine: place.symlink_to(mine),
    "a link to nothing": lambda place, mine: place.symlink_to(mine.with_name("elsewhere")),
    "a second name": lambda place, mine: place.hardlink_to(mine),
    "a pipe": lambda place, _: os.mkfifo(place),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["part", "part.sums"])
def test_planted_links_are_removed_not_followed(tmp_path: Path, name: str, plant: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    PLANTS[plant](tmp_path / name, mine)
    part = opened(tmp_path / "part")
    add_pieces(part, 4)
    part.move_to(tmp_path / "whole", tmp_path / "digests")
    assert mine.read_text() == "mine"
    assert (tmp_path / "whole").read_bytes() == DATA
    assert (tmp_path / "digests").read_bytes() == b"".join(DIGESTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digests", "mine", "whole"]


def test_opening_can_be_cancelled(place: Path) -> None:
    begun(place, 3)
    part = PartialFile(place, len(DATA))

    def enough() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        part.open(enough)
    part.close()
    again = opened(place)
    assert again.offset == 3 * PIECE_SIZE
    again.close()


@pytest.mark.parametrize(
    ("size", "count"), [(0, 0), (1, 1), (PIECE_SIZE, 1), (PIECE_SIZE + 1, 2), (len(DATA), 4)]
)
def test_pieces_are_counted(size: int, count: int) -> None:
    assert count_pieces(size) == count
