"""Commands that destroy something ask first; only y or yes does it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.membership import Approve, Join, Kick, Leave
from tchat.core.group.messages import Delete
from tchat.machine_clocks import now_ms
from tchat.ui.chat.completion import offers
from tests.helpers import NO_RATE_LIMITS, identity_of, members, raw_client, running_server
from tests.memory_store import MemoryStore
from tests.processes import launching
from tests.ui.typist import Typist, typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient

NOT_DONE = 'Nothing was done: "Kick bob from #ops?" was not answered with y.'


@asynccontextmanager
async def careful(rewrites: bool = True) -> AsyncIterator[tuple[Typist, RawClient]]:
    """Alice, the admin, who is asked; and Bob, a member, as a raw client."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        typing(server, yes=False, rewrites=rewrites) as alice,
    ):
        await bob.post("said by bob")
        await alice.reads("bob: said by bob")
        yield alice, bob


QUESTIONS = [
    (
        "/leave",
        "Leave #ops and end your membership, and quit tchat? bob becomes its admin. (y or n)",
    ),
    ("/part", "Close #ops, your last window, and quit tchat? (y or n)"),
    ("/kick bob", "Kick bob from #ops? (y or n)"),
    ("/8 @BOB", "Kick bob from #ops? (y or n)"),
    ("/ban bob", "Ban bob from #ops and end their membership? (y or n)"),
    ("/ban eve", "Ban eve from #ops? (y or n)"),
    ("/transfer bob", "Make bob the admin of #ops? You will no longer be its admin. (y or n)"),
    ("/delete bob", "Delete this message for everybody? “bob: said by bob” (y or n)"),
]


@pytest.mark.parametrize("command", ["kick", "ban", "transfer", "approve", "deny", "unban"])
async def test_impossible_names_are_refused_at_once(command: str) -> None:
    """`--yes` is an option of the program, not of a command."""
    async with careful() as (alice, _):
        (shown,) = await alice.types(f"/{command} bob --yes")
        assert shown.startswith("error: A username may contain letters, digits and _ - . only;")
        assert alice.chat.question is None


@pytest.mark.parametrize(("line", "question"), QUESTIONS)
@pytest.mark.parametrize("answer", ["n", "No", "", "yes please", "yy", "//y"])
async def test_only_a_yes_confirms(line: str, question: str, answer: str) -> None:
    async with careful() as (alice, _):
        seq = alice.window.replica.last
        assert await alice.types(line) == [f"notice: {question}"]
        shown = await alice.types(answer)
        assert shown[0].partition(": ")[2].startswith("Nothing was done")
        assert alice.chat.question is None
        assert alice.window.replica.last == seq
        assert "bob" in alice.window.replica.state.members
        assert alice.screen() == ["bob: said by bob"]


@pytest.mark.parametrize("answer", ["y", "YES", " y "])
async def test_a_yes_confirms(answer: str) -> None:
    async with careful() as (alice, _):
        await alice.types("/kick bob", answer)
        assert "bob" not in alice.window.replica.state.members
        assert alice.chat.refusals == 0


async def test_all_requests_are_denied_after_a_yes() -> None:
    store = MemoryStore()
    # Since then, it is a reserved name.
    await store.accounts.claim("all", "all", identity_of("all").public, now_ms())
    async with (
        running_server(store) as server,
        members(server, "alice"),
        typing(server, yes=False) as alice,
        raw_client(server.address, "all") as one,
        raw_client(server.address, "carol") as other,
    ):
        (refusal,) = await alice.types("/deny all")
        assert refusal.startswith("error: Nobody is asking to join.")
        for person in (one, other):
            await person.command(Join)
        waiting = alice.window.replica.state.requests
        await alice.until(lambda: "carol" in waiting)
        assert (await alice.types("/deny ALL", "n"))[-1].startswith("notice: Nothing was done")
        await alice.types("/deny @all")
        assert waiting.keys() == {"carol"}
        shown = await alice.types("/deny all", "y")
        assert shown[0] == "notice: Deny all requests to join #ops? (y or n)"
        assert not waiting


