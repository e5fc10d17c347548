"""Reports for the operator, as values of JSON: totals, groups, people, one group, one person.

They are read from one snapshot of the database, also while the server runs. Times are text in UTC,
keys are fingerprints, digests hexadecimal.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tchat.core.fingerprints import fingerprint
from tchat.core.group.direct import check_group, is_direct
from tchat.core.text import check_name, fold
from tchat.store.sqlite import reports
from tchat.store.sqlite.view import open_view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.core.group.feature import Event
    from tchat.core.group.state import Group

Report = dict[str, Any]


def time_text(at: int) -> str:
    """Return a time in ms since the Unix epoch as text: 2026-11-30T10:49:00Z."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stats(data: Path) -> Report:
    """Return the totals of a data directory."""
    with open_view(data) as connection:
        return asdict(reports.totals(connection))


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

    Raises `Refused` (bad_name, no_such_name).
    """
    name = check_name(name, "username")
    person = fold(name)
    with open_view(data) as connection:
        shown, since, keys = reports.person_of(connection, name)
        yield {
            "name": shown,
            "since": time_text(since),
            "keys": [
                {"fingerprint": fingerprint(key.public), "since": time_text(key.since)}
                for key in keys
            ],
            "groups": reports.standings_of(connection, person),
            "files": [
                {"group": group, "number": number, "sha256": sha256.hex(), "size": size}
                for group, number, sha256, size in reports.files_of(connection, person)
            ],
        }
        for number in reports.group_numbers(connection):
            for event in reports.events_after(connection, number, 0):
                if concerns(event, person):
                    yield _event_report(event)


def concerns(event: Event, person: str) -> bool:
    """Return whether an event is by a person (folded), or names them."""
    names = (event.actor, getattr(event.body, "name", None), getattr(event.body, "by", None))
    # The name of a file is no person's.
    is_file = hasattr(event.body, "sha256")
    return any(name and fold(name) == person for name in (names[:1] if is_file else names))


def _event_report(event: Event) -> Report:
    values = {k: v.hex() if isinstance(v, bytes) else v for k, v in event.to_map().items()}
    return {**values, "at": time_text(event.at)}
