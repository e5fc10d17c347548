"""A server in a process of its own, for clients in terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class ServerProcess:
    """`python -m tchat serve`, on the same port each time it is started."""

    data: Path
    port: str = "0"
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", self.port]
        self.process = subprocess.Popen(
            [*command, "--data", str(self.data), "--rate-limit", "off"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert "listening on 127.0.0.1:" in ready
        self.port = ready.strip().rpartition(":")[2]

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path / "data")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(autouse=True)
def _in_the_directory_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.chdir(tmp_path)
