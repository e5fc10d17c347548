"""/me, /reply, /edit, /delete, /resend, /discard, /search and /jump, with a real server."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Approve, Kick, Leave
from tchat.core.group.messages import MOST_EDITS, Delete, Edit
from tchat.core.protocol.frames import Seen
from tchat.errors import Code, Refused
from tchat.ui.chat.window import reference_to
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.ui.typist import two_typing, typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.pending_message import PendingMessage
    from tchat.client.replica import Replica
    from tchat.ui.chat.window import Window
    from tests.ui.typist import Typist

# ------------------------------------------------------------------ /me


async def test_me_sends_an_action() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("/me waves at bob")
        await bob.reads("alice * waves at bob [mention]")
        assert alice.screen() == ["alice * waves at bob"]


async def test_me_without_text_asks_for_it() -> None:
    async with two_typing() as (alice, bob):
        assert await alice.types("/me") == ["notice: do what?"]
        assert await alice.types("waves") == ["action: waves"]
        await bob.reads("alice * waves")


# ------------------------------------------------------------------ /reply


async def test_a_reply_quotes_its_message() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("shall we?", "tomorrow?")
        await alice.reads("bob: tomorrow?")
        await alice.types("not I", "/reply yes, at ten", "/reply ^4 perhaps", "/reply bob gladly")
        await bob.reads("alice: yes, at ten [re bob: tomorrow?]")
        await bob.reads("alice: perhaps [re bob: shall we?]")
        await bob.reads("alice: gladly [re bob: tomorrow?]")
        await bob.types("/reply ^1 and why?", "/reply ^99 too far")
        await alice.reads("bob: and why? [re alice: gladly]")
        assert bob.lines[-1].text == "There is no message ^99 here."


async def test_a_leading_name_selects_whose_message() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one")
        await bob.reads("alice: one")
        await bob.types("two", "/reply Alice three")
        assert bob.screen()[-1] == "bob: three [re alice: one]"


@pytest.mark.parametrize("typed", ["/reply", "/reply alice", "/reply ^1"])
async def test_reply_asks_for_a_missing_text(typed: str) -> None:
    """It replies to the message that the question quotes, whatever arrives before the answer."""
    async with two_typing() as (alice, bob):
        await alice.types("one")
        await bob.reads("alice: one")
        assert await bob.types(typed) == ["notice: reply what? (alice: one)"]
        await alice.types("two")
        await bob.reads("alice: two")
        await bob.types("//answer")
        assert bob.screen()[-1] == "bob: /answer [re alice: one]"


async def test_question_quotes_the_message_as_it_is_now() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one")
        await bob.reads("alice: one")
        await bob.types("/reply")
        await alice.types("/edit uno")
        await bob.until(lambda: bob.chat.asked_text == "reply what? (alice: uno)")
        await alice.types("/delete")
        await bob.until(lambda: bob.chat.asked_text == "reply what? (a deleted message)")
        assert await bob.types("too late") == ["error: That message was deleted meanwhile."]


async def test_confirmed_reply_to_a_deleted_message_is_refused() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", yes=False) as bob,
    ):
        seq = await alice.post("one")
        await bob.shows("one")
        await bob.types("/reply alcie no")
        await alice.command(Delete, seq)
        await bob.reads("alice:  [deleted]")
        assert await bob.types("y") == [
            "error: That message was deleted meanwhile; nothing is left to do."
        ]


async def test_plain_reply_asks_after_a_private_message() -> None:
    """Where all windows are one column of lines, the last message may be in another window."""
    async with (
        running_server() as server,
        members(server, "alice", "bob", "sam") as (_, bob, _),
        typing(server) as alice,
        typing(server, "sam", rewrites=False, yes=False) as sam,
    ):
        await bob.post("lunch?")
        await sam.shows("lunch?")
        await alice.types("/msg sam your salary is 100")
        await sam.shows("your salary is 100")
        question = (
            "Reply to bob in #ops? The last message came from alice to you alone:"
            " /msg alice TEXT would answer it."
        )
        assert await sam.types("/reply too little") == [f"notice: {question} (y or n)"]
        await sam.types("n")
        assert sam.screen() == ["bob: lunch?"]
        await sam.types("/reply yes", "y")
        assert sam.screen()[-1] == "sam: yes [re bob: lunch?]"
        await sam.types("/reply at ten")  # after this, #ops has the last message
        assert sam.screen()[-1] == "sam: at ten [re bob: lunch?]"


async def test_reply_asks_about_a_mistyped_name() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", yes=False) as bob,
    ):
        await alice.post("one")
        await bob.shows("one")
        asked = 'alcie is not alice. Reply to alice in #ops: "alcie no"?'
        assert await bob.types("/reply alcie no") == [f"notice: {asked} (y or n)"]
        assert await bob.types("/reply alice no", "/reply also this") == [
            f'error: Nothing was done: "{asked}" was not answered with y.',
            "message: no",
            "message: also this",
        ]


async def test_refused_reply_is_still_an_answer() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one")
        await bob.reads("alice: one")
        await bob.types("/reply", "long " * 5000)
        assert bob.frontend.filled == ["long " * 5000]
        await bob.types("short")
        assert bob.screen()[-1] == "bob: short [re alice: one]"
        assert await bob.types("/reply", "") == [
            "notice: reply what? (alice: one)",
            "error: Nothing was sent.",
        ]
        await bob.types("no reply")
        assert bob.screen()[-1] == "bob: no reply"


@pytest.mark.parametrize("line", ["/reply hello", "/reply ^1 hello", "/reply bob hello"])
async def test_reply_without_messages_is_refused(line: str) -> None:
    async with two_typing() as (alice, _):
        (shown,) = await alice.types(line)
        assert shown.startswith(("error: There is no ", "error: There is no message of bob"))


@pytest.mark.parametrize(("command", "example"), [("/delete", "^2"), ("/pin", "^1")])
async def test_people_without_loaded_messages_are_named(command: str, example: str) -> None:
    """A member or not: the answer is not how the command is typed. A former member is found."""
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, bob, _),
        typing(server) as alice,
    ):
        await bob.post("from bob")
        await bob.command(Leave)
        await alice.types("mine")
        for name in ("carol", "nobody"):
            assert await alice.types(f"{command} {name}") == [
                f"error: There is no message of {name} here."
            ]
        assert await alice.types(f"{command} two words") == [
            f"error: Usage: {command} [NAME|^N]; for example: {command} {example}"
        ]
        await alice.types(f"{command} BOB")
        await alice.until(
            lambda: alice.window.replica.state.pinned or alice.screen()[0] == "bob:  [deleted]"
        )


async def test_a_reply_to_a_deleted_message_quotes_nothing() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("a secret")
        await bob.reads("alice: a secret")
        await bob.types("/reply what is that?")
        assert bob.screen()[-1] == "bob: what is that? [re alice: a secret]"
        await alice.types("/delete")
        gone = "bob: what is that? [re a deleted message]"
        for person in (alice, bob):
            await person.reads("alice:  [deleted]")
            await person.reads(gone)
        assert await bob.types("/reply alice still there?") == [
            "error: There is no message of alice here."
        ]


async def test_an_edit_updates_quotations() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("at tne")
        await bob.reads("alice: at tne")
        await bob.types("/reply when?")
        await alice.types("/edit at ten")
        await bob.reads("bob: when? [re alice: at ten]")


# ------------------------------------------------------------------ /edit


async def test_an_edit_changes_the_message_in_place() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("helo", "is bob there?")
        await bob.reads("alice: is bob there? [mention]")
        await alice.types("/edit ^2 hello, bob")
        await bob.reads("alice: hello, bob [edited, mention]")
        assert await alice.types("/edit all well") == []
        for person, name in ((alice, "alice"), (bob, "bob")):
            await person.reads("alice: all well [edited]")
            assert len(person.screen()) == 2, name
            assert not any("edited a message" in line.text for line in person.lines)


async def test_printed_lines_get_a_notice_of_edits() -> None:
    async with two_typing(rewrites=False) as (alice, bob):
        await alice.types("helo")
        await bob.shows("helo")
        await alice.types("/edit hello")
        assert re.fullmatch(r'alice edited "helo" of \d\d:\d\d: hello', await bob.shows("edited"))
        await alice.types("/delete")
        assert re.fullmatch(r"alice deleted their message of \d\d:\d\d", await bob.shows("deleted"))
        assert await bob.types("mine", "/edit") == [
            "message: mine",
            "error: Usage: /edit [^N] [TEXT]; for example: /edit ^2 the complete new text",
        ]


async def test_edit_without_text_fills_the_input() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("/me wavse", "two\nlines", "/edit")
        (filled,) = alice.frontend.filled
        assert re.fullmatch(r"/edit \^#\d+-[0-9a-f]{6} two\nlines", filled)
        await alice.types(filled.replace("two\n", "two\nfine "))
        await bob.reads("alice: two\nfine lines [edited]")
        await alice.types("/edit ^2")
        filled = alice.frontend.filled[1]
        assert re.fullmatch(r"/edit \^#\d+-[0-9a-f]{6} /me wavse", filled)
        await bob.types("one", "two")
        await alice.reads("bob: two")
        # It still means the message that was offered, although that is the fourth by now.
        await alice.types(filled.replace("wavse", "waves"))
        await bob.reads("alice * waves [edited]")
        assert await alice.types("/edit ^2 of whom?") == ["error: Only bob may edit this message."]


async def test_edit_keeps_tabs_and_indentation() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("\tif x:\n\t\treturn", "/edit")
        (filled,) = alice.frontend.filled
        assert re.fullmatch(r"/edit \^#\d+-[0-9a-f]{6} \tif x:\n\t\treturn", filled)
        await alice.types(filled.replace("x", "y"))
        await bob.reads("alice: \tif y:\n\t\treturn [edited]")
        await alice.types("last", "/edit ^2   if z:")
        await bob.reads("alice:   if z: [edited]")


async def test_only_own_messages_can_be_edited() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("mine")
        await alice.reads("bob: mine")
        no_message = "error: There is no such message here."
        assert await alice.types("/edit yours") == [no_message]
        assert await alice.types("/edit ^1 yours") == ["error: Only bob may edit this message."]
        assert await alice.types("/edit ^2 yours") == ["error: There is no message ^2 here."]
        assert await alice.types("/edit ^0 yours") == ["error: There is no message ^0 here."]
        await alice.types("also mine")
        assert await alice.types("/edit \u200b") == [
            "error: A message needs at least one visible character."
        ]
        assert await alice.types("/edit " + "x" * 20_000) == [
            "error: A message has at most 16 KiB; send a longer text as a file."
        ]


# ------------------------------------------------------------------ /delete


async def test_deletion_erases_the_text_everywhere() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
        typing(server, "bob") as bob,
    ):
        await bob.types("one", "two")
        await alice.reads("bob: two")
        await alice.types("three")
        await bob.types("/delete")
        await alice.types("/delete bob")
        for person in (alice, bob):
            await person.reads("bob:  [deleted]")
            await person.until(lambda p=person: p.screen().count("bob:  [deleted]") == 2)  # type: ignore[misc]
            assert person.screen()[-1] == "alice: three"
        assert texts(await log_of(server.store)) == ["three"]
        async with typing(server, "alice") as again:
            assert again.screen() == ["bob:  [deleted]", "bob:  [deleted]", "alice: three"]


async def test_only_the_author_or_the_admin_deletes() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("mine")
        await bob.reads("alice: mine")
        assert await bob.types("/delete alice") == [
            "error: Only alice or the admin may delete this message."
        ]
        assert await bob.types("/delete") == ["error: There is no such message here."]
        assert await bob.types("/delete nobody") == ["error: There is no such message here."]
        assert await alice.types("/delete all of it") == [
            "error: Usage: /delete [NAME|^N]; for example: /delete ^2"
        ]
        assert alice.screen() == bob.screen() == ["alice: mine"]


async def test_message_numbers_skip_deleted_messages() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("one", "two", "three", "/delete ^2")
        await alice.reads("alice:  [deleted]")
        await alice.types("/delete ^2")
        assert alice.screen() == ["alice:  [deleted]", "alice:  [deleted]", "alice: three"]
        await bob.until(lambda: bob.screen() == alice.screen())


# ------------------------------------------------------------------ edits that are refused later


@asynccontextmanager
async def refusing_edits(*, rewrites: bool = True) -> AsyncIterator[tuple[Typist, int]]:
    """Bob, whose message the server edits no more; and the seq of that message."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, raw),
    ):
        seq = await raw.post("0")
        for number in range(MOST_EDITS):
            await raw.command(Edit, seq, str(number))
        async with typing(server, "bob", rewrites=rewrites) as bob:
            yield bob, seq


