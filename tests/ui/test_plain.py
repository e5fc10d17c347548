"""The plain front end in processes of its own: lines that scripts and screen readers rely on."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Approve, Kick
from tchat.core.group.messages import MOST_EDITS, Delete, Deleted, Edit, Edited, Post, Posted
from tchat.core.group.settings import SetPolicy
from tchat.core.protocol.frames import Seen
from tchat.machine_clocks import now_ms
from tests.helpers import GROUP, log_of, members, raw_client, running_server, texts
from tests.processes import launching, two_people

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.net.address import Address
    from tests.helpers import RawClient
    from tests.processes import Launcher, Person

CLOCK = "00:00"
DAY = 24 * 3600 * 1000


@asynccontextmanager
async def at_home(
    home: Path, *names: str
) -> AsyncIterator[tuple[Launcher, Address, list[RawClient]]]:
    """Create a group of raw clients, each of whom can also run the program."""
    async with (
        running_server() as server,
        members(server, "alice", *names) as people,
        launching(home) as launch,
    ):
        for name in ("alice", *names):
            launch.install_identity(name)
        yield launch, server.address, people


def without_time(person: Person) -> list[str]:
    """Return what a person sees, without the times in front, and with the same time elsewhere."""
    lines = [re.sub(r"\[\d\d:\d\d\] ", "", line) for line in person.lines]
    return [re.sub(r" of \d\d:\d\d", f" of {CLOCK}", line) for line in lines]


# ------------------------------------------------------------------ missed messages


async def test_missed_messages_are_printed_once_in_order(
    tmp_path: Path,
) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, bob)):
        for n in range(300):
            await alice.post(f"old {n}")
        await bob.send(Seen(GROUP, (await bob.attach()).seq))
        await bob.before_pong()
        for n in range(300):
            await alice.post(f"new {n}")
        last = await alice.post("mstake")
        await alice.command(Edit, last, "mistake")
        await alice.command(Delete, last - 1)
        reader = await launch.join(address, "bob")
        assert await reader.end() == 0
        assert reader.heard == [f"<alice> new {n}" for n in range(299)] + ["<alice> mstake"]
        shown = without_time(reader)
        assert re.search(r'-- alice edited "mstake" of \d\d:\d\d: mistake', "\n".join(shown))
        assert sum("deleted" in line for line in shown) == 1
        assert re.search(r"-- alice deleted their message of \d\d:\d\d", "\n".join(shown))
        assert "-- You are in #ops with 1 other member. /help lists the commands." in shown
        again = await launch.join(address, "bob")
        assert await again.end() == 0
        assert without_time(again) == [
            "-- You are in #ops with 1 other member. /help lists the commands."
        ]


async def test_missed_private_messages_show_their_title(
    tmp_path: Path,
) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, _):
        alice = await launch.join(address, "alice")
        await alice.type("/msg bob are you there?")
        assert await alice.end() == 0
        assert "@bob" in "".join(alice.lines)
        bob = await launch.join(address, "bob")
        await bob.sees("are you there?")  # the end of a pipe does not wait for other windows
        assert await bob.end() == 0
        assert sum(line.endswith("] <alice> are you there?") for line in bob.lines) == 1
        assert [line for line in bob.lines if line.startswith("@alice [")]
        bob = await launch.join(address, "bob")
        assert await bob.end() == 0
        assert not [line for line in bob.lines if "are you there" in line]


# ------------------------------------------------------------------ history


async def test_a_first_visit_prints_the_latest_events(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob", "carol") as (launch, address, (alice, *_)):
        for n in range(300):
            await alice.post(f"text {n}")
        for options, count in (((), 50), (("--history", "7"), 7), (("--history", "0"), 0)):
            reader = await launch.join(address, "bob", *options)
            assert await reader.end() == 0
            assert reader.heard == [f"<alice> text {n}" for n in range(300 - count, 300)]
            told = "-- Earlier messages are not shown; --history N shows the N latest."
            assert (told in without_time(reader)) == (not options)
        reader = await launch.join(address, "carol", "--history", "250")
        assert await reader.end() == 0
        assert reader.heard == [f"<alice> text {n}" for n in range(50, 300)]


async def test_summary_of_missed_messages_comes_first(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, bob)):
        await bob.send(Seen(GROUP, (await bob.attach()).seq))
        await bob.before_pong()
        await alice.post("one")
        await alice.post("bob, two")
        reader = await launch.join(address, "bob")
        assert await reader.end() == 0
        first, *others = without_time(reader)
        assert re.fullmatch(r"-- since \w+ \d\d:\d\d: 2 messages, 1 mention of you", first)
        assert others == [
            "<alice> one",
            "<alice> bob, two",
            "-- alice mentioned you",
            "-- You are in #ops with 1 other member. /help lists the commands.",
        ]


async def test_history_is_printed_again_on_request(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        for n in range(5):
            await alice.post(f"text {n}")
        for options, first in (((), 0), ((), 5), (("--history", "2"), 3)):
            reader = await launch.join(address, "bob", *options)
            assert await reader.end() == 0
            assert reader.heard == [f"<alice> text {n}" for n in range(first, 5)]


@pytest.mark.parametrize("history", [0, 1, 3, 5, 9])
async def test_history_counts_the_messages_shown(tmp_path: Path, history: int) -> None:
    """Neither edits, nor deletions, nor deleted messages; and beyond what is loaded first."""
    async with at_home(tmp_path, "bob") as (launch, address, (alice, bob)):
        seqs = [await alice.post(f"text {n}") for n in range(8)]
        for seq in seqs[5:]:
            for n in range(80):
                await alice.command(Edit, seq, f"draft {n}")
            await alice.command(Delete, seq)
        first = await launch.join(address, "bob", "--history", str(history))
        assert await first.end() == 0
        await bob.send(Seen(GROUP, (await bob.attach()).seq))
        await bob.before_pong()
        again = await launch.join(address, "bob", "--history", str(history))
        assert await again.end() == 0
        shown = [f"<alice> text {n}" for n in range(max(5 - history, 0), 5)]
        assert first.heard == again.heard == shown


async def test_new_messages_follow_the_history(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        for n in range(2):
            await alice.post(f"text {n}")
        assert await (await launch.join(address, "bob")).end() == 0
        for n in range(2, 4):
            await alice.post(f"text {n}")
        reader = await launch.join(address, "bob", "--history", "3")
        assert await reader.end() == 0
        assert without_time(reader)[1:] == [
            "-- Earlier messages:",
            "<alice> text 1",
            "-- End of the earlier messages.",
            "-- New messages:",
            "<alice> text 2",
            "<alice> text 3",
            "-- You are in #ops with 1 other member. /help lists the commands.",
        ]


async def test_messages_before_an_approval_are_earlier_ones(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        assert await (await launch.join(address, "bob")).end() == 0
        await alice.command(SetPolicy, "approval")
        await alice.command(Kick, "bob")
        reader = await launch.join(address, "bob")
        await reader.type("/join")
        await reader.sees("Waiting for alice")
        await alice.post("between")
        await alice.command(Approve, "bob")
        await reader.sees("You are in #ops")
        assert await reader.end() == 0
        shown = without_time(reader)
        assert shown.index(
            "-- Waiting for alice to approve you. /leave withdraws your request."
        ) < (shown.index("-- Earlier messages:"))
        assert shown[-5:] == [
            "-- alice kicked bob",
            "<alice> between",
            "-- bob joined, approved by alice",
            "-- End of the earlier messages.",
            "-- You are in #ops with 1 other member. /help lists the commands.",
        ]


async def test_unread_messages_are_printed_beyond_the_history(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, bob)):
        await bob.send(Seen(GROUP, (await bob.attach()).seq))
        await bob.before_pong()
        for n in range(300):
            await alice.post(f"text {n}")
        reader = await launch.join(address, "bob", "--history", "2")
        assert await reader.end() == 0
        assert reader.heard == [f"<alice> text {n}" for n in range(300)]


async def test_lines_of_another_day_follow_its_date(tmp_path: Path) -> None:
    today = now_ms()
    times = [today - DAY]
    async with (
        running_server(clock=lambda: times[-1]) as server,
        members(server, "alice", "bob") as (alice, _),
        launching(tmp_path) as launch,
    ):
        launch.install_identity("bob")
        while (last := (await alice.attach()).seq) < 12:
            times.append(today if last > 6 else today - DAY)
            await alice.post("text")
        reader = await launch.join(server.address, "bob")
        assert await reader.end() == 0
        shown = without_time(reader)
        dates = [line for line in shown if re.fullmatch(r"-- \w+day \d\d \w+ \d{4}", line)]
        assert len(dates) == 2
        assert shown[0].endswith(": 9 messages")
        assert shown[1:3] == ["-- Earlier messages:", dates[0]]


# ------------------------------------------------------------------ messages from before this run


async def test_commands_reach_messages_of_earlier_runs(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, bob)):
        await bob.post("a question")
        await alice.post("my tpyo")
        await alice.post("my secret")
        for n in range(500):
            await bob.post(f"text {n}")
        script = await launch.join(address, "alice", "--history", "0")
        await script.type("/delete", "/edit my typo", "/reply ^502 an answer", "the end")
        assert await script.end() == 0, script.lines
        async with raw_client(address, "bob") as fresh:
            log = await fresh.events((await fresh.attach()).seq)
        bodies = [event.body for event in log][-4:]
        question = next(e.seq for e in log if e.body == Posted("a question"))
        assert isinstance(bodies[0], Deleted)
        assert bodies[1] == Edited(question + 1, "my typo")
        assert bodies[2:] == [Posted("an answer", question), Posted("the end")]
        assert "> in reply to bob: a question" in without_time(script)


async def test_a_refused_edit_is_printed(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (_, bob)):
        seq = await bob.post("0")
        for number in range(MOST_EDITS):
            await bob.command(Edit, seq, str(number))
        script = await launch.join(address, "bob")
        await script.type("/edit a new text")
        assert await script.end() == 1
        (refused,) = [line for line in without_time(script) if line.startswith("!")]
        pattern = r" What you typed was not sent; it was: /edit \^#4-[0-9a-f]{6} a new text$"
        assert re.search(pattern, refused)


async def test_a_refused_message_is_named(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        script = await launch.join(address, "bob")
        await script.sees("You are in #ops")
        await alice.command(Kick, "bob")
        await script.sees("kicked you")
        await script.type("still here?")
        assert await script.end() == 1
        assert without_time(script)[-3:] == [
            "! You are not a member of this group. /join asks to join.",
            "-- Not sent, but kept: still here? (/resend sends it again, /discard deletes it)",
            (
                "-- Refused, and kept until they are sent again or discarded in the chat: 1 message"
                " to #ops, the last because: You are not a member of this group."
            ),
        ]


async def test_what_was_never_said_is_not_found(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        for n in range(300):
            await alice.post(f"text {n}")
        script = await launch.join(address, "bob")
        await script.type("/edit new", "/reply ^301 no", "/delete")
        assert await script.end() == 1
        refused = [line for line in without_time(script) if line.startswith("!")]
        assert refused == [
            "! There is no such message here.",
            "! There is no message ^301 here.",
            "! There is no such message here.",
        ]


# ------------------------------------------------------------------ replies, deletions, forgeries


async def test_a_reply_is_printed_after_its_quotation(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        question = await alice.post("two\nlines?")
        for n in range(300):
            await alice.post(f"text {n}")
        reader = await launch.join(address, "bob", "--history", "0")
        await reader.sees("You are in #ops")
        await alice.command(Post, "yes", question)
        await reader.sees("<alice> yes")
        assert without_time(reader)[-2:] == ["> in reply to alice: two↵lines?", "<alice> yes"]
        assert await reader.end() == 0


async def test_mentions_and_private_lines_are_announced(tmp_path: Path) -> None:
    """Read aloud, neither the name in the text nor the title in front would tell."""
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        bob = await launch.join(address, "bob")
        await bob.sees("You are in #ops")
        await alice.post("bob, look")
        await bob.sees("<alice> bob, look", "-- alice mentioned you")
        writer = await launch.join(address, "alice")
        await writer.sees("You are in #ops")
        await writer.type("/msg bob psst", "/msg bob again")
        await bob.sees("<alice> psst", "<alice> again")
        private = (
            "@alice -- Lines that begin with @alice are private; /msg alice TEXT answers them."
        )
        assert without_time(bob).count(private) == 1
        await bob.type("/window 1", "/clear")
        await bob.sees("-- What you type goes to #ops already.", "-- Nothing was cleared:")
        assert await bob.end() == 0
        assert await writer.end() == 0


async def test_a_deletion_is_printed_once_with_its_edits(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        seq = await alice.post("draft")
        for n in range(3):
            await alice.command(Edit, seq, f"secret {n}")
        await alice.command(Delete, seq)
        await alice.post("after")
        reader = await launch.join(address, "bob")
        assert await reader.end() == 0
        shown = without_time(reader)
        assert sum("delete" in line for line in shown) == 1
        assert not [line for line in shown if "secret" in line or "draft" in line]


async def test_nothing_that_is_said_reads_like_a_notice(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        reader = await launch.join(address, "bob")
        await reader.sees("You are in #ops")
        forged = (
            "joined, approved by alice",
            "[10:02] -- alice left",
            "! no",
            "> in reply to alice: no",
        )
        for text in forged:
            for before in ("", "/me ", "hello\n", "/me hello\u2028", "\r"):
                await alice.post(f"{before}{text}")
        await alice.post("the end")
        await reader.sees("the end")
        for line in reader.lines[reader.lines.index(await first_of(reader, "joined,")) :]:
            assert re.match(r"\[\d\d:\d\d\] (<alice> |\* alice )", line), line


async def first_of(reader: Person, text: str) -> str:
    return next(line for line in reader.lines if f"> {text}" in line)


async def test_a_change_of_window_is_announced(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "alice")
        await alice.type("/join lab", "in the lab", "/window ops", "/join lab", "/leave", "back")
        assert await alice.end() == 0
        said = [line for line in without_time(alice) if "What you type" in line]
        assert said == [
            "#lab -- What you type now goes to #lab.",
            "-- What you type now goes to #ops.",
            "#lab -- What you type now goes to #lab.",
            "-- What you type now goes to #ops.",
        ]


# ------------------------------------------------------------------ several groups


async def test_other_windows_have_their_title_in_front(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (alice, bob):
        await alice.type("here", "/join lab", "in the lab", "/me works", "/msg bob psst")
        await alice.sees("#lab [", "<alice> in the lab", "* alice works")
        await bob.sees("<alice> here")
        line = await bob.out.containing("psst")
        assert re.fullmatch(r"@alice \[\d\d:\d\d\] <alice> psst", line)
        await bob.type("/query alice", "yes?", "/window ops", "to all")
        await alice.sees("<bob> yes?", "<bob> to all")
        assert re.search(r"^@bob \[\d\d:\d\d\] <bob> yes\?$", "\n".join(alice.lines), re.MULTILINE)
        assert re.search(r"^\[\d\d:\d\d\] <bob> to all$", "\n".join(alice.lines), re.MULTILINE)
        # The first window stays the one without a title, also after it is closed.
        await alice.type("/window ops", "/part", "still in the lab?")
        line = await alice.out.containing("still in the lab?")
        assert re.match(r"(#lab|@bob) \[", line)


async def test_script_of_many_commands_runs_in_order(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "alice")
        await alice.type(
            *(
                "/who",
                "/topic all of it",
                "one",
                "tow",
                "/edit two",
                "three",
                "/delete",
                "/me waves",
            ),
            *(
                "/reply alice indeed",
                "/policy open",
                "/away lunch",
                "/away",
                "/who",
                "/whois alice",
            ),
            *("/search two", "/jump 1", "/list", "/join lab", "first", "/leave", "/mute", "/clear"),
            *("/ignore eve", "/unignore eve", "/ban eve", "/unban eve", "/help /me", "/help keys"),
        )
        assert await alice.end() == 0, alice.lines
        assert texts(await log_of(server.store)) == ["one", "tow", "/me waves", "indeed"]
        shown = without_time(alice)
        for line in (
            "-- alice set the topic: all of it",
            f'-- alice edited "tow" of {CLOCK}: two',
            f"-- alice deleted their message of {CLOCK}",
            "* alice waves",
            "-- alice: anyone may join now",
            "-- You are away: lunch. /away alone brings you back.",
            "-- You are back.",
            "-- alice (admin) is online",
            "-- #ops (window 1)",
            "#lab <alice> first",
            "-- You left #lab.",
            "-- alice banned eve",
            "-- /me TEXT: sends an action: * you TEXT; for example: /me waves",
            "-- Plain mode has no keys of its own: Enter sends the line.",
            "-- /quit or Ctrl-D on an empty line quits; Ctrl-C quits at once. You stay a member.",
        ):
            assert line in shown, shown
        assert [line for line in shown if line.startswith("#ops <alice> two")]
        assert not [line for line in alice.lines if "] ! " in line]


async def test_script_commands_see_earlier_lines(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        await alice.post("long ago")
        script = await launch.join(address, "alice")
        for n in range(20):
            await script.type(f"draft {n}", "/delete", f"text {n}", f"/edit fair copy {n}")
        await script.type("/join lab", "/topic new", "hello", "/delete", "/window ops", "done")
        assert await script.end() == 0, script.lines
        reader = await launch.join(address, "bob", "--history", "1000")
        assert await reader.end() == 0
        shown = [line for line in without_time(reader) if "deleted" not in line]
        assert shown[-44:] == [
            "<alice> long ago",
            *(
                line
                for n in range(20)
                for line in (
                    f"<alice> text {n}",
                    f'-- alice edited "text {n}" of {CLOCK}: fair copy {n}',
                )
            ),
            "<alice> done",
            "-- End of the earlier messages.",
            "-- You are in #ops with 1 other member. /help lists the commands.",
        ]


# ------------------------------------------------------------------ exit status, leaving


async def test_refusals_set_the_exit_status(tmp_path: Path) -> None:
    async with at_home(tmp_path, "bob") as (launch, address, (alice, _)):
        for lines, status in (
            (["hello"], 0),
            (["/msg alice hello"], 0),
            (["/msg nobody hello"], 1),
            (["/topic mine"], 1),
            (["/query"], 1),
            (["/query alice"], 0),
            (["/join a/b"], 1),
            (["/part"], 0),
        ):
            bob = await launch.join(address, "bob")
            await bob.type(*lines)
            ended = bob.exit() if lines == ["/part"] else bob.end()
            assert await ended == status, (lines, bob.lines)
        await alice.command(Kick, "bob")
        bob = await launch.join(address, "bob")
        await bob.type("hello?")
        assert await bob.end() == 1
        await bob.sees("! You are not a member of this group. /join asks to join.")
        # The refused message is kept, and does not count against the next run.
        bob = await launch.join(address, "bob")
        assert await bob.end() == 0


async def test_leaving_one_group_continues_in_the_first(tmp_path: Path) -> None:
    async with running_server() as server, launching(tmp_path) as launch:
        alice = await launch.join(server.address, "alice")
        await alice.type("/join lab", "/leave", "back", "/leave")
        assert await alice.exit() == 0
        assert alice.heard == ["<alice> back"]
        assert without_time(alice)[-1] == "-- You left the group."
