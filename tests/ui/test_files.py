"""/send, /files, /get, /cancel and /remove, typed into a chat with a real server."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
import trio.testing

from tchat.client.files import queue as transfers
from tchat.client.files.automatic import CROWDED, FILE_LIMIT, AutomaticSaving
from tchat.client.files.budget import Budget
from tchat.core.group.feature import Event
from tchat.core.group.files import FileShared
from tchat.core.group.membership import Kick
from tchat.core.group.rules import apply
from tchat.ui.chat.completion import offers
from tchat.ui.plain.progress import ProgressReporter
from tchat.ui.text.cells import cells
from tests.helpers import GROUP, GUARD, members, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.ui.chat.chat import Chat
    from tests.helpers import RawClient
    from tests.ui.typist import Typist

SHARED = "notice: alice shared "
NO_FILES = "notice: There are no files yet. /send PATH shares one."


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@asynccontextmanager
async def alone(downloads: Path) -> AsyncIterator[Typist]:
    """Run a chat of Alice, alone in a group, in the directory of the test."""
    async with running_server() as server, typing(server, downloads=downloads) as alice:
        yield alice


@asynccontextmanager
async def alice_and_bob(downloads: Path) -> AsyncIterator[tuple[Typist, Typist, RawClient]]:
    """Run chats of Alice, the admin, and Bob, and a raw client that is Alice too."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (raw, _),
        typing(server, downloads=downloads.parent / "hers") as alice,
        typing(server, "bob", downloads=downloads) as bob,
    ):
        yield alice, bob, raw


