"""Pages of consecutive events, and parts of them."""

from __future__ import annotations

import pytest

from tchat.store.base import Page
from tests.store.batches import numbered

PAGE = Page(5, 7, numbered(5, 7))


@pytest.mark.parametrize("seq", [0, 3, 4])
def test_a_page_after_an_earlier_event_is_whole(seq: int) -> None:
    assert PAGE.after(seq) == PAGE


@pytest.mark.parametrize("seq", [5, 6])
def test_a_page_can_be_cut_anywhere(seq: int) -> None:
    assert PAGE.after(seq) == Page(seq + 1, 7, numbered(seq + 1, 7))


def test_page_after_its_last_event_is_empty() -> None:
    assert PAGE.after(7).frames == b""
