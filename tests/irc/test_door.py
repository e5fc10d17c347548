"""The door for IRC clients, spoken to line by line over real sockets."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tchat.invocation import program_words
from tests.irc.client import door_of, scene

if TYPE_CHECKING:
    from tests.irc.client import IrcClient, Scene


async def opened(irc: IrcClient, channel: str = "#ops") -> None:
    """Wait until a channel is open."""
    await irc.until(f" 366 bob {channel} ")


async def posted(events: tchat.Events) -> tchat.Message:
    """Return the next message of a group."""
    async for event in events:
        if isinstance(event, tchat.Message):
            return event
    raise AssertionError


async def next_of(events: tchat.Events, kind: type[tchat.Event]) -> tchat.Event:
    """Return the next event of a class."""
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError


# ------------------------------------------------------------------ messages


async def test_groups_are_open_from_the_start() -> None:
    async with scene() as here:
        await here.ops.set_topic("servers")
        async with here.door.registered() as irc:
            assert await irc.line() == ":bob!bob@tchat JOIN #ops"
            assert await irc.line() == ":tchat.localhost 332 bob #ops :servers"
            assert await irc.line() == ":tchat.localhost 353 bob = #ops :@alice bob"
            assert await irc.line() == ":tchat.localhost 366 bob #ops :End of /NAMES list"


async def test_messages_go_both_ways() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG #ops :hello from IRC")
        assert (await posted(events)).text == "hello from IRC"
        await here.ops.say("hello\n\nfrom tchat")
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :hello"
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops : "
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :from tchat"


async def test_messages_keep_their_order() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send(*(f"PRIVMSG #ops :{number}" for number in range(50)))
        assert [(await posted(events)).text for _ in range(50)] == [str(n) for n in range(50)]


async def test_actions_go_both_ways() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG #ops :\x01ACTION waves\x01", "PRIVMSG #ops :\x01VERSION\x01")
        said = await posted(events)
        assert (said.text, said.action) == ("waves", True)
        assert " 404 bob #ops " in await irc.line()
        await here.ops.say("/me nods")
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :\x01ACTION nods\x01"


async def test_long_lines_are_split() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.say("é" * 600)
        lines = [await irc.line() for _ in range(3)]
        assert "".join(line.split(" :", 1)[1] for line in lines) == "é" * 600
        assert all(len(line.encode()) <= 510 for line in lines)


async def test_conversations_go_both_ways() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG alice :psst", "PRIVMSG ALICE :again")
        for text in ("psst", "again"):
            said = await posted(events)
            assert (said.text, said.direct) == (text, True)
        await (await here.alice.talk_to("bob")).say("yes?")
        assert await irc.until("PRIVMSG") == ":alice!alice@tchat PRIVMSG bob :yes?"


async def test_conversation_that_others_begin_opens() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await (await here.alice.talk_to("bob")).say("psst")
        assert await irc.line() == ":alice!alice@tchat PRIVMSG bob :psst"


@pytest.mark.parametrize("target", ["nobody", "bob", "a b", "#nowhere", "*", "@alice,bob"])
async def test_messages_to_nobody_are_refused(target: str) -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send(f"PRIVMSG {target} :hello")
        assert (await irc.line()).split()[1] in ("401", "400", "442", "404")


async def test_echo_is_sent_to_those_who_ask() -> None:
    async with (
        scene() as here,
        here.door.registered() as plain,
        here.door.registered("echo-message", "labeled-response") as echoing,
    ):
        await opened(plain)
        await opened(echoing)
        await plain.send("PRIVMSG #ops :from plain")
        assert await echoing.line() == ":bob!bob@tchat PRIVMSG #ops :from plain"
        await echoing.send("@label=x7 PRIVMSG #ops :from echoing")
        echo = "@label=x7 :bob!bob@tchat PRIVMSG #ops :from echoing"
        assert await echoing.message_line() == echo
        assert await plain.line() == ":bob!bob@tchat PRIVMSG #ops :from echoing"


async def test_own_messages_in_conversations_reach_other_clients() -> None:
    async with scene() as here, here.door.registered() as one, here.door.registered() as other:
        await opened(one)
        await opened(other)
        await one.send("PRIVMSG alice :psst")
        assert await other.line() == ":bob!bob@tchat PRIVMSG alice :psst"
        assert await one.sync() == []


async def test_replies_are_shown_as_quotes() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        question = await here.ops.say("who has\nthe key?")
        await here.ops.say("I do", reply_to=question)
        await irc.until("the key?")
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :> alice: who has the key?"
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :I do"


async def test_tags_carry_ids_times_and_replies() -> None:
    async with (
        scene() as here,
        here.door.registered("message-tags", "server-time") as irc,
        here.alice.events() as events,
    ):
        await opened(irc)
        question = await here.ops.say("who?")
        shown = await irc.message("who?")
        assert shown.tags["time"].startswith(f"{question.at:%Y-%m-%dT%H:%M:%S}.")
        assert shown.tags["time"].endswith("Z")
        await irc.send(f"@+draft/reply={shown.tags['msgid']} PRIVMSG #ops :me")
        answer = await posted(events)
        assert (answer.text, answer.reply_to) == ("me", question.seq)
        await here.ops.say("no", reply_to=answer)
        assert (await irc.message("> bob: me")).tags["+draft/reply"].startswith(f"{answer.seq}-")


async def test_texts_cannot_forge_lines() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.say("one\r\nQUIT :x\n:bob!bob@tchat KICK #ops bob\n\x01ACTION x\x01")
        lines = [await irc.line() for _ in range(4)]
        assert await irc.sync() == []
        assert all(line.startswith(":alice!alice@tchat PRIVMSG #ops :") for line in lines)
        assert not any("\x01" in line for line in lines)


# ------------------------------------------------------------------ other events


async def test_edits_and_deletions_and_pins_are_notices() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        message = await here.ops.say("tpyo")
        await message.edit("typo")
        await here.ops.pin(message.seq)
        await here.ops.pin(None)
        await message.delete()
        assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :tpyo"
        notices = [(await irc.line()).partition(" NOTICE #ops :")[2] for _ in range(4)]
        assert notices == [
            "edited “tpyo”: typo",
            "pinned “tpyo”",
            "unpinned the message",
            f"deleted a message of {message.at.astimezone():%H:%M}",
        ]


async def test_deletions_by_the_admin_name_the_author() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG #ops :hello")
        said = await posted(events)
        await said.delete()
        told = (
            f":alice!alice@tchat NOTICE #ops :deleted bob's message of {said.at.astimezone():%H:%M}"
        )
        assert await irc.line() == told


async def test_files_are_announced_and_fetched() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        source = here.server.directory / "report.txt"
        source.write_text("numbers")
        await here.ops.send_file(source)
        line = await irc.line()
        assert line.startswith(":alice!alice@tchat NOTICE #ops :shared file 1: report.txt (7 B).")
        command = line.partition("To get it: /msg ")[2]
        await irc.send("PRIVMSG {} :{}".format(*command.split(" ", 1)))
        saved = here.door.downloads / "report.txt"
        answer = await irc.until("PRIVMSG")
        assert answer == f":*tchat!tchat@tchat PRIVMSG bob :Saved as {saved}"
        assert saved.read_text() == "numbers"


async def test_people_come_and_go() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        async with here.server.connect("9carol") as carol:
            group = await carol.join("ops")
            await group.say("hi")
            await group.leave()
            await carol.join("ops")
            await here.ops.kick("9carol")
            await here.ops.ban("9carol")
            await here.ops.unban("9carol")
        assert [await irc.line() for _ in range(8)] == [
            ":^9carol!^9carol@tchat JOIN #ops",
            ":^9carol!^9carol@tchat PRIVMSG #ops :hi",
            ":^9carol!^9carol@tchat PART #ops",
            ":^9carol!^9carol@tchat JOIN #ops",
            ":alice!alice@tchat KICK #ops ^9carol :kicked",
            ":alice!alice@tchat MODE #ops +b ^9carol!*@*",
            ":alice!alice@tchat KICK #ops ^9carol :banned",
            ":alice!alice@tchat MODE #ops -b ^9carol!*@*",
        ]


async def test_admin_topic_and_policy_are_modes() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.set_topic("servers")
        await here.ops.set_policy("approval")
        await here.ops.transfer("bob")
        assert await irc.line() == ":alice!alice@tchat TOPIC #ops :servers"
        assert await irc.line() == ":alice!alice@tchat MODE #ops +i"
        assert await irc.line() == ":alice!alice@tchat MODE #ops -o+o alice bob"


async def test_admin_works_with_irc_commands() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await here.ops.transfer("bob")
        await irc.until("-o+o")
        await irc.send("TOPIC #ops :by IRC", "MODE #ops +i")
        await irc.until("MODE #ops +i")
        await irc.send("MODE #ops", "TOPIC #ops")
        assert await irc.until(" 324 ") == ":tchat.localhost 324 bob #ops :+int"
        await irc.until(":tchat.localhost 332 bob #ops :by IRC")
        async with here.server.connect("carol") as carol, trio.open_nursery() as nursery:
            nursery.start_soon(carol.join, "ops")
            request = await irc.until("asks to join")
            assert request.endswith("To approve it: /msg *tchat approve #ops carol")
            await irc.send("INVITE carol #ops")
            await irc.until("JOIN #ops")
        await irc.send("KICK #ops carol", "MODE #ops +b carol!*@*", "MODE #ops b")
        assert (await irc.until(" 367 ")).endswith("#ops :carol!*@*")
        await irc.send("MODE #ops -b carol!*@*", "MODE #ops -i", "MODE #ops +o alice")
        await next_of(events, tchat.AdminChanged)
        assert here.ops.topic == "by IRC"
        assert here.ops.policy == "open"
        assert here.ops.is_admin
        assert here.ops.banned == []
        assert here.ops.members == ["alice", "bob"]


async def test_nickname_of_no_character_is_refused() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.transfer("bob")
        await irc.until("-o+o")
        await irc.send("KICK #ops ^d800^x")
        await irc.until("A name may contain")


@pytest.mark.parametrize("mask", ["carol", "carol!*@*", "*!carol@tchat", "*!*carol@tchat"])
async def test_masks_of_clients_ban_a_person(mask: str) -> None:
    """Irssi and WeeChat make masks of what they know about a person: user and host."""
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.transfer("bob")
        await irc.until("-o+o")
        async with here.server.connect("carol") as carol:
            await carol.join("ops")
        await irc.send(f"MODE #ops +b {mask}")
        await irc.until("MODE #ops +b carol!*@*")
        await irc.send("MODE #ops +b *!*@*")
        assert "*!*@* names nobody" in await irc.until(" 400 ")
        await irc.send(f"MODE #ops -b {mask}")
        await irc.until("MODE #ops -b carol!*@*")
        assert here.ops.banned == []


async def test_others_may_not_administer() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        for command in (
            "TOPIC #ops :x",
            "KICK #ops alice",
            "MODE #ops +b alice",
            "MODE #ops +o bob",
        ):
            await irc.send(command)
            assert " 482 bob #ops " in await irc.line()


@pytest.mark.parametrize("command", ["INVITE carol #ops", "PRIVMSG *tchat :invite ops carol"])
async def test_invite_line_can_be_pasted(command: str) -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.transfer("bob")
        await irc.until("-o+o")
        await irc.send("MODE #ops +i")
        await irc.until("MODE #ops +i")
        await irc.send(command)
        await irc.until("On another machine, replace 127.0.0.1 with")
        line = (await irc.until(" --invite ")).partition(" :")[2]
        words = shlex.split(line)
        program = program_words()
        assert words[: len(program)] == program
        assert ":".join(words[len(program) + 1 :][:2]) == here.server.address
        assert words[-4:-1] == ["--user=carol", "--group=ops", "--invite"]
        async with here.server.connect("carol") as carol:
            await carol.join("ops", invite=words[-1])


# ------------------------------------------------------------------ joining


async def test_joining_needs_approval_and_says_so() -> None:
    async with scene() as here, here.door.registered() as irc:
        lab = await here.alice.join("lab", create=True)
        async with here.alice.events(lab) as events:
            await irc.send("JOIN #lab")
            assert " 473 bob #lab " in await irc.until(" 473 ")
            assert "opens here when its admin approves you" in await irc.line()
            request = await next_of(events, tchat.JoinRequest)
            assert isinstance(request, tchat.JoinRequest)
            await request.approve()
            assert await irc.line() == ":bob!bob@tchat JOIN #lab"


async def test_denied_request_is_told() -> None:
    async with scene() as here, here.door.registered() as irc:
        lab = await here.alice.join("lab", create=True)
        async with here.alice.events(lab) as events:
            await irc.send("JOIN #lab")
            await irc.until("opens here when its admin approves you")
            request = await next_of(events, tchat.JoinRequest)
            assert isinstance(request, tchat.JoinRequest)
            await request.deny()
            await irc.until("alice denied your request to join #lab.")


async def test_all_requests_are_denied_with_one_command() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send("PRIVMSG *tchat :create lab")
        await irc.until("JOIN #lab")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(tchat.Refused, match="not a member"):
                    await here.alice.join("lab")

            nursery.start_soon(ask)
            await irc.until("alice asks to join")
            await irc.send("PRIVMSG *tchat :denyall lab")
            await irc.until("You denied all requests.")


async def test_joining_founds_nothing_unless_asked() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send("JOIN #new")
        line = await irc.line()
        assert line.startswith(":tchat.localhost 403 bob #new ")
        assert line.endswith("To found it: /msg *tchat create #new")
        await irc.line()
        await irc.send("PRIVMSG *tchat :create #new")
        assert await irc.until("JOIN") == ":bob!bob@tchat JOIN #new"
        assert await irc.line() == ":tchat.localhost 353 bob = #new :@bob"


async def test_invite_is_the_key_of_a_channel() -> None:
    async with scene() as here, here.door.registered() as irc:
        lab = await here.alice.join("lab", create=True)
        await irc.send("JOIN #lab wrong", f"JOIN #lab {await lab.invite()}")
        assert (await irc.until(" #lab ")).split()[1] != "366"
        await irc.until("JOIN #lab")


async def test_part_closes_a_channel_only_here() -> None:
    async with scene() as here, here.door.registered() as irc, here.door.registered() as other:
        await opened(irc)
        await opened(other)
        await irc.send("PART #ops")
        assert (await irc.line()).startswith(":bob!bob@tchat PART #ops")
        await here.ops.say("one")
        assert "one" in await other.until("PRIVMSG")
        assert await irc.sync() == []
        assert here.ops.members == ["alice", "bob"]
        await irc.send("JOIN #ops")
        assert await irc.line() == ":bob!bob@tchat JOIN #ops"


async def test_leaving_for_good_is_a_command() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG *tchat :leave #ops")
        assert (await irc.until("PART")).startswith(":bob!bob@tchat PART #ops")
        left = await next_of(events, tchat.Left)
        assert isinstance(left, tchat.Left)
        assert left.name == "bob"


async def test_being_kicked_closes_the_channel() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await here.ops.kick("bob")
        assert await irc.line() == ":alice!alice@tchat KICK #ops bob :kicked"
        await irc.send("PRIVMSG #ops :hello?")
        assert " 442 bob #ops " in await irc.line()


# ------------------------------------------------------------------ what is unread


async def test_unread_messages_are_replayed_once() -> None:
    async with scene() as here:
        async with here.door.registered() as irc:
            await opened(irc)
            await here.ops.say("seen")
            await irc.until("seen")
            await irc.confirm()
        first = await here.ops.say("missed")
        await here.ops.set_topic("servers")
        async with here.door.registered("server-time") as irc:
            await opened(irc)
            missed = await irc.message("PRIVMSG #ops")
            assert missed.params == ("#ops", "missed")
            assert missed.tags["time"].startswith(f"{first.at:%Y-%m-%dT%H:%M:%S}.")
            # The topic is that of 332 already: an old change is told, and changes nothing.
            told = ":alice!alice@tchat NOTICE #ops :set the topic: servers"
            assert await irc.line() == told
            await irc.confirm()
        async with here.door.registered() as irc:
            await opened(irc)
            assert await irc.sync() == []


async def test_unreceived_messages_stay_unread() -> None:
    """A client that is gone before it has answered a PING may have received nothing."""
    async with scene() as here:
        async with here.door.registered() as irc:
            await opened(irc)
            irc.answers_pings = False
            await here.ops.say("lost on the way")
            await irc.until("lost on the way")
        async with here.door.registered() as irc:
            await irc.until("lost on the way")


async def test_reading_here_counts_on_all_devices() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        message = await here.ops.say("read this")
        await irc.until("read this")
        await irc.confirm()
        (group,) = here.door.client.groups
        assert group.seen == message.seq


async def test_old_unread_messages_are_left_out() -> None:
    replay = 10
    async with scene() as here:
        bob = here.door.client
        (group,) = bob.groups
        unread = group.last - group.seen
        for number in range(replay + 5):
            await here.ops.say(str(number))
        async with door_of(bob, here.door.downloads, replay) as door, door.registered() as irc:
            await opened(irc)
            told = f":tchat.localhost NOTICE #ops :{unread + 5} earlier unread events are not shown"
            assert await irc.line() == told
            assert await irc.line() == ":alice!alice@tchat PRIVMSG #ops :5"
            await irc.until(f"PRIVMSG #ops :{replay + 4}")


# ------------------------------------------------------------------ people


async def test_who_and_whois_and_names() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send(
            "WHO #ops", "WHOIS alice", "WHOIS nobody", "NAMES #ops", "USERHOST alice bob"
        )
        lines = await irc.sync()
        for expected in (
            ":tchat.localhost 352 bob #ops alice tchat tchat.localhost alice H@ :0 alice",
            ":tchat.localhost 352 bob #ops bob tchat tchat.localhost bob H :0 bob",
            ":tchat.localhost 315 bob #ops :End of /WHO list",
            ":tchat.localhost 311 bob alice alice tchat * :alice",
            ":tchat.localhost 319 bob alice :@#ops",
            ":tchat.localhost 401 bob nobody :Nobody in your groups has that name",
            ":tchat.localhost 353 bob = #ops :@alice bob",
            ":tchat.localhost 302 bob :alice=+alice@tchat bob=+bob@tchat",
        ):
            assert expected in lines


async def test_away_people_and_offline_people() -> None:
    async with scene() as here, here.door.registered("away-notify") as irc:
        await opened(irc)
        await here.alice.set_away("lunch")
        assert await irc.line() == ":alice!alice@tchat AWAY :lunch"
        await here.alice.set_away(None)
        assert await irc.line() == ":alice!alice@tchat AWAY"
        async with here.server.connect("carol") as carol:
            await carol.join("ops")
            await irc.until("JOIN")
        assert await irc.until("carol!carol@tchat AWAY :offline")
        await irc.send("PRIVMSG carol :later")
        await irc.until(" 301 bob carol :offline")


async def test_presence_costs_the_same_in_large_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of a group are read once for a change, not once for each of its members."""
    reads = 0

    def online(group: tchat.Group) -> list[str]:
        nonlocal reads
        reads += 1
        return list(group.replica.online.values())

    monkeypatch.setattr(tchat.Group, "online", property(online))
    async with (
        scene() as here,
        here.door.registered("away-notify") as irc,
        AsyncExitStack() as stack,
    ):
        await opened(irc)
        needed: list[int] = []
        for number in (2, 10):
            for name in (f"guest{number}-{n}" for n in range(number)):
                guest = await stack.enter_async_context(here.server.connect(name))
                await guest.join("ops")
                await irc.until(f":{name}!{name}@tchat JOIN")
            await irc.sync()
            reads = 0
            await here.alice.set_away(f"lunch {number}")
            await irc.until(f"AWAY :lunch {number}")
            await irc.send("NAMES #ops", "WHO #ops")
            await irc.until(" 315 ")
            needed.append(reads)
        assert needed[1] == needed[0]


