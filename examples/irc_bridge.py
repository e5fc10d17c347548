"""IRC bridge: carry messages between a group and an IRC channel.

Run it with: IRC=irc.example.org:6667/#ops python examples/irc_bridge.py HOST PORT --group GROUP
If one side goes away, the bridge ends with an error, and whatever supervises it starts it again;
messages of the group that were said meanwhile are then carried over.
"""

import os
from collections.abc import AsyncIterator

import trio

import tchat

NICK = "tchat"  # some servers refuse more than nine characters
LINE_LIMIT = 400  # bytes: RFC 2812 allows 512 with the prefix that the server adds


async def irc_bridge(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Carry messages between a group and the IRC channel in the variable IRC."""
    address, _, channel = os.environ["IRC"].partition("/")
    host, _, port = address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    irc = Irc(stream)
    async with stream, trio.open_nursery() as nursery:
        await irc.send(f"NICK {NICK}", f"USER {NICK} 0 * :{NICK}", f"JOIN {channel}")
        lines = irc.lines()
        async for line in lines:
            if line.split()[1:2] == ["366"]:  # the end of the list of names: we are in
                break
            await irc.answer_ping(line)
        nursery.start_soon(to_irc, client, groups[0], irc, channel)
        async for line in lines:
            await irc.answer_ping(line)
            await from_irc(groups[0], line, channel)
        raise tchat.Unavailable(tchat.Code.IDLE, "The IRC server closed the connection.")


async def to_irc(client: tchat.Client, group: tchat.Group, irc: "Irc", channel: str) -> None:
    async def carry(message: tchat.Message) -> None:
        for line in message.text.splitlines():
            data = f"<{message.who}> {line}".encode()
            for start in range(0, len(data), LINE_LIMIT):
                part = data[start : start + LINE_LIMIT].decode(errors="ignore")
                await irc.send(f"PRIVMSG {channel} :{part}")

    await client.for_each(carry, group, since="seen", cursor=f"irc {channel}")


async def from_irc(group: tchat.Group, line: str, channel: str) -> None:
    head, _, text = line.removeprefix(":").partition(" :")
    source, *words = head.split()
    if words[:2] == ["PRIVMSG", channel] and text.strip():
        await group.say(f"<{source.partition('!')[0]}> {text}")


class Irc:
    """A connection to an IRC server, on which several tasks may send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

    async def send(self, *lines: str) -> None:
        """Send lines, after those that another task is sending."""
        async with self._sending:
            await self._stream.send_all("".join(f"{line}\r\n" for line in lines).encode())

    async def answer_ping(self, line: str) -> None:
        """Answer a line with which the server asks whether the bridge is alive."""
        if line.startswith("PING"):
            await self.send(line.replace("PING", "PONG", 1))

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of the server until it closes the connection."""
        buffer = b""
        async for data in self._stream:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if text := line.rstrip(b"\r").decode(errors="replace"):
                    yield text


if __name__ == "__main__":
    tchat.run(irc_bridge, user="irc-bridge")
