"""TLS streams deliver a prefix of what was sent, or an error; truncation is noticed."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from tchat.net.tls import client_context, make_credentials
from tchat.net.tls_stream import TlsStream
from tests.helpers import GUARD
from tests.net.ends import MUCH, both

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from trio.testing import MemoryReceiveStream, MemorySendStream

    Pipe = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
    Secure = TlsStream[Pipe]


class Ends:
    """Both ends of a connection in memory."""

    def __init__(self, client: Secure, server: Secure) -> None:
        self.client, self.server = client, server


def ends(directory: Path) -> Ends:
    near, far = memory_stream_pair()
    context = make_credentials(directory).context
    return Ends(
        TlsStream(near, client_context(verified=False)),
        TlsStream(far, context, server_side=True),
    )


@asynccontextmanager
async def joined(directory: Path) -> AsyncIterator[Ends]:
    """Yield both ends after the handshake."""
    made = ends(directory)
    await both(made.client.do_handshake, made.server.do_handshake)
    with trio.fail_after(GUARD):
        yield made


async def take(stream: Secure, size: int, most: int = 65536) -> bytes:
    """Receive exactly so many bytes."""
    taken = bytearray()
    while len(taken) < size:
        data = await stream.receive_some(most)
        assert data, f"ended at {len(taken)} of {size}"
        taken += data
    return bytes(taken)


def tamper(pipe: Pipe, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes that `pipe` has not received yet."""
    stream = pipe.receive_stream
    stream.put_data(change(bytes(stream._incoming.get_nowait())))


def pending(pipe: Pipe) -> bool:
    return bool(pipe.receive_stream._incoming._data)


# ------------------------------------------------------------------ data