async def test_away_is_presence() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.notices() as notices:
        await opened(irc)
        await irc.send("AWAY :lunch")
        await irc.until(" 306 ")
        async for notice in notices:
            if isinstance(notice, tchat.Presence) and here.ops.away == {"bob": "lunch"}:
                break
        await irc.send("AWAY")
        await irc.until(" 305 ")


async def test_new_clients_learn_that_you_are_away() -> None:
    async with scene() as here:
        async with here.door.registered() as irc:
            await opened(irc)
            await irc.send("AWAY :lunch")
            await irc.until(" 306 ")
        (group,) = here.door.client.groups
        async with here.door.client.notices() as notices:
            while group.away != {"bob": "lunch"}:
                await notices.receive()
        async with here.door.registered() as irc:
            assert " 306 bob " in await irc.line()


async def test_list_and_other_queries() -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send("LIST", "MODE bob", "ISON alice nobody", "NICK bert", "NICK bob", "USER x")
        lines = await irc.sync()
        assert ":tchat.localhost 322 bob #ops 2 :" in lines
        assert ":tchat.localhost 221 bob :+" in lines
        assert ":tchat.localhost 303 bob :alice" in lines
        assert sum(" 484 " in line for line in lines) == 1
        assert sum(" 462 " in line for line in lines) == 1


