"""`tchat admin`: maintenance for the operator of a server."""

from __future__ import annotations

import argparse

from tchat.cli.arguments import add_data, explain
from tchat.client.config.options import AddressParser

_DESCRIPTION = """\
Maintenance for the operator of a server. Run it on the server's machine; the
server may keep running.
"""
_RELEASE_NAME = """\
Free a username from its keys, for a person who has lost all of them. The next
key that claims the name owns it and its memberships.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat admin`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat admin release-name alice --data /srv/tchat", "alice has lost her keys"),
    )
    actions = parser.add_subparsers(required=True, parser_class=AddressParser, metavar="COMMAND")
    release = actions.add_parser(
        "release-name",
        help="free a username from its keys, after they were lost",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain(
        release,
        _RELEASE_NAME,
        ("tchat admin release-name alice", "in the default data directory"),
        ("tchat admin release-name alice --data /srv/tchat", "in another directory"),
    )
    release.add_argument("name", metavar="NAME", help="the username")
    add_data(release)
    release.set_defaults(run=_release_name)


def _release_name(given: argparse.Namespace) -> int:
    import trio

    from tchat.server.control import release_name

    trio.run(release_name, given.data, given.name)
    print(
        f"{given.name} is released. The next key that claims the name owns it and its memberships;"
        " the former keys cannot claim it again."
    )
    return 0
