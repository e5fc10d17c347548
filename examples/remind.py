"""Reminders: "!remind 10m water the plants", and the bot says so when the time has come.

Run it with: python examples/remind.py HOST PORT --group GROUP
The timers are in the file reminders.json, so they survive a restart of the bot.
"""

import json
import re
import time
from pathlib import Path

import trio

import tchat

FILE = Path("reminders.json")
REQUEST = re.compile(r"!remind (\d{1,4})([smhd]) (.+)", re.DOTALL)
Timers = dict[str, tuple[float, str]]  # number of the request: when, and what to say
LONGEST = 4000  # of at most 4 bytes each: a message has 16 KiB
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


async def remind(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Answer "!remind 10m TEXT" with TEXT after ten minutes (s, m, h or d)."""
    group, timers = groups[0], load()

    async def wait(number: str) -> None:
        due, text = timers[number]
        await trio.sleep(max(0, due - time.time()))
        # Once, even if the bot is killed here; and with the name, it must not be too long to say.
        await group.say(text[:LONGEST], key=f"reminder {number}")
        del timers[number]
        save(timers)

    async def hear(message: tchat.Message) -> None:
        number = str(message.seq)
        asked = REQUEST.fullmatch(message.text)
        if asked and number not in timers:
            due = message.at.timestamp() + int(asked[1]) * SECONDS[asked[2]]
            timers[number] = (due, f"{message.who}: {asked[3]}")
            save(timers)  # before the message is acknowledged, so that no timer is lost
            nursery.start_soon(wait, number)
            await message.reply(f"I will remind you in {asked[1]} {asked[2]}.")

    async with trio.open_nursery() as nursery:
        for number in list(timers):
            nursery.start_soon(wait, number)
        await client.for_each(hear, group, since="seen", cursor="remind")


def load() -> Timers:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def save(timers: Timers) -> None:
    new = FILE.with_suffix(".new")
    new.write_text(json.dumps(timers))
    new.replace(FILE)  # at once, so that a crash leaves the old file or the new one


if __name__ == "__main__":
    tchat.run(remind, user="remind")
