"""The server's console: one line for each thing that happens, as text or as JSON.

Lines are written by a thread of their own. A console can stop taking bytes (somebody pressed
Ctrl-S, a pipe's reader sleeps), and a chat must not stop with it; when too many lines wait, the
newest are dropped rather than the memory filled.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal, TextIO

from tchat.core.group.events import (
    AdminTransferred,
    Approved,
    Banned,
    Created,
    FileRemoved,
    FileShared,
    Joined,
    Kicked,
    PolicySet,
    Requested,
    TopicSet,
    Unbanned,
)
from tchat.core.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.group.events import Body, Event

    Line = tuple[str, dict[str, str | int]]

LogFormat = Literal["text", "json"]

_MOST_WAITING = 10_000

LINES: dict[str, str] = {
    "group_created": "new group {group} by {user}",
    "user_connected": "{user} connected from {address}",
    "user_disconnected": "{user} disconnected ({reason})",
    "join_requested": "{user} asks to join {group}",
    "join_approved": "{user} approved {name} for {group}",
    "member_kicked": "{user} kicked {name} from {group}",
    "person_banned": "{user} banned {name} from {group}",
    "person_unbanned": "{user} lets {name} ask to join {group} again",
    "admin_transferred": "{user} made {name} the admin of {group}",
    "file_shared": "{user} sent {file} ({size} bytes) to {group}",
    "file_removed": "{user} removed file {number} from {group}",
    "member_joined": "{user} joined {group}, invited by {name}",
    "open_group_joined": "{user} joined {group}, which is open",
    "topic_set": "{user} changed the topic of {group}",
    "policy_set": "{user} set {group} to let in: {policy}",
    "files_removed": "{count} files that no group has any more were removed",
    "file_damaged": "the copy of file {number} of {group} on disk is damaged and was removed",
    "name_released": "the operator released the name {name}",
    "listening": "listening on {address}",
    "key": "this server's key is {pin}",
    "invitation": "to join: {command}",
    "stopping": "stopping on {signal}",
    "refused": "refused {address}: {reason}",
    "fault": "fault in {where}: {reason}",
}
"""Every kind of line, by its stable word, and how it reads as text."""

_POLICIES = {"open": "everybody", "approval": "those who are approved"}


class Log:
    """Writes lines to `stream`; `clock` gives the time in seconds since the Unix epoch."""

    def __init__(
        self,
        log_format: LogFormat = "text",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._render = _as_json if log_format == "json" else _as_text
        self._stream = stream or sys.stdout
        self._clock = clock
        self._queue: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="tchat-log", daemon=True)
        self._thread.start()

    def line(self, kind: str, **facts: str | int) -> None:
        """Write one line. Never blocks, never fails."""
        shown = {k: clean_line(v) if isinstance(v, str) else v for k, v in facts.items()}
        try:
            self._queue.put_nowait(self._render(self._clock(), kind, shown))
        except queue.Full:
            return

    def event(self, event: Event) -> None:
        """Write the line for an event of a group, if its kind has one."""
        line = _about_people(event.body) or _about_group(event.body)
        if line is not None:
            kind, facts = line
            self.line(kind, group=event.group, user=event.actor, **facts)

    def close(self, patience: float = 2.0) -> None:
        """Write what waits, for at most `patience` seconds."""
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the console is gone; the chat goes on
                continue


def _about_people(body: Body) -> Line | None:
    match body:
        case Requested():
            return "join_requested", {}
        case Approved(name):
            return "join_approved", {"name": name}
        case Joined(None):
            return "open_group_joined", {}
        case Joined(str(name)):
            return "member_joined", {"name": name}
        case Kicked(name):
            return "member_kicked", {"name": name}
        case Banned(name):
            return "person_banned", {"name": name}
        case Unbanned(name):
            return "person_unbanned", {"name": name}
    return None


def _about_group(body: Body) -> Line | None:
    match body:
        case Created():
            return "group_created", {}
        case AdminTransferred(name):
            return "admin_transferred", {"name": name}
        case TopicSet():
            return "topic_set", {}
        case PolicySet(policy):
            return "policy_set", {"policy": _POLICIES[policy]}
        case FileShared() as file:
            return "file_shared", {"file": file.name, "size": file.size}
        case FileRemoved(number):
            return "file_removed", {"number": number}
    return None


def _as_text(now: float, kind: str, facts: dict[str, str | int]) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{stamp} {LINES[kind].format_map(facts)}"


def _as_json(now: float, kind: str, facts: dict[str, str | int]) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
    message = LINES[kind].format_map(facts)
    return json.dumps({"at": stamp, "event": kind, **facts, "message": message})
