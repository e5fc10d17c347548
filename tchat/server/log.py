"""The server's log: one line per occurrence, as text, as JSON lines or for systemd's journal.

A dedicated thread writes the lines. A console may stop accepting bytes (somebody pressed Ctrl-S,
or the reader of a pipe is suspended), and that must not block the chat. When the queue is full, new
lines are dropped, to bound the memory.

Each kind of line has a rate, so that nobody can fill the disk with the log: refused connections,
for example, cost an attacker nothing. What exceeds it is counted, and some seconds later a line
says how many lines of the kind were left out.

A fault that lasts, such as a full disk, causes the same line again and again: errors and warnings
with the same fields are written once, and then counted, for `_REPEAT_SECONDS` at a time.

Lines that cannot be written, because the log is on a full disk or its reader has gone, are lost,
and counted: the chat goes on. Before the next line that can be written, a line says how many there
were at most (the stream may have kept some in its buffer).
"""

from __future__ import annotations

import json
import math
import queue
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
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

_RATES = {"refused": Rate(2, 200), "fault": Rate(2, 200), "clock_jumped": Rate(0.01, 20)}
_SUMMARY_SECONDS = 10.0
_REPEAT_SECONDS = 60.0
_MOST_REPEATS = 64  # different lines whose repetitions are counted at the same time

LINES: dict[str, str] = {
    **LOG_LINES,
    "user_connected": "{user} connected from {address}",
    "user_disconnected": "{user} disconnected ({reason})",
    "files_removed": "removed {count} files that no group refers to any more",
    "files_expired": "moved {count} expired files to the trash, where they are kept for a day",
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
    "certificate_invalid": "the certificate {reason}, and clients that check it cannot connect",
    "invitation": "to join: {command}",
    "reloaded": "applied the limits and the certificate",
    "reload_failed": "the reload failed, and nothing was applied: {reason}",
    "salvaged": "salvaged {group}: {count} of its {events} events are lost",
    "stopping": "stopping on {signal}",
    "stopping_slowly": "the disk has not finished writing after {seconds} s: waiting for it."
    " Nothing that was acknowledged is lost if this process is killed",
    "limit_lowered": "lowered {option} from {before} to {limit}, since this process may open only"
    " {files} files; it needs {needed} (ulimit -n, or LimitNOFILE of systemd)",
    "refused": "refused {address}: {reason}",
    "fault": "fault in {where}: {reason}",
    "fatal": "the server stops because of a fault in {where}: {reason} {advice} Its data: {path}",
    "disk_full": "the disk of {path} is full: everything can be read, and nothing written. Make"
    " room; the server then goes on by itself",
    "disk_has_room": "there is room on the disk of {path} again",
    "opened_alone": "no other program can read the database in {path} until this server is"
    " restarted, since the disk had no room for what they share: 'tchat admin' can only change"
    " things",
    "checkpoint_failed": "the write-ahead log in {path} cannot be written to the database, and"
    " grows ({bytes} bytes): {reason}. It is tried again, and nothing is lost; end other programs"
    " that read the database, or check the disk",
    "checkpoint_done": "the write-ahead log in {path} was written to the database again",
    "scrub_failed": "deleted texts are still in the write-ahead log in {path} ({bytes} bytes):"
    " {reason}. It is tried again; end other programs that read the database, or check the disk",
    "scrub_done": "deleted texts were removed from the write-ahead log in {path}",
    "no_connections": "no further connection can be accepted now: {reason}. {advice}",
    "clock_jumped": "the clock shows {shown}, but {expected} was expected: {what}",
    "clock_right": "the clock is right again, or confirmed: it shows {shown}",
    "omitted": "left out {count} more lines of the kind {what}",
    "repeated": "{count} more times: {line}",
    "lost": "lost up to {count} lines, which could not be written: {reason}",
}
"""The text of each kind of line, by the stable name of the kind (`event` in JSON).

Lines about the events of a group are declared with the events.
"""


Level = Literal["error", "warning", "notice", "info"]

LEVELS: dict[str, Level] = {
    "fault": "error",
    "fatal": "error",
    "no_connections": "error",
    "disk_full": "error",
    "checkpoint_failed": "error",
    "scrub_failed": "error",
    "opened_alone": "warning",
    "disk_has_room": "notice",
    "checkpoint_done": "notice",
    "scrub_done": "notice",
    "reload_failed": "error",
    "data_damaged": "error",
    "file_damaged": "warning",
    "running_as_root": "warning",
    "stopping_slowly": "warning",
    "limit_lowered": "warning",
    "certificate_invalid": "warning",
    "salvaged": "warning",
    "key_added": "notice",
    "key_removed": "notice",
    "refused": "notice",
    "repeated": "warning",
    "lost": "warning",
    "clock_jumped": "warning",
    "clock_right": "notice",
}
"""The level of each kind of line; `info` for all others."""

_PRIORITIES: dict[Level, int] = {"error": 3, "warning": 4, "notice": 5, "info": 6}

_REPEATABLE = frozenset(kind for kind, level in LEVELS.items() if level in ("error", "warning"))

_Facts = tuple[str, tuple[tuple[str, str | int], ...]]
"""A kind of line with its fields."""


@dataclass(slots=True)
class _Repeats:
    """How often a line came again since it was written; `until` is by the monotonic clock."""

    until: float
    count: int = 0


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
        self._repeats: dict[_Facts, _Repeats] = {}  # the oldest first
        # Written by the thread only: lines that could not be written, and why.
        self.lost_count = 0
        self.lost_reason = ""
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
        if self._repeats:
            self._end_repeats(now)
        if kind in _REPEATABLE and self._is_repeated(kind, facts, now):
            return
        if self._has_token(kind, now):
            self._put(kind, facts)
            return
        if not self._omitted:
            self._summary_at = now + _SUMMARY_SECONDS
        self._omitted[kind] += 1

    def _is_repeated(self, kind: str, facts: Mapping[str, str | int], now: float) -> bool:
        """Return whether the same line was written a short while ago, and count it if so."""
        key = kind, tuple(facts.items())
        if (repeats := self._repeats.get(key)) is not None:
            repeats.count += 1
            return True
        if len(self._repeats) < _MOST_REPEATS:
            self._repeats[key] = _Repeats(now + _REPEAT_SECONDS)
        return False

    def _end_repeats(self, now: float) -> None:
        """Write how often lines were repeated that were first written a while ago."""
        while self._repeats:
            key = next(iter(self._repeats))
            repeats = self._repeats[key]
            if now < repeats.until:
                return
            del self._repeats[key]
            if repeats.count:
                kind, facts = key
                line = LINES[kind].format_map(dict(facts))
                self._put("repeated", {"count": repeats.count, "line": line})
                self._repeats[key] = _Repeats(now + _REPEAT_SECONDS)

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
        """Write the queued lines, for at most `patience` seconds.

        `lost_count` then is the number of lines that could not be written, for `lost_reason`.
        """
        self._summarize()
        self._end_repeats(math.inf)
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            if self.lost_count:
                facts: dict[str, str | int]
                facts = {"count": self.lost_count, "reason": self.lost_reason}
                if not self._print(self._render(self._clock(), "lost", facts)):
                    self.lost_count += 1
                    continue
                self.lost_count, self.lost_reason = 0, ""
            if not self._print(line):
                self.lost_count += 1

    def _print(self, line: str) -> bool:
        """Write a line; return whether that was possible. If not, the chat goes on."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            self.lost_reason = getattr(error, "strerror", None) or str(error)
            return False
        return True


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
