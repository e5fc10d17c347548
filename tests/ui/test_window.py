"""Windows: unread counts, the bell, the digest of missed messages, history, pending messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio.testing

from tchat.client.client_id import ClientId
from tchat.client.retention import Retention
from tchat.client.updates import JournalDamaged
from tchat.core.group.membership import Approve, Kick, Leave
from tchat.core.group.messages import Delete, Edit, Post
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Seen
from tchat.ui.chat import chat
from tchat.ui.chat.transcript import UNKNOWN_QUOTE
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.ui.typist import Typist, two_typing, typing

if TYPE_CHECKING:
    import pytest

# ------------------------------------------------------------------ unread, the digest


async def test_messages_in_other_windows_are_unread() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice") as (bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        ops = alice.window
        await alice.types("/window lab")
        first = await bob.post("one")
        await bob.post("two, alice")
        await alice.until(lambda: ops.unread == 2)
        assert (ops.mentions, ops.new_from) == (1, first)
        await alice.types("/window ops")
        assert (ops.unread, ops.mentions, ops.new_from) == (0, 0, first)
        await alice.types("/window lab")
        assert ops.new_from == 0


async def test_messages_out_of_sight_are_unread() -> None:
    async with two_typing() as (alice, bob):
        bob.frontend.looks = False
        await alice.types("three")
        await bob.reads("alice: three")
        assert bob.window.unread == 1
        bob.frontend.looks = True
        bob.window.attend()
        assert bob.window.unread == 0
        await alice.until(lambda: bob.window.replica.seen == bob.window.replica.last)


async def test_own_messages_are_never_unread() -> None:
    async with (
        running_server() as server,
        typing(server) as here,
        typing(server) as there,
    ):
        there.frontend.looks = False
        await here.types("alice, alice")
        await there.reads("alice: alice, alice")
        assert (there.window.unread, there.window.new_from, there.frontend.calls) == (0, 0, [])


def missed(bob: Typist) -> list[str]:
    return [line.text for line in bob.lines if line.text.startswith("since ")]


async def test_the_digest_appears_once_across_devices() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.send(Seen(GROUP, await alice.post("before")))
        await bob.before_pong()
        first = await alice.post("one")
        await alice.post("two, bob")
        async with typing(server, "bob", recent=200) as there:
            (summary,) = missed(there)
            assert summary.endswith(": 2 messages, 1 mention of you")
            assert there.window.new_from == first
            history = [line.text for line in there.lines if line.history]
            assert "before" in history
            assert not {"one", "two, bob"} & set(history)
            assert there.frontend.calls == []
            await there.until(lambda: there.window.replica.seen == there.window.replica.last)
            await there.types("seen")
        async with typing(server, "bob", recent=200) as elsewhere:
            assert missed(elsewhere) == []
            assert elsewhere.window.new_from == 0


async def test_unattended_messages_stay_unread_elsewhere() -> None:
    async with two_typing() as (alice, bob):
        bob.frontend.looks = False
        await alice.types("one")
        await bob.reads("alice: one")
        assert bob.window.unread == 1
        assert bob.window.replica.seen < bob.window.replica.last


async def test_a_missed_private_message_opens_its_window() -> None:
    async with running_server() as server, members(server, "alice", "bob"):
        async with typing(server) as alice:
            await alice.types("/msg bob are you there?")
        async with typing(server, "bob") as bob:
            direct = bob.window_of("@alice")
            await bob.until(lambda: direct.caught_up)
            assert (bob.window.title, direct.unread) == ("#ops", 1)
            assert bob.frontend.calls == []
            assert missed(bob) == []  # there was nothing before it
            await bob.types("/window alice")
            await bob.until(lambda: direct.replica.seen == direct.replica.last)
        async with typing(server, "bob", rewrites=False) as plain:
            assert plain.titles == ["#ops"]  # it is read


async def test_all_groups_open_only_with_windows() -> None:
    async with (
        running_server() as server,
        members(server, "bob", "alice", group="lab"),
        members(server, "bob", "alice", group="den"),
    ):
        async with typing(server) as alice:
            assert alice.window.title == "#ops"
            assert alice.titles == ["#lab", "#den", "#ops"]  # in the order of joining
        async with typing(server, rewrites=False) as alice:
            assert alice.titles == ["#ops"]


# ------------------------------------------------------------------ the bell


async def test_the_bell_rings_for_mentions_and_private_messages() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("hello", "look, Bob\nthere", "bobby", "/me greets bob", "/msg bob psst")
        await bob.shows("psst")
        assert bob.frontend.calls == [
            ("#ops", "alice: look, Bob\nthere"),
            ("#ops", "alice: greets bob"),
            ("@alice", "alice: psst"),
        ]
        await alice.types("/msg bob again")
        await bob.shows("again")
        assert bob.frontend.calls[3:] == [("@alice", "alice: again")]
        await bob.types("I am bob", "/msg alice bob here")
        assert len(bob.frontend.calls) == 4


async def test_the_backlog_does_not_ring_the_bell() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        await alice.post("bob, where are you?")
        async with typing(server, "bob") as bob:
            await alice.post("bob, there you are")
            await bob.shows("there you are")
            assert bob.frontend.calls == [("#ops", "alice: bob, there you are")]


async def test_mute_and_ignore_apply_from_the_start() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob", mute=("OPS",), ignore=("Carol",)) as bob,
    ):
        await carol.post("bob, bob, bob")
        await alice.post("bob?")
        await bob.reads("alice: bob? [mention]")
        assert (bob.frontend.calls, len(bob.screen())) == ([], 1)


# ------------------------------------------------------------------ membership


async def test_times_never_run_backwards_for_newcomers() -> None:
    """What happened before the approval is above what the program said while waiting for it."""
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        typing(server, "bob", until="Waiting for alice") as bob,
    ):
        await alice.command(Approve, "bob")
        await bob.until(lambda: bob.window.caught_up)
        texts = [line.text for line in bob.window.lines]
        created = texts.index("alice created ops")
        waiting = next(n for n, text in enumerate(texts) if text.startswith("Waiting for alice"))
        assert created < waiting < texts.index("bob joined, approved by alice")
        times = [line.at for line in bob.window.lines]
        assert times == sorted(times)


async def test_a_returning_member_is_welcomed_again() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as bob,
    ):
        await alice.command(Kick, "bob")
        await bob.shows(
            "alice kicked you from this group. /join asks to join again, /part closes this window."
        )
        await alice.post("behind bob's back")
        await bob.types("/join")
        await alice.command(Approve, "bob")
        await bob.until(lambda: sum("/help lists" in line.text for line in bob.lines) == 2)
        await bob.types("back")
        assert bob.frontend.calls == []


async def test_a_closed_group_can_be_founded_again() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, raw),
        typing(server, "bob") as bob,
    ):
        await alice.command(Leave)
        await bob.shows("alice made bob the admin: that is you")
        await raw.command(Leave)
        await bob.shows("You left from another terminal; you were the last member")
        await bob.types("/join")
        await bob.shows("bob created ops, and you are its admin")


# ------------------------------------------------------------------ history, quotations


async def test_lines_of_a_cut_log_are_loaded_again() -> None:
    """The front end learns how many lines were removed, so that it can keep its position."""
    async with (
        running_server() as server,
        members(server, "alice") as (raw,),
        typing(server) as alice,
    ):
        alice.chat.session.set_retention(Retention(events=40))
        for n in range(100):
            await raw.post(f"text {n}")
        await alice.reads("alice: text 99")
        assert len(alice.window.lines) <= 40
        assert alice.window.past == "more"
        assert {title for title, count in alice.frontend.inserts if count < 0} == {"#ops"}
        await alice.load_all_history()
        assert alice.screen() == [f"alice: text {n}" for n in range(100)]


async def test_history_that_is_jumped_to_is_not_cut() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (raw,),
        typing(server) as alice,
    ):
        alice.chat.session.set_retention(Retention(events=40))
        for n in range(100):
            await raw.post(f"text {n}")
        await alice.reads("alice: text 99")
        await alice.window.load_back_to(1)
        await raw.post("done")
        await alice.reads("alice: done")
        assert alice.screen()[0] == "alice: text 0"


async def test_the_past_is_loaded_page_by_page() -> None:
    """The front end learns how many lines were inserted, so that it can keep its position."""
    async with running_server() as server, members(server, "alice") as (raw,):
        for n in range(400):
            await raw.send(Seen(GROUP, await raw.post(f"text {n}")))
        async with typing(server, recent=20) as alice:
            before = list(alice.window.lines)
            assert len(before) < 30
            alice.window.load_history()
            is_loading = alice.window.past == "loading"
            assert is_loading
            alice.window.load_history()
            await alice.types("")
            ((title, inserted),) = alice.frontend.inserts
            assert title == "#ops"
            assert alice.window.lines[inserted:] == before
            await alice.load_all_history()
            assert alice.screen() == [f"alice: text {n}" for n in range(400)]
            assert alice.window.past == "all"
            assert all(line.history for line in alice.window.lines if line.who)
            assert alice.window.unread == 0


async def test_replies_quote_messages_that_are_not_loaded() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (raw, other):
        first, second = await raw.post("the first"), await other.post("the second")
        gone = await raw.post("gone soon")
        await raw.command(Delete, gone)
        for n in range(300):
            await raw.post(f"text {n}")
        for target in (first, second, gone):
            answer = await raw.command(Post, f"re {target}", target)
            await raw.send(Seen(GROUP, answer.seq or 0))
        async with typing(server, recent=20) as alice:
            await alice.reads(f"alice: re {first} [re alice: the first]")
            await alice.reads(f"alice: re {second} [re bob: the second]")
            await alice.reads(f"alice: re {gone} [re a deleted message]")
            assert alice.window.replica.first > gone  # the log is as short as before
            await raw.command(Delete, first)
            await alice.reads(f"alice: re {first} [re a deleted message]")
            assert alice.window.quote_of(second) == "bob: the second"


async def test_quotations_show_edits_that_are_not_loaded() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (by_hand, other):
        first, second = await other.post("the frist"), await other.post("a secnod")
        for n in range(100):
            await by_hand.post(f"text {n}")
        await other.command(Edit, first, "the first")
        await other.command(Edit, second, "a secind")
        await other.command(Edit, second, "a second")
        for n in range(100):
            await by_hand.post(f"more text {n}")
        answer = await by_hand.command(Post, "well said", first)
        await by_hand.send(Seen(GROUP, answer.seq or 0))
        async with typing(server, recent=20) as alice:
            await alice.reads("alice: well said [re bob: the first]")
            assert await alice.window.load_quote(second) == "bob: a second"
            assert await alice.window.load_quote(second, 3) == "bob: a s…"
            await other.command(Delete, second)
            await alice.until(lambda: alice.window.quote_of(second) == "a deleted message")
            kept = alice.window._transcript
            await alice.until(lambda: "sec" not in str(kept._elsewhere))  # its edits, too


async def test_a_nonexistent_message_has_a_placeholder() -> None:
    async with two_typing() as (alice, _):
        assert alice.window.quote_of(10_000) == "an earlier message"
        assert await alice.window.load_quote(10_000) == "an earlier message"
        await alice.until(lambda: not alice.chat.session.unanswered)


async def test_printed_lines_load_no_quotations() -> None:
    async with running_server() as server, members(server, "alice") as (raw,):
        first = await raw.post("the first")
        for n in range(100):
            await raw.post(f"text {n}")
        await raw.send(Seen(GROUP, (await raw.attach()).seq))
        async with typing(server, rewrites=False, recent=20) as alice:
            assert alice.window.replica.first > first
            assert alice.window.quote_of(first) == "an earlier message"
            assert not alice.chat.session.unanswered
            assert await alice.window.load_quote(first) == "alice: the first"


async def test_replies_load_old_messages_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member who writes replies must not make all others load a page of history for each."""
    monkeypatch.setattr(chat, "QUOTE_RATE", Rate(0.001, 2))
    async with running_server() as server, members(server, "alice", "bob") as (by_hand, other):
        old = [await other.post(f"{n}" + 16_000 * "x") for n in range(10)]  # a page has three
        for n in range(100):
            await by_hand.post(f"text {n}")
        await by_hand.send(Seen(GROUP, (await by_hand.attach()).seq))
        async with typing(server, recent=20) as alice:
            for seq in reversed(old):
                await other.command(Post, f"re {seq}", seq)
            await alice.reads(f"bob: re {old[0]} [re an earlier message]")

            def loaded() -> int:
                return sum(alice.window.quote_of(seq) != UNKNOWN_QUOTE for seq in old)

            await alice.until(lambda: loaded() == 6)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert loaded() == 6


