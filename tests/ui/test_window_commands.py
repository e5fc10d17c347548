"""Commands about windows and groups (/join, /leave, /msg, /window ...), and /help and /quit."""

from __future__ import annotations

import re

import pytest
import trio
import trio.testing

from tchat.core.group.membership import Approve, Ban, Deny, Join, Kick
from tests.helpers import GUARD, log_of, members, raw_client, running_server, texts
from tests.ui.typist import two_typing, typing

DIRECT = "@alice,bob"


# ------------------------------------------------------------------ /join


async def test_join_founds_a_group_and_holds_messages() -> None:
    async with running_server() as server, typing(server) as alice:
        for line in ("/join #Lab", "hello", "/me waves"):
            alice.chat.enter(line)
        assert alice.titles == ["#ops", "#Lab"]
        assert alice.screen() == ["alice: hello [pending]", "alice * waves [pending]"]
        assert await alice.chat.finish(GUARD)
        assert await alice.shows("You are in #Lab; nobody else is here yet.")
        assert texts(await log_of(server.store, "lab")) == ["hello", "/me waves"]
        assert texts(await log_of(server.store, "ops")) == []


async def test_join_asks_or_switches_to_an_open_window() -> None:
    async with (
        running_server() as server,
        members(server, "bob", group="lab") as (bob,),
        typing(server) as alice,
    ):
        await alice.types("/join lab")
        assert alice.window.title == "#lab"
        assert (
            await alice.shows("Waiting for bob")
            == "Waiting for bob to approve you. /leave withdraws your request."
        )
        assert await alice.types("/join") == [
            "notice: Waiting for bob to approve you. /leave withdraws your request."
        ]
        await alice.types("/join OPS")
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops", "#lab"])
        assert await alice.types("/join") == ["error: You are a member already."]
        await bob.command(Approve, "alice", group="lab")
        await alice.until(lambda: alice.window_of("#lab").caught_up)


async def test_join_asks_again_after_a_kick() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab") as (bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await bob.command(Kick, "alice", group="lab")
        await alice.shows(
            "bob kicked you from this group. /join asks to join again, /part closes this window."
        )
        assert not [line for line in alice.lines if line.text == "bob kicked alice"]
        await alice.types("/join lab")
        assert alice.window.title == "#lab"
        await alice.shows("Waiting for bob")


@pytest.mark.parametrize("name", ["a/b", "x" * 33, "two words", "#"])
async def test_join_refuses_bad_group_names(name: str) -> None:
    async with running_server() as server, typing(server) as alice:
        (line,) = await alice.types(f"/join {name}")
        assert line.startswith("error: ")
        assert alice.titles == ["#ops"]


async def test_join_explains_a_ban() -> None:
    async with (
        running_server() as server,
        members(server, "bob", group="lab") as (bob,),
        typing(server) as alice,
    ):
        await bob.command(Ban, "alice", group="lab")
        shown = await alice.types("/join lab")
        assert (
            shown[-1] == "error: You were banned from this group; only its admin can lift the ban."
        )
        await alice.types("/part")
        assert alice.titles == ["#ops"]


# ------------------------------------------------------------------ /part, /leave


async def test_part_closes_the_window_but_keeps_membership() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab", "/close")
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops"])
        assert await alice.types("/list") == ["notice: #ops (window 1)", "notice: #lab"]
        await alice.types("/part")
        assert alice.chat.done.is_set()


async def test_leave_ends_the_membership_and_closes_the_window() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab")
        assert "notice: You left #lab." in await alice.types("/leave")
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops"])
        assert await alice.types("/list") == ["notice: #ops (window 1)"]
        assert not alice.chat.done.is_set()
        assert "notice: You left the group." in await alice.types("/leave")
        assert alice.chat.done.is_set()


async def test_leave_closes_a_window_that_is_not_current() -> None:
    """An old draft in it is no reason to keep it: the draft is kept for the group."""
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab")
        alice.frontend.typing = True
        for line in ("/leave", "/window ops"):
            alice.chat.enter(line)
        await alice.shows("You left #lab.")
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops"])


async def test_messages_are_sent_although_their_window_closed() -> None:
    async with running_server() as server, typing(server) as alice:
        for line in ("/join lab", "hello", "/part", "and here"):
            alice.chat.enter(line)
        assert await alice.chat.finish(GUARD)
        assert texts(await log_of(server.store)) == ["and here"]
        # Nobody had founded the group yet, so the message was refused: shown in the window that is
        # left, with the other group's name, and without the hint of /join, which joins this one.
        assert [line.text for line in alice.lines if line.sort == "error"] == [
            "#lab: You are not a member of this group."
        ]
        await alice.types("/join lab", "one")
        for line in ("two", "/part"):
            alice.chat.enter(line)
        assert await alice.chat.finish(GUARD)
        assert texts(await log_of(server.store, "lab")) == ["one", "two"]


@pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])
async def test_refusal_names_the_group_without_window(rewrites: bool) -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab") as (bob, _),
        typing(server, "alice", "ops", "lab", rewrites=rewrites) as alice,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab")
        await bob.command(Kick, "alice", group="lab")
        await alice.shows("kicked you from")
        for line in ("hello", "/part"):
            alice.chat.enter(line)
        await alice.shows("not sent: 1 message to #lab; /join lab shows what to do")
        elsewhere = "Not sent elsewhere: 1 message to #lab (/join lab)."
        for command in ("/resend", "/discard"):
            refused = "error: None of your messages here was refused."
            assert await alice.types(command) == [f"{refused} {elsewhere}"]
        await alice.types("/join lab", "/window ops")
        assert (await alice.types("/resend"))[-1].endswith("1 message to #lab (/window #lab).")
        told = [line.text for line in alice.lines if "shows what to do" in line.text]
        assert len(told) == 1


async def test_each_refusal_without_a_window_is_told() -> None:
    """Also if as many messages were refused, told and discarded before."""
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab") as (bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab")
        await bob.command(Kick, "alice", group="lab")
        await alice.shows("kicked you from")
        for line in ("one", "two", "/part"):
            alice.chat.enter(line)
        await alice.shows("not sent: 2 messages to #lab; /join lab shows what to do")
        await alice.types("/join lab", "/discard")
        await bob.command(Deny, "alice", group="lab")
        await alice.until(lambda: alice.window.replica.standing == "outsider")
        for line in ("three", "/part"):
            alice.chat.enter(line)
        await alice.shows("not sent: 1 message to #lab; /join lab shows what to do")


async def test_messages_that_await_approval_are_not_refused() -> None:
    """No list of refused messages names them, and their window needs not be open to send them."""
    async with (
        running_server() as server,
        members(server, "bob", group="lab") as (bob,),
        typing(server, "alice", rewrites=False) as alice,
    ):
        await alice.types("/join lab")
        await alice.shows("Waiting for bob")
        await alice.types("let me in", "/part")
        assert await alice.types("/resend") == ["error: None of your messages here was refused."]
        await bob.command(Approve, "alice", group="lab")
        await alice.until(lambda: "#lab" in alice.titles)
        await alice.reads("alice: let me in", "#lab")
        assert not any("not sent" in line.text for line in alice.lines)


async def test_leave_is_refused_after_a_kick() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab") as (bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab")
        await bob.command(Kick, "alice", group="lab")
        await alice.shows("kicked you from")
        assert await alice.types("/leave") == [
            "error: You are not a member of this group. /join asks to join."
        ]
        await alice.types("/part")
        assert alice.titles == ["#ops"]


# ------------------------------------------------------------------ /msg, /query


async def test_a_private_message_reaches_only_two() -> None:
    async with two_typing() as (alice, bob):
        assert sorted(await alice.types("/msg BOB  for your eyes ")) == [
            "message: for your eyes",
            "notice: message sent to bob",
        ]
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops", "@bob"])
        await bob.shows("for your eyes")
        assert bob.titles == ["#ops", "@alice"]
        assert bob.frontend.calls == [("@alice", "alice: for your eyes")]
        assert (bob.window_of("@alice").unread, bob.window_of("@alice").mentions) == (1, 1)
        await bob.types("/query alice", "/me nods")
        assert bob.screen() == ["alice: for your eyes", "bob * nods"]
        assert bob.window_of("@alice").unread == 0
        await alice.shows("nods")
        assert alice.screen("#ops") == []


async def test_messages_after_query_arrive_in_order() -> None:
    async with two_typing() as (alice, bob):
        words = [f"text {n}" for n in range(5)]
        for text in words[:3]:
            alice.chat.enter(f"/m bob {text}")
        alice.chat.enter("/q bob")
        for text in words[3:]:
            alice.chat.enter(text)
        await bob.shows("text 4")
        assert bob.screen("@alice") == [f"alice: {text}" for text in words]


