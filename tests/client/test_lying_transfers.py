"""A server that lies about files: the transfer fails cleanly, and nothing wrong is saved."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.files import transfer as files_module
from tchat.client.files.downloads import part_name
from tchat.client.files.transfer import fetch_file, send_file
from tchat.client.known_servers import KnownServers
from tchat.client.request_tracker import MOST_WRONG_ANSWERS
from tchat.client.session import Session
from tchat.core.group.state import File
from tchat.core.protocol.frames import Attached
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.tls import BUSY_ALERT
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.cddl import unchecked
from tests.client.impostor import CHALLENGE, EVIL, Wire, impostor
from tests.client.scene import noise
from tests.core.examples import ANSWERS
from tests.helpers import GUARD, identity_of, session_of
from tests.hostile_cbor import LARGEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.client.impostor import Act

    Lie = Callable[[Wire], Awaitable[None]]

DATA = noise(2 * PIECE_SIZE + 999)
OTHER = noise(2 * PIECE_SIZE + 999, seed=1)
ENDS = (PIECE_SIZE, 2 * PIECE_SIZE, len(DATA))
GOOD = hashlib.sha256(DATA).digest()
FAILURE: dict[str, object] = {"type": "error", "code": EVIL, "text": EVIL, "wait": LARGEST}
READY: dict[str, object] = {"type": "ready", "version": VERSION, "size": len(DATA)}
FROM: dict[str, object] = {"type": "from", "offset": 0}
A_FEW = 20
HUGE = 24 * PIECE_SIZE
"""The size of a file that no buffers of sockets hold."""


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "STALL_SECONDS", 0.1)


def says(*items: dict[str, object] | bytes) -> Lie:
    """Return a server's side of a transfer that sends these frames, whatever it receives."""

    async def lie(wire: Wire) -> None:
        await wire.send(b"".join(i if isinstance(i, bytes) else unchecked(i) for i in items))

    return lie


def is_silent_after(*items: dict[str, object] | bytes) -> Lie:
    """Return a transfer act that sends these frames and then only receives."""

    async def lie(wire: Wire) -> None:
        await says(*items)(wire)
        while await wire.stream.receive_some():
            pass

    return lie


def never_ends(word: str, *items: dict[str, object] | bytes) -> Lie:
    """Return a transfer act that sends the same frame forever."""

    async def lie(wire: Wire) -> None:
        await says(*items)(wire)
        while True:
            await wire.send(unchecked({"type": word}) * 500)

    return lie


def drips(*items: dict[str, object] | bytes) -> Lie:
    """Return a transfer act that then sends a byte now and then, without an end."""

    async def lie(wire: Wire) -> None:
        await says(*items)(wire)
        while True:
            await wire.send(b"x")
            await trio.sleep(0.01)

    return lie


def drips_pings(*items: dict[str, object]) -> Lie:
    """Return a transfer act that then sends a ping now and then, without an end."""

    async def lie(wire: Wire) -> None:
        await says(*items)(wire)
        while True:
            await wire.say({"type": "ping"})
            await trio.sleep(0.01)

    return lie


def takes_a_little(size: int) -> Lie:
    """Return a transfer act that receives a little of a file now and then."""

    async def lie(wire: Wire) -> None:
        have = {"type": "have", "offset": 0, "sha256": EMPTY_DIGEST, "doubt": False}
        wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await says({**READY, "size": HUGE}, have)(wire)
        received = 0
        while data := await wire.stream.receive_some(size):
            received += len(data)
            await trio.sleep(0.01)

    return lie


def takes_all(*items: dict[str, object] | bytes) -> Lie:
    """Return a transfer act that receives a whole file and answers with this."""

    async def lie(wire: Wire) -> None:
        await says(READY, {"type": "have", "offset": 0, "sha256": EMPTY_DIGEST, "doubt": False})(
            wire
        )
        while (frame := await wire.hear_only("piece"))["size"] == PIECE_SIZE:
            await wire.raw(PIECE_SIZE)
        await wire.raw(frame["size"])
        await says(*items)(wire)

    return lie


def piece(data: bytes, sha256: bytes, size: int | None = None) -> bytes:
    """Return a piece; its size and digest need not be right."""
    size = len(data) if size is None else size
    return unchecked({"type": "piece", "size": size, "sha256": sha256}) + data


def pieces(data: bytes, digests_of: bytes) -> bytes:
    """Return all pieces of one file with the running digests of another."""
    return b"".join(
        piece(data[end - PIECE_SIZE if end % PIECE_SIZE == 0 else ENDS[1] : end], digest)
        for end in ENDS
        for digest in [hashlib.sha256(digests_of[:end]).digest()]
    )


FIRST = hashlib.sha256(DATA[:PIECE_SIZE]).digest()