def put(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class StalledTransfers:
    """Transfers that stall at 42 % until they are cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transfers: list[transfers.Transfer] = []
        monkeypatch.setattr(transfers, "send_file", self.send_file)
        monkeypatch.setattr(transfers, "fetch_file", self.fetch_file)

    async def send_file(
        self,
        _: object,
        __: object,
        path: Path,
        transfer: transfers.Transfer,
        *,
        name: str | None,
    ) -> None:
        transfer.on_start(name or path.name, 1000)
        await self._stall(transfer)

    async def fetch_file(self, *arguments: transfers.Transfer, anew: bool) -> None:
        await self._stall(arguments[-1])

    async def reached(self, name: str) -> None:
        """Wait until the transfer of a file has stalled."""
        with trio.fail_after(GUARD):
            while name not in [transfer.name for transfer in self.transfers]:
                await trio.testing.wait_all_tasks_blocked()

    async def _stall(self, transfer: transfers.Transfer) -> None:
        transfer.on_progress(420)
        self.transfers.append(transfer)
        await trio.sleep_forever()


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> StalledTransfers:
    return StalledTransfers(monkeypatch)


# ------------------------------------------------------------------ /send


async def test_a_path_with_spaces_needs_no_quotes(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "my report.pdf").write_text("data")
    async with alone(downloads) as alice:
        assert await alice.types("/9 my report.pdf") == [f"{SHARED}my report.pdf (4 B), file 1"]


async def test_several_paths_are_each_sent_and_each_refused(
    tmp_path: Path, downloads: Path
) -> None:
    for name in ("a.txt", "b c.txt"):
        (tmp_path / name).write_text(name)
    async with alone(downloads) as alice:
        shown = await alice.types("/send a.txt nope b\\ c.txt 'not there'")
        assert sorted(line.partition(",")[0] for line in shown) == [
            "error: nope cannot be sent: No such file or directory.",
            "error: not there cannot be sent: No such file or directory.",
            f"{SHARED}a.txt (5 B)",
            f"{SHARED}b c.txt (7 B)",
        ]
        assert alice.chat.refusals == 2


async def test_conversations_say_that_they_have_no_files() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
    ):
        await alice.types("/query bob")
        none = "error: Conversations of two people have no files; groups have."
        assert await alice.types("/get 3") == [none]
        assert await alice.types("/invite") == [
            "error: This command is for groups; a conversation of two people has no admin."
        ]


async def test_a_directory_is_sent_as_an_archive(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("data")
    async with alone(downloads) as alice:
        (line,) = await alice.types("/send folder/")
        assert line.startswith(f"{SHARED}folder.tar (")


async def test_a_tilde_means_the_home_directory(
    tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("data")
    async with alone(downloads) as alice:
        assert await alice.types("/send ~/a.txt") == [f"{SHARED}a.txt (4 B), file 1"]


# ------------------------------------------------------------------ /files


async def test_without_files_the_list_names_send(downloads: Path) -> None:
    async with alone(downloads) as alice:
        for line in ("/files", "/files all"):
            assert await alice.types(line) == [NO_FILES]


async def test_files_lists_the_newest_or_all(tmp_path: Path, downloads: Path) -> None:
    async with alone(downloads) as alice:
        for number in range(1, 26):
            (tmp_path / f"f{number}").write_text(str(number))
            await alice.types(f"/send f{number}")
        header, *lines = await alice.types("/files")
        assert header == "notice: files (the newest 20; /files all lists all):"
        assert [line.split()[1:3] for line in lines] == [[str(n), f"f{n}"] for n in range(6, 26)]
        assert max(map(cells, lines)) <= 45
        header, *lines = await alice.types("/files all")
        assert (header, len(lines)) == ("notice: files (25):", 25)


async def test_file_details_show_digest_and_fetchers(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "report.pdf").write_text("data")
    async with alice_and_bob(downloads) as (alice, bob, _):
        await alice.types("/send report.pdf")
        await bob.shows("file 1 saved as")
        with trio.fail_after(GUARD):  # fetchers are recorded after the transfer
            while "fetched by bob" not in (shown := await alice.types("/files 1"))[1]:
                await trio.testing.wait_all_tasks_blocked()
        assert shown[0].startswith("notice: file 1: report.pdf, 4 B (4 bytes), shared by alice on ")
        assert shown[2] == f"notice: {hashlib.sha256(b'data').hexdigest()}  report.pdf"
        assert "fetched by bob" in shown[1]


@pytest.mark.parametrize("argument", ["9", "0", "-1", "x", "²", "1 2"])
@pytest.mark.parametrize("word", ["files", "remove"])
async def test_an_unknown_file_number_is_refused(downloads: Path, word: str, argument: str) -> None:
    async with alone(downloads) as alice:
        assert await alice.types(f"/{word} {argument}") == [
            f"error: The group has no file {argument}. /files lists the files."
        ]


# ------------------------------------------------------------------ /get


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("/get 1", "downloads/report.pdf"),
        ("/get 1 there", "there/report.pdf"),
        ("/get 1 not there yet/", "not there yet/report.pdf"),
        ("/get 1  new name.pdf ", "new name.pdf"),
        ("/get 1 not/there/new.pdf", "not/there/new.pdf"),
        ("/get 1 report.pdf", "report.pdf"),
        ("/get 1 taken.pdf", "taken (2).pdf"),
        ("/get 1 ~/", "there/report.pdf"),
    ],
)
async def test_get_saves_to_the_given_path(
    tmp_path: Path, downloads: Path, typed: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "there"))
    (tmp_path / "there").mkdir()
    (tmp_path / "report.pdf").write_text("data")
    (tmp_path / "taken.pdf").write_text("mine")
    async with alone(downloads) as alice:
        await alice.types("/send report.pdf")
        (line,) = await alice.types(typed)
        assert line.startswith("notice: file 1 saved as ")
        assert line.endswith(place)
    assert (tmp_path / place).read_text() == "data"
    assert (tmp_path / "taken.pdf").read_text() == "mine"


async def test_an_impossible_destination_is_refused(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "a.txt").write_text("data")
    async with alone(downloads) as alice:
        await alice.types("/send a.txt")
        for place in ("a\0b", "a.txt/b/", "n" * 3000):
            (line,) = await alice.types(f"/get 1 {place}")
            assert line.startswith("error: ")


async def test_get_completes_a_number_then_a_path(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "my file").write_text("data")
    async with alone(downloads) as alice:
        await alice.types("/send my file")
        assert offers(alice.chat, "/get ") == (5, ["1"])
        assert offers(alice.chat, "/get 1 my") == (5, ["1 my\\ file"])
        assert offers(alice.chat, "/files ") == (7, ["1"])
        assert offers(alice.chat, "/send nope my") == (6, ["nope my\\ file"])


# ------------------------------------------------------------------ files saved automatically


async def test_small_files_are_saved_before_counting_as_seen(
    tmp_path: Path, downloads: Path
) -> None:
    (tmp_path / "report.pdf").write_text("data")
    async with alice_and_bob(downloads) as (alice, bob, _):
        await alice.types("/send report.pdf")
        assert await bob.shows("file 1 saved as") == f"file 1 saved as {downloads / 'report.pdf'}"
        assert await bob.chat.finish(GUARD)
        assert bob.window.replica.seen == bob.window.replica.state.seq
    assert (downloads / "report.pdf").read_text() == "data"


async def test_an_unsaved_file_is_not_seen(downloads: Path, stalled: StalledTransfers) -> None:
    async with alice_and_bob(downloads) as (alice, bob, _):
        replica = bob.window.replica
        before = replica.state.seq
        for window, size in ((bob.window, 10), (alice.window, FILE_LIMIT + 1)):
            shared = FileShared(7, "x.bin", size, bytes(32))
            event = Event(GROUP, before + 1, 0, "carol", bytes(8), 1, shared)
            apply(window.replica.state, event)
            window.files._is_member = True
            window.files.handle_event(event, unseen=True)
        with trio.fail_after(GUARD):
            while not stalled.transfers:  # a thread looks at the disk first
                await trio.lowlevel.checkpoint()
        assert [transfer.name for transfer in stalled.transfers] == ["x.bin"]
        assert bob.window.files.seen(before + 5) == before
        assert alice.window.files.seen(before + 5) == before + 5
        assert await alice.shows("file 7 is large (8.4 MB): /get 7 saves it")
        await bob.types("/cancel 1")
        assert bob.window.files.seen(before + 5) == before + 5


async def test_one_file_under_many_names_is_written_once(tmp_path: Path, downloads: Path) -> None:
    """A share costs its author nothing: the disk of the others pays once."""
    report = tmp_path / "report.pdf"
    report.write_text("data")
    async with alice_and_bob(downloads) as (alice, bob, _):
        await alice.types("/send report.pdf")
        await bob.shows("file 1 saved as")
        for number in range(2, 6):
            copy = tmp_path / f"copy {number}.pdf"
            copy.write_text("data")
            await alice.types(f"/send {copy.name}")
            await bob.shows(f"alice shared {copy.name}")
        same = f"since you have it as {downloads / 'report.pdf'}: /get"
        await bob.shows(f"file 2 is not saved, {same} 2 saves it")
        await bob.until(lambda: bob.window.files.seen(99) == 99)
        assert await bob.chat.finish(GUARD)
        assert f"files 3, 4, 5 are not saved, {same} N saves one" in [one.text for one in bob.lines]
        await bob.types("/get 3")
    assert names_in(downloads) == ["copy 3.pdf", "report.pdf"]


async def test_copies_that_arrive_together_are_written_once(
    tmp_path: Path, downloads: Path
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, downloads=downloads.parent / "hers") as alice,
    ):
        for number in range(1, 6):
            (tmp_path / f"f{number}").write_text("data")
            await alice.types(f"/send f{number}")
        async with typing(server, "bob", downloads=downloads) as bob:
            await bob.until(lambda: bob.window.files.seen(99) == 99)
            assert await bob.chat.finish(GUARD)
            assert len([line for line in bob.lines if "saved as" in line.text]) == 1
    assert len(names_in(downloads)) == 1


async def test_a_budget_bounds_what_is_saved(tmp_path: Path, downloads: Path) -> None:
    saving = AutomaticSaving(tmp_path / "saved_files.json", user="bob", budget=Budget(files=2))
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, downloads=downloads.parent / "hers") as alice,
        typing(server, "bob", downloads=downloads, automatic=saving) as bob,
    ):
        for number in range(1, 4):
            (tmp_path / f"f{number}").write_text(str(number))
            await alice.types(f"/send f{number}")
            await bob.shows(f"file {number} ")
        why = "today's 2 automatic files of this group are saved"
        await bob.shows(f"file 3 is not saved, since {why}: /get 3 saves it")
        await bob.until(lambda: bob.window.replica.seen == bob.window.replica.state.seq)
        await bob.types("/get 3")
    assert names_in(downloads) == ["f1", "f2", "f3"]


async def test_files_of_other_servers_are_not_found(tmp_path: Path, downloads: Path) -> None:
    """Whoever does not download what others do has it from elsewhere, and can be recognised."""
    put(downloads, "f1", "a file of another server")
    put(tmp_path, "f1", "a file of another server")
    async with alice_and_bob(downloads) as (alice, bob, _):
        await alice.types("/send f1")
        await bob.shows(f"file 1 saved as {downloads / 'f1'}")
        await alice.types("/files 1")
        await alice.shows("fetched by bob")
    assert names_in(downloads) == ["f1"]


async def test_files_beyond_the_budget_do_not_wait(
    tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutomaticSaving, "begin", lambda _: False)
    async with alice_and_bob(downloads) as (alice, bob, _):
        (tmp_path / "f1").write_text("1")
        await alice.types("/send f1")
        await bob.shows(f"file 1 is not saved, since {CROWDED}: /get 1 saves it")
        await bob.until(lambda: bob.window.files.seen(99) == 99)
        assert not any("saved as" in line.text for line in bob.lines)


async def test_a_file_removed_meanwhile_is_not_saved(
    downloads: Path, stalled: StalledTransfers
) -> None:
    async with alone(downloads) as alice:
        shared = FileShared(7, "x.bin", 10, bytes(32))
        alice.window.files.handle_event(
            Event(GROUP, 9, 0, "carol", bytes(8), 1, shared), unseen=True
        )
        await trio.testing.wait_all_tasks_blocked()
        assert (stalled.transfers, alice.window.files.seen(9)) == ([], 9)


async def test_a_former_member_cannot_use_files(downloads: Path) -> None:
    async with alice_and_bob(downloads) as (_, bob, raw):
        await raw.command(Kick, "bob")
        await bob.shows("alice kicked you from this group")
        for line in ("/send x", "/files", "/get 1", "/remove 1"):
            assert await bob.types(line) == ["error: You are not a member. /join asks to join."]


# ------------------------------------------------------------------ /cancel


async def test_cancel_without_transfers_is_refused(downloads: Path) -> None:
    async with alone(downloads) as alice:
        for line in ("/cancel", "/cancel 1", "/cancel x"):
            assert await alice.types(line) == ["error: Nothing is being sent or saved."]
        assert alice.chat.question is None


async def test_a_transfer_is_cancelled_by_its_number(
    downloads: Path, stalled: StalledTransfers
) -> None:
    async with alone(downloads) as alice:
        for name in ("a.iso", "b.iso"):
            alice.chat.enter(f"/send {name}")
            await stalled.reached(name)
        alice.chat.enter("/cancel")
        assert [line.text for line in alice.lines[-3:]] == [
            "1: sending a.iso: 42 % of 1.0 KB",
            "2: sending b.iso: 42 % of 1.0 KB",
            "cancel which transfer? (1, 2)",
        ]
        assert offers(alice.chat, "") == (0, ["1", "2"])
        alice.chat.enter("1")
        await alice.shows("Sending a.iso was cancelled; sending it again within a day resumes it")
        alice.chat.enter("/cancel 1")
        assert alice.lines[-1].text == "No transfer has the number 1."
        assert offers(alice.chat, "/cancel ") == (8, ["2"])
        await alice.types("/cancel 2")
        assert [transfer.name for transfer in alice.chat.transfers.active] == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [("hello", "message: hello"), ("1", "error: Nothing is being sent or saved.")],
)
async def test_the_cancel_question_lapses_with_the_last_transfer(
    downloads: Path, stalled: StalledTransfers, line: str, shown: str
) -> None:
    async with alone(downloads) as alice:
        alice.chat.enter("/send a.iso")
        await stalled.reached("a.iso")
        alice.chat.enter("/cancel")
        assert is_asked(alice.chat)
        alice.chat.transfers.cancel(1)
        await alice.shows("Sending a.iso was cancelled")
        assert not is_asked(alice.chat)
        assert await alice.types(line) == [shown]


def is_asked(chat: Chat) -> bool:
    return chat.asked is not None


async def test_progress_is_reported_periodically(
    downloads: Path, stalled: StalledTransfers
) -> None:
    async with alone(downloads) as alice, trio.open_nursery() as nursery:
        reporter = ProgressReporter(alice.chat.transfers, alice.window.notice, seconds=0.001)
        alice.chat.enter("/send a.iso")
        await stalled.reached("a.iso")
        reporter.watch_new(nursery)
        assert await alice.shows("sending a") == "sending a.iso: 42 % of 1.0 KB; /cancel 1"
        await alice.types("/cancel 1")


async def test_quitting_says_that_transfers_resume(
    downloads: Path, stalled: StalledTransfers
) -> None:
    async with alone(downloads) as alice:
        alice.chat.enter("/send a.iso")
        await stalled.reached("a.iso")
        assert not await alice.chat.finish(0)
        assert alice.lines[-1].text == (
            "Not finished in time: 1 of your messages, commands or files."
            " Transfers resume when the files are sent or saved again."
        )


async def test_transfer_outcome_shows_after_its_window_closed(
    downloads: Path, stalled: StalledTransfers
) -> None:
    async with alone(downloads) as alice:
        await alice.types("/join lab")
        alice.chat.enter("/send a.iso")
        await stalled.reached("a.iso")
        alice.chat.enter("/part")
        assert alice.titles == ["#ops"]
        await alice.types("/cancel 1")
        assert alice.window.lines[-1].text.startswith("#lab: Sending a.iso was cancelled; ")


# ------------------------------------------------------------------ /remove


async def test_remove_names_the_file_and_unlists_it(tmp_path: Path, downloads: Path) -> None:
    (tmp_path / "report.pdf").write_text("data")
    async with alice_and_bob(downloads) as (alice, bob, _):
        await bob.types("/send report.pdf")
        await alice.shows("file 1 saved as")
        await bob.types("/remove 1")
        assert await alice.shows("removed file") == "bob removed file 1 (report.pdf)"
        assert await alice.types("/files") == [NO_FILES]
        assert await alice.types("/get 1") == [
            "error: The group has no file 1. /files lists the files."
        ]


async def test_completion_offers_removable_files_only(tmp_path: Path, downloads: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    async with alice_and_bob(downloads) as (alice, bob, _):
        await alice.types("/send a.txt")
        await bob.shows("file 1 saved as")
        await bob.types("/send b.txt")
        await alice.shows("file 2 saved as")
        assert offers(bob.chat, "/remove ") == (8, ["2"])
        assert offers(alice.chat, "/remove ") == (8, ["2", "1"])
        (line,) = await bob.types("/remove 1")
        assert line.startswith("error: ")
