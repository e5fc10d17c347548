"""The PROXY protocol: a proxy in front of the server says whom it forwards a connection for.

Versions 1 (a line of text) and 2 (binary) of HAProxy's specification. The header comes before
anything else, and not a byte more may be read. Only a proxy may be able to connect: anybody else
could claim any address.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

import trio

from tchat.errors import Code, ProtocolError
from tchat.net.address import Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE_LIMIT = 107
_LONGEST = 536  # of the addresses and extensions of version 2
_LOCAL, _PROXY = 0x20, 0x21
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
        case ["PROXY", "TCP4" | "TCP6", host, _, port, _] if port.isdecimal() and len(port) <= 5:
            try:
                return Address(str(ipaddress.ip_address(host)), int(port))
            except ValueError as error:
                raise _malformed() from error
    raise _malformed()


async def _read_binary(stream: trio.SocketStream) -> Address | None:
    command, family, length = struct.unpack("!BBH", await _read(stream, 4))
    if length > _LONGEST:
        raise _malformed()
    rest = await _read(stream, length)
    if command == _LOCAL:  # the proxy itself, such as its health check
        return None
    if command == _PROXY and family == _TCP4 and length >= 12:
        host = socket.inet_ntop(socket.AF_INET, rest[:4])
        return Address(host, int.from_bytes(rest[8:10], "big"))
    if command == _PROXY and family == _TCP6 and length >= 36:
        host = socket.inet_ntop(socket.AF_INET6, rest[:16])
        return Address(host, int.from_bytes(rest[32:34], "big"))
    raise _malformed()


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
        Code.MALFORMED, "This server expects the PROXY protocol: only its proxy can connect."
    )
