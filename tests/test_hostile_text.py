"""Terminal escape injection: hostile text in plain mode, in the server's log, and as names."""

from __future__ import annotations

import io
import json
import string
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.core.group.membership import Join
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import Failed, Goodbye
from tchat.core.text import clean_line, clean_text
from tchat.errors import Code
from tchat.server.log import LINES, Log
from tests.cddl import unchecked
from tests.fake_server import ScriptedPeer, fake_server
from tests.helpers import GROUP, hello_of, log_of, members, raw_client, running_server, texts
from tests.hostile_text import (
    EVERYTHING,
    HARMLESS,
    HOSTILE,
    LONG_NAME,
    NAMES,
    SEQUENCES,
    Case,
    as_one_line,
    as_plain_line,
    unsafe_characters,
)
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.server.log import LogFormat
    from tests.helpers import RawClient

every_case = pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
both_formats = pytest.mark.parametrize("log_format", ["text", "json"])


def assert_clean(lines: list[str], *, allowed: str = "") -> None:
    unsafe = {line: unsafe_characters(line, allowed=allowed) for line in lines}
    assert {line: found for line, found in unsafe.items() if found} == {}


def assert_plain(lines: list[str]) -> None:
    """Check lines of plain mode: only messages may have tabs."""
    assert_clean([line for line in lines if not line[8:].startswith("<")])
    assert_clean(lines, allowed="\t")


# ------------------------------------------------------------------ sanitizer


@every_case
def test_sanitizer_agrees_with_the_corpus(case: Case) -> None:
    assert clean_text(case.text) == case.shown
    assert clean_line(case.text) == as_one_line(case.shown)
    assert_clean(case.shown.split("\n"), allowed="\t")


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert clean_text(text) == text
    assert_clean([text])


@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDC9B, 0xDFFF], ids=hex)
def test_a_lone_surrogate_is_replaced(code: int) -> None:
    assert clean_text(f"a{chr(code)}b") == "a\ufffdb"


# ------------------------------------------------------------------ a plain client


async def test_plain_mode_shows_hostile_messages_as_text(tmp_path: Path) -> None:
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
    shown = [as_plain_line(case.shown) for case in HOSTILE]
    assert alice.heard == [f"<bob> {text}" for text in [*shown, *HARMLESS, "the end"]]
    assert_plain(alice.lines)
    assert_clean(alice.err.all)


async def member_script(peer: ScriptedPeer) -> None:
    """Send every frame that a member may receive, with hostile text; end with goodbye."""
    await peer.welcome()
    await peer.attach(seq=1)
    await peer.group_list(LONG_NAME, f"@alice,{LONG_NAME}")
    await peer.event("created", "alice")
    here = {"online": [{"name": LONG_NAME, "away": LONG_NAME}], "offline": ["bob"]}
    await peer.send("presence", group=GROUP, reset=True, **here)
    for number, case in enumerate(NAMES):
        await send_each_event(peer, case.text, number)
    # The first file is refused on its transfer connection, the others before a ticket is issued.
    await peer.send("ticket", re=(await peer.expect("download"))["id"], ticket=bytes(16))
    for _ in NAMES[1:]:
        request = await peer.expect("download")
        await peer.send("error", re=request["id"], code=LONG_NAME, text=f"no file: {EVERYTHING}")
    for case in NAMES:
        await peer.event("admin_transferred", case.text, name=case.text)
    await peer.send("goodbye", code=LONG_NAME, text=f"goodbye: {EVERYTHING}")


def sha(number: int) -> bytes:
    """Return another digest for each file: the same bytes are downloaded once."""
    return number.to_bytes(32, "big")


async def send_each_event(peer: ScriptedPeer, text: str, number: int) -> None:
    """Send each kind of event, with `text` in every text field."""
    await peer.event("requested", text)
    await peer.event("denied", text, name=text)
    await peer.event("withdrawn", text)
    await peer.event("approved", text, name=text)
    await peer.event("posted", text, text=text)
    await peer.event("file_shared", text, number=number, name=text, size=1, sha256=sha(number))
    await peer.event("left", text)
    await peer.event("kicked", text, name=text)
    await peer.event(text, text)


async def waiting_script(peer: ScriptedPeer) -> None:
    """Welcome the client as a person waiting for approval by a hostile name."""
    await peer.welcome()
    await peer.attach("waiting", admin=LONG_NAME)
    await peer.send("error", code=LONG_NAME, text=f"farewell: {EVERYTHING}")


async def removal_script(peer: ScriptedPeer) -> None:
    """Send a membership update for each reason; wait for the client to disconnect."""
    await peer.welcome()
    await peer.attach("waiting")
    for reason in ("denied", "kicked", "left", "closed"):
        news = {"standing": "outsider", "reason": reason, "by": LONG_NAME}
        await peer.send("membership", group=GROUP, **news)
    await peer.expect("end")


async def refusing_script(peer: ScriptedPeer) -> None:
    """Refuse a connection, chat or transfer, at its first frame."""
    await peer.send("error", code=LONG_NAME, text=f"cannot be: {EVERYTHING}")


