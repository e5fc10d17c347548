"""Nonsense that the schema allows: whatever a server sends, a session goes on or connects again.

Hypothesis makes the frames from the schema. No exception leaves the session, a request of the
person is answered in the end, and what is kept in memory stays within bounds.
"""

from __future__ import annotations

from contextlib import suppress
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tchat.client.retention import Retention
from tchat.client.updates import GroupUnusable
from tchat.core.group.features import EVENTS
from tchat.core.protocol.schema import Frame, Shape
from tchat.core.vocabulary import ANSWERS, NOTICES
from tchat.errors import Refused
from tests.cddl import unchecked
from tests.client.impostor import FINAL, Wire, impostor
from tests.helpers import GROUP, GUARD, THOROUGH, session_at

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 10, 2**31, 2**53 - 1, 2**53, 2**63 - 1])
NAMES = st.sampled_from(
    [GROUP, "OPS", "alice", "bob", "@alice,bob", "@", "@,", "@bob,eve", "", "\x1b[2J", "x" * 300]
)
TEXTS = NAMES | st.sampled_from(["hello alice", "😀\u200d" * 50, "\u0301\u0316" * 600])
BYTES = st.sampled_from([b"", bytes(8), bytes(32), b"\xa0", b"\x00\x00\x00\x01\xa0"])


def values_of(name: str, hint: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401  # any annotation
    """Return values that the schema allows for a field."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    if NoneType in get_args(hint):
        return st.none() | values_of(name, parts[0])
    if get_origin(hint) is Literal:
        return st.sampled_from(parts)
    if get_origin(hint) is tuple:
        return st.lists(values_of(name, parts[0]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Shape):
        return map_of(hint)
    by_type = {int: NUMBERS, bytes: BYTES, bool: st.booleans(), str: TEXTS}
    return NAMES if name == "group" else by_type[hint]


def map_of(shape: type[Shape], **fixed: object) -> st.SearchStrategy[dict[str, Any]]:
    """Return maps that the schema allows for a record."""
    hints = {k: v for k, v in get_type_hints(shape).items() if get_origin(v) is not ClassVar}
    keys = {name: values_of(name, hint) for name, hint in hints.items()}
    return st.fixed_dictionaries(keys).map(
        lambda item: {k: v for k, v in {**fixed, **item}.items() if v is not None}
    )


def is_bearable(frame: dict[str, Any]) -> bool:
    """Return whether a frame does not end a session for good, as it may."""
    return frame.get("code") not in FINAL


HEADER: dict[str, st.SearchStrategy[Any]] = {
    "group": st.just(GROUP) | NAMES,
    "seq": NUMBERS,
    "at": NUMBERS,
    "actor": TEXTS,
    "client": BYTES,
    "n": NUMBERS,
}
EVENT = st.sampled_from(EVENTS).flatmap(
    lambda body: st.builds(
        lambda head, rest: {"type": "event", "kind": body.kind, **rest, **head},
        st.fixed_dictionaries(HEADER),
        map_of(body),
    )
)
FRAMES: list[type[Frame]] = [*ANSWERS, *NOTICES]
FRAME = st.sampled_from(FRAMES).flatmap(lambda cls: map_of(cls, type=cls.type))
NONSENSE = st.lists((EVENT | FRAME).filter(is_bearable), min_size=1, max_size=12)


@given(st.lists(NONSENSE, min_size=1, max_size=3))
@settings(max_examples=1000 if THOROUGH else 25)
def test_nonsense_of_a_server_ends_no_session(sent: Sequence[Sequence[dict[str, Any]]]) -> None:
    trio.run(nonsense_is_survived, [b"".join(map(unchecked, part)) for part in sent])


async def nonsense_is_survived(parts: list[bytes]) -> None:
    """Send each part on a connection of its own, and then answer a request."""

    async def act(wire: Wire) -> None:
        await wire.greet()
        while (request := await wire.hear()) is not None:
            if request["type"] == "attach":
                answer = {"re": request["id"], "group": request["group"], "standing": "member"}
                rest = {"seq": 3, "counted": 0, "read": 0, "first": 1, "kicked": False}
                await wire.say({"type": "attached", **answer, **rest})
                if parts:
                    await wire.send(parts.pop())
                    return
            elif request["type"] == "groups_request" and not parts:
                await wire.say({"type": "group_list", "re": request["id"], "groups": []})

    async with (
        impostor(act) as server,
        session_at(server.address, "alice") as alice,
        trio.open_nursery() as nursery,
    ):

        async def enter() -> None:
            with suppress(Refused):
                await alice.enter(GROUP, join=False)

        alice.set_retention(Retention(events=20, size=50_000))
        alice.follow(GROUP)
        with trio.fail_after(GUARD):
            while parts:
                update = await alice.updates.receive()
                if isinstance(update, GroupUnusable):
                    alice.unfollow(update.replica)
                    nursery.start_soon(enter)
            assert isinstance(await alice.my_groups(), list)
        assert set(alice.groups) <= {GROUP}
        assert all(len(replica.log) <= 20 for replica in alice.groups.values())
        nursery.cancel_scope.cancel()
