"""/invite, /link, /keys and /unlink, and the admin's view of requests, with a real server."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import pytest

from tchat.cli import parser
from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.config.options import invite_token
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.core.fingerprints import fingerprint, read_invite
from tchat.core.group.membership import Join
from tchat.invocation import program_words
from tchat.net.address import Address
from tchat.net.tls import make_credentials
from tests.helpers import (
    GROUP,
    identity_of,
    members,
    raw_client,
    running_server,
    session_at,
    until,
)
from tests.ui.typist import typing

if TYPE_CHECKING:
    from pathlib import Path


def join_line(shown: list[str]) -> str:
    """Return the line to paste among the lines that were shown."""
    (line,) = [text.removeprefix("notice: ") for text in shown if " -m tchat join " in text]
    return line


# ------------------------------------------------------------------ /invite


async def test_an_invite_is_a_command_to_join() -> None:
    async with running_server() as server, typing(server) as alice:
        shown = await alice.types("/invite")
        assert "notice: This command lets the first person who runs it join within 1 day:" in shown
        words = shlex.split(join_line(shown))
        assert words[:3] == program_words()
        given = parser().parse_args(words[3:])
        assert (given.host, given.port) == ("127.0.0.1", server.address.port)
        assert (given.group, given.user, given.no_tls, given.insecure) == (GROUP, None, True, False)
        assert given.invite[1] == b""
        async with session_at(server.address, "bob") as bob:
            ops = await bob.enter(given.group, invite=invite_token(given))
            assert ops.standing == "member"
        assert await alice.shows("bob joined, invited by alice")


async def test_a_local_invite_warns_about_its_address() -> None:
    async with running_server() as server, typing(server) as alice:
        local = "notice: On another machine, replace 127.0.0.1 with this machine's name or address."
        assert local in await alice.types("/invite")
        alice.chat.session.connector.address = Address("chat.example.org", 7777)
        shown = await alice.types("/invite")
        assert local not in shown
        assert " join chat.example.org 7777 --no-tls --insecure " in join_line(shown)


async def test_an_invite_names_the_server_by_its_pin(tmp_path: Path) -> None:
    credentials = make_credentials(tmp_path)
    async with (
        running_server(credentials=credentials) as server,
        typing(server, plain=False) as alice,
    ):
        line = join_line(await alice.types("/invite"))
        assert "--no-tls" not in line
        assert read_invite(shlex.split(line)[-1])[1] == credentials.pin
        link = join_line(await alice.types("/link"))
        assert parser().parse_args(shlex.split(link)[3:]).pin == credentials.pin
        alice.chat.session.connector.ca_verified = True
        line = join_line(await alice.types("/invite"))
        assert read_invite(shlex.split(line)[-1])[1] == b""


async def test_an_invite_has_a_name_and_a_duration() -> None:
    async with running_server() as server, typing(server) as alice:
        shown = await alice.types("/invite --for Bob --expires 90m")
        assert "notice: This command lets Bob join within 90 minutes:" in shown
        assert " --user=Bob --group=ops " in join_line(shown)
        assert await alice.shows("alice made an invite for Bob")
        (invitation,) = alice.window.replica.state.invites.values()
        assert invitation.name == "bob"
        # By another clock than the dates (see `server.clock`), which was read at another time.
        lasts = invitation.expires - alice.window.replica.state.at
        assert lasts == pytest.approx(90 * 60_000, abs=60_000)


@pytest.mark.parametrize(
    ("options", "lasts"),
    [
        ("--expires 1m", "1 minute"),
        ("--expires 60m", "1 hour"),
        ("--expires 24h", "1 day"),
        ("--expires 36h", "36 hours"),
        ("--expires 30d", "30 days"),
        ("--expires 1h --expires 2h", "2 hours"),
    ],
)
async def test_an_invite_states_its_duration(options: str, lasts: str) -> None:
    async with running_server() as server, typing(server) as alice:
        assert f"within {lasts}:" in " ".join(await alice.types(f"/invite {options}"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--for", "error: Usage: /invite "),
        ("bob", "error: Usage: /invite "),
        ("--for bob carol", "error: Usage: /invite "),
        ("--expires", "error: Usage: /invite "),
        ("--expires 24", "error: Usage: /invite "),
        ("--expires 1.5h", "error: Usage: /invite "),
        ("--expires -1h", "error: Usage: /invite "),
        ("--expires 1w", "error: Usage: /invite "),
        ("--expires 0h", "error: An invite is valid "),
        ("--expires 31d", "error: An invite is valid "),
        ("--expires 99999d", "error: An invite is valid "),
        ("--for a/b", "error: "),
        ("--for " + 33 * "x", "error: "),
    ],
)
async def test_invalid_invite_options_are_refused(options: str, sentence: str) -> None:
    async with running_server() as server, typing(server) as alice:
        (line,) = await alice.types(f"/invite {options}")
        assert line.startswith(sentence)
        assert alice.window.replica.state.invites == {}
        assert alice.chat.refusals == 1


async def test_only_the_admin_invites() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "bob") as bob,
    ):
        assert await bob.types("/invite") == ["error: Only the admin, alice, may do this."]


# ------------------------------------------------------------------ /link, /keys, /unlink


async def test_a_link_code_links_another_device() -> None:
    async with running_server() as server, typing(server) as alice:
        shown = await alice.types("/link")
        assert "notice: Run this command on your other device, within 10 minutes:" in shown
        given = parser().parse_args(shlex.split(join_line(shown))[3:])
        assert (given.host, given.port) == ("127.0.0.1", server.address.port)
        assert (given.user, given.group, given.no_tls) == ("alice", GROUP, True)
        account = Account("alice", identity_of("alice", "desk"), ClientId(), given.link)
        connector = Connector(server.address, KnownServers(), plain=True)
        async with open_session(connector, account) as desk:
            assert (await desk.enter(GROUP)).standing == "member"
        keys = await server.store.accounts.keys("alice")
        assert {key.public for key in keys} == {
            identity_of("alice").public,
            identity_of("alice", "desk").public,
        }


async def test_keys_are_listed_with_dates_and_this_device() -> None:
    noon = int(time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))) * 1000
    desk = identity_of("alice", "desk").public
    async with running_server() as server, typing(server) as alice:
        await server.store.accounts.link("alice", desk, noon)
        first, second = await alice.types("/keys")
        assert first == f"notice: {fingerprint(desk)} since 2026-03-04 12:00"
        assert second.startswith(f"notice: {fingerprint(identity_of('alice').public)} since ")
        assert second.endswith(", this device")


@pytest.mark.parametrize("spelled", [str, str.upper, lambda text: text.replace("-", "")])
@pytest.mark.parametrize("length", [4, 7, 19])
async def test_unlink_takes_the_beginning_of_a_fingerprint(spelled: type[str], length: int) -> None:
    desk = identity_of("alice", "desk").public
    async with running_server() as server, typing(server) as alice:
        await server.store.accounts.link("alice", desk, 1000)
        begun = spelled(fingerprint(desk)[:length])
        assert await alice.types(f"/unlink {begun}") == [
            f"notice: {fingerprint(desk)} is no longer linked to your name."
        ]
        keys = await server.store.accounts.keys("alice")
        assert [key.public for key in keys] == [identity_of("alice").public]


@pytest.mark.parametrize("begun", ["", "0", "3-", "---", "zzzz", "0000-0000-0000-0000"])
async def test_unlink_refuses_an_unknown_fingerprint(begun: str) -> None:
    async with running_server() as server, typing(server) as alice:
        await alice.types("/unlink")
        (line,) = await alice.types(begun)
        assert line.startswith("error: ")
        assert len(await server.store.accounts.keys("alice")) == 1


async def test_unlink_refuses_fewer_than_four_digits() -> None:
    desk = identity_of("alice", "desk").public
    async with running_server() as server, typing(server) as alice:
        await server.store.accounts.link("alice", desk, 1000)
        (line,) = await alice.types(f"/unlink {fingerprint(desk)[:3]}")
        assert "digits. /keys lists your keys." in line


async def test_unlink_refuses_an_ambiguous_fingerprint() -> None:
    one, two = twins()
    async with running_server() as server, typing(server) as alice:
        for key in (one, two):
            await server.store.accounts.link("alice", key, 1000)
        (line,) = await alice.types(f"/unlink {fingerprint(one)[:4]}")
        assert "does not identify one of your keys;" in line
        assert len(await server.store.accounts.keys("alice")) == 3


def twins() -> tuple[bytes, bytes]:
    """Return two keys whose fingerprints begin with the same four digits."""
    seen: dict[str, bytes] = {}
    number = 0
    while (same := fingerprint(key := number.to_bytes(32, "big"))[:4]) not in seen:
        seen[same] = key
        number += 1
    return seen[same], key


async def test_unlink_asks_before_it_removes_a_key() -> None:
    noon = int(time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))) * 1000
    desk = identity_of("alice", "desk").public
    async with running_server() as server, typing(server, yes=False) as alice:
        await server.store.accounts.link("alice", desk, noon)
        for answer, keys in (("n", 2), ("y", 1)):
            (question,) = await alice.types(f"/unlink {fingerprint(desk)[:4]}")
            assert question.startswith(
                f"notice: Remove the key {fingerprint(desk)}, added 2026-03-04 12:00, from your"
            )
            await alice.types(answer)
            assert len(await server.store.accounts.keys("alice")) == keys
        # The key in use is refused at once.
        (line,) = await alice.types(f"/unlink {fingerprint(identity_of('alice').public)}")
        assert line.startswith("error: ")


async def test_unlink_refuses_the_key_in_use() -> None:
    async with running_server() as server, typing(server) as alice:
        (line,) = await alice.types(f"/unlink {fingerprint(identity_of('alice').public)}")
        assert line.startswith("error: You are using this key; ")


# ------------------------------------------------------------------ join requests


async def test_the_admin_sees_the_key_of_a_request() -> None:
    async with (
        running_server() as server,
        typing(server) as alice,
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        key = fingerprint(identity_of("bob").public)
        line = await alice.shows("bob asks to join")
        assert line == f"bob asks to join (key {key}, new here): /approve bob or /deny bob"
        assert await alice.types("/requests") == [
            f"notice: asking to join (1): bob (key {key}, new here)"
        ]


async def test_a_request_shows_a_former_name() -> None:
    account = Account("robert", identity_of("bob"), ClientId())
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
    ):
        connector = Connector(server.address, KnownServers(), plain=True)
        async with open_session(connector, account) as robert:
            assert (await robert.enter(GROUP)).standing == "waiting"
            assert ", its owner was a member as bob)" in await alice.shows("robert asks to join")
            await alice.types("/approve robert")
            await until(robert, lambda: robert.groups[GROUP].standing == "member")
