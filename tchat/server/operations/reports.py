"""Reports for the operator, as values of JSON: totals, groups, people, one group, one person.

They are read from one snapshot of the database, also while the server runs. Times are text in UTC,
keys are fingerprints, digests hexadecimal.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tchat.core.fingerprints import fingerprint
from tchat.core.group.direct import check_group, is_direct
from tchat.core.text import check_name, fold
from tchat.store.begun_uploads import BegunUploads
from tchat.store.blobs import trash_usage, uploads_path
from tchat.store.disk_space import automatic_reserve
from tchat.store.sqlite import reports
from tchat.store.sqlite.view import open_view

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.core.group.feature import Event
    from tchat.core.group.state import Group

Report = dict[str, Any]


def time_text(at: int) -> str:
    """Return a time in ms since the Unix epoch as text: 2026-11-30T10:49:00Z."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stats(data: Path) -> Report:
    """Return the totals of a data directory, and of its disk.

    `disk_reserve` is the automatic one; a running server may have another. `trash_files` are those
    that have expired, or that the index does not have, and are not deleted yet. `log_bytes` is the
    size of the database's write-ahead log: usually some MB, more if a checkpoint fails or has to
    wait.
    """
    with open_view(data) as connection:
        totals = asdict(reports.totals(connection))
    disk = shutil.disk_usage(data)
    begun = BegunUploads(uploads_path(data / "files"))
    trash_files, trash_bytes = trash_usage(data / "files")
    return {
        **totals,
        "trash_files": trash_files,
        "trash_bytes": trash_bytes,
        "begun_uploads": begun.count,
        "begun_bytes": begun.size,
        "log_bytes": sum(path.stat().st_size for path in data.glob("tchat.db-wal")),
        "disk_free": disk.free,
        "disk_reserve": automatic_reserve(disk.total),
    }


def groups(data: Path) -> list[Report]:
    """Return all groups, by name. `last_at` is None if there is no event."""
    with open_view(data) as connection:
        return [
            {**asdict(row), "last_at": time_text(row.last_at) if row.last_at else None}
            for row in reports.all_groups(connection)
        ]


def people(data: Path) -> list[Report]:
    """Return all people, by name."""
    with open_view(data) as connection:
        return [
            {**asdict(row), "since": time_text(row.since)} for row in reports.all_people(connection)
        ]


def show(data: Path, name: str) -> Report:
    """Return one group in detail. Raises `Refused` (bad_name, no_such_group)."""
    name = check_group(name)
    with open_view(data) as connection:
        group = reports.group_state(connection, name)
        read = reports.group_cursors(connection, name)
        return _group_report(group, read, name)


def _group_report(group: Group, read: dict[str, int], name: str) -> Report:
    members = [
        {"name": shown, "joined": group.joined.get(person), "read": read.get(person, 0)}
        for person, shown in group.members.items()
    ]
    files = [
        {
            "number": file.number,
            "name": file.name,
            "size": file.size,
            "sha256": file.sha256.hex(),
            "by": file.by,
            "at": time_text(file.at),
        }
        for file in group.files.values()
    ]
    return {
        "name": group.name or name,
        "direct": is_direct(name),
        "closed": not group.members,
        "admin": group.admin_name or None,
        "topic": group.topic,
        "policy": group.policy,
        "events": group.seq,
        "last_at": time_text(group.at) if group.at else None,
        "pinned": group.pinned,
        "members": members,
        "waiting": [request.name for request in group.requests.values()],
        "banned": list(group.banned.values()),
        "invites": len(group.invites),
        "files": files,
    }


# ------------------------------------------------------------------ one person


def export(data: Path, name: str) -> Iterator[Report]:
    """Yield all data about a person: first the account, then every event by or about them.

    All logs are read before the first value is returned, so that damage is reported instead of an
    export that ends in the middle. Raises `Refused` (bad_name, no_such_name) or `StorageError`.
    """
    name = check_name(name, "username")
    person = fold(name)
    with open_view(data) as connection:
        account = _account_report(connection, name, person)
        numbers = reports.group_numbers(connection)
        for number in numbers:
            for _ in reports.events_after(connection, number, 0):
                pass
        yield account
        for number in numbers:
            for event in reports.events_after(connection, number, 0):
                if fold(event.actor) == person or event.body.concerns(person):
                    yield _event_report(event)


def _account_report(connection: sqlite3.Connection, name: str, person: str) -> Report:
    shown, since = reports.person_of(connection, name)
    keys = reports.keys_of(connection, person)
    banned = {("name", person), *(("key", fingerprint(key)) for key, _, _ in keys)}
    return {
        "name": shown,
        "since": time_text(since),
        "keys": [
            {
                "fingerprint": fingerprint(key),
                "since": time_text(since),
                "until": None if until is None else time_text(until),
            }
            for key, since, until in keys
        ],
        "bans": [
            {"kind": ban.kind, "value": ban.value, "reason": ban.reason, "at": time_text(ban.at)}
            for ban in reports.all_bans(connection)
            if (ban.kind, ban.value) in banned
        ],
        "groups": reports.standings_of(connection, person),
        "read": reports.positions_of(connection, person),
        "files": [
            {"group": group, "number": number, "sha256": sha256.hex(), "size": size}
            for group, number, sha256, size in reports.files_of(connection, person)
        ],
        "uploads": [
            {"sha256": sha256.hex(), "at": time_text(at)}
            for sha256, at in reports.uploads_of(connection, person)
        ],
        "downloads": [
            {"group": group, "number": number, "at": time_text(at)}
            for group, number, at in reports.downloads_of(connection, person)
        ],
    }


def _event_report(event: Event) -> Report:
    values = {k: v.hex() if isinstance(v, bytes) else v for k, v in event.to_map().items()}
    return {**values, "at": time_text(event.at)}
