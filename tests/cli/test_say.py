"""`tchat say`: what is posted, and how it ends."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tchat
from tchat.cli.say import MOST_BYTES, messages_of
from tchat.core.text import TEXT_LIMIT, check_size, check_text, clean_message
from tchat.exits import DATA, OUTPUT, PERMISSION, UNAVAILABLE, USAGE
from tests.cli.running import GROUP, message_of, output_of, scene


async def test_words_are_posted_as_one_message() -> None:
    async with scene() as here:
        assert await here.run("say", "build 7", "failed") == (0, "", "")
        assert await here.said(1) == ["build 7 failed"]


async def test_input_is_posted_as_one_message() -> None:
    async with scene() as here:
        for words in ([], ["-"]):
            await here.run("say", *words, given=b"one\ntwo\r\n\n  three\n\n")
            assert await here.said(1) == ["one\ntwo\n\n  three"]


async def test_input_that_begins_with_a_command_is_text() -> None:
    async with scene() as here:
        await here.run("say", given=b"/me waves\n")
        await here.run("say", given=b"/quit\n")
        await here.run("say", "/me waves")
        events = await here.group.history(limit=3)
        assert [(e.text, e.action) for e in events if isinstance(e, tchat.Message)] == [
            (" /me waves", False),
            ("/quit", False),
            ("waves", True),
        ]


async def test_long_input_becomes_several_messages_in_order() -> None:
    lines = [f"line {number} {'x' * (number % 200)}" for number in range(600)]
    async with scene() as here:
        await here.run("say", given="\n".join(lines).encode())
        said = await here.said(10)
        assert len(said) > 3
        assert "\n".join(said).split("\n") == lines


def test_parts_fit_into_messages() -> None:
    text = "\n".join(["é" * 20_000, "", "short", "y" * TEXT_LIMIT, "z"])
    parts = list(messages_of(text))
    assert all(len(part.encode()) <= TEXT_LIMIT for part in parts)
    assert "".join(parts).replace("\n", "") == text.replace("\n", "")


async def test_code_keeps_its_columns() -> None:
    async with scene() as here:
        await here.run("say", "--code", given=b"if x:\n\ty\n")
        assert await here.said(1) == ["    if x:\n            y"]


async def test_each_line_is_a_message_with_lines() -> None:
    lines = [f"line {number}" for number in range(300)]
    async with scene() as here:
        await here.run("say", "--lines", given=("\n\n".join(lines)).encode())
        assert await here.said(300) == lines


async def test_lines_are_posted_as_they_come() -> None:
    async with (
        scene() as here,
        here.alice.events(here.group) as events,
        here.started("say", "--lines", "--tee") as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for text in ("one", "two"):
            await process.stdin.send_all(f"{text}\n".encode())
            assert (await message_of(events)).text == text
            assert await process.stdout.receive_some() == f"{text}\n".encode()


async def test_a_refused_line_does_not_stop_the_others() -> None:
    async with scene() as here:
        given = "one\n\u200b\nthree".encode()  # the second has no visible character
        await here.run("say", "--lines", given=given)
        assert await here.said(9) == ["one", "three"]
        done = await here.run("say", "--lines", "--reply", 9999, given=given, status=DATA)
        assert [line[:14] for line in done.err.splitlines()] == ["tchat: line 1:", "tchat: line 3:"]


async def test_a_removed_member_stops_posting_lines() -> None:
    async with (
        scene() as here,
        here.alice.events(here.group) as events,
        here.started("say", "--lines") as process,
    ):
        assert process.stdin is not None
        await process.stdin.send_all(b"one\n")
        await message_of(events)
        await here.group.kick("ci")
        await process.stdin.send_all(b"two\n")
        status, _, err = await output_of(process)  # although its input goes on
        assert (status, len(err.splitlines())) == (PERMISSION, 1)


async def test_tee_copies_the_bytes_of_the_input() -> None:
    async with scene() as here:
        done = await here.run("say", "--tee", given="\tgrün\r\n\n".encode())
        assert done.out == "\tgrün\r\n\n"
        assert await here.said(1) == ["\tgrün"]


async def test_a_key_posts_once() -> None:
    async with scene() as here:
        await here.run("say", "--key", "nightly", "first")
        await here.run("say", "--key", "nightly", "again")
        await here.run("say", "--key", "other", "last")
        assert await here.said(2) == ["first", "last"]


async def test_a_key_posts_long_input_once() -> None:
    async with scene() as here:
        for _ in range(2):
            await here.run("say", "--key", "nightly", given=b"x" * 40_000)
        assert [len(text) for text in await here.said(9)] == [TEXT_LIMIT, TEXT_LIMIT, 7232]


async def test_a_reply_names_its_message() -> None:
    async with scene() as here:
        asked = await here.group.say("who?")
        await here.run("say", "--reply", asked.seq, "me")
        (event,) = await here.group.history(limit=1)
        assert isinstance(event, tchat.Message)
        assert event.reply_to == asked.seq


async def test_a_person_is_written_to_alone() -> None:
    async with scene() as here, here.alice.events() as events:
        await here.run("say", "--group", "@alice", "psst")
        event = await events.receive()
        assert isinstance(event, tchat.Message)
        assert (event.text, event.direct) == ("psst", True)


async def test_nickname_brings_user_and_group() -> None:
    async with scene() as here:
        host, _, port = here.server.address.rpartition(":")
        (here.home / "config.toml").write_text(
            f'[servers.work]\nhost = "{host}"\nport = {port}\nuser = "ci"\ngroups = ["{GROUP}"]\n'
        )
        await here.run_bare("say", "work", "7777")
        await here.run_bare("say", host, port, "--user", "ci", "--group", GROUP, "two words")
        assert await here.said(2) == ["7777", "two words"]


@pytest.mark.parametrize(
    ("words", "given", "status", "sentence"),
    [
        ([], b"", DATA, "The input is empty; nothing was posted."),
        ([], b" \n\n", DATA, "The input is empty; nothing was posted."),
        ([], b"x" * (MOST_BYTES + 1), DATA, "The input is longer than 1 MiB; send it as a file"),
        ([" "], b"", DATA, "A message needs at least one visible character."),
        (["--lines", "text"], b"", USAGE, "--lines and --tee are for standard input"),
        (["--lines", "--key", "k"], b"", USAGE, "--key is for one message"),
        (["--key", "k" * 181, "hi"], b"", USAGE, "a key has 1 to 180 characters"),
        (["--key", "", "hi"], b"", USAGE, "a key has 1 to 180 characters"),
        (["--group", "other", "hi"], b"", PERMISSION, "You are not a member of other. Join it"),
        (["--user", "alice", "hi"], b"", PERMISSION, "alice"),
        (["--group", "no good", "hi"], b"", DATA, "letters, digits and _ - . only"),
        (["--reply", "9999", "hi"], b"", DATA, ""),
    ],
    ids=count(),  # an id with all of the input would not fit into the environment of a process
)
async def test_refusals_are_one_line_and_a_status(
    words: list[str], given: bytes, status: int, sentence: str
) -> None:
    async with scene() as here:
        before = here.group.last
        done = await here.run("say", *words, given=given, status=status)
        assert done.out == ""
        (line,) = done.err.splitlines()
        assert line.startswith("tchat")
        assert sentence in line
        assert (await here.group.history(limit=1))[0].seq == before


@pytest.mark.parametrize(
    ("server", "status", "sentence"),
    [
        ("127.0.0.1:1", UNAVAILABLE, "Cannot connect to 127.0.0.1:1: connection refused."),
        ("nowhere", USAGE, "Port missing: nowhere:PORT"),
        ("localhost:99999", USAGE, "99999 is not a port number"),
    ],
)
async def test_a_wrong_server_is_one_line(server: str, status: int, sentence: str) -> None:
    async with scene() as here:
        words = (server, "--user", "ci", "--group", GROUP, "hi")
        done = await here.run_bare("say", *words, status=status)
        (line,) = done.err.splitlines()
        assert sentence in line


async def test_a_full_copy_of_the_input_ends_it() -> None:
    async with scene() as here:
        done = await here.shell("say", "--tee", end=">/dev/full < /etc/passwd")
        assert done.status == OUTPUT
        assert done.err == "tchat: The output cannot be written: No space left on device.\n"


# ------------------------------------------------------------------ colours and control characters


@given(
    st.text(st.sampled_from("é\n\x1b[m0;1/e \x00\r\u200d\u0301🙂") | st.characters()).map(
        lambda text: text * 2000
    ),
    st.booleans(),
)
@example("a\x01" * TEXT_LIMIT, False)
@example("/me " * TEXT_LIMIT, False)
def test_parts_of_any_text_can_be_posted(text: str, code: bool) -> None:
    for part in messages_of(text, code=code):
        check_text(part)
        posted = clean_message(part)
        check_size(posted)
        assert not posted.startswith("/me ")


def test_only_the_first_part_can_be_an_action() -> None:
    parts = list(messages_of("/me waves " + "/me " * TEXT_LIMIT, action=True))
    assert [part.startswith("/me ") for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert len(parts) > 3


async def test_a_coloured_log_is_posted_without_colours() -> None:
    lines = [f"\x1b[32;1mPASS\x1b[0m\x1b[K test {number}" for number in range(3000)]
    async with scene() as here:
        await here.run("say", "--code", given="\n".join(lines).encode())
        said = "\n".join(await here.said(99)).split("\n")
        assert said == [f"    PASS test {number}" for number in range(3000)]


async def test_binary_input_is_posted() -> None:
    async with scene() as here:
        await here.run("say", given=bytes(range(256)) * 1000)
        assert sum(map(len, await here.said(99))) > 250_000


# ------------------------------------------------------------------ lines that are never dropped


async def test_the_first_line_not_posted_is_named() -> None:
    async with scene() as here:
        words = ("--group", "other", "--lines")
        other = await here.alice.join("other", create=True)
        await other.set_policy("open")
        async with here.server.connect("ci") as ci:
            await ci.join("other")
        async with (
            here.alice.events(other) as events,
            here.started("say", *words) as process,
        ):
            assert process.stdin is not None
            await process.stdin.send_all(b"one\n")
            await message_of(events)
            await other.kick("ci")
            await process.stdin.send_all(b"two\nthree\nfour\n")
            status, _, err = await output_of(process)
        assert status == PERMISSION
        assert err.startswith("tchat: line 2: ")
        assert err.endswith("No line was posted after it.\n")
        assert len(err.splitlines()) == 1