@pytest.mark.parametrize("name", ["nobody", "dave"])
async def test_conversation_with_a_stranger_takes_no_text(name: str) -> None:
    """Whether nobody has the name or the person shares no group, and at once."""
    async with (
        running_server() as server,
        typing(server, "alice", "ops", "lab", "den") as alice,
        raw_client(server.address, "dave") as dave,
    ):
        await dave.command(Join, group="elsewhere")
        await alice.until(lambda: not any(w.catching_up for w in alice.chat.windows))
        sentence = "Nobody of this name is in a group with you, so you cannot write to them."
        unsent = f"notice: not sent to {name}: hello"
        assert await alice.types(f"/msg {name} hello") == [unsent, f"error: @{name}: {sentence}"]
        assert (alice.window.title, alice.titles) == ("#ops", ["#ops", "#lab", "#den"])
        # The window in front stays: what is typed there lands in no other group.
        for line in (f"/query {name}", "hello"):
            alice.chat.enter(line)
        assert await alice.shows("It is given back.")
        assert (alice.window.title, alice.frontend.given_back) == (f"@{name}", ["hello"])
        refusal = f"error: {sentence} /part closes this window."
        assert await alice.types("the password") == [refusal]
        await alice.types("/part")
        assert (alice.window.title, alice.screen()) == ("#ops", [])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/msg alice hello", "You cannot start a conversation with yourself."),
        ("/query ALICE", "You cannot start a conversation with yourself."),
        ("/join @alice", "You cannot start a conversation with yourself."),
        ("/msg bob \u200b", "A message needs at least one visible character."),
        ("/msg b/b hello", "A username may contain letters, digits and _ - . only; 'b/b' contains"),
    ],
)
async def test_invalid_private_messages_are_refused(line: str, sentence: str) -> None:
    async with two_typing() as (alice, _):
        (shown,) = await alice.types(line)
        assert shown.startswith(f"error: {sentence}")
        assert alice.titles == ["#ops"]


async def test_private_message_asks_for_its_text() -> None:
    async with two_typing() as (alice, bob):
        assert await alice.types("/msg bob") == ["notice: send what to bob?"]
        assert alice.titles == ["#ops"]
        await alice.types("for you")
        await bob.until(lambda: bob.titles == ["#ops", "@alice"])
        await bob.reads("alice: for you", "@alice")


async def test_leave_closes_a_conversation_of_two() -> None:
    async with two_typing() as (alice, _):
        await alice.types("/query bob", "hello")
        assert await alice.types("/admin") == ["notice: A direct conversation has no admin."]
        for line in ("/kick bob", "/topic x", "/policy", "/policy open", "/invite", "/send x"):
            (shown,) = await alice.types(line)
            assert shown.startswith("error: "), line
        await alice.types("/edit hello, bob", "/leave")
        assert alice.titles == ["#ops"]
        await alice.types("/query bob")
        await alice.reads("alice: hello, bob [edited]")


async def test_ignored_people_open_no_window() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
        typing(server, "bob", ignore=("alice",)) as bob,
    ):
        await alice.types("/msg bob psst", "in the group")
        await bob.until(lambda: bob.window.replica.last == alice.window.replica.last)
        await trio.testing.wait_all_tasks_blocked()
        assert (bob.titles, bob.frontend.calls) == (["#ops"], [])
        async with typing(server, "bob", ignore=("ALICE",)) as again:
            assert again.titles == ["#ops"]


# ------------------------------------------------------------------ /window, /list, /mute, /clear


async def test_windows_are_selected_by_number_or_name() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "ops2", "lab") as alice:
        await alice.until(lambda: all(window.caught_up for window in alice.chat.windows))
        for typed, title in [
            ("3", "#lab"),
            ("OPS", "#ops"),
            ("ops2", "#ops2"),
            ("#l", "#lab"),
            ("1", "#ops"),
        ]:
            assert await alice.types(f"/window {typed}") == []
            assert alice.window.title == title
        alice.chat.switch_back()
        assert alice.window.title == "#lab"
        for typed in ("4", "0", "-1", "99999999999", "0000003", "²", "x" * 4000):
            (line,) = await alice.types(f"/w {typed}")
            assert line.startswith("error: There is no window "), typed
            assert "Your windows: 1 #ops, 2 " in line
        assert await alice.types("/window") == [
            "notice: switch to which window? (#ops, #ops2, #lab)"
        ]
        await alice.types("lab")
        assert alice.window.title == "#lab"


async def test_a_muted_window_does_not_notify() -> None:
    async with two_typing() as (alice, bob):
        assert await bob.types("/mute") == [
            "notice: #ops is muted: its bell is off. /unmute turns it on again."
        ]
        assert await bob.types("/mute") == [
            "notice: #ops is muted already. /unmute turns its bell on again."
        ]
        await alice.types("bob, look")
        await bob.shows("bob, look")
        assert bob.frontend.calls == []
        assert await bob.types("/unmute") == ["notice: #ops is not muted any more: its bell is on."]
        assert await bob.types("/unmute") == [
            "notice: #ops is not muted. /mute turns its bell off."
        ]
        await alice.types("bob, look again")
        await bob.shows("look again")
        assert bob.frontend.calls == [("#ops", "alice: bob, look again")]