async def test_service_answers() -> None:
    async with scene() as here, here.door.registered() as irc, here.alice.events() as events:
        await opened(irc)
        await irc.send("PRIVMSG *tchat :help")
        await irc.until("create GROUP: found a group")
        await irc.send("PRIVMSG #ops :tpyo", "PRIVMSG *tchat :edit #ops typo")
        await irc.until("Your last message is edited.")
        edited = await next_of(events, tchat.Edited)
        assert isinstance(edited, tchat.Edited)
        assert edited.text == "typo"
        await irc.send("PRIVMSG *tchat :search typo")
        await irc.until("#ops <bob> typo")
        await irc.send("PRIVMSG *tchat :delete #ops")
        await next_of(events, tchat.Deleted)
        for wrong in ("frobnicate", "get #ops", "get #ops x", "files #no", "approve #ops x", ""):
            await irc.send(f"PRIVMSG *tchat :{wrong}")
            assert await irc.until("PRIVMSG bob :")


async def test_quit_says_goodbye() -> None:
    async with scene() as here, here.door.registered() as irc:
        await irc.send("PRIVMSG #ops :last words", "QUIT :bye")
        assert await irc.closed() == "ERROR :Goodbye."


async def test_last_words_are_posted() -> None:
    async with scene() as here, here.alice.events() as events:
        async with here.door.registered() as irc:
            await opened(irc)
            await irc.send("PRIVMSG #ops :last words", "QUIT")
            await irc.closed()
        assert (await posted(events)).text == "last words"


