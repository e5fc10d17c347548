"""Kill a program at each of many points of its work: before every n-th call that changes the disk.

The points are Python's audit events, so they are the same in every run. Each run is a forked child,
which takes milliseconds, of one program, since a forked test would have the threads of its parent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = """
import json, os, signal, sys
from pathlib import Path
{imports}
work, check, prepare = {work}, {check}, {prepare}
EVENTS = ("open", "os.", "shutil.", "sqlite3.connect")

def run(number):
    left = [number]
    def hook(event, _):
        if event.startswith(EVENTS):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    work()
    return number - left[0]

def forked(function, *arguments):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, json.dumps(function(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(write)
    result = open(read, "rb").read()
    os.waitpid(child, 0)
    return json.loads(result) if result else None

prepare()
calls = forked(run, 1 << 40)
found = []
for point in range({points}):
    prepare()
    killed = forked(run, 1 + point * calls // {points})
    assert killed is None, killed
    found.append(forked(check))
print(json.dumps(found))
"""


def killed_at(points: int, imports: str, prepare: str, work: str, check: str) -> Sequence[object]:
    """Run `work`, killed at so many points; return what `check` returns after each.

    All three are expressions: functions without arguments. `check` returns a value of JSON, and
    None is a failure.
    """
    program = _PROGRAM.format(
        imports=imports, prepare=prepare, work=work, check=check, points=points
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found