async def test_refused_edits_are_given_back() -> None:
    async with refusing_edits() as (bob, seq):
        bob.chat.enter("/edit ^1 a new text")
        (edit,) = bob.chat.edits_of(GROUP)
        assert re.fullmatch(rf"/edit \^#{seq}-[0-9a-f]{{6}} a new text", edit)
        assert await bob.shows("It is given back.")
        # If it is typed again, it still means the message that it meant.
        assert bob.frontend.given_back == [edit]
        assert bob.chat.edits_of(GROUP) == []


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("/edit changed", "/edit {mine} changed"),
        ("/edit ^2  changed", "/edit {mine}  changed"),
        ("/delete", "/delete {mine}"),
        ("/delete ^2", "/delete {mine}"),
        ("/reply no", "/reply {other} no"),
        ("/reply bob no", "/reply {other} no"),
        ("/pin ^1", "/pin {other}"),
        ("/reply ^#99-3fa9c1 not here", "/reply ^#99-3fa9c1 not here"),
        ("/edit ^#99-3fa9c1 not here", "/edit ^#99-3fa9c1 not here"),
        ("/edit ^9 text", "text"),
        ("/delete ^9", ""),
        ("//edit ^2 text", "//edit ^2 text"),
        ("/nothing ^2 text", "/nothing ^2 text"),
    ],
)
async def test_saved_commands_keep_their_message(typed: str, kept: str) -> None:
    async with two_typing() as (alice, bob):
        await alice.types("mine")
        await bob.types("other")
        await alice.reads("bob: other")
        newest = list(alice.window.messages())[:2]
        other, mine = (reference_to(line.seq, line.stamp) for line in newest)
        saved = alice.chat.to_save(alice.window, typed)
        assert saved == kept.format(mine=mine, other=other)
        await bob.types("later")
        await alice.reads("bob: later")
        assert alice.chat.complete(alice.window, saved) == saved


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("/edit ^#5 changed", "/edit ^#5 changed"),
        ("/edit ^2 changed", "changed"),
        ("/edit changed", "changed"),
        ("/delete", ""),
        ("/topic a topic", "/topic a topic"),
        ("changed", "changed"),
    ],
)
async def test_saved_commands_of_closed_windows_have_a_seq(typed: str, kept: str) -> None:
    async with running_server() as server, typing(server) as alice:
        assert alice.chat.to_save(None, typed) == kept