# ------------------------------------------------------------------ pending messages


async def test_a_sent_message_shows_as_pending() -> None:
    async with two_typing() as (alice, _):
        alice.chat.enter("one")
        alice.chat.enter("/me two")
        assert alice.screen() == ["alice: one [pending]", "alice * two [pending]"]
        assert await alice.types("/edit what?") == [
            "error: Your last message is still being sent; try again in a moment.",
            "message: one",
            "action: two",
        ]
        assert alice.screen() == ["alice: one", "alice * two"]


async def test_unsent_messages_are_sent_after_a_restart() -> None:
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
                "Not finished in time: 1 of your messages, commands or files."
                " Not sent yet, but kept and sent the next time: 1 message to #ops."
            )
    async with running_server(server.store, port=port) as server:
        async with typing(server, slot=slot) as alice:
            assert await alice.chat.finish(5)
            await alice.reads("alice: kept")
        assert texts(await log_of(server.store)) == ["kept"]


async def test_offline_input_is_done_after_reconnecting() -> None:
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
        shown = [line.text for line in alice.lines]
        assert "members (2): alice (admin), bob" in shown
        assert shown[-1] == "/me TEXT: sends an action: * you TEXT; for example: /me waves"
        for line in ("/topic later", "/query bob", "psst", "/window ops", "/join lab", "hi"):
            alice.chat.enter(line)
        assert alice.chat.refusals == 0
        async with running_server(server.store, port=port):
            await alice.shows("connected again")
            await alice.shows("alice set the topic: later")
            await alice.reads("alice: psst", "@bob")
            await alice.reads("alice: hi", "#lab")


