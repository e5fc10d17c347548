"""`tchat export`: Markdown for people, JSON Lines for programs."""

from __future__ import annotations

import json
import re
import tracemalloc
from tempfile import TemporaryFile

from tchat.cli.rendering import LatestTexts
from tests.cli.running import scene


async def test_markdown_shows_messages_as_they_are_now() -> None:
    async with scene() as here:
        said = await here.group.say("helo")
        await said.edit("hello *all*")
        gone = await here.group.say("secret")
        await gone.delete()
        await here.group.say("/me waves")
        await here.group.say("run:\n    make  all\n# done")
        done = await here.run("export")
        assert done.err == ""
        lines = re.sub(r"\d\d:\d\d", "10:02", done.out).splitlines()
        assert lines[0] == "# ops"
        assert lines[2].startswith("## ")
        start = lines.index("**alice** 10:02, edited")
        assert lines[start:] == [
            "**alice** 10:02, edited",
            "> hello \\*all\\*  ",
            "",
            "**alice** 10:02",
            "> *waves*",
            "",
            "**alice** 10:02",
            "> run:  ",
            "> ```",
            "> make  all",
            "> ```",
            "> \\# done  ",
            "",
        ]
        assert "secret" not in done.out


async def test_markdown_shows_every_text_as_it_is() -> None:
    """Nothing is markup: lists, headings, HTML, entities, fences, code after a paragraph."""
    lines = {
        "hi": "hi  ",
        "    <b>": "```\n> <b>\n> ```",
        "---": "\\---  ",
        "- x": "\\- x  ",
        "10. x": "10\\. x  ",
        "2) x": "2\\) x  ",
        "===": "\\===  ",
        "   # x": "\\# x  ",
        "&lt;": "\\&lt;  ",
        "$x$": "\\$x\\$  ",
    }
    async with scene() as here:
        await here.group.say("\n".join(lines))
        await here.group.say("    a ```` b\n\n    c")
        done = await here.run("export")
        first, second = done.out.split("**alice**")[-2:]
        quoted = "\n".join(f"> {line}" for line in lines.values())
        assert first.partition("\n")[2] == f"{quoted}\n\n"
        assert second.partition("\n")[2] == "> `````\n> a ```` b\n>\n> c\n> `````\n\n"


async def test_json_lines_have_every_event_once() -> None:
    async with scene() as here:
        for number in range(700):  # more than a client keeps in memory
            await here.group.say(f"text {number}")
        done = await here.run("export", "--format", "jsonl")
        events = [json.loads(line) for line in done.out.splitlines()]
        assert [event["seq"] for event in events] == list(range(1, here.group.last + 1))
        said = [event["text"] for event in events if event["type"] == "message"]
        assert said == [f"text {number}" for number in range(700)]


async def test_export_begins_where_asked() -> None:
    async with scene() as here:
        await here.group.say("one")
        mark = await here.group.say("two")
        await here.group.say("three")
        done = await here.run("export", "--format", "jsonl", "--since", mark.seq)
        assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["three"]


async def test_export_leaves_the_read_position() -> None:
    async with scene() as here:
        await here.group.say("one")
        await here.run("export")
        assert "one" in (await here.run("tail", "--since", "seen")).out


def test_edited_texts_are_not_kept_in_memory() -> None:
    with TemporaryFile() as file:
        texts = LatestTexts(file)
        tracemalloc.start()
        for number in range(1000):
            texts.add(number % 10, f"{number} {'x' * 10_000}")
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 100_000
        assert [text.split()[0] for text in texts.values()] == [str(n) for n in range(990, 1000)]
        assert texts.get(10, "never edited") == "never edited"
