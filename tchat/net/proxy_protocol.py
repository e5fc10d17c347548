"""The PROXY protocol: a proxy in front of the server says whom it forwards a connection for.

Versions 1 (a line of text) and 2 (binary) of HAProxy's specification. The header comes before
anything else, and not a byte more may be read. Read it only from addresses that belong to a proxy:
anybody else could claim any address.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

import trio

from tchat.errors import Code, ProtocolError
from tchat.net.address import Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL_HEADER = _SIGNATURE + b"\x20\0\0\0"
"""What a proxy, or whoever checks a server in its place, sends on a connection of its own."""

_LINE_LIMIT = 107
_CHUNK = 4096
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_SIZES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""The size of the addresses of each family and transport protocol that the specification has."""
_TCP4, _TCP6 = 0x11, 0x21


async def read_proxy_header(stream: trio.SocketStream) -> Address | None:
    """Read the header; return the client's address, or None if it says that there is none.

    Raises `ProtocolError`, or `trio.BrokenResourceError`.
    """
    start = await _read(stream, len(_SIGNATURE))
    if start == _SIGNATURE:
        return await _read_binary(stream)
    if start.startswith(b"PROXY "):
        return await _read_text(stream, start)
    raise _malformed()


async def _read_text(stream: trio.SocketStream, line: bytes) -> Address | None:
    while not line.endswith(b"\r\n"):
        if len(line) >= _LINE_LIMIT:
            raise _malformed()
        line += await _read(stream, 1)
    match line.decode("ascii", "replace").split():
        case ["PROXY", "UNKNOWN", *_]:
            return None
        case ["PROXY", "TCP4" | "TCP6" as family, host, _, port, _] if port.isdecimal():
            kind = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
            try:
                if int(port) <= 65535:
                    return Address(str(kind(host)), int(port))
            except ValueError as error:
                raise _malformed() from error
    raise _malformed()


async def _read_binary(stream: trio.SocketStream) -> Address | None:
    command, family, length = struct.unpack("!BBH", await _read(stream, 4))
    if command == _LOCAL:  # the proxy itself, such as its health check
        family = 0x00
    size = _ADDRESS_SIZES.get(family, length + 1)
    if command not in (_LOCAL, _PROXY) or length < size:
        raise _malformed()
    addresses = await _read(stream, size)
    left = length - size  # extensions, such as the client's certificate
    while left:
        left -= len(await _read(stream, min(left, _CHUNK)))
    if family == _TCP4:
        host = socket.inet_ntop(socket.AF_INET, addresses[:4])
        return Address(host, int.from_bytes(addresses[8:10], "big"))
    if family == _TCP6:
        host = socket.inet_ntop(socket.AF_INET6, addresses[:16])
        return Address(host, int.from_bytes(addresses[32:34], "big"))
    return None  # not TCP over IP: no address that limits, bans or the log could use


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise trio.BrokenResourceError("the connection ended inside the PROXY header")
        data += more
    return data


def _malformed() -> ProtocolError:
    return ProtocolError(
        Code.MALFORMED,
        "This server expects a header of the PROXY protocol from this address (--proxy-protocol).",
    )