async def test_names_of_any_script_work() -> None:
    async with scene() as here, here.server.connect("Björn") as björn:
        await björn.join("ops")
        await björn.join("日本", create=True)
        async with door_of(björn, here.server.directory) as door, door.registered() as irc:
            await irc.until("JOIN #日本")
            await here.ops.say("hi")
            assert "PRIVMSG #ops :hi" in await irc.until("PRIVMSG")
            await irc.send("WHOIS björn")
            await irc.until(" 311 Björn Björn ")


# ------------------------------------------------------------------ history


async def history(irc: IrcClient, request: str) -> list[str]:
    """Return the texts of the answer to CHATHISTORY."""
    await irc.send(f"CHATHISTORY {request}")
    await irc.until("BATCH +")
    texts: list[str] = []
    while " BATCH -" not in (line := await irc.message_line()):
        texts.append(line.rpartition(" :")[2])
    return texts


async def with_history(here: Scene, irc: IrcClient) -> list[tchat.Message]:
    """Post five messages, and wait until the client has them."""
    said = [await here.ops.say(str(number)) for number in range(5)]
    await irc.until("PRIVMSG #ops :4")
    return said


HISTORY = ("batch", "draft/chathistory", "message-tags", "server-time")


async def test_history_is_paged_by_ids_and_times() -> None:
    async with scene() as here, here.door.registered(*HISTORY) as irc:
        await opened(irc)
        said = await with_history(here, irc)
        ids = [f"msgid={one.seq}@#ops" for one in said]
        assert await history(irc, "LATEST #ops * 2") == ["3", "4"]
        assert await history(irc, f"LATEST #ops {ids[2]} 9") == ["3", "4"]
        assert await history(irc, f"BEFORE #ops {ids[2]} 2") == ["0", "1"]
        assert await history(irc, f"AFTER #ops {ids[1]} 2") == ["2", "3"]
        assert await history(irc, f"AROUND #ops {ids[2]} 3") == ["1", "2", "3"]
        assert await history(irc, f"BETWEEN #ops {ids[0]} {ids[4]} 2") == ["1", "2"]
        assert await history(irc, f"BETWEEN #ops {ids[4]} {ids[0]} 2") == ["2", "3"]
        assert await history(irc, "BEFORE #ops timestamp=2100-01-01T00:00:00.000Z 1") == ["4"]
        assert await history(irc, "AFTER #ops timestamp=2100-01-01T00:00:00.000Z 1") == []
        old = "AFTER #ops timestamp=1999-01-01T00:00:00.000Z 200"
        assert [text for text in await history(irc, old) if text.isdigit()] == list("01234")