ANYWHERE: dict[str, Lie] = {
    "ready for another size": says({**READY, "size": 5}),
    "ready without a size": says({"type": "ready", "version": VERSION}),
    "an error at once": says(FAILURE),
    "garbage at once": says(b"\xff" * 9000),
    "nothing": says(),
    "nothing, and for long": is_silent_after(),
    "an unknown frame": says({"type": "dance"}),
    "another frame": says({"type": "stored", "sha256": GOOD}),
    "an alert": says(BUSY_ALERT),
    "the same frame again": says(READY, READY),
    "pings before it is ready": never_ends("ping"),
    "pings once it is ready": never_ends("ping", READY),
    "pongs once it is ready": never_ends("pong", READY),
    "an error once it is ready": says(READY, FAILURE),
    "garbage once it is ready": says(READY, b"\x00\x00\x00\x05\xff\xff\xff\xff\xff"),
    "the end once it is ready": says(READY),
    "ready, and then nothing": is_silent_after(READY),
    "a ticket that is bad": says({**FAILURE, "code": "bad_ticket"}),
    "a server that is busy": says({**FAILURE, "code": "busy"}),
    "a server that stops": says(READY, {**FAILURE, "code": "shutting_down"}),
    "a file that changed": says(READY, {**FAILURE, "code": "file_changed"}),
}

DOWNLOADS = ANYWHERE | {
    "from far beyond": says(READY, {"type": "from", "offset": LARGEST}),
    "from where nobody is": says(READY, {"type": "from", "offset": 5}, pieces(DATA, DATA)),
    "from below": says(READY, {"type": "from", "offset": -1}, pieces(DATA, DATA)),
    "a piece before it begins": says(READY, pieces(DATA, DATA)),
    "a piece of no bytes": says(READY, FROM, piece(b"", FIRST)),
    "pieces of no bytes": says(READY, FROM, piece(b"", FIRST) * 5000),
    "a piece that is too short": says(READY, FROM, piece(DATA[:5], FIRST)),
    "a piece that is too long": says(READY, FROM, piece(DATA[: PIECE_SIZE + 1], FIRST)),
    "a piece without an end": says(READY, FROM, piece(DATA, FIRST, LARGEST)),
    "a digest that is too short": says(READY, FROM, piece(DATA[:PIECE_SIZE], FIRST[:5])),
    "a digest that is too long": says(READY, FROM, piece(DATA[:PIECE_SIZE], FIRST * 2)),
    "no digest": says(READY, FROM, {"type": "piece", "size": PIECE_SIZE}, DATA),
    "too few bytes": says(READY, FROM, pieces(DATA, DATA)[:-1]),
    "wrong digests": says(READY, FROM, pieces(DATA, OTHER)),
    "wrong bytes": says(READY, FROM, pieces(OTHER, DATA)),
    "another file": says(READY, FROM, pieces(OTHER, OTHER)),
    "another end": says(READY, FROM, pieces(DATA[: ENDS[1]] + OTHER[ENDS[1] :], OTHER)),
    "an error for a piece": says(READY, FROM, pieces(DATA, DATA)[: PIECE_SIZE + 60], FAILURE),
    "pings for a piece": never_ends("ping", READY, FROM),
    "nothing for a piece": is_silent_after(READY, FROM),
    "half a piece": is_silent_after(READY, FROM, pieces(DATA, DATA)[:500_000]),
}
MALFORMED = [
    DOWNLOADS[name]
    for name in DOWNLOADS
    if name.startswith(("from ", "a digest", "a piece"))
    or name in ("no digest", "pings for a piece")
]


def have(offset: int, sha256: bytes = EMPTY_DIGEST) -> dict[str, object]:
    return {"type": "have", "offset": offset, "sha256": sha256, "doubt": False}


UPLOADS = ANYWHERE | {
    "having more than there is": says(READY, have(LARGEST, GOOD)),
    "having less than nothing": says(READY, have(-1)),
    "having what is no digest": says(READY, have(PIECE_SIZE, FIRST[:5])),
    "having all of another file": says(READY, have(len(DATA), hashlib.sha256(OTHER).digest())),
    "pings after it has it": never_ends("ping", READY, have(0)),
    "stored at once": says(READY, have(0), {"type": "stored", "sha256": GOOD}),
    "an error for a piece": says(READY, have(0), FAILURE),
    "a piece for a piece": says(READY, have(0), pieces(DATA, DATA)),
    "nothing for all pieces": is_silent_after(READY, have(0)),
    "no confirmation": takes_all(),
    "garbage for a confirmation": takes_all(b"\xff" * 100),
    "an error for a confirmation": takes_all(FAILURE),
    "another frame for a confirmation": takes_all({"type": "pong"}),
    "pings for a confirmation": takes_all(unchecked({"type": "ping"}) * 20_000),
    "another file was stored": takes_all(
        {"type": "stored", "sha256": hashlib.sha256(OTHER).digest()}
    ),
    "what is no digest was stored": takes_all({"type": "stored", "sha256": GOOD[:7]}),
}


