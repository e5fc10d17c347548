"""What a person has not seen yet, what calls for attention, and what was missed meanwhile."""

from __future__ import annotations

import trio.testing

from tchat.client.client_id import ClientId
from tchat.client.updates import JournalDamaged
from tchat.core.group.commands import Approve, Kick, Leave
from tchat.core.protocol.frames import Seen
from tchat.ui.tui.model import Position
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.ui.typist import Typist, two_typing, typing

# ------------------------------------------------------------------ what was not seen yet


async def test_what_comes_to_a_window_that_is_not_in_front_is_unread() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice") as (bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        ops = alice.room
        await alice.types("/window lab")
        first = await bob.post("one")
        await bob.post("two, alice")
        await alice.until(lambda: ops.unread == 2)
        assert (ops.mentions, ops.new_from) == (1, first)
        await alice.types("/window ops")
        assert (ops.unread, ops.mentions, ops.new_from) == (0, 0, first)
        await alice.types("/window lab")
        assert ops.new_from == 0


async def test_what_comes_while_one_reads_further_up_is_unread_too() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one", "two")
        await bob.reads("alice: two")
        bob.room.position = Position(len(bob.room.lines) - 2)
        await alice.types("three")
        await bob.reads("alice: three")
        assert (bob.room.unread, bob.room.below) == (1, 1)
        bob.room.position = None
        bob.room.attend()
        assert (bob.room.unread, bob.room.below) == (0, 0)
        await alice.until(lambda: bob.room.replica.seen == bob.room.replica.last)


async def test_ones_own_words_are_never_unread_not_even_from_another_terminal() -> None:
    async with (
        running_server() as server,
        typing(server) as here,
        typing(server) as there,
    ):
        there.face.looks = False
        await here.types("alice, alice")
        await there.reads("alice: alice, alice")
        assert (there.room.unread, there.room.new_from, there.face.calls) == (0, 0, [])


def missed(bob: Typist) -> list[str]:
    return [line.text for line in bob.lines if line.text.startswith("since ")]


async def test_one_who_returns_is_told_what_was_missed_once_on_whatever_device() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.send(Seen(GROUP, await alice.post("before")))
        await bob.before_pong()
        first = await alice.post("one")
        await alice.post("two, bob")
        async with typing(server, "bob", recent=200) as there:
            (told,) = missed(there)
            assert told.endswith(": 2 messages, 1 mentions you")
            assert there.room.new_from == first
            history = [line.text for line in there.lines if line.history]
            assert "before" in history
            assert not {"one", "two, bob"} & set(history)
            assert there.face.calls == []
            await there.until(lambda: there.room.replica.seen == there.room.replica.last)
            await there.types("seen")
        async with typing(server, "bob", recent=200) as elsewhere:
            assert missed(elsewhere) == []
            assert elsewhere.room.new_from == 0


async def test_what_nobody_looked_at_is_still_unread_on_the_next_device() -> None:
    async with two_typing() as (alice, bob):
        bob.face.looks = False
        await alice.types("one")
        await bob.reads("alice: one")
        assert bob.room.unread == 1
        assert bob.room.replica.seen < bob.room.replica.last


async def test_what_comes_to_a_conversation_of_two_while_away_opens_it() -> None:
    async with running_server() as server, members(server, "alice", "bob"):
        async with typing(server) as alice:
            await alice.types("/msg bob are you there?")
        async with typing(server, "bob") as bob:
            direct = bob.room_of("@alice")
            await bob.until(lambda: direct.caught_up)
            assert (bob.room.title, direct.unread) == ("#ops", 1)
            assert bob.face.calls == []
            assert missed(bob) == []  # there was nothing before it
            await bob.types("/window alice")
            await bob.until(lambda: direct.replica.seen == direct.replica.last)
        async with typing(server, "bob") as again:
            assert again.titles == ["#ops"]


async def test_with_windows_every_group_one_is_in_is_opened_and_otherwise_the_one() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab"),
        members(server, "bob", "alice", group="den"),
    ):
        async with typing(server) as alice:
            assert alice.titles[0] == "#ops"
            assert sorted(alice.titles) == ["#den", "#lab", "#ops"]
        async with typing(server, rewrites=False) as alice:
            assert alice.titles == ["#ops"]


# ------------------------------------------------------------------ what calls


async def test_mentions_and_messages_to_one_person_call_and_nothing_else_does() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("hello", "look, Bob\nthere", "bobby", "/me greets bob", "/msg bob psst")
        await bob.shows("psst")
        assert bob.face.calls == [
            ("#ops", "alice: look, Bob\nthere"),
            ("#ops", "alice: greets bob"),
            ("@alice", "alice: psst"),
        ]
        await alice.types("/msg bob again")
        await bob.shows("again")
        assert bob.face.calls[3:] == [("@alice", "alice: again")]
        await bob.types("I am bob", "/msg alice bob here")
        assert len(bob.face.calls) == 4


async def test_what_was_said_before_one_came_does_not_call() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        await alice.post("bob, where are you?")
        async with typing(server, "bob") as bob:
            await alice.post("bob, there you are")
            await bob.shows("there you are")
            assert bob.face.calls == [("#ops", "alice: bob, there you are")]