async def test_held_edits_outlive_their_window() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.types("/window lab", "first")
        for line in ("/edit a new text", "/part"):
            alice.chat.enter(line)
        (held,) = alice.chat.edits_of("Lab")
        assert re.fullmatch(r"/edit \^#\d+-[0-9a-f]{6} a new text", held)
        assert (len(alice.chat.unanswered_edits), alice.chat.edits_of(GROUP)) == (1, [])
        await alice.types("")
        assert alice.chat.unanswered_edits == []


async def test_kept_reference_never_reaches_another_message() -> None:
    async with two_typing() as (alice, _):
        await alice.types("one", "two")
        kept = alice.chat.complete(alice.window, "/edit fixed")
        await alice.types("/delete", "three")
        refusal = "error: That message was deleted meanwhile."
        assert await alice.types(kept) == [refusal]
        assert "alice: three" in alice.screen()


async def test_answer_becomes_a_command_when_the_question_goes() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("hello")
        await alice.reads("bob: hello")
        await alice.types("/msg bob")
        for answer in ("secret", "/home is full"):
            assert alice.chat.complete(alice.window, answer) == f"/msg bob {answer}"
        assert alice.chat.complete(alice.window, "//home") == "/msg bob /home"
        assert alice.chat.complete(alice.window, "/help") == "/help"
        alice.chat.cancel_question()
        assert alice.chat.complete(alice.window, "secret") == "secret"
        await alice.types("/msg bob", "/home is full")
        assert "alice: /home is full" not in alice.screen()
        await bob.until(lambda: "@alice" in bob.titles)
        await bob.until(lambda: "alice: /home is full" in bob.screen("@alice"))