async def test_all_listed_requests_are_approved_after_a_yes() -> None:
    """Nobody who asks after the question is admitted unseen; what is refused is one line."""
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, group_members=3)) as server,
        members(server, "alice"),
        typing(server, yes=False) as alice,
        AsyncExitStack() as stack,
    ):
        (refusal,) = await alice.types("/approve all")
        assert refusal.startswith("error: Nobody is asking to join.")
        people = [
            await stack.enter_async_context(raw_client(server.address, name))
            for name in ("bob", "carol", "dave", "erin", "frank", "grace")
        ]
        for person in people[:-1]:
            await person.command(Join)
        waiting = alice.window.replica.state.requests
        await alice.until(lambda: "frank" in waiting)
        question = "notice: Approve 5 requests to join #ops: bob, carol, dave and 2 more? (y or n)"
        assert question in await alice.types("/approve all")
        await people[0].command(Leave)  # no question of its own, since the rest stays the same
        await people[-1].command(Join)
        await alice.until(lambda: "bob" not in waiting and "grace" in waiting)
        shown = await alice.types("y")
        assert set(alice.window.replica.state.members) == {"alice", "carol", "dave"}
        assert waiting.keys() == {"erin", "frank", "grace"}
        refused = [line for line in shown if line.startswith("error")]
        assert len(refused) == 1
        assert refused[0].startswith("error: 2 of 4 were refused: ")


async def test_the_outcome_names_the_question() -> None:
    """The question itself stands in the prompt only, and is gone by then."""
    declined = 'notice: Nothing was done: "Kick bob from #ops?" was not confirmed.'
    async with careful() as (alice, _):
        assert (await alice.types("/kick bob", "n"))[-1] == declined
        await alice.types("/kick bob")
        alice.chat.cancel_question()
        assert alice.lines[-1].text == declined.removeprefix("notice: ")


async def test_a_message_instead_of_an_answer_comes_back() -> None:
    async with careful() as (alice, _):
        _, line = await alice.types("/kick bob", "hello everybody")
        assert line == (
            f"error: {NOT_DONE} What you typed was not sent; it is back in the input line."
        )
        assert alice.frontend.filled == ["hello everybody"]
        assert alice.screen() == ["bob: said by bob"]


async def test_without_an_input_line_the_message_is_repeated() -> None:
    async with careful(rewrites=False) as (alice, _):
        shown = await alice.types("/kick bob", "hello everybody")
        assert shown[1] == f"error: {NOT_DONE} What you typed was not sent; it was: hello everybody"
        assert alice.screen() == ["bob: said by bob"]


async def test_a_command_instead_of_an_answer_runs() -> None:
    async with careful() as (alice, _):
        shown = await alice.types("/kick bob", "/admin")
        assert shown[1:] == [f"error: {NOT_DONE}", "notice: The admin is alice."]


STRAY = (
    '"Kick bob from #ops?" is no longer asked: nothing was done, and {} was not sent.'
    " Send it again if it is a message."
)


@pytest.mark.parametrize("rewrites", [True, False])
@pytest.mark.parametrize("answer", ["y", "No"])
@pytest.mark.parametrize("between", [["/admin"], ["/admin", "/4"], [""], ["/kick nobody"]])
async def test_a_late_answer_is_no_message(rewrites: bool, answer: str, between: list[str]) -> None:
    """Another command has withdrawn the question, which is easily overlooked."""
    async with careful(rewrites) as (alice, _):
        await alice.types("/kick bob", *between)
        assert await alice.types(answer) == [f"error: {STRAY.format(answer)}"]
        assert alice.frontend.filled == [answer]
        assert alice.screen() == ["bob: said by bob"]
        assert "bob" in alice.window.replica.state.members
        await alice.types(answer)
        assert alice.screen() == ["bob: said by bob", f"alice: {answer}"]


async def test_a_message_or_an_answer_ends_the_wait() -> None:
    async with careful() as (alice, _):
        await alice.types("/kick bob", "/admin", "hello", "y", "/kick bob", "n", "n")
        assert alice.screen() == ["bob: said by bob", "alice: hello", "alice: y", "alice: n"]
        assert alice.chat.refusals == 1  # /admin, typed instead of an answer


@pytest.mark.parametrize(
    ("command", "answer", "back"),
    [("/kick", "nobody", []), ("/me", "too long " * 2000, ["/me " + ("too long " * 2000).strip()])],
)
async def test_refused_answer_does_not_become_a_message(
    command: str, answer: str, back: list[str]
) -> None:
    """The text of a message comes back with the command that was to send it."""
    async with careful() as (alice, _):
        shown = await alice.types(command, answer)
        assert shown[1].startswith("error: ")
        assert alice.frontend.filled == back


async def test_another_window_withdraws_the_question() -> None:
    async with careful() as (alice, _):
        await alice.types("/join lab", "/window ops", "/kick bob")
        alice.chat.switch_to(alice.window_of("#lab"))
        assert alice.chat.question is None
        await alice.types("y")
        assert alice.screen("#lab") == []
        assert "bob" in alice.window_of("#ops").replica.state.members