async def test_a_group_may_be_muted_and_a_person_ignored_from_the_beginning() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob", mute=("OPS",), ignore=("Carol",)) as bob,
    ):
        await carol.post("bob, bob, bob")
        await alice.post("bob?")
        await bob.reads("alice: bob? [mention]")
        assert (bob.face.calls, len(bob.screen())) == ([], 1)


# ------------------------------------------------------------------ what one is to the group


async def test_one_who_comes_back_is_welcomed_and_has_missed_something() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as bob,
    ):
        await alice.command(Kick, "bob")
        await bob.shows("alice kicked you out of the group; /join asks again, /3 leaves")
        await alice.post("behind bob's back")
        await bob.types("/join")
        await alice.command(Approve, "bob")
        await bob.until(lambda: sum("/help lists" in line.text for line in bob.lines) == 2)
        await bob.types("back")
        assert bob.face.calls == []


async def test_a_group_that_closed_is_founded_anew_by_whoever_asks() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, by_hand),
        typing(server, "bob") as bob,
    ):
        await alice.command(Leave)
        await bob.shows("alice made bob the admin: that is you")
        await by_hand.command(Leave)
        await bob.shows("you left the group from another terminal; /join asks again, /3 leaves")
        await bob.types("/join")
        await bob.shows("bob created ops and you are its admin")


# ------------------------------------------------------------------ the past


async def test_the_past_comes_in_front_page_by_page_and_what_one_looks_at_stays() -> None:
    async with running_server() as server, members(server, "alice") as (by_hand,):
        for n in range(400):
            await by_hand.send(Seen(GROUP, await by_hand.post(f"text {n}")))
        async with typing(server, recent=20) as alice:
            before = len(alice.room.lines)
            assert before < 30
            alice.room.position = Position(5)
            looked_at = alice.room.lines[5]
            alice.room.load_past()
            assert alice.room.loading
            alice.room.load_past()
            await alice.types("")
            assert len(alice.room.lines) > before
            assert alice.room.lines[alice.room.position.index] == looked_at
            await alice.reads_back()
            assert alice.screen() == [f"alice: text {n}" for n in range(400)]
            assert alice.room.past == "all"
            assert all(line.history for line in alice.room.lines if line.who)
            assert alice.room.unread == 0


# ------------------------------------------------------------------ what is on its way


async def test_what_is_said_shows_at_once_as_on_its_way() -> None:
    async with two_typing() as (alice, _):
        alice.chat.enter("one")
        alice.chat.enter("/me two")
        assert alice.screen() == ["alice: one [pending]", "alice * two [pending]"]
        assert await alice.types("/edit what?") == [
            "error: What you said last is still on its way; try again in a moment.",
            "message: one",
            "action: two",
        ]
        assert alice.screen() == ["alice: one", "alice * two"]


async def test_what_was_typed_before_the_program_ended_is_sent_by_the_next() -> None:
    slot = ClientId()
    async with running_server() as server, members(server, "alice") as _:
        port = server.address.port
        async with typing(server, slot=slot) as alice:
            await server.end()
            await alice.shows("connection lost")
            alice.chat.enter("kept")
            assert alice.screen() == ["alice: kept [pending]"]
            assert not await alice.chat.finish(0)
            assert alice.lines[-1].text == (
                "1 of what you typed or were sent had to be left undone."
                " What you said is kept, and sent when you are here again."
            )
    async with running_server(server.store, port=port) as server:
        async with typing(server, slot=slot) as alice:
            assert await alice.chat.finish(5)
            await alice.reads("alice: kept")
        assert texts(await log_of(server.store)) == ["kept"]


async def test_offline_one_asks_and_types_on_and_it_is_done_afterwards() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
    ):
        port = server.address.port
        await server.end()
        await alice.shows("connection lost")
        for line in ("/members", "/whois bob", "/help /me", "/window 1"):
            alice.chat.enter(line)
        told = [line.text for line in alice.lines]
        assert "members (2): alice (admin), bob" in told
        assert told[-1] == "/me TEXT: say what you do"
        for line in ("/topic later", "/query bob", "psst", "/window ops", "/join lab", "hi"):
            alice.chat.enter(line)
        assert alice.chat.refusals == 0
        async with running_server(server.store, port=port):
            await alice.shows("connected again")
            await alice.shows("alice set the topic: later")
            await alice.reads("alice: psst", "@bob")
            await alice.reads("alice: hi", "#lab")


async def test_what_of_the_outbox_was_damaged_is_said() -> None:
    async with two_typing() as (alice, _):
        alice.chat.take(JournalDamaged("Something was lost."))
        await trio.testing.wait_all_tasks_blocked()
        assert (alice.lines[-1].sort, alice.lines[-1].text) == ("error", "Something was lost.")
        assert alice.chat.refusals == 1


async def test_a_message_that_was_not_sent_is_remembered_by_the_next_program() -> None:
    slot = ClientId()
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        async with typing(server, "bob", slot=slot) as bob:
            await alice.command(Kick, "bob")
            await bob.shows("kicked you out")
            await bob.types("unheard")
            await bob.types("/join")
        await alice.command(Approve, "bob")
        async with typing(server, "bob", slot=slot) as bob:
            await bob.shows("not sent: 1 message; /resend, or /discard")
            assert bob.chat.refusals == 0
            await bob.types("/resend")
            assert bob.screen() == ["bob: unheard"]