async def test_list_shows_groups_with_standing() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab") as (bob, _),
        members(server, "bob", group="den"),
        typing(server, rewrites=False) as alice,
    ):
        await alice.types("/join den")
        await alice.types("/part")
        await bob.post("news", group="lab")
        shown = await alice.types("/list")
        assert shown == [
            "notice: #ops (window 1)",
            "notice: #lab (1 unread)",
            "notice: #den (waiting)",
        ]


async def test_list_follows_the_window_numbers() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "alice", "zoo", "ops", "lab", "den") as alice,
    ):
        await alice.until(lambda: all(window.caught_up for window in alice.chat.windows))
        await alice.types("/msg bob hello", "/window den", "/part")
        assert await alice.types("/list") == [
            "notice: #zoo (window 1)",
            "notice: #ops (window 2)",
            "notice: #lab (window 3)",
            "notice: @bob (window 4)",
            "notice: #den",
        ]


async def test_page_up_restores_a_cleared_window() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one", "two")
        await bob.reads("alice: two")
        await bob.types("/clear")
        assert (bob.window.lines, bob.window.past) == ([], "more")
        await alice.types("three")
        await bob.reads("alice: three")
        await alice.types("/edit ^3 ONE")
        await alice.reads("alice: ONE [edited]")
        await bob.until(lambda: bob.window.replica.last == alice.window.replica.last)
        await bob.load_all_history()
        assert bob.screen() == ["alice: ONE [edited]", "alice: two", "alice: three"]
        assert bob.window.past == "all"


async def test_cleared_messages_can_be_changed() -> None:
    """One's last message is still the last one, and counting back goes on as before."""
    async with two_typing() as (alice, bob):
        await bob.types("hello")
        await alice.types("one", "twoo", "/clear", "/edit two")
        await bob.reads("alice: two [edited]")
        await alice.types("three", "/clear")
        assert await alice.types("/edit") == []
        (filled,) = alice.frontend.filled
        assert re.fullmatch(r"/edit \^#8-[0-9a-f]{6} three", filled)
        await alice.types("/delete", "/delete")
        await bob.until(
            lambda: (
                bob.screen()[1:] == ["alice: one", "alice:  [edited, deleted]", "alice:  [deleted]"]
            )
        )
        await alice.types("/reply ^2 hi")
        await bob.reads("alice: hi [re bob: hello]")
        assert alice.screen() == ["alice: hi [re bob: hello]"]


async def test_clearing_counts_as_having_seen() -> None:
    """The line "new" must not come to stand above one's own next message."""
    async with two_typing() as (alice, bob):
        alice.frontend.looks = False
        await bob.types("hello")
        await alice.reads("bob: hello")
        alice.frontend.looks = True
        assert alice.window.new_from
        await alice.types("/clear", "mine")
        assert (alice.screen(), alice.window.new_from) == (["alice: mine"], 0)


# ------------------------------------------------------------------ /help, /quit


async def test_help_explains_topics_commands_and_keys() -> None:
    async with two_typing(rewrites=False) as (alice, _):
        assert (await alice.types("/help"))[0].startswith("notice: basics: /1 requests, /2 app")
        assert await alice.types("/help devices") == [
            "notice: /link        makes a command that links another device to your name",
            "notice: /keys        lists the keys linked to your name",
            "notice: /unlink KEY  removes a key from your name",
        ]
        assert await alice.types("/help FILES") == await alice.types("/help files")
        assert await alice.types("/help approve") == [
            (
                "notice: /approve NAME|all, or /2: approves a request to join, or all (admin);"
                " for example: /approve bob"
            )
        ]
        assert await alice.types("/help /msg") == [
            (
                "notice: /msg NAME TEXT, /m: sends a private message;"
                " for example: /msg bob are you there?"
            )
        ]
        assert await alice.types("/help 9") == await alice.types("/help SEND")
        assert await alice.types("/help keys") == ["notice: Tab  completes"]
        assert await alice.types("/help frob\x1b") == [
            "error: There is no topic or command frob␛; /help lists them."
        ]


async def test_quit_ends_the_chat_and_no_membership() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("/exit")
        assert bob.chat.done.is_set()
        assert "bob" in alice.window.replica.state.members


async def test_closing_windows_while_opening_never_hangs() -> None:
    async with two_typing() as (alice, _):
        for line in ("/join lab", "/part", "/query bob", "/part", "/join lab", "/leave"):
            alice.chat.enter(line)
        with trio.fail_after(GUARD):
            assert await alice.chat.finish(GUARD)
        assert "#ops" in alice.titles