class ScriptedPeer:
    """Server that behaves in the chat, and lies on transfer connections."""

    def __init__(self, lie: Lie) -> None:
        self.transfers = 0
        self.shared = 0
        self.lie = lie

    async def act(self, wire: Wire) -> None:
        first = await wire.hear()
        if first is not None and first["type"] == "transfer":
            self.transfers += 1
            await self.lie(wire)
            return
        await wire.say(CHALLENGE)
        await wire.hear_only("proof")
        await wire.say({"type": "welcome", "version": VERSION, "user": "alice"})
        await wire.attach()
        while (request := await wire.hear()) is not None:
            self.shared += request["type"] == "share"
            if request["type"] in ("upload", "download"):
                await wire.say({"type": "ticket", "re": request["id"], "ticket": bytes(16)})


DRIPS: dict[str, Lie] = {
    "bytes on one connection": drips(READY, FROM, piece(b"", FIRST, PIECE_SIZE)),
    "pings on one connection": drips_pings(READY, FROM),
    "a byte on each connection": says(READY, FROM, piece(b"x", FIRST, PIECE_SIZE)),
}


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect a rate that no transfer has, and look soon whether it has it."""
    monkeypatch.setattr(files_module, "MIN_RATE", 1 << 40)
    monkeypatch.setattr("tchat.transfer.patience.WINDOW_SECONDS", 0.05)
    monkeypatch.setattr("tchat.transfer.patience.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("tchat.transfer.patience.HASH_RATE", 1 << 40)


@pytest.mark.parametrize("lie", DRIPS.values(), ids=DRIPS)
async def test_dripping_download_is_given_up(
    lie: Lie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte was progress, which forgave all earlier failures."""
    hurry(monkeypatch)
    peer = ScriptedPeer(lie)
    file = File(1, "plan", len(DATA), GOOD, "bob", 0)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await fetch_file(alice, ops, file, tmp_path)
    assert caught.value.code in (Code.TOO_SLOW, Code.IDLE)
    assert 1 < peer.transfers <= A_FEW


async def test_dripping_upload_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(files_module, "STALL_SECONDS", GUARD)
    monkeypatch.setattr("tchat.transfer.endpoints._GOODBYE_SECONDS", 0.05)
    path = tmp_path / "plan"
    with path.open("wb") as file:
        file.truncate(HUGE)
    peer = ScriptedPeer(takes_a_little(100))
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await send_file(alice, ops, path)
    assert caught.value.code == Code.TOO_SLOW
    assert 1 < peer.transfers <= A_FEW


