"""The commands about people: who is here, who may be, and what one says of oneself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.fingerprints import fingerprint
from tchat.core.group import commands as core
from tchat.core.group.membership import key_note
from tchat.core.text import check_name, clean_line, fold, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.ui.chat.window import Window

_ABOUT = {
    "approve": core.Approve,
    "deny": core.Deny,
    "kick": core.Kick,
    "ban": core.Ban,
    "unban": core.Unban,
    "transfer": core.TransferAdmin,
}
_POLICIES: dict[str, core.Policy] = {"open": "open", "approval": "approval"}


def _act_on(word: str) -> Callable[[Window, str], None]:
    """Return what the command does that is about one person."""
    make = _ABOUT[word]

    def act(room: Window, typed: str) -> None:
        group, name = room.replica.name, _name(typed)
        room.submit(lambda i, n: make(i, n, group, name))

    return act


def requests(room: Window, _: str) -> None:
    """Show who asks to join."""
    room.notice(_listed("asking to join", list(_requests(room))))


def members(room: Window, _: str) -> None:
    """Show all members."""
    room.require_member()
    room.notice(_listed("members", [_mark(room, name) for name in room.members()]))


def online(room: Window, _: str) -> None:
    """Show the members who are online."""
    room.require_member()
    room.notice(_listed("online", [_mark(room, name) for name in room.online()]))


def admin(room: Window, _: str) -> None:
    """Show who the admin is."""
    room.require_member()
    name = room.replica.state.admin_name
    room.notice(f"the admin is {name}" if name else "a conversation of two has no admin")


def who(room: Window, _: str) -> None:
    """Show each member, and whether they are here."""
    room.require_member()
    there = room.online()
    for name in there:
        room.notice(f"{_mark(room, name)} is {_presence(room, name)}")
    gone = [name for name in room.members() if name not in there]
    if gone:
        room.notice(_listed("offline", [_mark(room, name) for name in gone]))


def whois(room: Window, typed: str) -> None:
    """Show what is known about somebody, here or in another window."""
    person = fold(_name(typed))
    rooms = [r for r in (room, *room.chat.rooms) if r.replica.standing == "member"]
    there = next((r for r in rooms if person in r.replica.state.members), None)
    if there is None:
        _tell_no_member(room, typed)
        return
    state = there.replica.state
    name = clean_line(state.members[person])
    place = "" if there is room else f" of {there.title}"
    facts = [f"the admin{place}"] if state.is_admin(name) else []
    room.notice(f"{name} is {', '.join([*facts, _presence(there, name)])}")
    for key, owner in state.keys.items():
        if fold(owner) == person:
            room.notice(f"{name} came with key {fingerprint(key)}")
    if person != fold(room.session.user):
        shared = {r.title: None for r in rooms if person in r.replica.state.members}
        room.notice(f"{name} is with you in {', '.join(shared)}")


def _tell_no_member(room: Window, typed: str) -> None:
    """Show what is known about one who is in no group of this person's."""
    room.require_member()
    state, person = room.replica.state, fold(_name(typed))
    asked = state.requests.get(person)
    if asked is None:
        banned = ", and banned" * (person in state.banned)
        raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(typed)} is not a member{banned}.")
    whose = f" ({key_note(asked.key, state.keys)})" if asked.key else ""
    room.notice(f"{clean_line(asked.name)} asks to join{whose}")


def policy(room: Window, typed: str) -> None:
    """Say who may join, or change that."""
    room.require_member()
    if room.direct:
        raise Refused(Code.DIRECT, "Nobody can join a conversation of two.")
    if not typed:
        whom = "everybody" if room.replica.state.policy == "open" else "who is approved"
        room.notice(f"{whom} may join {room.title}")
        return
    room.require_admin()
    chosen = _POLICIES.get(typed.lower())
    if chosen is None:
        raise Refused(Code.MISSING_ARGUMENT, "It is /policy open, or /policy approval.")
    group = room.replica.name
    room.submit(lambda i, n: core.SetPolicy(i, n, group, chosen))


def topic(room: Window, text: str) -> None:
    """Say what the group is about, or change that; a lone "-" takes it away."""
    room.require_member()
    if not text:
        now = room.replica.state.topic
        room.notice(f"the topic is: {clean_line(now)}" if now else "there is no topic")
        return
    room.require_admin()
    group = room.replica.name
    room.submit(lambda i, n: core.SetTopic(i, n, group, "" if text == "-" else text))


def away(room: Window, why: str) -> None:
    """Let the others see that one is away, or back."""
    room.start(_set_away, room, why)


async def _set_away(room: Window, why: str) -> None:
    await room.session.set_away(why or None)
    room.notice(f"away: {why}; /away takes it back" if why else "back")


def ignore(room: Window, typed: str) -> None:
    """Hide what somebody says, on this terminal; or show who is hidden."""
    if not typed:
        room.notice(_listed("ignored", sorted(room.chat.ignored)))
        return
    name = check_name(_name(typed), "username")
    if fold(name) == fold(room.session.user):
        raise Refused(Code.YOURSELF, "You cannot ignore yourself.")
    room.chat.ignored.add(fold(name))
    room.notice(f"{name} is hidden from now on; /unignore undoes it")


def unignore(room: Window, typed: str) -> None:
    """Show again what somebody says."""
    person = fold(_name(typed))
    if person not in room.chat.ignored:
        raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(typed)} is not ignored.")
    room.chat.ignored.discard(person)
    room.notice(f"{quote_name(typed)} is shown again")


COMMANDS: dict[str, Callable[[Window, str], None]] = {
    **{word: _act_on(word) for word in _ABOUT},
    "requests": requests,
    "members": members,
    "online": online,
    "admin": admin,
    "who": who,
    "whois": whois,
    "policy": policy,
    "topic": topic,
    "away": away,
    "ignore": ignore,
    "unignore": unignore,
}
"""What these commands do, by their words; each is given the room and what was typed behind it."""


def _name(typed: str) -> str:
    """Return the name that was meant: @bob is bob."""
    return typed.removeprefix("@")


def _requests(room: Window) -> Iterator[str]:
    state = room.replica.state
    for name, key in ((asked.name, asked.key) for asked in state.requests.values()):
        yield f"{name} ({key_note(key, state.keys)})" if key else name


def _presence(room: Window, name: str) -> str:
    if fold(name) not in room.replica.online:
        return "offline"
    why = room.replica.away.get(fold(name))
    return f"away: {clean_line(why)}" if why else "online"


def _mark(room: Window, name: str) -> str:
    return f"{name} (admin)" if room.replica.state.is_admin(name) else name


def _listed(what: str, names: list[str]) -> str:
    return f"{what} ({len(names)}): {', '.join(names)}" if names else f"{what}: nobody"
