"""CI: post the end of a build's output, and share all of it as a file.

Run it with: make test 2>&1 | python examples/ci.py HOST PORT --group GROUP
With BUILD=NUMBER in the environment, a build that is reported again is not posted again.
"""

import os
import sys
import tempfile
from pathlib import Path

import trio

import tchat

LINES = 10


async def ci(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Report the build whose output comes through the pipe."""
    build = os.environ.get("BUILD")
    output = await trio.to_thread.run_sync(sys.stdin.buffer.read)
    last = output.decode(errors="replace").splitlines()[-LINES:]
    for group in groups:
        said = await group.say(
            "\n".join([f"Build {build or ''} on {os.uname().nodename}:", *last])[:10_000],
            key=build and f"build {build}",
        )
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / f"build-{build or said.seq}.log"
            path.write_bytes(output)
            if path.name not in [file.name for file in group.files]:
                await group.send_file(path)


if __name__ == "__main__":
    tchat.run(ci, user="ci")
