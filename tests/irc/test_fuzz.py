"""A registered client that sends nonsense gets errors, and nothing breaks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tchat.irc.commands import COMMANDS
from tchat.irc.service import ROWS
from tests.irc.client import scene

if TYPE_CHECKING:
    from tests.irc.client import IrcClient

ROUNDS = 4  # of 20 lines and some more, which a client may send at once
LAST_TIME = "timestamp=9999-12-31T23:59:59.999999Z"
WORDS = [
    *("#ops", "#", "#nowhere", "#ops,#ops,alice", "alice", "bob", "nobody", "*", "*tchat"),
    *("+o", "-o+b", "+bbbb", "i", "0", "1", "-1", "99999999999999999999", "²", "²³", "LATEST"),
    *("BETWEEN", "TARGETS", "AROUND", "msgid=1@#ops", "msgid=99@#ops", "msgid=²@#ops"),
    *("timestamp=", "timestamp=2026-01-01T00:00:00.000Z", "timestamp=0001-01-01T00:00:00+14:00"),
    *("\x01ACTION\x01", "\x01", "\x03", "/me", "é" * 200, "x" * 400, ":", "", "LS", "REQ"),
    *("^", "!", "@alice,bob", LAST_TIME),
]


def nonsense(dice: random.Random) -> str:
    """Return a line with a known command and parameters that may fit or not."""
    tags = dice.choice(
        ["", "", "@label=x ", "@+draft/reply=1@#ops ", "@+draft/reply=²@#ops;label "]
    )
    words = [dice.choice(WORDS) for _ in range(dice.randrange(5))]
    if dice.random() < 0.2:
        return f"{tags}PRIVMSG *tchat :{dice.choice(sorted(ROWS))} {' '.join(words)}"
    last = f" :{' '.join(words[2:])}" if len(words) > 2 else ""
    command = dice.choice([*sorted(set(COMMANDS) - {"PONG"}), "CAP", "FROB"])
    return f"{tags}{command} {' '.join(words[:2])}{last}"


async def answered(irc: IrcClient) -> None:
    """Wait until the door has answered everything, also what took the slow way."""
    await irc.sync()
    await irc.send("PRIVMSG *tchat :frobnicate-last")
    await irc.until("There is no command frobnicate-last")


@pytest.mark.parametrize("seed", range(4))
async def test_nonsense_breaks_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    async with scene() as here:
        for capabilities in ([], ["batch", "labeled-response", "echo-message", "message-tags"]):
            async with here.door.registered(*capabilities) as irc:
                for _ in range(ROUNDS):
                    await irc.send(*(nonsense(dice) for _ in range(20)))
                    await answered(irc)
        faults = [record for record in caplog.records if record.exc_info]
        assert faults == []


async def test_history_up_to_the_last_time(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as here, here.door.registered() as irc:
        await irc.send(f"CHATHISTORY AFTER #ops {LAST_TIME} 5", f"MARKREAD #ops {LAST_TIME}")
        await irc.until("MARKREAD #ops timestamp=")
        assert [record for record in caplog.records if record.exc_info] == []
