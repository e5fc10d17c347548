"""What is meant for a person in groups without a window: on all devices, in both front ends."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from tchat.client.searched import Searched
from tchat.client.session import Session
from tchat.core.group.membership import Join
from tchat.core.group.messages import Edit
from tchat.core.protocol.frames import GroupSummary
from tchat.errors import Code, Refused
from tchat.ui.chat import elsewhere as elsewhere_module
from tchat.ui.chat.elsewhere import Elsewhere
from tests.fault_proxy import fault_proxy
from tests.helpers import GUARD, members, raw_client, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tchat.client.replica import Replica
    from tests.helpers import RawClient
    from tests.ui.typist import Typist

TALK = "@alice,bob"

both_front_ends = pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])


async def shows_message(person: Typist, text: str, title: str) -> None:
    """Wait until a window with that title has the message."""
    await person.until(lambda: title in person.titles and text in person.screen(title), text)


@asynccontextmanager
async def bob_without_lab(*, rewrites: bool) -> AsyncIterator[tuple[RawClient, Typist, Typist]]:
    """Bob on two devices, a member of #ops and #lab; the window of #lab is closed on both."""
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, raw_bob),
    ):
        await raw_bob.stream.aclose()
        async with (
            typing(server, "bob", recent=50, rewrites=rewrites) as here,
            typing(server, "bob", recent=50, rewrites=rewrites) as there,
        ):
            for bob in (here, there):
                if rewrites:
                    await bob.until(lambda b=bob: "#lab" in b.titles)  # type: ignore[misc]
                    await bob.until(lambda b=bob: b.window_of("#lab").caught_up)  # type: ignore[misc]
                    await bob.types("/window lab", "/part")
                assert bob.titles == ["#ops"]
            yield alice, here, there


# ------------------------------------------------------------------ direct conversations


@both_front_ends
async def test_message_in_a_read_conversation_opens_it(rewrites: bool) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("old", group=TALK)
        await bob.post("older", group=TALK)
        await bob.attach(group=TALK)
        async with typing(server, "bob", recent=50, rewrites=rewrites) as before:
            await before.types("/query alice")
            await shows_message(before, "alice: old", "@alice")
            await before.until(lambda: before.window.replica.seen == 2)
        async with (
            typing(server, "bob", recent=50, rewrites=rewrites) as here,
            typing(server, "bob", recent=50, rewrites=rewrites) as there,
        ):
            await alice.post("new", group=TALK)
            for device in (here, there):
                await shows_message(device, "alice: new", "@alice")
                assert device.window.title == "#ops"
                await device.until(lambda d=device: d.window_of("@alice").unread == 1)  # type: ignore[misc]
                assert device.frontend.calls == [("@alice", "alice: new")]


@both_front_ends
async def test_message_opens_a_closed_conversation_again(rewrites: bool) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", recent=50, rewrites=rewrites) as bob,
    ):
        for number in range(3):
            await alice.post(f"text {number}", group=TALK)
            await shows_message(bob, f"alice: text {number}", "@alice")
            assert bob.frontend.calls[number:] == [("@alice", f"alice: text {number}")]
            await bob.types("/window @alice", "/part")
            assert bob.titles == ["#ops"]


async def test_own_message_from_another_device_opens_the_window() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "bob") as here,
        typing(server, "bob") as there,
    ):
        await here.types("/query alice", "hello")
        await shows_message(there, "bob: hello", "@alice")
        assert there.window_of("@alice").unread == 0
        assert there.frontend.calls == []


async def test_ignored_people_open_no_closed_window() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob", recent=50, ignore=("carol",)) as bob,
    ):
        await carol.post("psst", group="@bob,carol")
        await alice.post("hello", group=TALK)
        await shows_message(bob, "alice: hello", "@alice")
        assert bob.titles == ["#ops", "@alice"]


async def test_messages_open_no_more_than_64_windows() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", "ops", *(f"g{number}" for number in range(63))) as bob,
    ):
        assert len(bob.titles) == 64
        await alice.post("hello", group=TALK)
        await bob.shows("new for you in @alice; /query alice opens it")
        assert len(bob.titles) == 64


