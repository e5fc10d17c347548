"""The server's log: one line for each thing that an operator needs to know."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.files import RemoveFile
from tchat.core.group.membership import Approve, Deny, Join, Kick, Leave, TransferAdmin
from tchat.core.protocol.frames import MembershipChange
from tchat.server.log import LEVELS, LINES, Log
from tests.helpers import GROUP, RunningServer, members, raw_client, running_server
from tests.server.file_transfers import share

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.server.log import LogFormat

ADDRESS = r"127\.0\.0\.1:\d+"

TEXT = [
    rf"listening on {ADDRESS}",
    r"to join: .+ -m tchat join 127\.0\.0\.1 \d+ --no-tls",
    rf"alice connected from {ADDRESS}",
    rf"bob connected from {ADDRESS}",
    r"new group ops by alice",
    r"bob asks to join ops",
    r"alice approved bob for ops",
    r"alice made bob the admin of ops",
    r"alice sent plan\.txt \(4 bytes\) to ops",
    r"bob removed file 1 from ops",
    r"bob kicked alice from ops",
    r"alice disconnected \(closed by the client\)",
    r"bob disconnected \(closed by the client\)",
]

KINDS = [
    "listening",
    "invitation",
    "user_connected",
    "user_connected",
    "group_created",
    "join_requested",
    "join_approved",
    "admin_transferred",
    "file_shared",
    "file_removed",
    "member_kicked",
    "user_disconnected",
    "user_disconnected",
]


async def everything_happens(server: RunningServer) -> None:
    async with raw_client(server.address, "alice") as alice:
        await server.logged("alice")
        async with raw_client(server.address, "bob") as bob:
            await alice.command(Join)
            await bob.command(Join)
            await alice.command(Approve, "bob")
            await bob.expect(MembershipChange)
            await alice.post("what people say to each other is nobody's business")
            await alice.command(TransferAdmin, "bob")
            await share(server, alice, b"data", "plan.txt")
            await bob.command(RemoveFile, 1)
            await bob.command(Kick, "alice")
            await alice.expect(MembershipChange)
            await alice.stream.aclose()
            await server.logged("alice disconnected")
        await server.logged("bob disconnected")


async def test_each_event_is_logged_in_one_line() -> None:
    async with running_server() as server:
        await everything_happens(server)
    assert len(server.console) == len(TEXT)
    for line, expected in zip(server.console, TEXT, strict=True):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d " + expected, line)


async def test_json_log_has_the_same_lines() -> None:
    async with running_server(log_format="json") as server:
        await everything_happens(server)
    lines = [json.loads(line) for line in server.console]
    assert [line["event"] for line in lines] == KINDS
    for line, expected in zip(lines, TEXT, strict=True):
        assert re.fullmatch(expected, line["message"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"])
    shared = next(line for line in lines if line["event"] == "file_shared")
    assert (shared["user"], shared["file"], shared["size"], shared["group"]) == (
        ("alice", "plan.txt", 4, GROUP)
    )


async def test_message_texts_are_never_logged() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("the secret")
        await bob.events(1)
        await bob.command(Leave)
    assert not any("secret" in line for line in server.console)


async def test_denials_and_leaves_are_not_logged() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await alice.command(Deny, "bob")
        await alice.command(Leave)
    kinds = " ".join(server.console)
    assert "denied" not in kinds
    assert "left the group" not in kinds


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_cannot_be_split_or_forged(log_format: LogFormat) -> None:
    stream = io.StringIO()
    log = Log(log_format, stream)
    log.line("fault", where="a\nb", reason="\x1b[2Jred\u202e\r")
    log.close()
    (line,) = stream.getvalue().splitlines()
    shown = json.loads(line)["message"] if log_format == "json" else line
    assert shown.endswith("fault in a↵b: ␛[2Jred␍")


def test_log_uses_its_clock() -> None:
    stream = io.StringIO()
    log = Log("json", stream, clock=lambda: 1_700_000_000.25)
    log.line("stopping", signal="SIGTERM")
    log.close()
    assert json.loads(stream.getvalue()) == {
        "at": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "event": "stopping",
        "signal": "SIGTERM",
        "message": "stopping on SIGTERM",
    }


class Stuck(io.StringIO):
    """A console that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def write(self, text: str) -> int:
        self.gate.wait()
        return super().write(text)