async def test_history_replaces_the_replay() -> None:
    async with scene() as here:
        await here.ops.say("missed")
        async with here.door.registered(*HISTORY) as irc:
            await opened(irc)
            assert await irc.sync() == []
            assert await history(irc, "LATEST #ops * 1") == ["missed"]


async def test_history_lists_targets() -> None:
    async with scene() as here, here.door.registered(*HISTORY) as irc:
        await opened(irc)
        span = "timestamp=1999-01-01T00:00:00.000Z timestamp=2100-01-01T00:00:00.000Z"
        await irc.send(f"CHATHISTORY TARGETS {span} 10")
        assert " CHATHISTORY TARGETS #ops " in await irc.until("TARGETS #ops")


@pytest.mark.parametrize(
    "request_line",
    [
        "LATEST #nowhere * 5",
        "LATEST #ops * x",
        "LATEST #ops nonsense 5",
        "BEFORE #ops timestamp=never 5",
        "BEFORE #ops msgid=1@#other 5",
        "SIDEWAYS #ops * 5",
        "LATEST",
        "TARGETS x y z",
    ],
)
async def test_wrong_history_requests_fail(request_line: str) -> None:
    async with scene() as here, here.door.registered() as irc:
        await opened(irc)
        await irc.send(f"CHATHISTORY {request_line}")
        assert (await irc.line()).startswith(":tchat.localhost FAIL CHATHISTORY INVALID_")


async def test_read_marker_moves_the_mark() -> None:
    async with scene() as here, here.door.registered("draft/read-marker", *HISTORY) as irc:
        await irc.until("MARKREAD #ops")
        said = await with_history(here, irc)
        (group,) = here.door.client.groups
        assert group.seen < said[0].seq
        await irc.send(f"MARKREAD #ops timestamp={said[2].at:%Y-%m-%dT%H:%M:%S.%f}Z")
        assert "MARKREAD #ops timestamp=" in await irc.until("MARKREAD")
        assert group.seen >= said[2].seq


async def test_labels_are_on_every_answer() -> None:
    async with scene() as here, here.door.registered("labeled-response", "batch") as irc:
        await opened(irc)
        await irc.send("@label=a PING x", "@label=b WHO #ops", "@label=c PONG x")
        assert await irc.message_line() == "@label=a :tchat.localhost PONG tchat.localhost :x"
        assert (await irc.message_line()).startswith("@label=b :tchat.localhost BATCH +")
        assert (await irc.message_line()).startswith("@batch=")
        assert await irc.until("label=c") == "@label=c :tchat.localhost ACK"
