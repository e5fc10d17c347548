"""`tchat admin`: reports, backups and maintenance for the operator of a server.

The modules that do the work are imported by the functions that run them: `tchat --help` needs none.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tchat.cli.arguments import add_data, explain
from tchat.client.config.options import ScriptParser, path_argument
from tchat.errors import OutputError, TchatError, root_of
from tchat.exits import DATA
from tchat.streams import print_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.server.operations.salvage import SalvageReport

    Run = Callable[[argparse.Namespace], int]


_DESCRIPTION = """\
Reports, backups and maintenance for the operator of a server. Run it on the
server's machine; the server may keep running.
"""


class Subcommand(NamedTuple):
    """A subcommand: its function, its one-line help, its description and its examples."""

    run: Run
    summary: str
    description: str
    examples: tuple[tuple[str, str], ...]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat admin`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat admin backup /backup/monday --data /srv/tchat", "copy all data"),
        ("tchat admin verify --data /srv/tchat", "check all data"),
        ("tchat admin link alice --data /srv/tchat", "alice has lost her devices"),
    )
    actions = parser.add_subparsers(required=True, parser_class=ScriptParser, metavar="COMMAND")
    for name, command in SUBCOMMANDS.items():
        made = actions.add_parser(
            name, help=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        explain(made, command.description, *command.examples)
        command.add_arguments(made)
        add_data(made)
        made.add_argument("--json", action="store_true", help="print one JSON object")
        made.set_defaults(run=_reporting(command.run))


def _reporting(run: Run) -> Run:
    """Return a function that also reports errors as JSON, if that was asked for."""

    def reporting(given: argparse.Namespace) -> int:
        try:
            return run(given)
        except BaseException as error:
            root = root_of(error)
            if given.json and isinstance(root, TchatError) and not isinstance(root, OutputError):
                print_line(json.dumps({"error": str(root.code), "text": root.sentence}))
            raise

    return reporting


def _print(given: argparse.Namespace, report: object, *lines: str) -> None:
    """Print a report: as JSON if asked, else as these lines."""
    if given.json:
        print_line(json.dumps(report, ensure_ascii=False))
    else:
        for line in lines:
            print_line(line)


# ------------------------------------------------------------------ backup and verify


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", type=path_argument, metavar="TARGET", help="a directory to create"
    )


def _backup(given: argparse.Namespace) -> int:
    from tchat.core.text import counted, size_text
    from tchat.server.operations.backup import take_backup

    report = take_backup(given.data, given.target)
    damaged = [f"file {sha256} is missing or damaged in {given.data}" for sha256 in report.damaged]
    files = f"{counted(report.files, 'file')} ({size_text(report.size)})"
    done = f"{report.target}: the database and {files}"
    removed = ["removed what an interrupted backup had left"] if report.abandoned else []
    _print(given, asdict(report), *removed, done, *damaged)
    return DATA if report.damaged else 0


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", type=path_argument, metavar="BACKUP", help="a backup's directory")


def _restore(given: argparse.Namespace) -> int:
    from tchat.core.text import counted, size_text
    from tchat.server.operations.reports import time_text
    from tchat.server.operations.restore import UNDONE, restore

    report = restore(given.backup, given.data)
    last = time_text(report.last_at) if report.last_at else None
    newest = f"the newest event is of {last}" if last else "there are no events"
    done = (
        f"{report.data}: {counted(report.groups, 'group')},"
        f" {counted(report.people, 'person', 'people')},"
        f" {counted(report.events, 'event')} and {counted(report.files, 'file')}"
        f" ({size_text(report.size)}); {newest}"
    )
    lines = [done, UNDONE]
    if report.former:
        lines.append(f"The former data is in {report.former}; nothing of it was deleted.")
    found = asdict(report)
    del found["last_at"]
    _print(given, {**found, "newest": last, "undone": UNDONE}, *lines)
    return 0


def _salvage(given: argparse.Namespace) -> int:
    from tchat.core.text import clean_line
    from tchat.server.operations.salvage import salvage

    report = salvage(given.data)
    described: dict[str, Any] = {
        "data": report.data,
        "aside": report.aside,
        "unknown_files": report.unknown_files,
    }
    found = report.salvaged
    if found is None:
        _print(given, described, f"{report.data}: finished the salvage that was interrupted")
        return 0
    described["groups"] = [{**asdict(one), "missing": one.missing} for one in found.groups]
    described["people"] = found.people
    described["missing_files"] = [sha256.hex() for sha256 in found.missing_files]
    lost = sum(group.missing for group in found.groups)
    done = (
        f"{report.data}: {len(found.groups)} groups go on, {lost} events are lost. The damaged"
        f" database and {report.unknown_files} files that no group has are in {report.aside}."
    )
    _print(given, described, *map(clean_line, _salvaged_lines(report)), done)
    return 0


def _salvaged_lines(report: SalvageReport) -> Iterator[str]:
    """Yield a line for everything that is not as it was."""
    found = report.salvaged
    if found is None:
        return
    for group in found.groups:
        if group.lost:
            ranges = ", ".join(f"{one}-{other}" for one, other in group.lost)
            yield (
                f"{group.name}: {group.missing} of {group.events} events are lost ({ranges});"
                " changes of the topic, bans and invites among them are unknown"
            )
        if group.guessed_admin:
            yield (
                f"{group.name}: nobody knows who was its admin if that changed; it is"
                f" {group.guessed_admin} now, and `tchat admin set-admin` makes it another"
            )
    for name in found.people:
        yield f"{name}: the account was lost, and has the keys that are known from groups"
    for sha256 in found.missing_files:
        yield f"file {sha256.hex()} is missing; sending it again repairs it"


def _add_verified(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        type=path_argument,
        nargs="?",
        metavar="TARGET",
        help="a backup, instead of --data",
    )


def _verify(given: argparse.Namespace) -> int:
    from tchat.core.text import clean_line, counted, size_text
    from tchat.server.operations.verification import next_steps, verify_server

    data = given.target or given.data
    found = verify_server(data)
    faults = []
    for one in found.faults:
        place = f" (at byte {one.offset} of the file)" if one.offset is not None else ""
        faults.append(clean_line(f"{one.where}: {one.subject}: {one.sentence}{place}"))
    read = (
        f"{counted(found.groups, 'group')} with {counted(found.events, 'event')},"
        f" {counted(found.files, 'file')} ({size_text(found.size)}):"
        f" {counted(found.count, 'fault') if found.count else 'no faults'}"
    )
    steps = next_steps(found, data)
    _print(given, {**found.report(), "next": steps}, *faults, read, *steps)
    return DATA if found.count else 0


def _set_aside(given: argparse.Namespace) -> int:
    from tchat.server.operations.set_aside import set_aside

    report = set_aside(given.data)
    if report.target:
        done = f"{report.moved} entries were moved to {report.target}; nothing was deleted."
    else:
        done = f"A server can use {given.data} as it is; nothing was moved."
    began = ["The next server there begins anew, with the same key."] if report.anew else []
    _print(given, asdict(report), done, *began)
    return 0


# ------------------------------------------------------------------ reports


def _stats(given: argparse.Namespace) -> int:
    import trio

    from tchat import __version__
    from tchat.core.text import size_text
    from tchat.server.control import status_of
    from tchat.server.operations.reports import stats

    found = {"version": __version__, **stats(given.data)}
    running = trio.run(status_of, given.data)
    reserve = (running or {}).get("disk_reserve")
    if reserve is None:
        reserve = found["disk_reserve"]
    lines = [
        f"groups: {found['groups']}, and {found['closed_groups']} closed",
        f"direct conversations: {found['direct']}",
        f"people: {found['people']}",
        f"events: {found['events']} in {size_text(found['database_bytes'])}",
        f"files: {found['files']} in {size_text(found['file_bytes'])}",
        f"trash: {found['trash_files']} in {size_text(found['trash_bytes'])}",
        f"unfinished uploads: {found['begun_uploads']} in {size_text(found['begun_bytes'])}",
        f"write-ahead log: {size_text(found['log_bytes'])}",
        f"disk: {size_text(found['disk_free'])} free, of which files leave {size_text(reserve)}",
    ]
    if running is None:
        lines.append("no server is running")
    else:
        lines += _running(running)
    _print(given, {**found, "running": running}, *lines)
    return 0


def _running(running: dict[str, Any]) -> list[str]:
    """Return the lines about a running server; one of an older version has no limits of files."""
    from tchat.core.text import size_text

    lines = [
        (
            f"running since {running['since']}: {running['connections']} connections,"
            f" {running['people_online']} people online"
        )
    ]
    if "max_files" in running:
        each, group, total = (
            "unlimited" if size is None else size_text(size)
            for size in map(running.get, ("max_files", "max_group_files", "max_files_total"))
        )
        lines += [
            f"file transfers: {running['transfers']} of at most {running['max_transfers']}",
            f"files may take: {each} each person, {group} each group, {total} in total",
        ]
    return lines


def _groups(given: argparse.Namespace) -> int:
    from tchat.core.text import size_text
    from tchat.server.operations.reports import groups

    found = groups(given.data)
    head = ("NAME", "MEMBERS", "WAITING", "EVENTS", "FILES", "SIZE", "LAST EVENT")
    keys = ("name", "members", "waiting", "events", "files")
    rows = [
        [*(str(row[key]) for key in keys), size_text(row["file_bytes"]), row["last_at"] or "-"]
        for row in found
    ]
    _print(given, found, *_table(head, rows))
    return 0


def _people(given: argparse.Namespace) -> int:
    from tchat.core.text import size_text
    from tchat.server.operations.reports import people

    found = people(given.data)
    head = ("NAME", "KEYS", "GROUPS", "FILES", "SINCE")
    rows = [
        [
            row["name"],
            "erased" if row["erased"] else str(row["keys"]),
            str(row["groups"]),
            size_text(row["file_bytes"]),
            row["since"],
        ]
        for row in found
    ]
    _print(given, found, *_table(head, rows))
    return 0


def _table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return lines with columns, which are as wide as needed."""
    table = [list(head), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _show(given: argparse.Namespace) -> int:
    from tchat.core.text import clean_line
    from tchat.server.operations.reports import show

    found = show(given.data, given.group)
    simple = ("admin", "topic", "policy", "events", "last_at", "pinned", "invites")
    lines = [f"{key}: {found[key]}" for key in simple if found[key]]
    for key in ("members", "waiting", "banned", "files"):
        names = [one["name"] if isinstance(one, dict) else one for one in found[key]]
        lines += [f"{key} ({len(names)}): {', '.join(names)}"] if names else []
    kind = " (closed)" if found["closed"] else ""
    _print(given, found, f"{found['name']}{kind}", *map(clean_line, lines))
    return 0


def _add_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group; @alice,bob is a direct one")


def _export(given: argparse.Namespace) -> int:
    from tchat.server.operations.reports import export

    found = export(given.data, given.name)
    account = json.dumps(next(found), ensure_ascii=False)
    print_line(account[:-1] + ', "events": [')
    before = next(found, None)
    for event in found:  # one line each: a log may be longer than the memory
        print_line(json.dumps(before, ensure_ascii=False) + ",")
        before = event
    if before is not None:
        print_line(json.dumps(before, ensure_ascii=False))
    print_line("]}")
    return 0


# ------------------------------------------------------------------ changes


def _change(given: argparse.Namespace, command: str, **arguments: object) -> dict[str, Any]:
    """Run a change on the running server, or on its data; return its report."""
    import trio

    from tchat.server.control import perform

    report: dict[str, Any] = trio.run(partial(perform, given.data, command, **arguments))
    return report


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the username")


def _add_link(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--keep-keys", action="store_true", help="do not remove the name's other keys"
    )


def _link(given: argparse.Namespace) -> int:
    keeps = "yes" if given.keep_keys else ""
    report = _change(given, "link", name=given.name, keep_keys=keeps)
    kept = "All others stay." if given.keep_keys else "All other keys of the name are removed then."
    _print(
        given,
        report,
        f"{report['code']} links one device to the name {report['name']}, within"
        f" {report['minutes']} minutes, as long as the server runs. {kept}",
        f"Its owner joins with: --user {report['name']} --link {report['code']}",
    )
    return 0


def _rotate_key(given: argparse.Namespace) -> int:
    report = _change(given, "rotate-key")
    _print(
        given,
        report,
        f"The server's new key is {report['pin']}. Clients that know the former key accept it by"
        " themselves, and invites with the former key still work.",
        "Destroy the former key in backups, too.",
    )
    return 0


def _remove_group(given: argparse.Namespace) -> int:
    report = _change(given, "remove-group", group=given.group)
    _print(given, report, f"The group {report['group']} is closed, and its messages are erased.")
    return 0


def _add_group_and_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group")
    _add_name(parser)


def _set_admin(given: argparse.Namespace) -> int:
    report = _change(given, "set-admin", group=given.group, name=given.name)
    _print(given, report, f"{report['admin']} is the admin of {report['group']}.")
    return 0


def _erase(given: argparse.Namespace) -> int:
    report = _change(given, "erase", name=given.name)
    _print(
        given,
        report,
        f"{report['name']} is erased: {report['messages']} messages and {report['files']} files in"
        f" {report['groups']} groups. Nobody can have the name any more.",
    )
    return 0


def _add_ban(parser: argparse.ArgumentParser) -> None:
    _add_whom(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="what the person is told")


def _add_whom(parser: argparse.ArgumentParser) -> None:
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--name", metavar="NAME", help="a username")
    whom.add_argument(
        "--key", metavar="FINGERPRINT", help="a person's key, as in /keys and `export`"
    )
    whom.add_argument("--address", metavar="ADDRESS", help="an IP address, or a network")


def _whom(given: argparse.Namespace) -> dict[str, object]:
    kinds = ("name", "key", "address")
    kind = next(kind for kind in kinds if getattr(given, kind) is not None)
    return {"kind": kind, "value": getattr(given, kind)}


def _ban(given: argparse.Namespace) -> int:
    report = _change(given, "ban", **_whom(given), reason=given.reason)
    _print(
        given,
        report,
        f"The {report['kind']} {report['value']} is banned from this server;"
        f" {report['disconnected']} connections are closed.",
    )
    return 0


def _unban(given: argparse.Namespace) -> int:
    report = _change(given, "unban", **_whom(given))
    _print(given, report, f"The ban on the {report['kind']} {report['value']} is lifted.")
    return 0


def _bans(given: argparse.Namespace) -> int:
    found: list[dict[str, str]] = _change(given, "bans")["bans"]
    keys = ("kind", "value", "at", "reason")
    rows = [[ban[key] for key in keys] for ban in found]
    _print(given, found, *_table(("KIND", "VALUE", "SINCE", "REASON"), rows))
    return 0


def _trust_clock(given: argparse.Namespace) -> int:
    report = _change(given, "trust-clock")
    _print(given, report, f"The server goes by this machine's clock, which shows {report['now']}.")
    return 0


SUBCOMMANDS: dict[str, Subcommand] = {
    "set-aside": Subcommand(
        _set_aside,
        "move what keeps a server from starting out of the way",
        """\
When `tchat serve` refuses a data directory: move what is wrong there into a new
directory in it, named set-aside and the time. Nothing is deleted. Without a
database that can be used, everything but the server's key is moved, and the server
begins anew; otherwise, only what does not belong to the database. If nothing is
wrong, nothing is moved.
""",
        (("tchat admin set-aside --data /srv/tchat", "and then start the server"),),
    ),
    "stats": Subcommand(
        _stats,
        "totals, and whether a server is running",
        "Print how much the server stores, and who is connected if it is running. The trash\n"
        "has files that have expired, or that are in no index, in DIR/files/trash. Each is\n"
        "deleted a day after it came there, or earlier if an upload needs the space.\n",
        (("tchat admin stats --json", "for a program"),),
    ),
    "groups": Subcommand(
        _groups,
        "list all groups",
        "List all groups: members, people who wait for approval, events and files.\n",
        (("tchat admin groups", "a table"),),
    ),
    "people": Subcommand(
        _people,
        "list all people",
        "List all names: their keys, memberships, and the size of their files. The name\n"
        "of an erased person is reserved.\n",
        (("tchat admin people", "a table"),),
    ),
    "show": Subcommand(
        _show,
        "show one group",
        "Show one group: its admin, topic, members, requests, bans and files.\n",
        (
            ("tchat admin show ops", "the group #ops"),
            ("tchat admin show @alice,bob --json", "a direct conversation"),
        ),
        _add_group,
    ),
    "export": Subcommand(
        _export,
        "export all data about a person as JSON",
        """\
Print all data about a person as one JSON object: the keys, also former ones, bans
from the server, memberships, read positions, files, uploads and downloads, and
every event by them or about them, also in direct conversations. What others
wrote is not part of it, nor is what files contain.

With --json, an error is a JSON object, too. The exit status is 65 if a log is
damaged; nothing is exported then.
""",
        (("tchat admin export alice", "everything about alice, to be redirected to a file"),),
        _add_name,
    ),
    "backup": Subcommand(
        _backup,
        "copy all data to a new directory, while the server runs",
        """\
Copy all data of a server to a new directory: the database, the files, and last
the server's keys. The server may keep running: messages do not wait for it, but
its write-ahead log grows until the database is copied.

The copy is a data directory itself; `tchat admin restore` puts it back. It gets
its name when it is complete and on the disk: what an interrupted backup has left
is removed by the next one to the same directory, which begins anew. The exit
status is 65 if a file of the server is missing or damaged; everything else is
then copied.
""",
        (
            ("tchat admin backup /backup/monday", "of the default data directory"),
            ("tchat admin backup /backup/monday --data /srv/tchat", "of another one"),
        ),
        _add_target,
    ),
    "verify": Subcommand(
        _verify,
        "check that all data is as it was written",
        """\
Check all data of a server, or a backup, without changing it: the database, the
logs of all groups, what is derived from them, every file, and the server's keys.
The server may keep running. A group is read at a time, so that its write-ahead
log does not grow much meanwhile.

Each fault is a line, and the last lines say what to do. Damage does not end the
check: it says which events cannot be read, and where in the database it is. The
exit status is 65 if there is any fault.
""",
        (
            ("tchat admin verify", "the default data directory"),
            ("tchat admin verify /backup/monday --json", "a backup, for a program"),
        ),
        _add_verified,
    ),
    "restore": Subcommand(
        _restore,
        "put a backup in the place of the data directory",
        """\
Restore a backup: verify a copy of it, and put that in the place of the data
directory, whose former contents are kept beside it. The server must not run. If
the backup has a fault, or this is interrupted, the data directory stays as it is.

The server has the key of the backup, so clients do not ask. They drop what the
restored groups do not have. Everything that happened since the backup is undone,
also bans, erased people, removed keys and the use of invites. Link codes are in
no backup.
""",
        (
            ("tchat admin restore /backup/monday --data /srv/tchat", "instead of what is there"),
            ("tchat admin restore /backup/monday --data /srv/new", "into a new directory"),
        ),
        _add_backup,
    ),
    "salvage": Subcommand(
        _salvage,
        "keep what can be read of damaged data",
        """\
Write a new database with everything that can be read of a damaged one. The
server must not run. Of a damaged group, what can be read stays, and the members
see in a line how many messages are missing. Members and files are those of the
last sound state; changes of topics, bans and invites may be lost.

Restore a backup instead if it is recent enough: it has everything. The damaged
database is moved to a directory `damaged-...` in the data directory.
""",
        (("tchat admin salvage --data /srv/tchat", "after `verify` has found damage"),),
    ),
    "ban": Subcommand(
        _ban,
        "ban a name, a key or an address from the server",
        """\
Ban a name, a key or an address from the whole server, and close its connections.
The person is told so, with the reason. Memberships stay.
""",
        (
            ("tchat admin ban --name mallory --reason spam", "a username"),
            ("tchat admin ban --key 3f2a-91c4-77de-0b12", "whatever name the key uses"),
            ("tchat admin ban --address 192.0.2.0/24", "a network"),
        ),
        _add_ban,
    ),
    "unban": Subcommand(
        _unban,
        "lift a ban",
        "Lift a ban on a name, a key or an address.\n",
        (("tchat admin unban --name mallory", "mallory may connect again"),),
        _add_whom,
    ),
    "bans": Subcommand(
        _bans,
        "list all bans on the server",
        "List all bans on the server.\n",
        (("tchat admin bans --json", "for a program"),),
    ),
    "erase": Subcommand(
        _erase,
        "erase a person: all texts, files and keys",
        """\
Erase a person: the texts of their messages and edits, also in direct
conversations, the topics they set, the files they shared, their keys and
memberships. Nothing of it is left in the data directory. Their name stays as
that of the author of erased messages, and nobody can claim it any more. Make a
backup first: there is no way back.

The exit status is 75 if another program, such as a backup, is reading the
database, and so keeps copies of the texts: erase the person again afterwards.
""",
        (
            ("tchat admin export alice", "first keep everything about alice"),
            ("tchat admin erase alice", "then erase it"),
        ),
        _add_name,
    ),
    "remove-group": Subcommand(
        _remove_group,
        "close a group and erase its messages",
        "Close a group: nobody is a member any more, and its events are erased.\n",
        (("tchat admin remove-group ops", "the group #ops"),),
        _add_group,
    ),
    "set-admin": Subcommand(
        _set_admin,
        "make a member the admin of a group",
        "Make a member the admin of a group, for example if its admin has vanished.\n",
        (("tchat admin set-admin ops bob", "bob is the admin of #ops"),),
        _add_group_and_name,
    ),
    "link": Subcommand(
        _link,
        "make a code for a person who has lost every device",
        """\
Print a link code with which a person takes back their name, and its memberships,
on a new device. It works once, within an hour, as long as the server runs. Send
it to nobody else: whoever has it gets the name.

When it is used, all other keys of the name are removed, since the lost devices
may be in the wrong hands, and their connections are closed.
""",
        (
            ("tchat admin link alice --data /srv/tchat", "alice has lost her devices"),
            ("tchat admin link alice --keep-keys", "none of them is in the wrong hands"),
        ),
        _add_link,
    ),
    "rotate-key": Subcommand(
        _rotate_key,
        "replace the server's key by a new one that clients accept",
        """\
Replace the server's own key by a new one. The old key signs the new one and is
then destroyed. Clients that know the old key, from an earlier visit, an invite
or --pin, verify the signature, save the new key, and tell their users in a line.
Clients before 0.2 refuse the new key.

A running server uses the new key at once; open connections stay. It is no remedy
for a stolen key: the thief can sign a new key, too.
""",
        (("tchat admin rotate-key --data /srv/tchat", "for example once a year"),),
    ),
    "trust-clock": Subcommand(
        _trust_clock,
        "tell the server that this machine's clock is right",
        """\
A server does not go by a clock that shows another time than it expects, such as
one that is ten years ahead: nothing expires then, and messages are dated by the
time that was expected. Its log says so. This command confirms the clock, for
example when the server was off for months and NTP is not in use.
""",
        (("tchat admin trust-clock --data /srv/tchat", "the clock is right"),),
    ),
}
