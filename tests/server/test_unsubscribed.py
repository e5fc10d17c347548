"""The members with a connection that is not subscribed: kept up to date, change by change."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tchat.core.group.state import Author, Group
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.server.groups.unsubscribed import UnsubscribedMembers
from tchat.server.presence import ClientConnection, Presence
from tchat.server.recent import RecentChanges
from tests.helpers import GROUP
from tests.memory_store import MemoryStore
from tests.server.fake_connection import FakeConnection

PEOPLE = ("ann", "bob", "c..d")


class CountingPresence(Presence):
    """Presence that records whose connections were looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[str] = []

    def connections_of(self, person: str) -> list[ClientConnection]:
        """Return a person's connections."""
        self.looked_up.append(person)
        return super().connections_of(person)


class World:
    """One group, and the devices of a few people."""

    def __init__(self) -> None:
        self.group = Group.unwritten(GROUP)
        self.presence = CountingPresence()
        self.subscriptions = Subscriptions(MemoryStore(), GROUP)
        self.unsubscribed = UnsubscribedMembers(self.presence, self.subscriptions)
        self.devices: dict[tuple[str, int], FakeConnection] = {}
        self.subscribed: dict[tuple[str, int], Subscription] = {}

    def toggle_connection(self, person: str, device: int) -> None:
        """Connect a device, or disconnect it."""
        at = person, device
        if connection := self.devices.pop(at, None):
            if subscription := self.subscribed.pop(at, None):
                self.subscriptions.remove(subscription)
            self.presence.disconnected(connection)
        else:
            self.devices[at] = FakeConnection(Author(person, bytes([device] * 8), bytes(32)))
            self.presence.connected(self.devices[at])

    def toggle_subscription(self, person: str, device: int) -> None:
        """Subscribe a connected device to the group, or end its subscription."""
        at = person, device
        if subscription := self.subscribed.pop(at, None):
            self.subscriptions.remove(subscription)
        elif connection := self.devices.get(at):
            made = Subscription(connection.author, connection.send_queue, set())
            self.subscribed[at] = made
            self.subscriptions.add(made)

    def toggle_membership(self, person: str, _: int) -> None:
        """Let a person join, or leave."""
        if self.group.members.pop(person, None) is None:
            self.group.members[person] = person
        self.unsubscribed.memberships.add(person)

    def computed_anew(self) -> set[str]:
        """Return the unsubscribed members from all that is known."""
        return {
            person for person, device in self.devices.keys() - self.subscribed.keys()
        } & self.group.members.keys()


Step = tuple[Callable[[World, str, int], None], str, int, bool]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(
            [World.toggle_connection, World.toggle_subscription, World.toggle_membership]
        ),
        st.sampled_from(PEOPLE),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
@settings(deadline=None)
def test_same_as_computed_anew(steps: list[Step]) -> None:
    world = World()
    for step, person, device, looked_at in steps:
        step(world, person, device)
        if looked_at:
            assert set(world.unsubscribed.names(world.group)) == world.computed_anew()
    assert set(world.unsubscribed.names(world.group)) == world.computed_anew()


def test_one_change_looks_at_one_member() -> None:
    world = World()
    for number in range(100):
        world.toggle_membership(f"m{number}", 0)
        world.toggle_connection(f"m{number}", 0)
    assert len(world.unsubscribed.names(world.group)) == 100

    world.presence.looked_up.clear()
    world.toggle_connection("m7", 0)
    world.toggle_connection("stranger", 0)
    assert len(world.unsubscribed.names(world.group)) == 99
    assert world.presence.looked_up == ["m7"]


def test_changes_too_long_ago_are_not_listed() -> None:
    changes = RecentChanges()
    for number in range(5000):
        changes.add(f"m{number}")
    assert changes.since(4998) == {"m4998", "m4999"}
    assert changes.since(5000) == set()
    assert changes.since(0) is None
