"""Read positions of one person: several devices at once, restarts, deletions, reconnections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Delete, Edit
from tchat.core.protocol.frames import Seen
from tests.helpers import GROUP, RawClient, members, running_server
from tests.ui.typist import Typist, typing

if TYPE_CHECKING:
    from tchat.ui.chat.window import Window


async def has_seen(person: RawClient, seq: int) -> None:
    """Report a read position, and wait until the server has it."""
    await person.send(Seen(GROUP, seq))
    await person.before_pong()


async def caught_up(person: Typist, title: str) -> None:
    await person.until(lambda: person.window_of(title).caught_up)


def missed(window: Window) -> list[str]:
    """Return what the digests of a window count."""
    lines = [line.text for line in window.lines if line.text.startswith("since ")]
    return [text.partition(": ")[2] for text in lines]


async def test_what_is_read_here_is_read_there() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as here,
        typing(server, "bob") as there,
    ):
        here.frontend.looks = there.frontend.looks = False
        await alice.post("one")
        await alice.post("two, bob")
        await here.until(lambda: (here.window.unread, here.window.mentions) == (2, 1))
        await there.until(lambda: (there.window.unread, there.window.mentions) == (2, 1))
        here.frontend.looks = True
        here.window.attend()
        await there.until(lambda: not there.window.unread)
        assert (there.window.mentions, there.window.new_from) == (0, 0)
        await alice.post("three")
        await there.until(lambda: there.window.unread == 1)


async def test_an_answer_here_reads_what_it_answers_there() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as here,
        typing(server, "bob") as there,
    ):
        here.frontend.looks = there.frontend.looks = False
        await alice.post("are you there, bob?")
        await here.until(lambda: here.window.unread == 1)
        await there.until(lambda: there.window.unread == 1)
        await here.types("yes")
        await there.until(lambda: not there.window.unread)
        assert (here.window.unread, here.window.new_from) == (0, 0)


async def test_a_message_to_elsewhere_reads_nothing_there() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "bob") as bob,
    ):
        async with typing(server, "alice") as alice:
            await alice.types("/msg bob one")
            direct = bob.window.context.windows
            await bob.until(lambda: len(direct) == 2 and direct[1].unread == 1)
        await bob.types("/msg alice later")
        assert bob.window_of("@alice").unread == 1


async def test_positions_read_while_offline_are_known_afterwards() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        port = server.address.port
        async with typing(server, "bob") as here:
            here.frontend.looks = False
            await alice.post("bob?")
            await here.until(lambda: here.window.mentions == 1)
            await server.end()
            await here.shows("connection lost")
            async with running_server(server.store, port=port) as again:
                async with typing(again, "bob") as there:
                    await there.until(lambda: there.window.replica.seen >= 4)
                await here.until(lambda: not here.window.mentions)


async def test_a_mention_survives_in_an_unvisited_group() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        members(server, "alice", group="lab"),
    ):
        await alice.post("from before", group="lab")
        await bob.command(Join, group="lab")
        await alice.command(Approve, "bob", group="lab")
        await alice.post("bob, welcome", group="lab")
        for _ in range(3):  # each time the program starts, and nobody looks into the group
            async with typing(server, "bob", recent=200) as again:
                await caught_up(again, "#lab")
                lab = again.window_of("#lab")
                assert (lab.unread, lab.mentions) == (1, 1)
                assert missed(lab) == ["1 message, 1 mention of you"]
        async with typing(server, "bob", recent=200) as bob_again:
            await bob_again.types("/window lab")
            await bob_again.until(lambda: bob_again.window.replica.seen)
        async with typing(server, "bob", recent=200) as bob_again:
            await caught_up(bob_again, "#lab")
            assert bob_again.window_of("#lab").unread == 0


async def test_an_edited_and_deleted_message_is_one_tombstone() -> None:
    async with running_server() as server, members(server, "alice", "bob", "carol") as people:
        alice, bob, carol = people
        seen = await alice.post("before")
        gone = await alice.post("wrong")
        for text in ("bob, wrong", "worse", "worst"):
            await alice.command(Edit, gone, text)
        await alice.post("after")
        await alice.command(Delete, gone)
        await has_seen(bob, seen)
        await has_seen(carol, seen)
        async with typing(server, "bob", rewrites=False, recent=0) as printed:
            # The plain front end prints no tombstone, only the line that reports the deletion.
            assert [line.who for line in printed.lines if line.deleted] == ["alice"]
            assert len([line for line in printed.lines if "deleted" in line.text]) == 1
            assert not [line for line in printed.lines if "wors" in line.text]
        async with typing(server, "carol", recent=200) as late:
            assert late.screen() == ["alice: before", "alice:  [deleted]", "alice: after"]
            assert missed(late.window) == ["1 message"]


async def test_changes_of_unread_messages_change_the_counts() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as bob,
    ):
        bob.frontend.looks = False
        first, second = await alice.post("hello"), await alice.post("bob?")
        await bob.until(lambda: (bob.window.unread, bob.window.mentions) == (2, 1))
        await alice.command(Edit, first, "hello, bob")
        await bob.until(lambda: bob.window.mentions == 2)
        await alice.command(Edit, second, "carol?")
        await bob.until(lambda: bob.window.mentions == 1)
        await alice.command(Delete, first)
        await bob.until(lambda: (bob.window.unread, bob.window.mentions) == (1, 0))
        assert bob.window.new_from == second
        assert len(bob.frontend.calls) == 1  # an edit rings no bell


async def test_thousands_of_unread_messages_are_counted() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await has_seen(bob, await alice.post("seen"))
        await alice.say(*(f"text {n}" for n in range(1999)))
        last = await alice.post("at last, bob")
        async with typing(server, "bob", "lab", recent=20) as later:
            ops = later.window_of("#ops")
            await later.until(lambda: ops.replica.last >= last and ops.caught_up)
            assert (ops.unread, ops.mentions) == (2000, 1)


async def test_the_new_rule_is_not_above_own_lines() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", "ops", "lab") as bob,
    ):
        await bob.types("/window lab")
        await alice.post("news")
        await bob.until(lambda: bob.window_of("#ops").unread == 1)
        await bob.types("/window ops")
        assert bob.window.new_from
        await bob.types("/clear", "mine")
        assert bob.window.new_from == 0


async def test_list_counts_groups_that_are_not_open() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        members(server, "alice", "bob", group="lab"),
        typing(server, "bob", rewrites=False) as bob,
    ):
        first = await alice.post("hello", group="lab")
        await alice.post("bob, hello", group="lab")
        await alice.command(Edit, first, "hello all", group="lab")
        await bob.until(lambda: "#lab" in bob.titles and bob.window_of("#lab").mentions)
        bob.frontend.looks = False
        await bob.types("/window lab", "/part")  # without having seen them
        shown = await bob.types("/list")
        assert "notice: #lab (2 unread, 1 mention)" in shown
        await bob.types("/ignore alice")
        assert "notice: #lab" in await bob.types("/list")