# ------------------------------------------------------------------ mentions


@both_front_ends
async def test_mention_opens_a_closed_group_on_all_devices(rewrites: bool) -> None:
    async with bob_without_lab(rewrites=rewrites) as (alice, here, there):
        await alice.post("hello everybody", group="lab")
        await alice.post("Bob, look", group="lab")
        for bob in (here, there):
            await shows_message(bob, "alice: Bob, look [mention]", "#lab")
            await bob.until(lambda b=bob: b.window_of("#lab").mentions == 1)  # type: ignore[misc]
            assert bob.window_of("#lab").unread == 2
            assert bob.frontend.calls == [("#lab", "alice: Bob, look")]


@both_front_ends
async def test_other_messages_leave_a_group_closed(rewrites: bool) -> None:
    async with bob_without_lab(rewrites=rewrites) as (alice, here, there):
        await alice.post("bobby and kebob", group="lab")
        for bob in (here, there):
            shown = await bob.types("/list")
            assert "notice: #lab (1 unread)" in shown
            assert bob.titles == ["#ops"]


@both_front_ends
async def test_unignore_opens_a_closed_group_with_a_mention(rewrites: bool) -> None:
    async with bob_without_lab(rewrites=rewrites) as (alice, here, there):
        for bob in (here, there):
            await bob.types("/ignore alice")
        await alice.post("bob, look", group="lab")
        for bob in (here, there):
            await bob.types("/list")
            assert bob.titles == ["#ops"]
            await bob.types("/unignore alice")
            await shows_message(bob, "alice: bob, look [mention]", "#lab")
            assert bob.frontend.calls == []


async def test_mention_by_an_edit_opens_a_closed_group() -> None:
    async with bob_without_lab(rewrites=True) as (alice, here, there):
        seq = await alice.post("hello", group="lab")
        await alice.command(Edit, seq, "hello, bob", group="lab")
        for bob in (here, there):
            await shows_message(bob, "alice: hello, bob [edited, mention]", "#lab")


@both_front_ends
async def test_mention_in_a_group_joined_elsewhere_arrives(rewrites: bool) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "alice", recent=50, rewrites=rewrites) as here,
        typing(server, "alice", recent=50) as there,
        raw_client(server.address, "bob") as bob,
    ):
        await there.types("/join zehn")
        await bob.command(Join, group="zehn")
        await here.until(lambda: "#zehn" in here.titles, "#zehn")
        await here.until(lambda: here.window_of("#zehn").waiting_for_approval == 1)
        await there.types("/approve bob")
        await bob.post("@alice hey in zehn", group="zehn")
        await here.until(lambda: here.window_of("#zehn").mentions == 1)


# ------------------------------------------------------------------ requests to join


@both_front_ends
async def test_request_to_join_opens_the_admins_window(rewrites: bool) -> None:
    async with (
        running_server() as server,
        typing(server, "alice", "ops", "lab", recent=50, rewrites=rewrites) as alice,
        raw_client(server.address, "bob") as bob,
    ):
        await alice.until(lambda: alice.window_of("#lab").caught_up)
        await alice.types("/window lab", "/part")
        await bob.command(Join, group="lab")
        await alice.until(lambda: "#lab" in alice.titles, "#lab")
        await alice.until(lambda: alice.window_of("#lab").waiting_for_approval == 1)


# ------------------------------------------------------------------ restarts and reconnections


