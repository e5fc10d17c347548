"""Log: write everything that is said in a group to GROUP.md, also what was said meanwhile.

Run it with: python examples/log.py HOST PORT --group GROUP
Each entry ends with its number in the group's log, so the file itself says where to go on.
"""

import re
from pathlib import Path
from typing import BinaryIO

import trio

import tchat

NUMBER = re.compile(rb"^<!-- (\d+) -->\n\n", re.MULTILINE)


async def log(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Write the messages of each group to a Markdown file of its name."""
    async with trio.open_nursery() as nursery:
        for group in groups:
            nursery.start_soon(write, client, group)


async def write(client: tchat.Client, group: tchat.Group) -> None:
    with open_log(Path(f"{group.name}.md")) as file:
        whole = list(NUMBER.finditer(file.read()))
        file.seek(whole[-1].end() if whole else 0)
        file.truncate()  # the rest is an entry that a crash cut off
        since = int(whole[-1][1]) if whole else 0
        async with client.events(group, since=since, own=True) as events:
            async for event in events:
                if text := entry_of(event):
                    file.write(f"{text}\n<!-- {event.seq} -->\n\n".encode())
                    file.flush()


def open_log(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b")


def entry_of(event: tchat.Event) -> str:
    match event:
        case tchat.Message(text=text, action=action):
            said = f"*{event.who} {text}*" if action else text
        case tchat.Edited(text=text):
            said = f"(edited) {text}"
        case tchat.FileShared(file=file):
            said = f"file {file.number}: {file.name}, {file.size} bytes"
        case _:
            return ""
    # Quoted line by line, so that no text can look like the number of an entry.
    quoted = "\n".join(f"> {line}" for line in said.split("\n"))
    return f"**{event.who}** {event.at:%Y-%m-%d %H:%M}\n{quoted}"


if __name__ == "__main__":
    tchat.run(log, user="log")