async def test_plain_mode_sanitizes_all_server_text(tmp_path: Path) -> None:
    scripts = (member_script, waiting_script, removal_script, refusing_script)
    settings = trio.Path(tmp_path / "alice" / "config.toml")
    await settings.parent.mkdir()
    await settings.write_text(f"[automatic]\nfiles = {len(NAMES)}\n")
    async with launching(tmp_path) as launch, fake_server(*scripts) as address:
        alice = await launch.join(address, "alice")
        await alice.sees("connection lost (goodbye:", "connected again", "Waiting for ␛[2J")
        await alice.sees("connection lost (farewell:", " denied your request", " kicked you from")
        await alice.sees("You left this group", " left, the last member")
        assert await alice.end() == 1
    shown = [(as_one_line(case.shown), as_plain_line(case.shown)) for case in NAMES]
    said = [line[8:] for line in alice.lines]
    assert [line for line in said if line[0] == "<"] == [f"<{who}> {text}" for who, text in shown]
    # A request that was withdrawn before it is shown appears as history.
    asked = [line for line in said if " asks to join: /approve " in line or "asked to join" in line]
    assert len(asked) == len(NAMES)
    for sentence in SENTENCES:
        assert sum(sentence in line for line in said) == len(NAMES), sentence
    assert any(" made " in line for line in said)  # changes in a loop share a line
    refused = [line for line in said if line.startswith("! ")]
    assert sum("no file: " in line for line in refused) == len(NAMES) - 1
    assert sum("cannot be: " in line for line in refused) == 1
    assert_plain(alice.lines)
    assert_clean(alice.err.all)


SENTENCES = (
    " no longer asks to join",
    ", approved by ",
    " shared ",
)


@pytest.mark.parametrize("code", [Code.BAD_NAME, LONG_NAME], ids=["for good", "for now"])
async def test_a_refused_login_is_reported_in_clean_text(tmp_path: Path, code: str) -> None:
    async def refuse(peer: ScriptedPeer) -> None:
        await peer.send("error", code=code, text=f"cannot be: {EVERYTHING}")

    async with launching(tmp_path) as launch, fake_server(refuse) as address:
        line = await (await launch.join(address, "alice")).fails()
    assert "cannot be: " in line
    assert_clean([line])


# ------------------------------------------------------------------ the server's log


@both_formats
async def test_refused_names_are_logged_as_text(log_format: LogFormat) -> None:
    hostile = [case.text for case in SEQUENCES]
    async with running_server(log_format=log_format) as server:
        for name in hostile:
            async with raw_client(server.address) as stranger:
                await stranger.send(replace(hello_of("mallory"), user=name))
                assert await last_error_code(stranger) in (Code.BAD_NAME, Code.HANDSHAKE)
    refused = [line for line in server.console if "refused" in line]
    assert len(refused) == len(hostile)
    assert_clean(server.console)


async def last_error_code(person: RawClient) -> str:
    last = (await person.until_end())[-1]
    assert isinstance(last, Failed | Goodbye)
    assert_clean([last.text])
    return last.code


async def test_groups_with_hostile_names_are_refused() -> None:
    async with running_server() as server, members(server, "alice") as [alice]:
        for case in SEQUENCES:
            refusal = await alice.refusal(Join, group=case.text)
            assert refusal.code == Code.BAD_NAME
            assert_clean([refusal.sentence])
        assert await log_of(server.store) != []
    assert sum("new group" in line for line in server.console) == 1


@both_formats
def test_every_log_line_is_one_clean_line(log_format: LogFormat) -> None:
    stream = io.StringIO()
    hours = count(step=3600.0)  # so that no line is held back as a repetition or a flood
    log = Log(log_format, stream, monotonic=lambda: next(hours))
    for kind, form in LINES.items():
        facts = [fact for _, fact, _, _ in string.Formatter().parse(form) if fact]
        for case in HOSTILE:
            log.line(kind, **dict.fromkeys(facts, case.text))
    log.close()
    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert len(lines) == len(LINES) * len(HOSTILE)
    assert_clean(lines)
    assert log_format == "text" or [log_fields(line) for line in lines[: len(HOSTILE)]] == [
        {"group": as_one_line(case.shown), "user": as_one_line(case.shown)} for case in HOSTILE
    ]


def log_fields(line: str) -> dict[str, Any]:
    """Return the fields of a JSON log line, checking that their values are clean."""
    item = json.loads(line)
    assert_clean([str(value) for value in item.values()])
    return {key: item[key] for key in item.keys() - {"at", "level", "event", "message"}}


# ------------------------------------------------------------------ invalid UTF-8


@pytest.mark.parametrize(
    "wrong", [b"\xed\xa0\x80!", b"\xed\xb2\x9b!", b"\xc0\x80!!", b"\xff\xfe!!", b"\xf4\x90\x80\x80"]
)
async def test_invalid_utf_8_ends_only_its_own_connection(wrong: bytes) -> None:
    async with running_server() as server, members(server, "alice", "bob", "carol") as people:
        alice, bob, carol = people
        frame = unchecked(Post(9, 9, GROUP, "????").to_map())
        assert frame.count(b"????") == 1
        await bob.stream.send_all(frame.replace(b"????", wrong))
        assert await last_error_code(bob) == Code.MALFORMED
        await alice.post("still here")
        assert texts(await carol.events(1)) == ["still here"]
        assert texts(await log_of(server.store)) == ["still here"]
