"""The corpora of the fuzzer: inputs that once reached new code, in base64, one a line."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

TARGETS = ("framing", "frames", "text", "keys", "snapshots", "replica", "transfers")

_CORPUS = Path(__file__).parent / "corpus"
_MOST_BYTES = 16 * 1024


def kept_inputs(target: str) -> list[bytes]:
    """Return the inputs of a target's corpus."""
    path = _CORPUS / f"{target}.txt"
    return [b64decode(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep_inputs(target: str, found: set[bytes]) -> None:
    """Make inputs the corpus of a target: the shortest, up to a total size."""
    kept: list[bytes] = []
    for data in sorted(found, key=lambda data: (len(data), data)):
        if sum(map(len, kept)) + len(data) <= _MOST_BYTES:
            kept.append(data)
    _CORPUS.mkdir(exist_ok=True)
    lines = "".join(f"{b64encode(data).decode()}\n" for data in kept)
    (_CORPUS / f"{target}.txt").write_text(lines)
