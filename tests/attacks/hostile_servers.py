"""Malicious servers, and members through them, against clients: what they send, and how much."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING

import trio

from tchat.client.files.automatic import FILE_LIMIT
from tchat.core.group.snapshots import SNAPSHOT_LIMIT, freeze
from tchat.core.group.state import File, Group, MessageEdits
from tchat.core.protocol.converters import INT_LIMIT
from tests.attacks.clients import ClientAttack
from tests.cddl import unchecked
from tests.helpers import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.hostile_server import Stage

_BATCH = 50
_SEQ = 1000
_MIB = 1 << 20
NAMES = 260
STRANGERS = 100
GROUPS = 16
LONG = "😀👩‍👩‍👧‍👦" * 400
"""A text of many characters that are wide, and of several code points."""


# ------------------------------------------------------------------ numbers and snapshots


async def send_unasked_counters(here: Stage) -> None:
    """Answer an attach again and again, with the highest number of commands."""
    answer = {"type": "attached", "re": here.attach_ids[GROUP], "group": GROUP, "seq": _SEQ}
    known = {"standing": "member", "counted": INT_LIMIT - 1, "read": 0, "first": 1}
    while True:
        await here.say(*[answer | known | {"kicked": False}] * _BATCH)
        here.tally["unasked answers"] += _BATCH


def large_state(size: int) -> Callable[[Stage], None]:
    """Return a preparation: the snapshot of a group has about `size` bytes."""

    def prepare(here: Stage) -> None:
        here.snapshots["den"] = snapshot_of("den", size)

    return prepare


def snapshot_of(group: str, size: int) -> bytes:
    """Return a state with files and edits whose snapshot has almost `size` bytes."""
    people = {name: name for name in ("alice", "eve")}
    state = Group(group, _SEQ, 1, floor=1, admin="eve", members=people)
    shared = min(size // 4 // 100, 20_000)
    state.files = {n: File(n, f"plan {n}", 1, bytes(32), "eve", 1) for n in range(shared)}
    left = size - len(freeze(state)) - 1000
    each = max(1, left // 60_000 // 3 - 8)
    number = left // (each * 3 + 24)
    edits = tuple(range(300, 300 + each))
    state.edits = {n: MessageEdits(n, edits) for n in range(number)}
    data = freeze(state)
    assert len(data) <= size
    return data


async def open_and_reset(here: Stage) -> None:
    """Put the person into a group with a large state, and let the client load it anew, again."""
    joined = {"type": "membership", "standing": "member", "reason": "approved", "by": "eve"}
    await here.say({**joined, "group": "den"})
    while True:
        await trio.sleep(3)
        here.seqs["den"] = 1 if here.seqs.get("den", 0) >= _SEQ else _SEQ
        await here.say({**joined, "group": "den"})
        here.tally["resets"] += 1


def many_states(here: Stage) -> None:
    """Prepare large states of many groups."""
    here.snapshots = {f"den{n}": snapshot_of(f"den{n}", 4 * _MIB) for n in range(GROUPS)}


async def join_many(here: Stage) -> None:
    """Put the person into many groups with large states."""
    joined = {"type": "membership", "standing": "member", "reason": "approved", "by": "eve"}
    for number in range(GROUPS):
        await here.say({**joined, "group": f"den{number}"})
    await trio.sleep_forever()


def nested_states(here: Stage) -> None:
    """Prepare snapshots of the largest size that have nothing but lists in lists."""
    item = b"\x81" * 10 + b"\xa0"
    count = (SNAPSHOT_LIMIT - 100) // len(item)
    data = b"\xa1\x61x\x9a" + count.to_bytes(4, "big") + item * count
    here.snapshots = {f"den{n}": data for n in range(GROUPS)}


# ------------------------------------------------------------------ floods


async def say_long_texts(here: Stage) -> None:
    """Send long texts with emoji as fast as the client reads."""
    while True:
        await here.tell("posted", text=LONG)


async def say_tabs(here: Stage) -> None:
    """Fill the screen with messages of tabs, once."""
    for number in range(40):
        await here.tell("posted", text=f"{number}" + "\t" * 16_000)
    await trio.sleep_forever()


async def summon(here: Stage) -> None:
    """Tell of messages for the person in random groups, as fast as the client reads."""
    for start in count(0, _BATCH):
        activity = {"type": "activity", "by": "eve"}
        numbers = range(start, start + _BATCH)
        await here.say(*[{**activity, "group": f"den{n}", "seq": n} for n in numbers])
        here.tally["summons"] += _BATCH


async def write_in_private(here: Stage) -> None:
    """Write to the person in private under many names, again and again."""
    for turn in count(1):
        for number in range(NAMES):
            names = sorted([here.user, f"stranger{number}"])
            activity = {"type": "activity", "group": f"@{','.join(names)}", "seq": turn}
            await here.say({**activity, "by": f"stranger{number}"})
            here.tally["private messages"] += 1


async def ask_to_join(here: Stage) -> None:
    """Let strangers ask to join, and withdraw, and ask again."""
    while True:
        for kind in ("requested", "withdrawn"):
            for number in range(STRANGERS):
                await here.tell(kind, actor=f"stranger{number}")


def one_file(here: Stage) -> None:
    """Prepare a file of the largest size that is saved without being asked for."""
    here.file = bytes(FILE_LIMIT)


async def share(here: Stage, number: int, sha256: bytes) -> None:
    """Share the file under a number and a name of its own."""
    name, size = f"plan {number}", len(here.file)
    await here.tell("file_shared", number=number, name=name, size=size, sha256=sha256)


async def share_again(here: Stage) -> None:
    """Share the same file under one name after another."""
    sha256 = hashlib.sha256(here.file).digest()
    for number in count(1):
        await share(here, number, sha256)
        await trio.sleep(0.02)


async def share_different(here: Stage) -> None:
    """Share files that are all different, as far as the digests say."""
    for number in count(1):
        await share(here, number, number.to_bytes(32, "big"))
        await trio.sleep(0.02)


async def share_at_once(here: Stage) -> None:
    """Share as many small files as a group can have, which are all different, and have no bytes."""
    for number in range(1, 43_000):
        sha256 = number.to_bytes(32, "big")
        await here.tell("file_shared", number=number, name="plan", size=1000, sha256=sha256)
    await trio.sleep_forever()


# ------------------------------------------------------------------ bots


def impossible_names(here: Stage) -> None:
    """Prepare a list of groups with names that no group can have."""
    here.listed = (GROUP, "@", "@,", "@alice", "@alice,", "@eve,mallory", "", "\x1b[2J", "x" * 200)


async def list_impossible(here: Stage) -> None:
    """Let the bot ask for its groups again and again."""
    activity = {"type": "activity", "group": "@alice,eve", "seq": 1, "by": "eve"}
    broken = [{**activity, "group": name} for name in here.listed[1:]]
    while True:
        await here.send(b"".join(map(unchecked, [activity, *broken])))
        here.tally["notices"] += 1 + len(broken)
        await trio.sleep(0.01)


ATTACKS = [
    ClientAttack(
        "unasked-counters",
        "a server answers an attach again and again, with the highest command number",
        send_unasked_counters,
        "answers without a request are dropped; counters are kept for each server",
        elsewhere=True,
    ),
    ClientAttack(
        "large-snapshot",
        "a server sends a snapshot of 751 KiB again and again",
        open_and_reset,
        "snapshots are read in a thread, in linear time",
        prepare=large_state(751 * 1024),
    ),
    ClientAttack(
        "largest-snapshot",
        "a server sends the largest snapshot that clients accept, again and again",
        open_and_reset,
        "the bounds of a state (tchat/client/bounds.py)",
        memory=512 * _MIB,
        prepare=large_state(SNAPSHOT_LIMIT),
    ),
    ClientAttack(
        "many-states",
        f"a server puts a person into {GROUPS} groups with snapshots of 4 MiB",
        join_many,
        "the budget of all states (tchat/client/state_budget.py)",
        memory=640 * _MIB,
        prepare=many_states,
    ),
    ClientAttack(
        "nested-snapshots",
        f"a server puts a person into {GROUPS} groups with snapshots of lists in lists",
        join_many,
        "the items of a snapshot are counted before it is decoded (tchat/client/bounds.py)",
        memory=128 * _MIB,
        prepare=nested_states,
    ),
    ClientAttack(
        "tabs",
        "a member fills the screen with messages of 16 KiB of tabs",
        say_tabs,
        "what is made of a message is kept (tchat/ui/text/cells.py)",
    ),
    ClientAttack(
        "long-texts",
        "a member sends long texts with emoji without a pause",
        say_long_texts,
        "the log of a group is cut; the screen is painted at a bounded rate",
        memory=160 * _MIB,
    ),
    ClientAttack(
        "summons",
        "a server tells of messages for a person in random groups",
        summon,
        "summons are gathered into one line; a client has at most 64 windows",
        counts={"attached groups": 64},
    ),
    ClientAttack(
        "private-messages",
        f"{NAMES} names write to one person in private",
        write_in_private,
        "conversations of strangers beyond a few have no window",
        counts={"attached groups": 16},
    ),
    ClientAttack(
        "many-requests",
        f"{STRANGERS} strangers ask to join, withdraw, and ask again",
        ask_to_join,
        "requests are gathered into one line",
    ),
    ClientAttack(
        "one-file",
        "a member shares one file of 8 MiB under many names",
        share_again,
        "files are saved once, by their digests",
        disk=10 * _MIB,
        prepare=one_file,
        counts={"downloads": 2},
    ),
    ClientAttack(
        "many-files",
        "a member shares many files of 8 MiB that cannot be downloaded",
        share_different,
        "the daily budget of automatic saving",
        disk=201 * _MIB,
        prepare=one_file,
        counts={"downloads": 200},
    ),
    ClientAttack(
        "files-at-once",
        "members share 43,000 small files as fast as they can",
        share_at_once,
        "no more files wait to be saved than the daily budgets allow",
        counts={"downloads": 500},
    ),
    ClientAttack(
        "impossible-names",
        'a server lists groups such as "@" for a bot',
        list_impossible,
        "names that no group can have are dropped",
        prepare=impossible_names,
        bot=True,
    ),
]