@both_front_ends
async def test_mention_while_offline_opens_a_closed_group(rewrites: bool) -> None:
    """And a request to join, for the admin; ordinary messages do not."""
    async with (
        running_server() as server,
        members(server, "bob", "alice"),
        members(server, "alice", "bob", group="lab"),
        members(server, "alice", "bob", group="dev"),
        members(server, "bob", "alice", group="own"),
    ):
        groups = ("ops", "lab", "dev", "own")
        async with typing(server, "bob", *groups, recent=50, rewrites=rewrites) as bob:
            for title in ("#lab", "#dev", "#own"):
                await bob.until(lambda t=title: bob.window_of(t).caught_up)  # type: ignore[misc]
                await bob.types(f"/window {title}", "/part")
            assert bob.titles == ["#ops"]
            await server.end()
            await bob.shows("connection lost")
            async with running_server(server.store) as other:  # at another port at first
                async with raw_client(other.address, "alice") as alice:
                    await alice.post("bob!", group="lab")
                    await alice.post("nobody!", group="dev")
                    await alice.post("psst", group=TALK)
                async with raw_client(other.address, "carol") as carol:
                    await carol.command(Join, group="own")
            async with running_server(server.store, port=server.address.port):
                await bob.shows("connected again")
                await shows_message(bob, "alice: bob! [mention]", "#lab")
                await shows_message(bob, "alice: psst", "@alice")
                await bob.until(lambda: "#own" in bob.titles, "#own")
                assert bob.window_of("#own").waiting_for_approval == 1
                assert "#dev" not in bob.titles


async def test_plain_mode_starts_with_what_is_addressed() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
        members(server, "alice", "bob", group="dev"),
        members(server, "bob", group="own"),
        members(server, "alice", "bob", group="others"),
        raw_client(server.address, "carol") as carol,
    ):
        await alice.post("hello bob", group="lab")
        await alice.post("hello", group="dev")
        for group in ("own", "others"):
            await carol.command(Join, group=group)
        async with typing(server, "bob", recent=50, rewrites=False) as bob:
            await bob.until(lambda: len(bob.titles) == 3)
            assert set(bob.titles) == {"#ops", "#lab", "#own"}
            assert "#dev (1 unread)" in " ".join(await bob.types("/list"))
            assert bob.frontend.calls == []


