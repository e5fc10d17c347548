"""The commands of IRC clients: a row for each, with its handler.

A slow command waits for the server of tchat; those of one client run one after the other. All
others are answered at once from what is known, also while the connection to the server is lost.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat import __version__
from tchat.core.text import fold
from tchat.errors import Code, Refused, TchatError, UsageError
from tchat.irc import history, service
from tchat.irc.formatting import text_from_irc
from tchat.irc.messages import LINE_SIZE, Message, split
from tchat.irc.names import (
    HOST,
    SERVER,
    SERVICE,
    SERVICE_SOURCE,
    group_of,
    is_channel,
    nick_of,
    person_of,
    source_of,
)
from tchat.irc.registration import negotiate
from tchat.irc.rendering import ban_mask, ref_of
from tchat.irc.replies import Replies
from tchat.irc.session import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tchat.api import groups as api
    from tchat.api.groups import Group
    from tchat.irc.channel import Channel
    from tchat.irc.session import Session

    Handler = Callable[[Session, Sequence[str], Replies], Awaitable[None]]

logger = logging.getLogger("tchat")

_MOST_TARGETS = 4
_AWAY_LENGTH = 100
_NEEDS_CONNECTION = "The server cannot be reached at the moment; try again later."
_AWAY = "You have been marked as being away"
_BUSY = "Please wait a while and try again."
_CHANNEL_MODES = "int"
_SERVICE_ROOM = LINE_SIZE - 100  # bytes of text in a line of the service

MOTD = f"""\
You are connected to tchat as on any other device: IRC clients share your identity.
Your groups are open as channels; /join asks their admin to let you in.
/part only closes a channel here. For all that IRC does not have: /msg {SERVICE} help"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A command: its handler, and how many parameters it needs.

    With at most `offline` parameters, a slow command needs no connection to the server.
    """

    run: Handler
    needs: int = 0
    slow: bool = False
    offline: int = 0


async def welcome(session: Session) -> None:
    """Send what a server sends first: numeric replies 001 to 005, and the message of the day."""
    connection = session.connection
    connection.nick = me = nick_of(session.me)
    numeric = connection.numeric_message
    tokens = (
        "CASEMAPPING=ascii",
        "CHANTYPES=#",
        "CHANMODES=b,,,int",
        "PREFIX=(o)@",
        f"NETWORK={session.client.server}",
        f"CHATHISTORY={history.LIMIT}",
        "MSGREFTYPES=msgid,timestamp",
        f"TARGMAX=PRIVMSG:{_MOST_TARGETS},NOTICE:{_MOST_TARGETS}",
        f"AWAYLEN={_AWAY_LENGTH}",
        "UTF8ONLY",
    )
    await connection.send(
        numeric("001", f"Welcome to tchat, {source_of(session.me)}"),
        numeric("002", f"Your host is {SERVER}, running tchat {__version__}"),
        numeric("003", f"It stands for the server {session.client.server}"),
        numeric("004", SERVER, f"tchat-{__version__}", "i", "bint", "bo"),
        numeric("005", *tokens, "are supported by this server"),
        numeric("251", f"You are {me}, and all your IRC clients are one person"),
        *_motd(session),
    )
    if session.absence_of(session.me) not in (None, OFFLINE):  # it was set by an earlier client
        await connection.numeric("306", _AWAY)


def _motd(session: Session) -> list[Message]:
    numeric = session.connection.numeric_message
    return [
        numeric("375", f"- {SERVER} Message of the day -"),
        *(numeric("372", f"- {line}") for line in MOTD.splitlines()),
        numeric("376", "End of /MOTD command."),
    ]


# ------------------------------------------------------------------ dispatch


async def handle(session: Session, message: Message) -> bool:
    """Answer a message of a registered client; return False if it quits."""
    if message.command == "QUIT":
        await session.connection.say_error("Goodbye.")
        return False
    if message.command == "CAP":
        await _cap(session, message)
        return True
    replies = Replies(session.connection, message)
    row = COMMANDS.get(message.command)
    if row is None:
        replies.numeric("421", message.command, "Unknown command")
    elif len(message.params) < row.needs:
        replies.numeric("461", message.command, "Not enough parameters")
    elif message.command in ("PRIVMSG", "NOTICE"):
        _write(session, message, replies)
    elif not row.slow:
        await row.run(session, message.params, replies)
    elif not session.client.connected and len(message.params) > row.offline:
        replies.numeric("400", message.command, _NEEDS_CONNECTION)
    elif _submit(session, partial(row.run, session, message.params, replies), replies, message):
        return True
    else:
        replies.numeric("263", message.command, _BUSY)
    await replies.send()
    return True


async def _cap(session: Session, message: Message) -> None:
    if message.params[:1] != ("END",):
        await negotiate(session.connection, message)


def _submit(
    session: Session, run: Callable[[], Awaitable[None]], replies: Replies, message: Message
) -> bool:
    """Run a slow command after those before it, and send its replies; False if there are many."""

    async def job() -> None:
        try:
            await run()
        except Refused as refusal:
            target = message.params[0] if message.params else message.command
            replies.refuse(refusal, target)
        except trio.BrokenResourceError:
            raise
        except Exception:
            logger.exception("IRC: %s failed", message.command)
            replies.numeric("400", message.command, "Internal error; see the log of tchat irc.")
        await replies.send()

    return session.submit(job)


async def _send_later(replies: Replies) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client is gone
        await replies.send()


# ------------------------------------------------------------------ writing


def _write(session: Session, message: Message, replies: Replies) -> None:
    """Post a message to each target, in the order in which they were written."""
    targets, text = message.params[0].split(","), text_from_irc(message.params[1])
    if len(targets) > _MOST_TARGETS:
        replies.numeric("407", message.params[0], "Too many targets")
        return
    for target in targets:
        channel = session.find(target)
        if fold(target) == SERVICE:
            _ask_service(session, message, text or "", replies)
        elif text is None:
            replies.numeric("404", target, "Only texts are carried, no CTCP requests.")
        elif channel is not None and fold(target) not in session.opening:
            _post(session, channel, text, message, replies)
        elif is_channel(target):
            replies.numeric("442", target, f"You are not in {target}; join it first.")
        else:
            _open_and_post(session, target, text, message, replies)


def _ask_service(session: Session, message: Message, text: str, replies: Replies) -> None:
    later = Replies(session.connection, message)
    if message.command != "PRIVMSG":
        return
    if _submit(session, partial(_serve, session, text, later), later, message):
        replies.later = True
    else:
        replies.numeric("263", SERVICE, _BUSY)


async def _serve(session: Session, text: str, replies: Replies) -> None:
    for line in await service.serve(session, text):
        for piece in split(line, _SERVICE_ROOM):
            replies.add(Message("PRIVMSG", (session.connection.nick, piece or " "), SERVICE_SOURCE))


def _open_and_post(
    session: Session, target: str, text: str, message: Message, replies: Replies
) -> None:
    """Post the first messages of a conversation, once the server has opened it."""
    later = Replies(session.connection, message)
    key = fold(target)

    async def run() -> None:
        try:
            channel = session.find(target)
            if channel is None:
                conversation = await session.client.talk_to(person_of(target))
                channel = session.channel_of(conversation)
            _post(session, channel, text, message, later)
        finally:
            session.opening[key] -= 1
            session.opening += Counter()  # forgets what is zero

    if not session.client.connected:
        replies.numeric("401", target, _NEEDS_CONNECTION)
    elif _submit(session, run, later, message):
        session.opening[key] += 1  # later ones have to wait for these
        replies.later = True
    else:
        replies.numeric("263", target, _BUSY)


def _post(
    session: Session, channel: Channel, text: str, message: Message, replies: Replies
) -> None:
    """Post a message: it is on disk here at once, and sent when there is a connection."""
    msgid = message.tags.get("+draft/reply") or message.tags.get("+reply")
    reply_to = ref_of(channel.group, msgid) if msgid else None
    try:
        stored = channel.group.post(text, reply_to=reply_to)
    except Refused as refusal:
        replies.numeric("404", channel.target, str(refusal))
        return
    replies.later = session.connection.has("echo-message")
    channel.own.begin()
    # Not in the session's nursery: a message is sent even if its IRC client quits.
    session.door.nursery.start_soon(_wait, session, channel, stored, message, replies.label)
    if channel.group.direct and (why := session.absence_of(channel.group.name)) is not None:
        replies.numeric("301", channel.target, why)


async def _wait(
    session: Session,
    channel: Channel,
    stored: Awaitable[api.Message],
    message: Message,
    label: str | None,
) -> None:
    try:
        await channel.own.wait(stored, label)
    except Refused as refusal:
        replies = Replies(session.connection, message)
        replies.numeric("404", channel.target, str(refusal))
        await _send_later(replies)


# ------------------------------------------------------------------ channels


async def _join(session: Session, params: Sequence[str], replies: Replies) -> None:
    keys = params[1].split(",") if len(params) > 1 else []
    if params[0] == "0":
        for channel in list(session.channels.values()):
            if not channel.group.direct:
                await session.part(channel)
        return
    for number, target in enumerate(params[0].split(",")):
        invite = keys[number] if number < len(keys) else None
        try:
            await _join_one(session, target, invite or None, replies)
        except (Refused, UsageError) as refusal:
            _refuse_joining(refusal, target, replies)


async def _join_one(session: Session, target: str, invite: str | None, replies: Replies) -> None:
    if not is_channel(target):
        replies.numeric("403", target, "A channel begins with #")
        return
    if session.find_group(target) is None:
        if not session.client.connected:
            replies.numeric("400", target, _NEEDS_CONNECTION)
            return
        group = await session.client.ask_to_join(group_of(target), invite=invite)
        if group.standing != "member":
            # The numeric ends the client's attempt; the NOTICE is for the person.
            replies.numeric("473", target, "Cannot join channel (+i): its admin has to approve you")
            sentence = f"You asked to join {target}. It opens here when its admin approves you."
            replies.add(Message("NOTICE", (session.connection.nick, sentence), SERVER))
            return
    session.reopen(target)


def _refuse_joining(refusal: TchatError, target: str, replies: Replies) -> None:
    sentence = str(refusal)
    match refusal.code:
        case Code.NO_SUCH_GROUP:
            sentence += f" To found it: /msg {SERVICE} create {target}"
            replies.numeric("403", target, sentence)
        case Code.BANNED:
            replies.numeric("474", target, sentence)
        case Code.GROUP_FULL:
            replies.numeric("471", target, sentence)
        case Code.BAD_INVITE | Code.MISSING_ARGUMENT:
            replies.numeric("475", target, sentence)
        case _:
            replies.numeric("403", target, sentence)
    # Many clients print sentences of their own for these numerics.
    replies.add(Message("NOTICE", (replies.nick, f"{target}: {sentence}"), SERVER))


async def _part(session: Session, params: Sequence[str], replies: Replies) -> None:
    for target in params[0].split(","):
        channel = session.find(target)
        if channel is None or channel.group.direct:
            replies.numeric("442", target, "You're not on that channel")
        else:
            await session.part(channel, "closed here; you stay a member")


async def _names(session: Session, params: Sequence[str], replies: Replies) -> None:
    for target in params[0].split(",") if params else []:
        group = session.find_group(target)
        if group is None or group.direct:
            replies.numeric("366", target, "End of /NAMES list")
        else:
            replies.add(*session.names(target, group))


async def _topic(session: Session, params: Sequence[str], replies: Replies) -> None:
    group = _group(session, params[0])
    if len(params) > 1:
        await group.set_topic(params[1])
    elif group.topic:
        replies.numeric("332", params[0], group.topic)
    else:
        replies.numeric("331", params[0], "No topic is set")


async def _kick(session: Session, params: Sequence[str], _: Replies) -> None:
    for nick in params[1].split(",")[:_MOST_TARGETS]:
        await _group(session, params[0]).kick(person_of(nick))


async def _invite(session: Session, params: Sequence[str], replies: Replies) -> None:
    """Approve somebody who asks to join; for anybody else, make an invite to be sent to them."""
    nick, channel = params[0], params[1]
    group, name = _group(session, channel), person_of(nick)
    if any(fold(name) == fold(asking) for asking in group.requests):
        await group.approve(name)
        replies.numeric("341", nick, channel)
        return
    lines = await service.invite_lines(session, group, name)
    replies.numeric("341", nick, channel)
    for line in lines:
        for piece in split(line, _SERVICE_ROOM):
            replies.add(Message("NOTICE", (session.connection.nick, piece), SERVICE_SOURCE))


async def _list(session: Session, _: Sequence[str], replies: Replies) -> None:
    replies.numeric("321", "Channel", "Users  Name")
    for group in session.client.groups:
        if group.standing == "member" and not group.direct:
            replies.numeric("322", f"#{group.name}", str(len(group.members)), group.topic)
    replies.numeric("323", "End of /LIST")


def _group(session: Session, target: str) -> Group:
    group = session.find_group(target)
    if group is None:
        raise Refused(Code.NOT_MEMBER, f"You are not in {target}.")
    return group


# ------------------------------------------------------------------ modes


async def _mode(session: Session, params: Sequence[str], replies: Replies) -> None:
    target = params[0]
    if not is_channel(target):
        replies.numeric("221", "+")
        return
    group = _group(session, target)
    if len(params) == 1:
        approved = group.policy == "approval"
        replies.numeric("324", target, "+int" if approved else "+nt")
        return
    sign, names = "+", list(params[2:])
    for mode in params[1]:
        if mode in "+-":
            sign = mode
        elif mode == "b" and not names:
            _list_bans(group, target, replies)
        elif mode in "bo" and names:
            await _set_person_mode(group, sign + mode, person_of(_nick_in(names.pop(0))))
        elif mode == "i":
            await group.set_policy("approval" if sign == "+" else "open")
        elif mode not in _CHANNEL_MODES:
            replies.numeric("472", mode, "is unknown mode char to me")


def _nick_in(mask: str) -> str:
    """Return the nickname in a mask: NICK!USER@HOST, or *!USER@HOST as many clients make it.

    A person's USER is their nickname, as `source_of` says. Raises `Refused`.
    """
    nick, _, rest = mask.partition("!")
    found = rest.partition("@")[0].lstrip("*") if nick == "*" else nick
    if not found:
        raise Refused(Code.BAD_NAME, f"{mask} names nobody: people are banned by their nicknames.")
    return found


async def _set_person_mode(group: Group, mode: str, name: str) -> None:
    match mode:
        case "+o":
            await group.transfer(name)
        case "-o":
            raise Refused(
                Code.NOT_ADMIN, "A group has one admin: make another member the admin with +o."
            )
        case "+b":
            await group.ban(name)
        case _:
            await group.unban(name)


def _list_bans(group: Group, target: str, replies: Replies) -> None:
    for name in group.banned:
        replies.numeric("367", target, ban_mask(name))
    replies.numeric("368", target, "End of channel ban list")


# ------------------------------------------------------------------ people


async def _who(session: Session, params: Sequence[str], replies: Replies) -> None:
    target = params[0] if params else "*"
    if is_channel(target):
        group = session.find_group(target)
        absences = {} if group is None else session.absences_in(group)
        for name in group.members if group else ():
            admin = group is not None and fold(name) == fold(group.admin or "")
            _add_who(target, name, absences.get(fold(name), OFFLINE), admin, replies)
    elif (found := session.find_person(target)) is not None:
        _add_who("*", found, session.absence_of(found), False, replies)
    replies.numeric("315", target, "End of /WHO list")


def _add_who(channel: str, name: str, absence: str | None, admin: bool, replies: Replies) -> None:
    nick = nick_of(name)
    flags = ("H" if absence is None else "G") + ("@" if admin else "")
    replies.numeric("352", channel, nick, HOST, SERVER, nick, flags, f"0 {name}")


async def _whois(session: Session, params: Sequence[str], replies: Replies) -> None:
    nick = params[-1]
    name = session.find_person(nick)
    if name is None:
        replies.numeric("401", nick, "Nobody in your groups has that name")
    else:
        shown = nick_of(name)
        replies.numeric("311", shown, shown, HOST, "*", name)
        if channels := session.channels_of(name):
            replies.numeric("319", shown, " ".join(channels))
        replies.numeric("312", shown, SERVER, session.client.server)
        if (why := session.absence_of(name)) is not None:
            replies.numeric("301", shown, why)
    replies.numeric("318", nick, "End of /WHOIS list")


async def _away(session: Session, params: Sequence[str], replies: Replies) -> None:
    reason = params[0][:_AWAY_LENGTH].strip() if params else ""
    await session.client.set_away(reason or None)
    if reason:
        replies.numeric("306", _AWAY)
    else:
        replies.numeric("305", "You are no longer marked as being away")


async def _ison(session: Session, params: Sequence[str], replies: Replies) -> None:
    absences = session.absences()
    here = [nick for nick in " ".join(params).split() if fold(person_of(nick)) in absences]
    replies.numeric("303", " ".join(here))


async def _userhost(session: Session, params: Sequence[str], replies: Replies) -> None:
    found = [name for nick in params[:5] if (name := session.find_person(nick))]
    shown = (
        f"{nick_of(name)}={'+' if session.absence_of(name) is None else '-'}{nick_of(name)}@{HOST}"
        for name in found
    )
    replies.numeric("302", " ".join(shown))


# ------------------------------------------------------------------ the connection


async def _ping(_: Session, params: Sequence[str], replies: Replies) -> None:
    replies.add(Message("PONG", (SERVER, *params[:1]), SERVER))


async def _pong(session: Session, params: Sequence[str], _: Replies) -> None:
    await session.on_pong(params[-1] if params else "")


async def _nick(session: Session, params: Sequence[str], replies: Replies) -> None:
    if fold(params[0]) != fold(session.connection.nick):
        replies.numeric("484", f"You are {session.me} on this server; names do not change.")


async def _show_motd(session: Session, _: Sequence[str], replies: Replies) -> None:
    replies.add(*_motd(session))


async def _version(_: Session, __: Sequence[str], replies: Replies) -> None:
    replies.numeric("351", f"tchat-{__version__}", SERVER, "a door for IRC clients")


async def _registered(_: Session, __: Sequence[str], replies: Replies) -> None:
    replies.numeric("462", "You may not reregister")


async def _ignore(_: Session, __: Sequence[str], ___: Replies) -> None:
    """Accept a command that means nothing here."""


COMMANDS = {
    "AUTHENTICATE": _Row(_registered),
    "AWAY": _Row(_away, slow=True),
    "CHATHISTORY": _Row(history.chathistory, 1, slow=True),
    "INVITE": _Row(_invite, 2, slow=True),
    "ISON": _Row(_ison, 1),
    "JOIN": _Row(_join, 1, slow=True, offline=2),
    "KICK": _Row(_kick, 2, slow=True),
    "LIST": _Row(_list),
    "MARKREAD": _Row(history.markread, 1, slow=True),
    "MODE": _Row(_mode, 1, slow=True, offline=1),
    "MOTD": _Row(_show_motd),
    "NAMES": _Row(_names),
    "NICK": _Row(_nick, 1),
    "NOTICE": _Row(_ignore, 2),
    "PART": _Row(_part, 1),
    "PASS": _Row(_registered),
    "PING": _Row(_ping),
    "PONG": _Row(_pong),
    "PRIVMSG": _Row(_ignore, 2),
    "TAGMSG": _Row(_ignore),
    "TOPIC": _Row(_topic, 1, slow=True, offline=1),
    "USER": _Row(_registered),
    "USERHOST": _Row(_userhost, 1),
    "VERSION": _Row(_version),
    "WHO": _Row(_who),
    "WHOIS": _Row(_whois, 1),
}
"""The commands, by name; PRIVMSG and NOTICE are handled by `_write`, since replies follow later."""
