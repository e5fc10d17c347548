"""The plain front end in processes of its own: lines that scripts and screen readers rely on."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tchat.core.group.membership import Kick
from tchat.core.group.messages import Delete, Edit
from tchat.core.protocol.frames import Seen
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.processes import launching, two_people

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.net.address import Address
    from tests.helpers import RawClient
    from tests.processes import Launcher, Person


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
    return [re.sub(r"\[\d\d:\d\d\] ", "", line) for line in person.lines]


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
        assert "* alice edited a message: mistake" in shown
        assert "* alice wrote a message that was deleted" in shown
        assert "* You are in #ops with 1 other member. /help lists the commands." in shown
        again = await launch.join(address, "bob")
        assert await again.end() == 0
        assert without_time(again) == [
            "* You are in #ops with 1 other member. /help lists the commands."
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
        assert await bob.end() == 0
        assert sum(line.endswith("] <alice> are you there?") for line in bob.lines) == 1
        assert [line for line in bob.lines if line.startswith("@alice [")]
        bob = await launch.join(address, "bob")
        assert await bob.end() == 0
        assert not [line for line in bob.lines if "are you there" in line]


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
            "* alice set the topic: all of it",
            "* alice edited a message: two",
            "* alice deleted a message",
            "* alice waves",
            "* alice: anyone may join now",
            "* You are away: lunch. /away alone brings you back.",
            "* You are back.",
            "* alice (admin) is online",
            "* #ops (open)",
            "#lab <alice> first",
            "* You left #lab.",
            "* alice banned eve",
            "* /me TEXT: sends an action: * you TEXT",
            "* Plain mode has no keys of its own.",
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
        reader = await launch.join(address, "bob")
        assert await reader.end() == 0
        shown = [line for line in without_time(reader) if "deleted" not in line]
        assert shown[-43:] == [
            "<alice> long ago",
            *(
                line
                for n in range(20)
                for line in (f"<alice> text {n}", f"* alice edited a message: fair copy {n}")
            ),
            "<alice> done",
            "* You are in #ops with 1 other member. /help lists the commands.",
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
        assert without_time(alice)[-1] == "* You left the group."
