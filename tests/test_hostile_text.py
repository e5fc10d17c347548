"""Hostile text as lines: in `join --plain`, in the server's log, and as names."""

from __future__ import annotations

import io
import json
import string
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tchat.core.group.commands import Join, Post
from tchat.core.protocol.frames import Failed, Goodbye
from tchat.core.text import clean_line, clean_text
from tchat.errors import Code
from tchat.server.log import LINES, Log
from tests.helpers import GROUP, hello_of, log_of, members, raw_client, running_server, texts
from tests.hostile import EVERYTHING, HARMLESS, HOSTILE, SEQUENCES, Case, obeyed, on_a_line
from tests.lying import Liar, lying_server
from tests.processes import launching
from tests.protocol import unchecked

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.server.log import LogFormat
    from tests.helpers import RawClient

every_case = pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
both_formats = pytest.mark.parametrize("log_format", ["text", "json"])


def no_line_is_obeyed(lines: list[str]) -> None:
    assert {line: obeyed(line) for line in lines if obeyed(line)} == {}


# ------------------------------------------------------------------ cleaning


@every_case
def test_what_a_person_sees_is_what_the_corpus_says(case: Case) -> None:
    assert clean_text(case.text) == case.shown
    assert clean_line(case.text) == on_a_line(case.shown)
    no_line_is_obeyed(case.shown.split("\n"))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_harms_nobody_is_left_alone(text: str) -> None:
    assert clean_text(text) == text
    no_line_is_obeyed([text])


@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDC9B, 0xDFFF], ids=hex)
def test_half_a_character_is_not_passed_on(code: int) -> None:
    assert clean_text(f"a{chr(code)}b") == "a\ufffdb"


# ------------------------------------------------------------------ a plain client


