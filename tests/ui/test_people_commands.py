"""Commands about people (/topic, /ban, /who, /ignore ...) as all sides see them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.fingerprints import fingerprint
from tchat.core.group.membership import Join
from tchat.ui.tui.model import Model, WindowView
from tests.fake_server import ScriptedPeer, fake_server
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, identity_of, members, raw_client, running_server
from tests.ui.typist import two_typing, typing

if TYPE_CHECKING:
    from tests.ui.typist import Typist

NOT_ADMIN = "error: Only the admin, alice, may do this."


@pytest.mark.parametrize(
    "line",
    [
        "/ban alice",
        "/ban",
        "/unban carol",
        "/topic new",
        "/policy open",
        "/requests",
        "/approve carol",
        "/deny carol",
        "/kick alice",
        "/transfer bob",
        "/invite",
    ],
)
async def test_admin_commands_are_refused_to_others(line: str) -> None:
    async with two_typing() as (_, bob):
        assert await bob.types(line) == [NOT_ADMIN]
        assert bob.chat.question is None


@pytest.mark.parametrize(
    "line", ["/members", "/online", "/admin", "/who", "/whois alice", "/topic", "/policy", "/kick"]
)
async def test_commands_before_approval_are_refused(line: str) -> None:
    async with (
        running_server() as server,
        members(server, "alice"),
        typing(server, "bob", until="Waiting for alice") as bob,
    ):
        assert await bob.types(line) == [
            "error: You are not a member yet. /leave withdraws your request to join."
        ]
        (refusal,) = await bob.types("hello")
        assert refusal == (
            "error: You are not a member yet: alice has to approve you."
            " Your message is kept, and sent after that; /discard deletes it."
        )


# ------------------------------------------------------------------ /topic, /policy


async def test_topic_sets_shows_and_removes_the_topic() -> None:
    async with two_typing() as (alice, bob):
        assert await bob.types("/topic") == ["notice: There is no topic."]
        assert await alice.types("/topic") == ["notice: There is no topic. /topic TOPIC sets one."]
        await alice.types("/topic what we do,  and why")
        assert await bob.shows("the topic:") == "alice set the topic: what we do,  and why"
        assert await bob.types("/topic") == ["notice: topic: what we do,  and why"]
        await alice.types("/topic -")
        assert await bob.shows("alice removed the topic")
        assert await alice.types("/topic " + "x" * 201) == [
            "error: A topic has at most 200 characters."
        ]


async def test_policy_shows_and_sets_who_may_join() -> None:
    async with two_typing() as (alice, bob):
        assert await bob.types("/policy") == [
            "notice: #ops needs approval: the admin decides who may join."
        ]
        assert await alice.types("/policy closed") == [
            "error: Usage: /policy [open|approval]; for example: /policy approval"
        ]
        assert await alice.types("/policy") == [
            (
                "notice: #ops needs approval: the admin decides who may join."
                " /policy open|approval sets it."
            )
        ]
        await alice.types("/policy OPEN")
        assert await bob.shows("may join now") == "alice: anyone may join now"
        assert await bob.types("/policy") == ["notice: #ops is open: anyone may join."]


async def test_opening_a_group_admits_those_waiting() -> None:
    async with (
        running_server() as server,
        typing(server) as alice,
        typing(server, "bob", until="Waiting for alice") as bob,
    ):
        await alice.types("/policy open")
        assert (
            await bob.shows("/help lists")
            == "You are in #ops with 1 other member. /help lists the commands."
        )


# ------------------------------------------------------------------ /ban, /unban


async def test_a_ban_lasts_until_lifted() -> None:
    async with two_typing() as (alice, bob):
        await alice.types("/ban @Bob")
        assert await bob.shows("banned you") == (
            "alice banned you from this group; only its admin can lift the ban."
        )
        banned = "error: You were banned from this group; only its admin can lift the ban."
        assert await bob.types("/join") == [banned]
        assert await alice.types("/ban bob") == []
        assert await alice.types("/whois bob") == [
            "error: bob is not a member, and is banned. /members lists the members."
        ]
        assert await alice.types("/unban") == ["notice: unban whom? (bob)"]
        assert await alice.types("bob") == ["notice: alice unbanned bob"]
        assert await alice.types("/unban bob") == ["error: bob is not banned."]
        await bob.types("/join")
        assert await bob.shows("Waiting for alice")
        await alice.types("/approve bob")
        assert await alice.shows("bob joined, approved by alice")


@pytest.mark.parametrize("word", ["ban", "kick", "transfer"])
async def test_ban_kick_and_transfer_refuse_oneself(word: str) -> None:
    async with two_typing() as (alice, _):
        (line,) = await alice.types(f"/{word} ALICE")
        assert line.startswith(("error: You cannot", "error: You are the admin"))


# ------------------------------------------------------------------ /who, /whois, /away


async def test_who_shows_presence_and_away_reasons() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, _, raw),
        typing(server) as alice,
        typing(server, "bob") as bob,
    ):
        await raw.stream.aclose()
        await bob.types("/away lunch\x1b")
        await alice.until(lambda: alice.window.replica.away)
        await alice.until(lambda: "carol" not in alice.window.replica.online)
        assert await alice.types("/who") == [
            "notice: alice (admin) is online",
            "notice: bob is away: lunch␛",
            "notice: offline (1): carol",
        ]
        assert await bob.types("/away") == ["notice: You are back."]
        await alice.until(lambda: not alice.window.replica.away)
        assert "notice: bob is online" in await alice.types("/names")


async def test_whois_shows_members_of_all_windows() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", group="lab"),
        members(server, "alice"),
        typing(server, "alice", "ops", "lab") as alice,
        raw_client(server.address, "dave") as dave,
    ):
        bobs, daves = (fingerprint(identity_of(name).public) for name in ("bob", "dave"))
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.until(lambda: "bob" in alice.window_of("#lab").replica.online)
        assert await alice.types("/whois @BOB") == [
            "notice: bob is online",
            f"notice: bob joined with key {bobs}",
            "notice: bob is with you in #lab",
        ]
        await alice.types("/window lab")
        shown = await alice.types("/whois alice")
        assert shown[0] == "notice: alice is the admin, online"
        assert len(shown) == 2
        assert await alice.types("/whois nobody") == [
            "error: nobody is not a member. /members lists the members."
        ]
        await alice.types("/window ops")
        await dave.command(Join)
        await alice.shows("dave asks to join")
        assert await alice.types("/whois dave") == [
            f"notice: dave asks to join (key {daves}, new here)"
        ]


async def test_presence_is_unknown_while_disconnected() -> None:
    """Neither the header nor a command says who is online before the server has said it again."""

    def header(alice: Typist) -> tuple[str, int | None, set[bool | None]]:
        model = Model("", "")
        model.refresh(alice.chat, WindowView(), asked_to_quit=False)
        return model.connection[:7], model.online, {person.online for person in model.people}

    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        fault_proxy(server.address) as proxy,
        typing(replace(server, address=proxy.address)) as alice,
    ):
        await alice.until(lambda: "bob" in alice.window.replica.online)
        assert header(alice) == ("", 2, {True})
        proxy.refusing = True
        proxy.cut()
        await alice.shows("connection lost")
        assert header(alice) == ("offline", None, {None})
        alice.chat.enter("/who")
        alice.chat.enter("/online")
        alice.chat.enter("/whois bob")
        unknown = ["Who is online is not known at the moment.", "members (2): alice (admin), bob"]
        said = [line.text for line in alice.lines if "joined with key" not in line.text]
        assert said[-6:-1] == [*unknown, *unknown, "bob is of unknown presence"]
        proxy.refusing = False
        await alice.until(lambda: "bob" in alice.window.replica.online)
        assert header(alice) == ("", 2, {True})


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/who", "alice (admin) is online"),
        ("/online", "online (1): alice (admin)"),
        ("/whois alice", "alice is the admin, online"),
    ],
)
async def test_presence_is_awaited_right_after_joining(line: str, answer: str) -> None:
    """The server says who is online after it has sent the log."""
    asked = trio.Event()

    async def story(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.attach(seq=1, first=1)
        await peer.event("created", "alice")
        await peer.group_list()
        await asked.wait()
        await peer.send("presence", group=GROUP, online=[{"name": "alice"}], offline=[], reset=True)
        await peer.next()

    async with (
        running_server() as server,
        fake_server(story) as address,
        typing(replace(server, address=address)) as alice,
    ):
        before = len(alice.lines)
        alice.chat.enter(line)
        await trio.testing.wait_all_tasks_blocked()
        assert alice.lines[before:] == []
        asked.set()
        await alice.shows(answer)
        assert not any("not known" in shown.text for shown in alice.lines)


async def test_presence_is_awaited_while_the_group_is_entered() -> None:
    async with running_server() as server, members(server, "bob"), typing(server, "bob") as bob:
        bob.chat.enter("/join lab")
        bob.chat.enter("/who")
        await bob.shows("bob (admin) is online")
        assert bob.chat.refusals == 0


async def test_presence_in_new_conversation_is_the_groups() -> None:
    async with two_typing() as (alice, _):
        await alice.types("/query bob", "/whois bob")
        assert "bob is online" in [line.text for line in alice.lines]


# ------------------------------------------------------------------ /ignore, /unignore


async def test_ignored_people_are_hidden() -> None:
    async with two_typing(rewrites=False) as (alice, bob):
        assert await bob.types("/ignore") == [
            "notice: Nobody is ignored. /ignore NAME hides somebody's messages."
        ]
        assert await bob.types("/ignore @Alice") == [
            "notice: Messages from Alice are hidden. /unignore Alice shows them again."
        ]
        assert await bob.types("/ignore alice") == [
            "notice: alice is ignored already. /unignore alice shows their messages again."
        ]
        assert await bob.types("/ignore") == ["notice: ignored (1): alice"]
        await alice.types("bob, listen", "/me shouts", "/edit BOB", "/delete", "/topic noise")
        await bob.shows("alice set the topic")
        assert not any("listen" in line.text or "BOB" in line.text for line in bob.lines)
        assert (bob.screen(), bob.frontend.calls) == ([], [])
        assert await bob.types("/unignore carol") == [
            "error: carol is not ignored; /ignore lists who is."
        ]
        assert await bob.types("/unignore") == ["notice: stop ignoring whom? (alice)"]
        await bob.types("alice")
        await alice.types("at last")
        await bob.reads("alice: at last")


async def test_ignore_refuses_oneself_and_bad_names() -> None:
    async with two_typing() as (alice, _):
        assert await alice.types("/ignore ALICE") == ["error: You cannot ignore yourself."]
        (line,) = await alice.types("/ignore two words")
        assert line.startswith("error: A username may contain letters")


async def test_quotations_of_ignored_people_are_hidden() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, bob, _),
        typing(server, "carol", ignore=("bob",)) as carol,
        typing(server) as alice,
    ):
        await bob.post("rude")
        await alice.reads("bob: rude")
        await alice.types("/reply calm down")
        await carol.reads("alice: calm down [re a hidden message]")
        assert len(carol.screen()) == 1
