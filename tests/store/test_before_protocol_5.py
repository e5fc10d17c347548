"""Data directory from before protocol 5: opened by this code, it leads to the same states.

`data/before_protocol_5.sql` is a dump of `tchat.db` as the last version with protocol 4 and rules 1
left it (schema 5), and the JSON file beside it has the states that this version computed. People
gave these commands to a server, through raw connections:

- ops: Alice founds it and approves bob, Carol and mallory; dave uses an invite; two more invites
  are open, one of them for Frank; the topic is set; mallory and Stranger are banned, Zoë is denied,
  Carol is kicked; messages, one edited twice, one edited and then deleted, and a reply; a file is
  shared three times and one of these removed; the group is opened and closed; erin and Zoë ask to
  join; bob becomes the admin; more messages, so that a snapshot of the state is kept;
- dev: dave founds and leaves it, erin founds it anew and posts;
- the direct conversation of Alice and bob, in which Alice edits her message.

The dump leaves out the rows that SQLite makes itself for the virtual table `said`: its statements
create the table, then replace the content of its shadow tables.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tchat.core.group.messages import Erased, Posted
from tchat.server.groups.state_cache import StateCache
from tchat.store.open import open_store
from tchat.store.sqlite.verify import verify_data
from tests.helpers import log_of, raw_client, running_server, session_at, texts, until

if TYPE_CHECKING:
    from tchat.core.group.state import Group

DATA = Path(__file__).parent / "data"
STATES: dict[str, dict[str, Any]] = json.loads((DATA / "before_protocol_5.json").read_text("utf-8"))
for _state in STATES.values():
    _state["counts"].sort()  # they are in another order since rules 7
KETTLE = b"water boils at 100 degrees\n"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Return a data directory from before protocol 5."""
    with closing(sqlite3.connect(tmp_path / "tchat.db", isolation_level=None)) as connection:
        connection.executescript((DATA / "before_protocol_5.sql").read_text("utf-8"))
    digest = hashlib.sha256(KETTLE).hexdigest()
    place = tmp_path / "files" / digest[:2]
    place.mkdir(parents=True)
    (place / digest).write_bytes(KETTLE)
    return tmp_path


def described(group: Group) -> dict[str, Any]:
    """Return a state in the form of the JSON file."""
    return {
        "name": group.name,
        "seq": group.seq,
        "at": group.at,
        "floor": group.floor,
        "admin": group.admin,
        "topic": group.topic,
        "policy": group.policy,
        "members": group.members,
        "requests": {
            person: [request.name, request.key.hex() if request.key else None]
            for person, request in group.requests.items()
        },
        "kicked": group.kicked,
        "banned": group.banned,
        "edits": {str(message): list(edits.seqs) for message, edits in group.edits.items()},
        "keys": {key.hex(): name for key, name in group.keys.items()},
        "invites": {
            digest.hex(): [invite.seq, invite.by, invite.expires, invite.name]
            for digest, invite in group.invites.items()
        },
        "files": {
            str(number): [file.name, file.size, file.sha256.hex(), file.by, file.at]
            for number, file in group.files.items()
        },
        "numbered": group.numbered,
        "counts": sorted(
            [person, client.hex(), highest, hex(done)]
            for (person, client), (highest, done) in group.counts.items()
        ),
    }


def test_example_has_something_of_everything() -> None:
    ops = STATES["ops"]
    assert [key for key, value in ops.items() if not value] == []
    assert STATES["dev"]["floor"] > 1


@pytest.mark.parametrize("name", STATES)
async def test_old_logs_lead_to_the_same_states(before: Path, name: str) -> None:
    async with open_store(before) as store:
        group, *_ = await StateCache(store, name).load()
    assert described(group) == STATES[name]
    for kind in ("members", "requests", "files", "edits"):
        assert list(described(group)[kind]) == list(STATES[name][kind])


async def test_snapshot_of_older_rules_is_ignored(before: Path) -> None:
    with closing(sqlite3.connect(before / "tchat.db", isolation_level=None)) as connection:
        (made_with,) = connection.execute("SELECT made_with FROM states").fetchone()
        assert made_with.startswith("rules 1,")
        connection.execute("UPDATE states SET data = x'00'")
    async with open_store(before) as store:
        group, cursors, _ = await StateCache(store, "ops").load()
    assert described(group) == STATES["ops"]
    assert cursors == {"alice": 12}


async def test_members_continue_in_an_old_group(before: Path) -> None:
    async with (
        open_store(before) as store,
        running_server(store) as server,
        session_at(server.address, "bob") as bob,
        raw_client(server.address, "Alice") as alice,
    ):
        ops = await bob.enter("ops")
        await alice.attach(group="ops")
        await alice.post("hello again", group="ops")
        await until(bob, lambda: "hello again" in texts(ops.log))
        assert ops.state.members == STATES["ops"]["members"]
        assert ops.state.topic == "Tea and kettles"
        found = await bob.search("hello")
        assert [hit.text for hit in found.hits] == ["hello again", "hello bob", "hello everyone"]


async def test_deleted_text_stays_erased(before: Path) -> None:
    async with open_store(before) as store:
        log = await log_of(store, "ops")
    assert not any("secret" in text for text in texts(log))
    assert sum(isinstance(event.body, Posted) for event in log) > 40


async def test_migrated_data_has_no_fault(before: Path) -> None:
    async with open_store(before):
        pass
    assert verify_data(before).faults == []


async def test_migration_keeps_direct_conversations(before: Path) -> None:
    async with open_store(before) as store:
        log = await log_of(store, "@alice,bob")
    assert [event.seq for event in log] == [1, 2, 3]
    assert not any(isinstance(event.body, Erased) for event in log)
