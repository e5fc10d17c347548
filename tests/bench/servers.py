"""Starts the servers under comparison (tchat, ngircd, bare) as processes on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.core.fingerprints import read_pin
from tests.bench.report import resident, say

if TYPE_CHECKING:
    from collections.abc import Iterator

_NGIRCD = """
[Global]
Name = irc.bench.local
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = hello
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
PingTimeout = 3600
PongTimeout = 3600
[Options]
DNS = no
Ident = no
PAM = no
"""
"""Configuration of ngircd: no rate limits, no DNS or ident lookups."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A running server: its kind, process and port."""

    kind: str
    process: subprocess.Popen[str]
    port: int

    @property
    def cpu(self) -> float:
        """Return the CPU seconds used so far, over all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory(self) -> int:
        """Return its resident memory in bytes (VmRSS)."""
        return resident(self.process.pid)


def has_ngircd() -> bool:
    """Return whether ngircd is installed."""
    return _ngircd() is not None


@contextmanager
def running(
    kind: str, data: Path | None = None, bare: tuple[str, int] = ("fanout", 0)
) -> Iterator[Running]:
    """Run a server for the length of the block: tchat, tchat-tls, ngircd or bare."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        if kind == "ngircd":
            server = _start_ngircd(Path(place))
        elif kind == "bare":
            server = _start_bare(*bare)
        else:
            server = _start_tchat(kind, data or Path(place) / "data", log)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait()
        report_faults(log)


def start_tchat(
    data: Path, log: Path, *options: str
) -> tuple[subprocess.Popen[str], int, bytes | None]:
    """Start `tchat serve` and wait until it listens; return the process, port and pin.

    Its log goes to the file `log` as JSON, which unlike the sentences is a stable format.
    """
    command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", "0", "--data", str(data)]
    command += ["--log-format", "json", "--rate-limit", "off", "--network-share", "100", *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, text=True)
    while "invitation" not in (events := log_events(log)):  # the last line of a server's start
        if process.poll() is not None:
            raise SystemExit("The server did not start.")
        time.sleep(0.02)
    pin = read_pin(events["key"]["pin"]) if "key" in events else None
    return process, int(events["listening"]["address"].rpartition(":")[2]), pin


def log_events(log: Path) -> dict[str, dict[str, str]]:
    """Return the last complete line of each event in a JSON log."""
    lines = log.read_text().splitlines(keepends=True)
    items = [json.loads(line) for line in lines if line.endswith("\n")]
    return {item["event"]: item for item in items}


def report_faults(log: Path) -> None:
    """Print a line if a server logged internal errors."""
    if log.exists() and (fault := log_events(log).get("fault")):
        say(f"    the server logged faults, the last of them: {fault['message']}")


def _start_tchat(kind: str, data: Path, log: Path) -> Running:
    options = ["--max-connections", "20000", "--max-groups", "1000"]
    options += ["--no-tls"] if kind == "tchat" else []
    process, port, _ = start_tchat(data, log, *options)
    return Running(kind, process, port)


def _start_bare(which: str, size: int) -> Running:
    command = [sys.executable, "-m", "tests.bench.bare", which, str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Running("bare", process, int(process.stdout.readline()))


def _start_ngircd(place: Path) -> Running:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place.chmod(0o755)  # ngircd drops its privileges and must still read this
    config = place / "ngircd.conf"
    config.write_text(_NGIRCD.format(port=port))
    command = [str(_ngircd()), "--nodaemon", "--config", str(config)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return Running("ngircd", process, port)
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _ngircd() -> str | None:
    return shutil.which("ngircd") or shutil.which("ngircd", path="/usr/sbin:/usr/local/sbin")
