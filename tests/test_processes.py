"""End-to-end scenarios: a server and clients in plain mode as real processes, over pipes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.processes import all_see, proxied_server, two_people

ROOT = Path(__file__).parent.parent


# ------------------------------------------------------------------ the nine commands


async def test_nine_numbered_commands_work(tmp_path: Path) -> None:
    plan = tmp_path / "plan.bin"
    plan.write_bytes(bytes(range(256)) * 4000)
    async with proxied_server(tmp_path) as (launch, server, proxy):
        # The first to join creates the group and is its admin; the others request to join.
        alice = await launch.join(proxy.address, "alice")
        await alice.sees(
            "-- alice created ops, and you are its admin",
            "-- You are in #ops; nobody else is here yet",
        )
        bob = await launch.join(proxy.address, "bob")
        carol = await launch.join(proxy.address, "carol")
        await all_see([bob, carol], "-- Waiting for alice to approve you. /leave withdraws")
        request = await alice.out.containing("-- bob asks to join (key ")
        assert request.endswith(", new here): /approve bob or /deny bob")
        await alice.sees("-- carol asks to join")

        # /1 lists the requests; /2 approves one, and prompts for a name if none is given.
        await alice.type("/1")
        asked = await alice.out.containing("-- asking to join (2): ")
        assert set(re.findall("bob|carol", asked)) == {"bob", "carol"}
        await alice.type("/2")
        await alice.sees("-- approve whom? (")
        await alice.type("bob")
        await all_see([alice, bob], "-- bob joined, approved by alice")
        await bob.sees("-- You are in #ops with 1 other member")
        await alice.type("/2 carol")
        await all_see([alice, bob, carol], "-- carol joined, approved by alice")
        await alice.type("/1")
        await alice.sees("-- asking to join: nobody")

        # Any other line is a message.
        await bob.type("hello, everybody", "  spaces kept  ", "//2 is a message too")
        for text in ("<bob> hello, everybody", "<bob>   spaces kept  ", "<bob> /2 is a message"):
            await all_see([alice, bob, carol], text)

        # /4 lists the members, /5 those online, /7 names the admin.
        await carol.type("/4", "/5", "/7")
        await carol.sees(
            "-- members (3): alice (admin), bob, carol",
            "-- online (3): alice (admin), bob, carol",
            "-- The admin is alice.",
        )

        # /1, /2, /6 and /8 are for the admin only.
        for command in ("/1", "/2 carol", "/2", "/6 bob", "/8 carol", "/8", "/deny carol"):
            await bob.type(command)
            await bob.sees("! Only the admin, alice, may do this.")

        # /9 sends a file, which the others receive automatically.
        await bob.type(f"/9 {plan}")
        await all_see([alice, bob, carol], "-- bob shared plan.bin (1.0 MB), file 1")
        for person in (alice, carol):
            await person.sees(f"-- file 1 saved as {person.downloads / 'plan.bin'}")
            assert (person.downloads / "plan.bin").read_bytes() == plan.read_bytes()
        await carol.type("/9")
        await carol.sees("-- send which file?")
        await carol.type(str(tmp_path / "not there"))
        await carol.sees(f"! {tmp_path / 'not there'} cannot be sent: No such file")
        await carol.type("/9", str(plan))
        await alice.sees("-- carol shared plan.bin (1.0 MB), file 2", "-- file 2 saved as")
        await bob.sees("-- file 2 saved as")

        # /6 transfers the admin role.
        await alice.type("/6")
        await alice.sees("-- make whom the admin? (bob, carol)")
        await alice.type("bob")
        await bob.sees("-- alice made bob the admin: that is you")
        await all_see([alice, carol], "-- alice made bob the admin")
        await alice.type("/8 carol", "/7")
        await alice.sees("! Only the admin, bob, may do this.", "-- The admin is bob.")

        # /8 kicks a member, who is told at once and may request to join again.
        await bob.type("/8")
        await bob.sees("-- kick whom? (alice, carol)")
        await bob.type("carol")
        await all_see([alice, bob, carol], "-- bob kicked carol")
        await carol.sees("-- bob kicked you from this group. /join asks to join again")
        await bob.type("carol cannot hear this")
        await alice.sees("<bob> carol cannot hear this")
        await carol.type("may I speak?", "/4")
        await carol.sees(
            "! You are not a member. /join", "! You are not a member of this group. /join"
        )
        await carol.type("/join")
        await carol.sees("-- Waiting for bob to approve you")
        await bob.sees("-- carol asks to join")
        await bob.type("/deny carol")
        await carol.sees("-- bob denied your request. You can ask again in an hour with /join")
        await carol.type("/join")
        await carol.sees("! bob, the admin, denied your request; you can ask again in 60 minutes.")
        await bob.type("/policy open")
        await all_see([alice, bob], "-- bob: anyone may join now")
        await carol.type("/join")
        await all_see([alice, bob, carol], "-- carol joined")
        assert "<bob> carol cannot hear this" in carol.heard  # the members' log includes it

        # /3 quits the client; the person stays a member.
        await alice.type("/3")
        assert await alice.exit() == 0
        await proxy.passes(type="presence", offline=["alice"])
        await carol.type("is alice away?")
        await bob.sees("<carol> is alice away?")
        await bob.type("/4", "/5")
        await bob.sees(
            "-- members (3): bob (admin), carol, alice", "-- online (2): bob (admin), carol"
        )

        # A returning member catches up on everything missed, once and in order.
        await bob.type("first", "second")
        await carol.sees("<bob> second")
        returned = await launch.join(proxy.address, "alice")
        await returned.sees("-- You are in #ops with 2 other members")
        assert returned.heard == ["<carol> is alice away?", "<bob> first", "<bob> second"]
        await returned.type("I am back")
        await bob.sees("<alice> I am back")

        # The exit status tells scripts whether anything was refused.
        assert [await person.end() for person in (returned, bob, carol)] == [0, 1, 1]
        assert await server.stop() == 0


async def test_nine_numbered_commands_work_by_name(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("some notes")
    async with proxied_server(tmp_path) as (launch, _, proxy):
        alice = await launch.join(proxy.address, "alice", group="Straße")
        await alice.sees("-- alice created Straße")
        bob = await launch.join(proxy.address, "Bob", group="strasse")
        await bob.sees("-- Waiting for alice")
        await alice.sees("-- Bob asks to join")
        await alice.type("/requests", "/approve BOB")
        await alice.sees("-- asking to join (1): Bob", "-- Bob joined")
        await bob.sees("-- You are in #Straße with 1 other member")
        await bob.type("/MEMBERS", "/online", "/admin")
        await bob.sees(
            "-- members (2): alice (admin), Bob", "-- online (2)", "-- The admin is alice."
        )
        await alice.type(f"/send {notes}")
        await bob.sees("-- alice shared notes.txt (10 B), file 1", "-- file 1 saved as")
        assert (bob.downloads / "notes.txt").read_text() == "some notes"
        await bob.type("/get 1")
        await bob.sees(f"-- file 1 saved as {bob.downloads / 'notes.txt'}")
        await bob.type("/get 2")
        await bob.sees("! The group has no file 2.")
        await alice.type("/transfer bob")
        await bob.sees("-- alice made Bob the admin: that is you")
        await bob.type("/kick alice")
        await alice.sees("-- Bob kicked alice", "-- Bob kicked you from this group")
        await alice.type("/quit")
        assert await alice.exit() == 0
        await bob.type("/leave")
        await bob.sees("-- You left the group.")
        assert await bob.exit() == 0
        # The last member left: the next to join creates the group anew, without its old log.
        carol = await launch.join(proxy.address, "carol", group="strasse")
        await carol.sees("-- carol created", "nobody else is here yet")
        assert len(carol.lines) == 2


async def test_help_lists_every_command(tmp_path: Path) -> None:
    async with proxied_server(tmp_path) as (launch, _, proxy):
        alice = await launch.join(proxy.address, "alice")
        await alice.type("/help", "/help basics")
        await alice.sees("-- basics: /1 requests, /2 approve", "-- messages: /me")
        for number in range(1, 10):
            await alice.sees(f"-- /{number} /")
        await alice.type("/frobnicate")
        await alice.sees("! There is no command /frobnicate. /help lists the commands;")


async def test_a_request_is_kept_while_offline(tmp_path: Path) -> None:
    async with proxied_server(tmp_path) as (launch, _, proxy):
        alice = await launch.join(proxy.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(proxy.address, "bob")
        await bob.sees("-- Waiting for alice")
        await bob.type("/3")
        assert await bob.exit() == 0
        await alice.type("/2 bob")
        await alice.sees("-- bob joined")
        bob = await launch.join(proxy.address, "bob")
        await bob.sees("-- bob joined, approved by alice", "-- You are in #ops with 1 other member")


async def test_a_waiting_person_withdraws_the_request(tmp_path: Path) -> None:
    async with proxied_server(tmp_path) as (launch, _, proxy):
        alice = await launch.join(proxy.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(proxy.address, "bob")
        await alice.sees("bob asks to join")
        await bob.type("/leave")
        assert await bob.exit() == 0
        await alice.sees("-- bob no longer asks to join")
        await alice.type("/1", "/2 bob")
        await alice.sees("-- asking to join: nobody", "! bob has not asked to join")


async def test_a_prompt_may_be_left_unanswered(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (alice, bob):
        await alice.type("/8")
        await alice.sees("-- kick whom? (bob)")
        await alice.type("")
        await alice.sees("! Nothing was done")
        await alice.type("/8", "/7", "just talking")
        await alice.sees("-- kick whom?", "-- The admin is alice.")
        await bob.sees("<alice> just talking")


async def test_output_lines_keep_their_machine_readable_form(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (alice, bob):
        await bob.type("hello", "/kick alice", "\x1b]0;owned\x07 \u202edesrever\u202c \x9b2J done")
        await bob.sees("<bob> hello", "! Only", "done")
        await alice.sees("done")
        for line in [*alice.lines, *bob.lines]:
            assert re.fullmatch(r"\[\d\d:\d\d\] (<\w+> .+|(\*|--|!) .+)", line), line
            assert line.isprintable()
        assert alice.heard == ["<bob> hello", "<bob> ␛]0;owned␇ desrever \ufffd2J done"]


async def test_two_terminals_of_one_person_show_the_same(tmp_path: Path) -> None:
    async with proxied_server(tmp_path) as (launch, _, proxy):
        one = await launch.join(proxy.address, "alice")
        await one.sees("in #ops; nobody else is here yet")
        two = await launch.join(proxy.address, "alice")
        await two.sees("in #ops; nobody else is here yet")
        for n in range(20):
            await (one if n % 2 else two).type(f"text {n:02}")
        for n in range(20):
            await one.sees(f"<alice> text {n:02}")
            await two.sees(f"<alice> text {n:02}")
        assert one.heard == two.heard
        assert len(one.heard) == 20