async def test_large_data_travels_both_ways_at_once(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        taken: dict[str, bytes] = {}

        async def listen(name: str, stream: Secure) -> None:
            taken[name] = await take(stream, len(MUCH))

        await both(
            partial(made.client.send_all, MUCH),
            partial(made.server.send_all, MUCH[::-1]),
            partial(listen, "server", made.server),
            partial(listen, "client", made.client),
        )
        assert taken == {"server": MUCH, "client": MUCH[::-1]}


async def test_all_arrived_records_are_returned_together(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        for _ in range(3):
            await made.client.send_all(MUCH[:20000])
        assert await made.server.receive_some(65536) == MUCH[:20000] * 3


async def test_receive_respects_max_bytes(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(MUCH[:70000])
        taken = b""
        for most in (1, 10, 16000, 5, 30000, 40000, 40000, 40000):
            if len(taken) < 70000:
                piece = await made.server.receive_some(most)
                assert 0 < len(piece) <= most
                taken += piece
        assert taken == MUCH[:70000]


async def test_bytes_may_arrive_one_by_one(tmp_path: Path) -> None:
    made = ends(tmp_path)
    for pipe in (made.client.transport_stream, made.server.transport_stream):
        whole = pipe.receive_stream.receive_some

        async def one(_most: int | None = None, whole: Callable[..., object] = whole) -> bytes:
            return await whole(1)  # type: ignore[misc, no-any-return]

        pipe.receive_stream.receive_some = one  # type: ignore[method-assign, assignment]
    await both(made.client.do_handshake, made.server.do_handshake)
    await made.client.send_all(b"one by one")
    with trio.fail_after(GUARD):
        assert await made.server.receive_some() == b"one by one"


async def test_received_data_is_not_retained(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(MUCH)
        assert await take(made.server, len(MUCH), len(MUCH)) == MUCH
        assert made.server._undecrypted.obj == b""


async def test_sending_nothing_sends_no_record(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(b"")
        assert not pending(made.server.transport_stream)
        await made.client.send_all(b"more")
        assert await made.server.receive_some() == b"more"


async def test_use_before_the_handshake_is_an_error(tmp_path: Path) -> None:
    made = ends(tmp_path)
    with pytest.raises(trio.NeedHandshakeError):
        await made.client.send_all(b"text")
    with pytest.raises(trio.NeedHandshakeError):
        await made.client.receive_some()
    assert not pending(made.server.transport_stream)


# ------------------------------------------------------------------ the end of a stream


async def test_data_before_a_close_is_received_first(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(MUCH[:40000])
        await made.client.aclose()
        assert await take(made.server, 40000) == MUCH[:40000]
        assert await made.server.receive_some() == b""
        assert await made.server.receive_some() == b""


async def test_an_end_without_close_notify_is_an_error(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(b"the first half")
        await made.client.transport_stream.send_eof()
        assert await made.server.receive_some() == b"the first half"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await made.server.receive_some()
            assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


async def test_a_changed_record_fails_after_the_intact_ones(
    tmp_path: Path,
) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(b"untouched")
        await made.client.send_all(b"changed")
        tamper(made.server.transport_stream, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        assert await made.server.receive_some() == b"untouched"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await made.server.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert "BAD_RECORD_MAC" in str(caught.value)
        with pytest.raises(trio.BrokenResourceError):
            await made.server.send_all(b"more")
        with pytest.raises(trio.BrokenResourceError) as told:
            await made.client.receive_some()
        assert "BAD_RECORD_MAC" in str(told.value)  # the alert


async def test_a_repeated_record_is_an_error(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await made.client.send_all(b"pay")
        tamper(made.server.transport_stream, lambda data: data * 2)
        assert await made.server.receive_some() == b"pay"
        with pytest.raises(trio.BrokenResourceError):
            await made.server.receive_some()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 50, b"\xff" * 9000])
async def test_plain_text_fails_the_handshake(tmp_path: Path, noise: bytes) -> None:
    made = ends(tmp_path)
    await made.client.transport_stream.send_all(noise)
    with trio.fail_after(GUARD), pytest.raises(trio.BrokenResourceError) as caught:
        await made.server.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert not pending(made.client.transport_stream), "an alert to one who cannot read it"
    with pytest.raises(trio.BrokenResourceError):
        await made.server.receive_some()


async def test_an_untrusting_client_sends_an_alert(tmp_path: Path) -> None:
    near, far = memory_stream_pair()
    client = TlsStream(near, client_context(verified=True), server_hostname="localhost")
    server = TlsStream(far, make_credentials(tmp_path).context, server_side=True)

    async def refuse() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.do_handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    async def be_refused() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.do_handshake()
        assert "ALERT" in str(caught.value)

    await both(refuse, be_refused)


async def test_the_server_name_is_encoded_as_by_trio(tmp_path: Path) -> None:
    near, far = memory_stream_pair()
    context = make_credentials(tmp_path).context
    asked: list[str] = []

    def note(_tls: object, name: str, _context: object) -> None:
        asked.append(name)

    context.sni_callback = note
    client = TlsStream(near, client_context(verified=False), server_hostname="Faß.example")
    await both(client.do_handshake, TlsStream(far, context, server_side=True).do_handshake)
    assert asked == ["xn--fa-hia.example"]


async def test_a_close_notify_read_with_data_is_kept(tmp_path: Path) -> None:
    # All but the goodbye fills three of the chunks that the TLS library is fed.
    size = 3 * 16384 - 3 * 22 - 23
    async with joined(tmp_path) as made:
        await made.client.send_all(b"x")
        await made.client.send_all(MUCH[:size])

        async def answer() -> None:
            await wait_all_tasks_blocked()  # the client has sent it
            assert await made.server.receive_some(1) == b"x"
            assert await made.server.receive_some(size) == MUCH[:size]
            assert len(made.server._undecrypted) == 24
            await made.server.unwrap()

        await both(made.client.unwrap, answer)


async def test_the_transport_is_usable_after_unwrap(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        await both(made.client.unwrap, made.server.unwrap)
        await made.client.transport_stream.send_all(b"in the clear")
        assert await made.server.transport_stream.receive_some() == b"in the clear"
        with pytest.raises(trio.ClosedResourceError):
            await made.client.send_all(b"sealed")


# ------------------------------------------------------------------ tasks


async def test_a_cancelled_receive_loses_nothing(tmp_path: Path) -> None:
    async with joined(tmp_path) as made, trio.open_nursery() as nursery:
        await made.client.send_all(b"all of it")
        rest = b""

        def hold_back(data: bytes) -> bytes:
            nonlocal rest
            rest = data[10:]
            return data[:10]

        tamper(made.server.transport_stream, hold_back)
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await made.server.receive_some()
        assert scope.cancelled_caught
        made.server.transport_stream.receive_stream.put_data(rest)
        assert await made.server.receive_some() == b"all of it"


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_cancelled_send_breaks_the_stream(tmp_path: Path) -> None:
    async with joined(tmp_path) as made:
        # Nothing is sent before the cancellation is seen, so the stream is still whole.
        with trio.CancelScope() as scope:
            scope.cancel()
            await made.client.send_all(b"never")
        await made.client.send_all(b"the first")
        assert await made.server.receive_some() == b"the first"
        sender = made.client.transport_stream.send_stream
        sender.send_all_hook = trio.sleep_forever
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_when_blocked, scope)
                await made.client.send_all(b"half")
        with pytest.raises(trio.BrokenResourceError):
            await made.client.send_all(b"more")


async def test_a_blocked_sender_sends_the_receivers_alert(tmp_path: Path) -> None:
    async with joined(tmp_path) as made, trio.open_nursery() as nursery:
        goes_on = trio.Event()
        sender = made.server.transport_stream.send_stream
        deliver = sender.send_all_hook
        assert deliver is not None
        sender.send_all_hook = partial(deliver_after, goes_on, deliver)
        nursery.start_soon(made.server.send_all, b"slow")
        await wait_all_tasks_blocked()
        await made.client.send_all(b"whole")
        assert await made.server.receive_some() == b"whole"
        await made.client.send_all(b"changed")
        tamper(made.server.transport_stream, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(trio.BrokenResourceError):
            await made.server.receive_some()
        goes_on.set()
        assert await made.client.receive_some() == b"slow"
        with pytest.raises(trio.BrokenResourceError) as told:
            await made.client.receive_some()
        assert "BAD_RECORD_MAC" in str(told.value)


async def deliver_after(event: trio.Event, deliver: Callable[[], Awaitable[object]]) -> None:
    await event.wait()
    await deliver()


async def test_protocol_messages_are_sent_before_waiting(
    tmp_path: Path,
) -> None:
    async with joined(tmp_path) as made, trio.open_nursery() as nursery:
        made.server._outgoing.write(b"as if it answered")
        nursery.start_soon(made.server.receive_some)
        await wait_all_tasks_blocked()
        assert await made.client.transport_stream.receive_some() == b"as if it answered"
        await made.client.send_all(b"an end to it")


async def test_handshakes_compute_one_after_the_other(tmp_path: Path) -> None:
    """The lock is held only to compute: a silent client keeps nobody waiting."""
    serial, silent, talking = trio.Lock(), ends(tmp_path), ends(tmp_path)
    async with trio.open_nursery() as nursery:
        await serial.acquire()
        nursery.start_soon(silent.server.do_handshake, serial)
        nursery.start_soon(talking.client.do_handshake)
        nursery.start_soon(talking.server.do_handshake, serial)
        await wait_all_tasks_blocked()
        assert serial.statistics().tasks_waiting == 1
        serial.release()
        await wait_all_tasks_blocked()
        await talking.client.send_all(b"hello")
        assert not serial.locked()
        assert await talking.server.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


async def test_two_tasks_in_one_direction_are_an_error(tmp_path: Path) -> None:
    async with joined(tmp_path) as made, trio.open_nursery() as nursery:
        nursery.start_soon(made.server.receive_some)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await made.server.receive_some()
        with pytest.raises(trio.BusyResourceError):
            await made.server.unwrap()
        await made.server.send_all(b"the other direction")
        assert await made.client.receive_some() == b"the other direction"
        await made.client.send_all(b"an end to it")