def test_stuck_console_blocks_nobody_and_drops_lines() -> None:
    stream = Stuck()
    seconds = count(step=10)  # slow enough for the rates
    log = Log("text", stream, monotonic=lambda: next(seconds))
    for number in range(30_000):
        log.line("stopping", signal=str(number))
    stream.gate.set()
    log.close()
    lines = stream.getvalue().splitlines()
    assert 10_000 <= len(lines) <= 10_001
    assert [line.rpartition(" ")[2] for line in lines] == [str(n) for n in range(len(lines))]


def test_closed_console_is_ignored() -> None:
    stream = io.StringIO()
    stream.close()
    log = Log("text", stream)
    log.line("stopping", signal="SIGTERM")
    log.close()


def test_journal_lines_have_a_priority() -> None:
    stream = io.StringIO()
    log = Log("journal", stream)
    log.line("fault", where="group ops", reason="no disk")
    log.line("listening", address="localhost:7777")
    log.close()
    assert stream.getvalue() == ("<3>fault in group ops: no disk\n<6>listening on localhost:7777\n")


def test_levels_are_of_lines_that_exist() -> None:
    assert LEVELS.keys() <= LINES.keys()


def test_lines_below_the_level_are_only_counted() -> None:
    stream = io.StringIO()
    log = Log("text", stream, clock=lambda: 0.0, level="notice")
    log.line("refused", address="nobody", reason="no reason")
    log.line("stopping", signal="SIGTERM")
    log.close()
    assert len(stream.getvalue().splitlines()) == 1
    assert "refused nobody: no reason" in stream.getvalue()
    assert log.counts == {"refused": 1, "stopping": 1}


class Steady:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_flood_of_one_kind_is_summarized() -> None:
    stream, clock = io.StringIO(), Steady()
    log = Log("text", stream, monotonic=clock)
    for number in range(512):
        log.line("refused", address=str(number), reason="busy")
    log.line("stopping", signal="SIGTERM")
    clock.now = 11.0
    for _ in range(25):
        log.line("refused", address="late", reason="busy")
    log.close()
    lines = [line[20:] for line in stream.getvalue().splitlines()]
    assert lines[:200] == [f"refused {number}: busy" for number in range(200)]
    assert lines[200:] == [
        "stopping on SIGTERM",
        "left out 312 more lines of the kind refused",
        *(22 * ["refused late: busy"]),
        "left out 3 more lines of the kind refused",
    ]
    assert log.counts["refused"] == 537


def test_everybody_may_connect_again_at_once() -> None:
    stream = io.StringIO()
    log = Log("text", stream, monotonic=lambda: 0.0)
    for number in range(5000):
        log.line("user_connected", user=str(number), address="here")
    log.close()
    assert len(stream.getvalue().splitlines()) == 5000


def test_repeated_faults_are_counted_in_one_line() -> None:
    stream, clock = io.StringIO(), Steady()
    log = Log("text", stream, monotonic=clock)
    for _ in range(1000):
        log.line("fault", where="the port", reason="too many open files")
    log.line("fault", where="the port", reason="something else")
    clock.now = 61.0
    for _ in range(3):
        log.line("fault", where="the port", reason="too many open files")
    log.close()
    assert [line[20:] for line in stream.getvalue().splitlines()] == [
        "fault in the port: too many open files",
        "fault in the port: something else",
        "999 more times: fault in the port: too many open files",
        "3 more times: fault in the port: too many open files",
    ]
    assert log.counts["fault"] == 1004


def test_different_faults_are_remembered_up_to_a_limit() -> None:
    stream = io.StringIO()
    log = Log("text", stream, monotonic=lambda: 0.0)
    for _ in range(2):
        for number in range(90):
            log.line("fault", where=str(number), reason="none")
    log.close()
    lines = stream.getvalue().splitlines()
    assert sum("fault in 0:" in line for line in lines) == 2  # with the count
    assert sum(" more times: " in line for line in lines) == 64
    assert sum("fault in 89:" in line for line in lines) == 2  # not remembered: written twice


class Full(io.StringIO):
    """A log file on a disk that is full at first."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_lines_lost_on_a_full_disk_are_counted() -> None:
    stream = Full()
    log = Log("journal", stream)
    log.line("stopping", signal="1")
    log.line("stopping", signal="2")
    until_true(lambda: log.lost_count == 2)
    stream.is_full = False
    log.line("stopping", signal="3")
    log.close()
    assert stream.getvalue().splitlines() == [
        "<4>lost up to 2 lines, which could not be written: No space left on device",
        "<6>stopping on 3",
    ]
    assert not log.lost_count


def until_true(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    with_deadline = threading.Event()
    for _ in range(3000):
        if condition():
            return
        with_deadline.wait(0.01)
    raise AssertionError("the condition never became true")
