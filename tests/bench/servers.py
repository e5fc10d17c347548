"""The servers that are compared, each in a process of its own on loopback."""

from __future__ import annotations

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
"""No limit on how fast anybody may talk, and nothing that has to be looked up."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server: what sort, its process, and the port where it listens."""

    kind: str
    process: subprocess.Popen[str]
    port: int

    @property
    def cpu(self) -> float:
        """Seconds of processor that it has taken so far, all its threads together."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own and present (VmRSS)."""
        return resident(self.process.pid)


def has_ngircd() -> bool:
    """Return whether there is an ngircd to compare with."""
    return _ngircd() is not None


@contextmanager
def running(
    kind: str, data: Path | None = None, bare: tuple[str, int] = ("fanout", 0)
) -> Iterator[Running]:
    """Run a server: tchat, tchat-tls, ngircd, or one of those that do next to nothing."""
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
        lines = log.read_text().splitlines() if log.exists() else []
        if faults := [line for line in lines if "fault" in line]:
            say(f"    {len(faults)} faults, such as: {faults[0]}")


def _start_tchat(kind: str, data: Path, log: Path) -> Running:
    command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", "0", "--data", str(data)]
    command += ["--rate-limit", "off", *(["--no-tls"] if kind == "tchat" else [])]
    command += ["--max-connections", "20000", "--max-groups", "1000"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, text=True)
    while "to join" not in (lines := log.read_text()):
        if process.poll() is not None:
            raise SystemExit("the server does not start")
        time.sleep(0.02)
    return Running(kind, process, int(lines.split("listening on 127.0.0.1:")[1].split()[0]))


def _start_bare(which: str, size: int) -> Running:
    command = [sys.executable, "-m", "tests.bench.bare", which, str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Running("bare", process, int(process.stdout.readline()))


def _start_ngircd(place: Path) -> Running:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place.chmod(0o755)  # it becomes another user
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
