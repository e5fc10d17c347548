"""The list of a group's files: as text, and page by page from the session."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from tchat.client.replica import Replica
from tchat.core.group.state import File
from tchat.core.protocol.frames import FileList, FileListRequest, Ok, StoredFileInfo
from tchat.machine_clocks import now_ms
from tchat.ui.chat.files import (
    ListedFile,
    fetched_text,
    file_details,
    file_table,
    list_files,
    moment_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.request import Answer
    from tchat.client.session import Session
    from tchat.core.protocol.schema import Frame

NOW = now_ms()
THIS_YEAR = time.localtime(NOW / 1000).tm_year


def at(year: int, month: int = 11, day: int = 22, hour: int = 10, minute: int = 3) -> int:
    return int(time.mktime((year, month, day, hour, minute, 0, 0, 0, -1))) * 1000


def file(number: int, name: str = "report.pdf", size: int = 1_200_000, by: str = "bob") -> File:
    return File(number, name, size, bytes([number % 256]) * 32, by, at(THIS_YEAR))


# ------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("fetched", "by", "text"),
    [
        (0, [], "nobody yet"),
        (1, ["alice"], "alice"),
        (2, ["alice", "carol"], "alice and carol"),
        (3, ["alice", "carol", "dave"], "alice, carol and dave"),
        (5, ["alice", "carol", "dave", "erin"], "alice, carol and 3 more"),
        (3, ["alice"], "alice and 2 more"),
        (7, [], "7"),
        (0, ["mallory"], "nobody yet"),
        (1, ["alice", "mallory"], "alice"),
    ],
)
def test_the_fetchers_of_a_file_are_summed_up(fetched: int, by: list[str], text: str) -> None:
    assert fetched_text(fetched, tuple(by)) == f"fetched by {text}"


def test_files_are_listed_in_aligned_columns() -> None:
    lines = file_table(
        [
            ListedFile(file(9), 0, 0, ()),
            ListedFile(file(10, "数字.txt", 10, "alice"), at(THIS_YEAR, 12), 2, ("bob", "carol")),
        ],
        NOW,
    )
    assert lines == [
        " 9  report.pdf  1.2 MB  bob    22 Nov",
        "10  数字.txt      10 B  alice  22 Nov",
    ]


def test_file_list_has_short_times() -> None:
    today = replace(file(1), at=NOW)
    old = replace(file(2), at=at(2020))
    lines = file_table([ListedFile(one, 0, 0, ()) for one in (today, file(3), old)], NOW)
    ends = [line.rpartition("  ")[2] for line in lines]
    assert ends == [time.strftime("%H:%M", time.localtime(NOW / 1000)), "22 Nov", "Nov 2020"]


def test_long_names_keep_other_columns_aligned() -> None:
    long, short = file_table(
        [ListedFile(file(1, "x" * 100), 0, 0, ()), ListedFile(file(2), 0, 0, ())], NOW
    )
    assert "x" * 100 in long
    assert len(short) < 120


def test_file_details_end_with_a_sha256sum_line() -> None:
    lines = file_details(ListedFile(file(3), at(THIS_YEAR, 12), 1, ("alice",)), NOW)
    assert lines == [
        "file 3: report.pdf, 1.2 MB (1200000 bytes), shared by bob on 22 Nov 10:03",
        "fetched by alice, kept until 22 Dec 10:03; SHA-256, as printed by sha256sum:",
        "03" * 32 + "  report.pdf",
    ]


def test_file_details_name_all_fetchers() -> None:
    people = ("alice", "bob", "carol", "dave")
    assert (
        "fetched by alice, bob, carol and dave;"
        in file_details(ListedFile(file(3), 0, 4, people), NOW)[1]
    )


def test_times_of_other_years_have_equal_width() -> None:
    assert moment_text(at(THIS_YEAR), NOW) == "22 Nov 10:03"
    assert moment_text(at(2020), NOW) == "22 Nov  2020"
    assert moment_text(2**63 - 1, NOW)[-4:] in ("9998", "9999")


def test_names_in_the_file_list_are_sanitized() -> None:
    hostile = ListedFile(file(3, "a\x1b[2J\u202eb\n", by="m\x9b31m"), 0, 1, ("x",))
    for line in [*file_table([hostile], NOW), *file_details(hostile, NOW)]:
        assert line.isprintable()


# ------------------------------------------------------------------ pages from the server


class FakeSession:
    """A session that answers requests for the file list with the given pages."""

    def __init__(self, *answers: Frame) -> None:
        self.answers = list(answers)
        self.requested: list[int | None] = []

    async def ask(self, make: Callable[[int], Frame]) -> Answer:
        request = make(1)
        assert isinstance(request, FileListRequest)
        self.requested.append(request.before)
        return cast("Answer", self.answers.pop(0))


def page(*numbers: int, older: bool = False) -> FileList:
    return FileList(1, tuple(StoredFileInfo(number, 0, ()) for number in numbers), older)


def ops(numbers: int = 100) -> Replica:
    replica = Replica("ops")
    replica.state.files = {number: file(number) for number in range(1, numbers + 1)}
    return replica


async def listed(
    session: FakeSession, most: float, before: int | None = None
) -> tuple[list[int], bool]:
    found, older = await list_files(cast("Session", session), ops(), most, before)
    return [one.file.number for one in found], older


async def test_the_newest_files_are_listed_last() -> None:
    assert await listed(FakeSession(page(3, 2, 1)), 20) == ([1, 2, 3], False)
    assert await listed(FakeSession(page(9, 8, 7, older=True)), 3) == ([7, 8, 9], True)
    assert await listed(FakeSession(page(9, 8, 7)), 2) == ([8, 9], True)


async def test_pages_are_requested_until_enough_files() -> None:
    session = FakeSession(page(9, 8, older=True), page(6, 5, older=True), page(2, 1, older=True))
    assert await listed(session, 5) == ([2, 5, 6, 8, 9], True)
    assert session.requested == [None, 8, 5]


async def test_all_files_are_requested_page_by_page() -> None:
    session = FakeSession(page(9, 8, older=True), page(7, older=True), page(2))
    assert await listed(session, math.inf) == ([2, 7, 8, 9], False)


async def test_unknown_file_numbers_are_left_out() -> None:
    assert await listed(FakeSession(page(200, 2)), 20) == ([2], False)


@pytest.mark.parametrize("again", [page(5, 4, older=True), page(older=True), page(0, older=True)])
async def test_an_endless_file_list_is_not_followed(again: FileList) -> None:
    session = FakeSession(page(5, 4, older=True), again, *[page(5, 4, older=True)] * 3)
    await listed(session, math.inf)
    assert len(session.answers) == 3


async def test_an_unexpected_answer_lists_no_files() -> None:
    assert await listed(FakeSession(Ok(1)), 20) == ([], True)
