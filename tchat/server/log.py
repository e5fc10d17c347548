"""The server's log: one line per occurrence, as text, as JSON lines or for systemd's journal.

A dedicated thread writes the lines. A console may stop accepting bytes (somebody pressed Ctrl-S,
or the reader of a pipe is suspended), and that must not block the chat. When the queue is full, new
lines are dropped, to bound the memory.

Each kind of line has a rate, so that nobody can fill the disk with the log: refused connections,
for example, cost an attacker nothing. What exceeds it is counted, and some seconds later a line
says how many lines of the kind were left out.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Literal, TextIO

from tchat.core.group.features import LOG_LINES
from tchat.core.pace import Rate, TokenBucket
from tchat.core.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.core.group.feature import Event

LogFormat = Literal["text", "json", "journal"]

_QUEUE_LIMIT = 10_000
_RATE = Rate(5, 5000)
"""The rate of each kind of line: enough for everybody to connect again after a restart."""

_RATES = {"refused": Rate(2, 200), "fault": Rate(2, 200)}
_SUMMARY_SECONDS = 10.0

LINES: dict[str, str] = {
    **LOG_LINES,
    "user_connected": "{user} connected from {address}",
    "user_disconnected": "{user} disconnected ({reason})",
    "files_removed": "removed {count} files that no group refers to any more",
    "file_damaged": "the copy of file {number} of {group} on disk is damaged and was removed",
    "data_damaged": "damage in {file}: {what} ({reason}); what needs it is refused or made anew,"
    " everything else goes on; tchat admin verify says more",
    "person_erased": "the operator erased {name}",
    "server_ban": "the operator banned the {what} {value} from this server",
    "server_unban": "the operator lifted the ban on the {what} {value}",
    "key_added": "{user} linked a device to the name: its key is {key}",
    "key_removed": "the key {key} was removed from the name {user}",
    "link_code": "the operator made a link code for the name {name}",
    "listening": "listening on {address}",
    "running_as_root": "running as root; a user of its own needs fewer rights",
    "key": "this server's key is {pin}",
    "key_rotated": "this server's new key, signed by the former one, is {pin}",
    "invitation": "to join: {command}",
    "reloaded": "applied the limits and the certificate",
    "reload_failed": "the reload failed, and nothing was applied: {reason}",
    "stopping": "stopping on {signal}",
    "refused": "refused {address}: {reason}",
    "fault": "fault in {where}: {reason}",
    "omitted": "left out {count} more lines of the kind {what}",
}
"""The text of each kind of line, by the stable name of the kind (`event` in JSON).

Lines about the events of a group are declared with the events.
"""


Level = Literal["error", "warning", "notice", "info"]

LEVELS: dict[str, Level] = {
    "fault": "error",
    "reload_failed": "error",
    "data_damaged": "error",
    "file_damaged": "warning",
    "running_as_root": "warning",
    "key_added": "notice",
    "key_removed": "notice",
    "refused": "notice",
}
"""The level of each kind of line; `info` for all others."""

_PRIORITIES: dict[Level, int] = {"error": 3, "warning": 4, "notice": 5, "info": 6}


class Log:
    """Writes lines to `stream`; `clock` gives the time in seconds since the Unix epoch.

    Lines below `level`, and those above the rate of their kind, are only counted: `counts` is the
    number of lines of each kind so far. `monotonic` gives the time for the rates.
    """

    def __init__(
        self,
        log_format: LogFormat = "text",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
        level: Level = "info",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lowest = _PRIORITIES[level]
        self._render = _RENDERERS[log_format]
        self._stream = stream or sys.stdout
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[str, TokenBucket] = {}
        self._omitted: Counter[str] = Counter()
        self._summary_at = 0.0  # by `monotonic`
        self.counts: Counter[str] = Counter()
        self._queue: queue.Queue[str | None] = queue.Queue(_QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._write, name="tchat-log", daemon=True)
        self._thread.start()

    def line(self, kind: str, **facts: str | int) -> None:
        """Write one line. Never blocks, never fails."""
        self.counts[kind] += 1
        if _PRIORITIES[LEVELS.get(kind, "info")] > self._lowest:
            return
        now = self._monotonic()
        if self._omitted and now >= self._summary_at:
            self._summarize()
        if self._has_token(kind, now):
            self._put(kind, facts)
            return
        if not self._omitted:
            self._summary_at = now + _SUMMARY_SECONDS
        self._omitted[kind] += 1

    def _has_token(self, kind: str, now: float) -> bool:
        """Return whether the rate of a kind allows one more line, and count it if so."""
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(_RATES.get(kind, _RATE), now)
        return not bucket.take(now)

    def _put(self, kind: str, facts: Mapping[str, str | int]) -> None:
        shown = {k: clean_line(v) if isinstance(v, str) else v for k, v in facts.items()}
        try:
            self._queue.put_nowait(self._render(self._clock(), kind, shown))
        except queue.Full:
            return

    def _summarize(self) -> None:
        """Write how many lines of each kind were left out."""
        for kind, count in self._omitted.items():
            self._put("omitted", {"count": count, "what": kind})
        self._omitted.clear()

    def event(self, event: Event) -> None:
        """Write the line for an event of a group, if its kind has one."""
        if (line := event.body.log_line()) is not None:
            facts = event.body.log_facts()
            self.line(line.word, group=event.group, user=event.actor, **facts)

    def close(self, patience: float = 2.0) -> None:
        """Write the queued lines, for at most `patience` seconds."""
        self._summarize()
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


def _as_text(now: float, kind: str, facts: dict[str, str | int]) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{stamp} {LINES[kind].format_map(facts)}"


def _as_json(now: float, kind: str, facts: dict[str, str | int]) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
    message = LINES[kind].format_map(facts)
    level = LEVELS.get(kind, "info")
    return json.dumps({"at": stamp, "level": level, "event": kind, **facts, "message": message})


def _as_journal(_now: float, kind: str, facts: dict[str, str | int]) -> str:
    """Return a line for systemd's journal: with its priority, and without a time (sd-daemon(3))."""
    return f"<{_PRIORITIES[LEVELS.get(kind, 'info')]}>{LINES[kind].format_map(facts)}"


_RENDERERS = {"text": _as_text, "json": _as_json, "journal": _as_journal}