async def test_accepted_edits_are_not_given_back() -> None:
    async with two_typing() as (alice, _):
        await alice.types("helo", "/edit hello")
        assert (alice.frontend.given_back, alice.chat.edits_of(GROUP)) == ([], [])


# ------------------------------------------------------------------ /resend, /discard


async def test_refused_messages_stay_until_resent_or_discarded() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (raw, _),
        typing(server, "bob") as bob,
    ):
        await raw.command(Kick, "bob")
        await bob.shows("kicked you from")
        for text in ("one", "two"):
            (line,) = await bob.types(text)
            assert line.startswith("error: You are not a member of this group. /join")
        assert bob.screen() == ["bob: one [failed]", "bob: two [failed]"]
        assert len(await bob.types("/resend")) == 2
        await bob.types("/join")
        await raw.attach()
        await bob.shows("Waiting for alice")
        await raw.command(Approve, "bob")
        await bob.until(lambda: bob.window.replica.caught_up)
        await bob.types("/resend")
        assert bob.screen()[-2:] == ["bob: one", "bob: two"]
        nothing = "error: None of your messages here was refused."
        assert await bob.types("/resend") == await bob.types("/discard") == [nothing]
        assert texts(await log_of(server.store)) == ["one", "two"]


async def test_discarded_messages_are_never_sent() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (raw, _),
        typing(server, "bob") as bob,
    ):
        await raw.command(Kick, "bob")
        await bob.shows("kicked you from")
        await bob.types("one", "two")
        assert await bob.types("/discard") == ["notice: 2 messages discarded"]
        assert bob.screen() == []


