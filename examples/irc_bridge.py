"""IRC bridge: carry messages between a group and an IRC channel.

Run it with: IRC=irc.example.org:6667/#ops python examples/irc_bridge.py HOST PORT --group GROUP
If one side goes away, the bridge ends with an error, and whatever supervises it starts it again;
messages of the group that were said meanwhile are then carried over.
"""

import os
from collections.abc import AsyncIterator

import trio

import tchat

NICK = "tchat"  # nine characters at most: RFC 2812
SENDING = trio.Lock()  # messages and answers to pings are sent by different tasks
LINE_LIMIT = 400  # bytes: RFC 2812 allows 512 with the prefix that the server adds


async def irc_bridge(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Carry messages between a group and the IRC channel in the variable IRC."""
    address, _, channel = os.environ["IRC"].partition("/")
    host, _, port = address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream, trio.open_nursery() as nursery:
        await send(stream, f"NICK {NICK}", f"USER {NICK} 0 * :{NICK}", f"JOIN {channel}")
        lines = lines_of(stream)
        async for line in lines:
            if line.split()[1:2] == ["366"]:  # the end of the list of names: we are in
                break
            await answer_ping(stream, line)
        nursery.start_soon(to_irc, client, groups[0], stream, channel)
        async for line in lines:
            await answer_ping(stream, line)
            await from_irc(groups[0], line, channel)
        raise tchat.Unavailable(tchat.Code.IDLE, "The IRC server closed the connection.")


async def to_irc(
    client: tchat.Client, group: tchat.Group, stream: trio.SocketStream, channel: str
) -> None:
    async def carry(message: tchat.Message) -> None:
        for line in message.text.splitlines():
            data = f"<{message.who}> {line}".encode()
            for start in range(0, len(data), LINE_LIMIT):
                part = data[start : start + LINE_LIMIT].decode(errors="ignore")
                await send(stream, f"PRIVMSG {channel} :{part}")

    await client.for_each(carry, group, since="seen", cursor=f"irc {channel}")


async def from_irc(group: tchat.Group, line: str, channel: str) -> None:
    head, _, text = line.removeprefix(":").partition(" :")
    source, *words = head.split()
    if words[:2] == ["PRIVMSG", channel] and text.strip():
        await group.say(f"<{source.partition('!')[0]}> {text}")


async def answer_ping(stream: trio.SocketStream, line: str) -> None:
    if line.startswith("PING"):
        await send(stream, line.replace("PING", "PONG", 1))


async def send(stream: trio.SocketStream, *lines: str) -> None:
    async with SENDING:
        await stream.send_all("".join(f"{line}\r\n" for line in lines).encode())


async def lines_of(stream: trio.SocketStream) -> AsyncIterator[str]:
    buffer = b""
    async for data in stream:
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if text := line.rstrip(b"\r").decode(errors="replace"):
                yield text


if __name__ == "__main__":
    tchat.run(irc_bridge, user="irc-bridge")