async def test_the_deleted_message_is_the_one_named() -> None:
    """Another message is ^1 by the time of the answer."""
    async with careful() as (alice, bob):
        await alice.types("/delete ^1")
        await bob.post("a later one")
        await alice.reads("bob: a later one")
        await alice.types("y")
        await alice.until(lambda: "bob:  [deleted]" in alice.screen())
        assert alice.screen() == ["bob:  [deleted]", "bob: a later one"]


async def test_message_deleted_meanwhile_is_not_asked_about_again() -> None:
    async with careful() as (alice, bob):
        await alice.types("/delete bob")
        await bob.command(Delete, 4)
        await alice.reads("bob:  [deleted]")
        last = alice.window.replica.last
        assert await alice.types("y") == [
            "error: That message was deleted meanwhile; nothing is left to do."
        ]
        assert alice.chat.question is None
        assert alice.frontend.filled == []
        assert alice.window.replica.last == last


async def test_leaving_admin_is_told_the_successor() -> None:
    async with careful() as (alice, _):
        assert (await alice.types("/join lab", "/window ops", "/leave"))[-1] == (
            "notice: Leave #ops and end your membership? bob becomes its admin. (y or n)"
        )
        assert await alice.types("y") == [
            "notice: alice made bob the admin",
            "notice: alice left the group",
            "notice: You left #ops; bob is its admin now.",
        ]


async def test_own_messages_and_refusals_need_no_answer() -> None:
    async with careful() as (alice, _):
        await alice.types("mine", "/delete")
        await alice.until(lambda: "alice:  [deleted]" in alice.screen())
        for line in ("/kick nobody", "/kick alice", "/ban alice", "/transfer nobody", "/remove 7"):
            (shown,) = await alice.types(line)
            assert shown.startswith("error: "), line
            assert alice.chat.question is None


async def test_the_last_member_is_asked_again_about_messages() -> None:
    """Bob leaves while the question stands, and then more is lost than was said."""
    async with careful() as (alice, bob):
        assert await alice.types("/leave") == [f"notice: {QUESTIONS[0][1]}"]
        await bob.command(Leave)
        await alice.shows("bob left the group")
        question = (
            "Leave #ops, and quit tchat? You are its last member: all messages will be deleted."
            " (y or n)"
        )
        assert (await alice.types("y"))[-1] == f"notice: {question}"
        assert alice.window.replica.standing == "member"
        await alice.types("y")
        assert alice.chat.done.is_set()


@pytest.mark.parametrize("answer", ["n", "y"])
async def test_discard_names_what_will_be_gone(answer: str) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", yes=False) as bob,
    ):
        assert await bob.types("/discard") == ["error: None of your messages here was refused."]
        await alice.command(Kick, "bob")
        await bob.shows("kicked you from")
        await bob.types("one long message", "two")
        assert await bob.types("/discard") == [
            "notice: Discard 2 unsent messages? The last is bob: two (y or n)"
        ]
        (shown,) = await bob.types(answer)
        if answer == "y":
            assert shown == "notice: 2 messages discarded"
            assert bob.screen() == []
        else:
            assert bob.screen() == ["bob: one long message [failed]", "bob: two [failed]"]


async def test_a_waiting_person_is_asked_before_withdrawing() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        typing(server, "bob", until="Waiting for alice", yes=False) as bob,
    ):
        assert await bob.types("/leave") == [
            "notice: Withdraw your request to join #ops, and quit tchat? (y or n)"
        ]
        await bob.types("n")
        await alice.command(Approve, "bob")
        await bob.until(lambda: bob.window.replica.standing == "member")


async def test_tab_offers_nothing_of_the_command() -> None:
    async with careful() as (alice, _):
        await alice.types("/kick bob")
        assert offers(alice.chat, "/mem") == (0, ["/members "])


# ------------------------------------------------------------------ scripts


async def test_a_script_answers_or_says_yes(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.type("/policy open")
        await alice.sees("anyone may join now")
        for yes, lines, ends in (
            (False, ["/leave"], 1),
            (False, ["/leave", "y"], 0),
            (True, ["/leave"], 0),
        ):
            bob = await launch.join(server.address, "bob", yes=yes)
            await bob.type(*lines)
            assert await bob.end() == ends, bob.lines
            assert any("You left" in line for line in bob.lines) == (ends == 0), bob.lines
            assert any("not answered with y." in line for line in bob.lines) == (ends == 1)