async def test_invalid_messages_are_refused_and_not_kept() -> None:
    async with two_typing() as (alice, _):
        for line, sentence in (
            ("\u200b", "A message needs at least one visible character."),
            ("x" * 20_000, "A message has at most 16 KiB; send a longer text as a file."),
            ("/me \u200b", "A message needs at least one visible character."),
        ):
            assert await alice.types(line) == [f"error: {sentence}"]
        assert alice.screen() == []


# ------------------------------------------------------------------ /search, /jump


async def test_search_covers_all_groups_and_jump_follows() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.types("the deploy failed", "and again")
        await alice.types("/window lab", "deploy on friday?")
        await alice.types("/me plans a deploy")
        *hits, hint = await alice.types("/search Deploy")
        assert [line.partition(" #")[2] for line in hits] == [
            "ops <alice> the deploy failed",
            "lab <alice> deploy on friday?",
            "lab <alice> /me plans a deploy",
        ]
        assert [line.split()[1] for line in hits] == ["3", "2", "1"]
        assert hint == "notice: /jump 1 goes to the newest result."
        await alice.types("/jump 3")
        assert alice.window.title == "#ops"
        assert alice.frontend.revealed == [("#ops", 2)]
        for line in ("/jump 4", "/jump 0", "/jump x", "/jump ²", "/jump " + "9" * 4000):
            assert await alice.types(line) == [
                "error: There is no such result; /search WORDS searches."
            ]


async def test_search_finds_no_deleted_messages() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("a secret plan")
        assert await bob.types("/search nothing such") == [
            "notice: No messages found for: nothing such"
        ]
        assert len(await bob.types("/search secret")) == 2
        await alice.types("/delete")
        assert await bob.types("/search secret") == ["notice: No messages found for: secret"]
        assert await bob.types("/search") == ["notice: search for what?"]


async def test_jump_loads_the_past() -> None:
    async with running_server() as server, members(server, "alice") as (raw,):
        first = await raw.post("the needle")
        for n in range(300):
            await raw.send(Seen(GROUP, await raw.post(f"hay {n}")))
        async with typing(server, recent=10) as alice:
            assert "alice: the needle" not in alice.screen()
            await alice.types("/search needle")
            await alice.types("/jump 1")
            assert alice.frontend.revealed == [("#ops", first)]
            assert alice.screen()[0] == "alice: the needle"