async def test_mention_during_the_check_for_requests_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The group is followed for a moment, so that the server announces nothing."""
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
        raw_client(server.address, "carol") as carol,
    ):
        await carol.command(Join, group="lab")
        enter, checked = Session.enter, trio.Event()

        async def enter_slowly(session: Session, group: str, **options: Any) -> Replica:  # noqa: ANN401
            replica = await enter(session, group, **options)
            if group == "lab" and not checked.is_set():
                checked.set()
                seq = await alice.post("bob, look", group="lab")
                while replica.last < seq:
                    await trio.lowlevel.checkpoint()
            return replica

        monkeypatch.setattr(Session, "enter", enter_slowly)
        async with typing(server, "bob", recent=50, rewrites=False, until="") as bob:
            await shows_message(bob, "alice: bob, look [mention]", "#lab")


async def test_group_that_cannot_be_checked_stops_no_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="dev") as (alice, _),
        members(server, "alice", "bob", group="lab"),
        raw_client(server.address, "carol") as carol,
    ):
        await alice.post("hello bob", group="dev")
        await carol.command(Join, group="lab")  # the latest event: this group is searched first
        enter = Session.enter

        async def enter_others(session: Session, group: str, **options: Any) -> Replica:  # noqa: ANN401
            if group == "lab":
                raise Refused(Code.INTERNAL, "Out of order.")
            return await enter(session, group, **options)

        monkeypatch.setattr(Session, "enter", enter_others)
        async with typing(server, "bob", recent=50, rewrites=False) as bob:
            await bob.until(lambda: bob.titles == ["#ops", "#dev"], "#dev")
            assert set(bob.chat.session.groups) == {"ops", "dev"}


# ------------------------------------------------------------------ what the search costs


async def test_searched_pages_are_not_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "searched.json"
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
    ):
        for _ in range(40):
            await alice.post(9000 * "x", group="lab")
        async with fault_proxy(server.address) as proxy:

            def start() -> AbstractAsyncContextManager[Typist]:
                proxy.frames.clear()
                return typing(proxy, "bob", recent=50, rewrites=False, searched=file)

            async with start() as bob:
                await bob.until(file.exists)
                assert len(proxy.of_type("history_request")) > 1
            async with start() as bob:
                await proxy.passes(type="group_list")
                await bob.types("")
                assert proxy.of_type("history_request") == []
            await alice.post("bob, look", group="lab")
            async with start() as bob:
                await shows_message(bob, "alice: bob, look [mention]", "#lab")
                assert len(proxy.of_type("history_request")) == 1


async def test_one_start_searches_a_bounded_number_of_pages(tmp_path: Path) -> None:
    """Later starts search the rest."""
    file = tmp_path / "searched.json"
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
        fault_proxy(server.address) as proxy,
    ):
        await alice.post("bob, look", group="lab")
        for _ in range(150):
            await alice.post(16_000 * "x", group="lab")
        async with typing(proxy, "bob", recent=50, rewrites=False, searched=file) as bob:
            await bob.until(file.exists)
            assert len(proxy.of_type("history_request")) == 32
            assert bob.titles == ["#ops"]
        async with typing(proxy, "bob", recent=50, rewrites=False, searched=file) as bob:
            await shows_message(bob, "alice: bob, look [mention]", "#lab")


async def test_end_of_a_pipe_waits_for_no_search() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
        fault_proxy(server.address) as proxy,
    ):
        await alice.post("hello", group="lab")
        proxy.watch = lambda _, frame: "drop" if frame["type"] == "history_page" else "pass"
        async with typing(proxy, "bob", recent=50, rewrites=False) as bob:
            await proxy.passes(type="history_request")
            with trio.fail_after(GUARD):
                assert await bob.chat.finish(math.inf, everything=True)


# ------------------------------------------------------------------ numbers of windows


async def test_window_numbers_are_alike_on_all_devices() -> None:
    """From the start of a program on; a window that is opened later comes last until then."""
    async with running_server() as server, members(server, "alice", "bob"):
        async with typing(server, "alice", "ops", recent=50) as here:
            await here.types("/join lab", "/query bob", "hello", "/join dev", "/join zoo")
            assert here.titles == ["#ops", "#lab", "@bob", "#dev", "#zoo"]
            sorted_titles = ["#ops", "#lab", "#dev", "#zoo", "@bob"]
            async with typing(server, "alice", "zoo", recent=50) as there:
                await there.until(lambda: there.titles == sorted_titles)
                await here.types("/join new")
                await there.until(lambda: there.titles == [*sorted_titles, "#new"])
                assert here.titles == ["#ops", "#lab", "@bob", "#dev", "#zoo", "#new"]
        expected = [*sorted_titles[:-1], "#new", "@bob"]
        for first in ("ops", "dev"):
            async with typing(server, "alice", first, recent=50) as tomorrow:
                await tomorrow.until(lambda t=tomorrow: t.titles == expected)  # type: ignore[misc]
                assert tomorrow.window.title == f"#{first}"


async def test_windows_opened_by_others_come_last() -> None:
    """A number that the person is about to press means the same window as before."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        members(server, "alice", "bob", group="lab"),
        members(server, "alice", "bob", group="dev"),
        typing(server, "alice", "ops", recent=50) as alice,
    ):
        await alice.until(lambda: alice.titles == ["#ops", "#lab", "#dev"])
        await alice.types("/window lab", "/part", "/query bob")
        assert alice.titles == ["#ops", "#dev", "@bob"]
        await bob.post("alice?", group="lab")
        await alice.until(lambda: len(alice.titles) == 4)
        assert alice.titles == ["#ops", "#dev", "@bob", "#lab"]
        await alice.types("/join new")
        assert alice.titles[-2:] == ["#lab", "#new"]


def test_listed_groups_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may list other groups after each connection."""
    monkeypatch.setattr(elsewhere_module, "_MOST_KNOWN", 100)
    elsewhere = Elsewhere(cast("Session", None), (), Searched())
    for start in range(0, 1000, 50):
        names = [f"g{number}" for number in range(start, start + 50)]
        elsewhere.update([GroupSummary(name, "member", 9, 9, n) for n, name in enumerate(names)])
        assert all(map(elsewhere.lists, names))
    assert not elsewhere.lists("g1")
    assert elsewhere.place_of("g999") == (0, 49)