async def test_a_plain_client_shows_hostile_messages_as_text(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        async with raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            await alice.sees("bob asks to join")
            await alice.type("/2 bob")
            await alice.sees("bob joined")
            for text in [*(case.text for case in HOSTILE), *HARMLESS, "the end"]:
                await bob.post(text)
        await alice.sees("the end")
        assert await alice.end() == 0
    shown = [on_a_line(case.shown) for case in HOSTILE]
    assert alice.heard == [f"<bob> {text}" for text in [*shown, *HARMLESS, "the end"]]
    no_line_is_obeyed([*alice.lines, *alice.err.all])


async def tell_lies(liar: Liar) -> None:
    """Say everything that a member hears, uncleaned, and in the end goodbye."""
    await liar.welcome()
    await liar.attach(seq=1)
    await liar.tells_groups(EVERYTHING, f"@alice,{EVERYTHING}")
    await liar.happens("created", "alice")
    here = {"online": [EVERYTHING], "away": [EVERYTHING], "offline": ["bob"]}
    await liar.send("presence", group=GROUP, reset=True, **here)
    for number, case in enumerate(HOSTILE):
        await tell_lies_with(liar, case.text, number)
    # The first file is refused on its own connection, the others before.
    await liar.send("ticket", re=(await liar.hears("download"))["id"], ticket=bytes(16))
    for _ in HOSTILE[1:]:
        request = await liar.hears("download")
        await liar.send("error", re=request["id"], code=EVERYTHING, text=f"no file: {EVERYTHING}")
    for case in HOSTILE:
        await liar.happens("admin_transferred", case.text, name=case.text)
    await liar.send("goodbye", code=EVERYTHING, text=f"goodbye: {EVERYTHING}")


async def tell_lies_with(liar: Liar, text: str, number: int) -> None:
    """Send each kind of event, with `text` wherever there may be some."""
    await liar.happens("requested", text)
    await liar.happens("denied", text, name=text)
    await liar.happens("withdrawn", text)
    await liar.happens("approved", text, name=text)
    await liar.happens("posted", text, text=text)
    await liar.happens("file_shared", text, number=number, name=text, size=1, sha256=bytes(32))
    await liar.happens("left", text)
    await liar.happens("kicked", text, name=text)
    await liar.happens(text, text)


async def tell_of_the_admin(liar: Liar) -> None:
    """Welcome somebody else, and let them wait."""
    await liar.welcome(user=EVERYTHING)
    await liar.attach("waiting", admin=EVERYTHING)
    await liar.send("error", code=EVERYTHING, text=f"farewell: {EVERYTHING}")


async def tell_of_standings(liar: Liar) -> None:
    """Say who did what to the person, and stay."""
    await liar.welcome()
    await liar.attach("waiting")
    for reason in ("denied", "kicked", "left", "closed"):
        news = {"standing": "outsider", "reason": reason, "by": EVERYTHING}
        await liar.send("membership", group=GROUP, **news)
    await liar.hears("end")


async def go_wrong(liar: Liar) -> None:
    """End a connection, whatever it is for, before it has begun."""
    await liar.send("error", code=EVERYTHING, text=f"cannot be: {EVERYTHING}")


async def test_a_plain_client_believes_no_server(tmp_path: Path) -> None:
    stories = (tell_lies, tell_of_the_admin, tell_of_standings, go_wrong)
    async with launching(tmp_path) as launch, lying_server(*stories) as address:
        alice = await launch.join(address, "alice")
        await alice.sees("connection lost (goodbye:", "connected again", "Waiting for ␛[2J")
        await alice.sees("connection lost (farewell:", " denied your request", " kicked you from")
        await alice.sees("You left this group", ", the last member, left")
        assert await alice.end() == 1
    shown = [on_a_line(case.shown) for case in HOSTILE]
    said = [line[8:] for line in alice.lines]
    assert [line for line in said if line[0] == "<"] == [f"<{text}> {text}" for text in shown]
    # What was withdrawn by the time that it is shown is told as history.
    asked = [line for line in said if " asks to join: /approve " in line or "asked to join" in line]
    assert len(asked) == len(HOSTILE)
    for sentence in SENTENCES:
        assert sum(sentence in line for line in said) == len(HOSTILE), sentence
    refused = [line for line in said if line.startswith("! ")]
    assert sum("no file: " in line for line in refused) == len(HOSTILE) - 1
    assert sum("cannot be: " in line for line in refused) == 1
    no_line_is_obeyed([*alice.lines, *alice.err.all])


SENTENCES = (
    " does not ask to join any more",
    ", approved by ",
    " shared ",
    " made ",
)


@pytest.mark.parametrize("code", [Code.BAD_NAME, EVERYTHING], ids=["for good", "for now"])
async def test_a_server_that_lets_nobody_in_says_so_in_clean_words(
    tmp_path: Path, code: str
) -> None:
    async def refuse(liar: Liar) -> None:
        await liar.send("error", code=code, text=f"cannot be: {EVERYTHING}")

    async with launching(tmp_path) as launch, lying_server(refuse) as address:
        line = await (await launch.join(address, "alice")).fails()
    assert "cannot be: " in line
    no_line_is_obeyed([line])


# ------------------------------------------------------------------ the server's log


@both_formats
async def test_names_that_are_refused_are_logged_as_text(log_format: LogFormat) -> None:
    hostile = [case.text for case in SEQUENCES]
    async with running_server(log_format=log_format) as server:
        for name in hostile:
            async with raw_client(server.address) as stranger:
                await stranger.send(replace(hello_of("mallory"), user=name))
                assert await said_last(stranger) in (Code.BAD_NAME, Code.HANDSHAKE)
    refused = [line for line in server.console if "refused" in line]
    assert len(refused) == len(hostile)
    no_line_is_obeyed(server.console)


async def said_last(person: RawClient) -> str:
    last = (await person.until_end())[-1]
    assert isinstance(last, Failed | Goodbye)
    no_line_is_obeyed([last.text])
    return last.code


async def test_groups_and_people_of_hostile_names_cannot_be() -> None:
    async with running_server() as server, members(server, "alice") as [alice]:
        for case in SEQUENCES:
            refusal = await alice.refusal(Join, group=case.text)
            assert refusal.code == Code.BAD_NAME
            no_line_is_obeyed([refusal.sentence])
        assert await log_of(server.store) != []
    assert sum("new group" in line for line in server.console) == 1


@both_formats
def test_whatever_is_logged_is_one_line_of_text(log_format: LogFormat) -> None:
    stream = io.StringIO()
    log = Log(log_format, stream)
    for kind, form in LINES.items():
        facts = [fact for _, fact, _, _ in string.Formatter().parse(form) if fact]
        for case in HOSTILE:
            log.line(kind, **dict.fromkeys(facts, case.text))
    log.close()
    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert len(lines) == len(LINES) * len(HOSTILE)
    no_line_is_obeyed(lines)
    assert log_format == "text" or [told(line) for line in lines[: len(HOSTILE)]] == [
        {"group": on_a_line(case.shown), "user": on_a_line(case.shown)} for case in HOSTILE
    ]


def told(line: str) -> dict[str, Any]:
    """Return the facts in a line of JSON, whose values are text as well."""
    item = json.loads(line)
    no_line_is_obeyed([str(value) for value in item.values()])
    return {key: item[key] for key in item.keys() - {"at", "event", "message"}}


# ------------------------------------------------------------------ what is no text at all


@pytest.mark.parametrize(
    "wrong", [b"\xed\xa0\x80!", b"\xed\xb2\x9b!", b"\xc0\x80!!", b"\xff\xfe!!", b"\xf4\x90\x80\x80"]
)
async def test_what_is_not_utf_8_ends_its_own_connection_and_no_other(wrong: bytes) -> None:
    async with running_server() as server, members(server, "alice", "bob", "carol") as people:
        alice, bob, carol = people
        frame = unchecked(Post(9, 9, GROUP, "????").to_map())
        assert frame.count(b"????") == 1
        await bob.stream.send_all(frame.replace(b"????", wrong))
        assert await said_last(bob) == Code.MALFORMED
        await alice.post("still here")
        assert texts(await carol.events(1)) == ["still here"]
        assert texts(await log_of(server.store)) == ["still here"]