async def test_jump_stops_when_its_window_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then, the window shows that history is being loaded."""
    async with running_server() as server, members(server, "alice", group="lab") as (raw,):
        await raw.post("the needle", group="lab")
        for n in range(600):
            seq = await raw.post(f"hay {n}", group="lab")
        await raw.send(Seen("lab", seq))
        async with typing(server, recent=10) as alice:
            await alice.types("/search needle")
            past = []

            def close(window: Window, *_: int) -> None:
                past.append(window.past)
                alice.chat.close(window)

            monkeypatch.setattr(alice.frontend, "inserted", close)
            await alice.types("/jump 1")
            assert alice.lines[-1].text == "#lab was closed, so /jump has stopped."
            assert (past, alice.frontend.revealed) == (["loading"], [])


async def test_jump_says_why_it_has_stopped() -> None:
    async with running_server() as server, typing(server, "alice", "ops", "lab") as alice:
        await alice.types("the needle", "/search needle")
        for line in ("/jump 1", "/window lab"):
            alice.chat.enter(line)
        await alice.shows("You have switched from #ops to #lab, so the command has stopped.")
        assert not any("begun to type" in line.text for line in alice.lines)


async def test_jump_restores_cleared_lines() -> None:
    async with running_server() as server, typing(server) as alice:
        await alice.types("the needle", "/clear", "/search needle")
        assert alice.screen() == []
        await alice.types("/jump 1")
        assert alice.screen() == ["alice: the needle"]


async def test_loaded_past_shows_edits_and_deletions() -> None:
    async with running_server() as server, members(server, "alice") as (raw,):
        old = [await raw.post(f"old {n}") for n in range(4)]
        async with typing(server) as alice:
            await alice.types("/edit ^1 changed", "/delete ^2")
        for n in range(30):
            await raw.send(Seen(GROUP, await raw.post(f"new {n}")))
        async with typing(server, recent=5) as alice:
            await raw.command(Delete, old[0])
            assert alice.screen()[0].startswith("alice: new ")
            await alice.load_all_history()
            assert alice.screen()[:4] == [
                "alice:  [deleted]",
                "alice: old 1",
                "alice:  [deleted]",
                "alice: changed [edited]",
            ]
            assert len(alice.screen()) == 34
            assert not any("edited a message" in line.text for line in alice.window.lines)


async def test_answer_of_a_lost_question_is_refused_once() -> None:
    async with running_server() as server, typing(server, "alice", rewrites=False) as alice:
        await alice.types("/msg bob", "/window 1")
        (refusal,) = await alice.types("plain leak?")
        assert refusal.startswith('error: "send what to bob?" is no longer asked')
        assert await alice.types("plain leak?") == ["message: plain leak?"]


@pytest.mark.parametrize("answer", ["/me too, in secret", "/topic our secret", "/list of them all"])
async def test_private_answers_never_run_as_commands(answer: str) -> None:
    """Nor are they posted in the window: they are meant for the person of the question."""
    async with two_typing() as (alice, bob):
        await alice.types("/msg bob", answer)
        await bob.until(lambda: "@alice" in bob.titles)
        assert alice.screen() == []
        assert alice.window.replica.state.topic == ""


@pytest.mark.parametrize("line", ["/quit is what I say", "/clear my words", "/part @bob", "/9 x y"])
async def test_commands_swallow_no_further_words(line: str) -> None:
    async with two_typing() as (alice, _):
        await alice.types("hello", line)
        assert alice.screen() == ["alice: hello"]
        assert alice.titles == ["#ops"]


async def test_messages_that_cannot_be_saved_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are held: they are saved before they are shown as being sent."""
    async with running_server() as server, typing(server) as alice:
        post = alice.chat.session.post

        def post_until_full(
            replica: Replica,
            text: str,
            reply: int | None,
            *,
            held: bool,
            stamp: bytes | None,
        ) -> PendingMessage:
            assert held
            if text == "two":
                raise Refused(Code.FILE_UNREADABLE, "The disk is full.")
            return post(replica, text, reply, held=held, stamp=stamp)

        monkeypatch.setattr(alice.chat.session, "post", post_until_full)
        for line in ("/join lab", "one", "two"):
            alice.chat.enter(line)
        await alice.shows("The disk is full.")
        assert alice.frontend.filled == ["two"]
        await alice.reads("alice: one")
        assert alice.screen() == ["alice: one"]