async def test_a_damaged_journal_is_reported() -> None:
    async with two_typing() as (alice, _):
        alice.chat.handle(JournalDamaged("Something was lost."))
        await trio.testing.wait_all_tasks_blocked()
        assert (alice.lines[-1].sort, alice.lines[-1].text) == ("error", "Something was lost.")
        assert alice.chat.refusals == 1


async def test_refused_messages_survive_a_restart() -> None:
    slot = ClientId()
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        async with typing(server, "bob", slot=slot) as bob:
            await alice.command(Kick, "bob")
            await bob.shows("kicked you from")
            await bob.types("unheard")
            await bob.types("/join")
        await alice.command(Approve, "bob")
        async with typing(server, "bob", slot=slot) as bob:
            await bob.shows("not sent: 1 message; /resend sends it, /discard deletes it")
            assert bob.chat.refusals == 0
            await bob.types("/resend")
            assert bob.screen() == ["bob: unheard"]


async def test_oldest_notices_of_the_program_are_dropped() -> None:
    """A server causes notices that are in no log: of the standing, and of keys."""
    async with two_typing() as (alice, bob):
        await bob.types("hello")
        await alice.reads("bob: hello")
        for number in range(3000):
            alice.window.notice(f"notice {number}")
        shown = [line.text for line in alice.window.lines]
        assert "hello" in shown
        assert "notice 2999" in shown
        assert len(shown) < 2300