def visible_in(place: Path) -> list[str]:
    """Return the names of the files in a directory that are not hidden."""
    return [path.name for path in place.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("lie", DOWNLOADS.values(), ids=DOWNLOADS)
async def test_invalid_download_is_not_saved(lie: Lie, tmp_path: Path) -> None:
    peer = ScriptedPeer(lie)
    file = File(1, EVIL, len(DATA), GOOD, "bob", 0)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await fetch_file(alice, ops, file, tmp_path / "received")
        assert caught.value.sentence.isprintable()
        assert visible_in(tmp_path / "received") == []
        if lie in MALFORMED:
            assert (caught.value.code, peer.transfers) == (Code.MALFORMED, 1)
        assert 1 <= peer.transfers <= A_FEW
        assert alice.connected


@pytest.mark.parametrize("lie", UPLOADS.values(), ids=UPLOADS)
async def test_invalid_upload_answer_is_not_shared(lie: Lie, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.write_bytes(DATA)
    peer = ScriptedPeer(lie)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await send_file(alice, ops, path)
        assert caught.value.sentence.isprintable()
        assert 1 <= peer.transfers <= A_FEW
        assert peer.shared == 0
        assert alice.unanswered == 0
        assert alice.connected


async def test_bytes_after_the_last_piece_are_ignored(tmp_path: Path) -> None:
    peer = ScriptedPeer(says(READY, FROM, pieces(DATA, DATA), b"more" * 1000))
    file = File(1, EVIL, len(DATA), GOOD, "bob", 0)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        place = await fetch_file(alice, ops, file, tmp_path)
    assert place.read_bytes() == DATA
    assert place.name.isprintable()
    assert place.parent == tmp_path


async def test_impossible_file_size_is_refused(tmp_path: Path) -> None:
    peer = ScriptedPeer(says({**READY, "size": LARGEST}, FROM, pieces(DATA, DATA)))
    file = File(1, "big", LARGEST, GOOD, "bob", 0)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused, match="No space left on device"):
            await fetch_file(alice, ops, file, tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    assert peer.transfers == 0


async def test_honest_server_replaces_a_wrong_partial_file(tmp_path: Path) -> None:
    file = File(1, "plan", len(DATA), GOOD, "bob", 0)
    peer = ScriptedPeer(says(READY, FROM, pieces(OTHER, OTHER)[:-1]))
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        with trio.fail_after(GUARD), pytest.raises(Refused):
            await fetch_file(alice, ops, file, tmp_path)
        assert visible_in(tmp_path) == []
        assert (tmp_path / part_name(file, alice.owner)).stat().st_size > PIECE_SIZE
        peer.lie = says(READY, FROM, pieces(DATA, DATA))
        place = await fetch_file(alice, ops, file, tmp_path)
    assert place.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["plan"]  # noqa: PTH208


async def test_downloads_belong_to_a_person_on_a_server() -> None:
    known, places = KnownServers(), [Address("chat.example.org", port) for port in (1, 2)]
    for address in places:
        known.add(address, bytes([address.port]) * 32)
    owners = {
        Session(Connector(address, known), Account(user, identity_of(user), ClientId())).owner
        for address in places
        for user in ("alice", "bob")
    }
    assert len(owners) == 4


async def test_other_servers_do_not_see_begun_downloads(tmp_path: Path) -> None:
    """A server sent each person another part of a file, by which other servers recognised them."""
    file = File(1, "plan", len(DATA), GOOD, "bob", 0)
    offsets: list[int] = []

    async def begin(wire: Wire) -> None:
        if len(offsets) % 2:
            await says({**FAILURE, "code": "no_such_file"})(wire)
            return
        await wire.say(READY)
        offsets.append((await wire.hear_only("have"))["offset"])
        await says(FROM, pieces(DATA, DATA)[:5000])(wire)

    async def fail(wire: Wire) -> None:
        await wire.say(READY)
        offsets.append((await wire.hear_only("have"))["offset"])
        await says({**FAILURE, "code": "no_such_file"})(wire)

    for number in range(2):
        peer = ScriptedPeer(begin)
        async with impostor(peer.act) as server, session_of(server.address, "alice") as (a, ops):
            a.owner = f"server {number}"
            with trio.fail_after(GUARD), pytest.raises(Refused):
                await fetch_file(a, ops, file, tmp_path)
            peer.lie = fail
            with trio.fail_after(GUARD), pytest.raises(Refused):
                await fetch_file(a, ops, file, tmp_path)
        assert offsets[2 * number] == 0
        assert offsets[2 * number + 1] > 0  # the same server's download is resumed


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        *[("internal", True), ("handshake", True), ("no_such_file", True)],
        *[("file_unreadable", True), ("file_damaged", False)],
    ],
)
async def test_only_file_errors_discard_the_partial_file(
    code: str, kept: bool, tmp_path: Path
) -> None:
    peer = ScriptedPeer(says({**FAILURE, "code": code}))
    file = File(1, "plan", len(DATA), GOOD, "bob", 0)
    async with impostor(peer.act) as server, session_of(server.address, "alice") as (alice, ops):
        part = tmp_path / part_name(file, alice.owner)
        part.write_bytes(DATA[:5000])
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await fetch_file(alice, ops, file, tmp_path)
    assert (caught.value.code, part.exists()) == (code, kept)


def answering(answer: dict[str, object]) -> tuple[Act, list[str]]:
    """Return a server that gives every request the same answer, and the list of requests."""
    asked: list[str] = []

    async def act(wire: Wire) -> None:
        await wire.greet()
        while (request := await wire.hear()) is not None:
            if request["type"] == "attach":
                await wire.say(Attached(request["id"], request["group"], "member").to_map())
                continue
            asked.append(request["type"])
            await wire.say({**answer, "re": request["id"]})

    return act, asked


@pytest.mark.parametrize(
    "word", ["ok", "link_code", "attached", "digest_required", "already_stored", "file_list"]
)
@pytest.mark.parametrize("way", ["up", "down"])
async def test_invalid_ticket_is_refused(word: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(DATA)
    (answer,) = [frame.to_map() for frame in ANSWERS if frame.type == word]
    act, asked = answering(answer)
    file = File(1, "plan", len(DATA), GOOD, "bob", 0)
    async with impostor(act) as server, session_of(server.address, "alice") as (alice, ops):
        work: dict[str, Callable[[], Awaitable[object]]] = {
            "up": lambda: send_file(alice, ops, tmp_path / "plan"),
            "down": lambda: fetch_file(alice, ops, file, tmp_path / "received"),
        }
        with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
            await work[way]()
    assert caught.value.code in (Code.INTERNAL, Code.MALFORMED)
    assert len(asked) <= MOST_WRONG_ANSWERS
    assert "share" not in asked
