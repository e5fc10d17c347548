"""Commands about windows and groups: join, leave, part, query, list, switch, mute, clear."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from tchat.core.group.direct import direct_name, is_direct, other_of
from tchat.core.group.membership import Leave
from tchat.core.text import check_name, check_text, clean_line, clean_text, fold, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, name_in
from tchat.ui.chat.completion import (
    begins_title,
    first_then_text,
    other_people,
    window_by_title,
    window_titles,
)
from tchat.ui.chat.notices import blocked_refusal, exception_note, standing_found, unread_facts

if TYPE_CHECKING:
    from tchat.core.protocol.frames import GroupSummary
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window


# ---------------------------------------------------------------------- groups


def join(chat: Chat, window: Window, typed: str) -> None:
    """Open, found or ask to join another group; without a name, ask to join this one again."""
    name = typed.removeprefix("#")
    if name.startswith("@"):
        query(chat, window, name)
    elif name and fold(name) != fold(window.replica.name):
        chat.switch_to(chat.open(check_name(name, "group name"), asks=True))
    elif window.replica.standing == "member":
        raise Refused(Code.ALREADY_MEMBER, "You are a member already.")
    elif window.replica.standing == "waiting":
        window.notice(standing_found(window.replica, None))
    else:
        window.begin_entering(asks=True)


def part(chat: Chat, window: Window, _: str) -> None:
    """Close the window; closing the last one ends the program, which has to be confirmed."""

    def ask() -> str | None:
        return (
            f"Close {window.title}, your last window, and quit tchat?" if _is_last(chat) else None
        )

    chat.confirm(ask, partial(chat.close, window))


def _is_last(chat: Chat) -> bool:
    """Return whether closing a window ends the program."""
    return len(chat.windows) == 1


def leave(chat: Chat, window: Window, _: str) -> None:
    """End the membership, or withdraw the request to join, and close the window."""
    if window.direct:
        part(chat, window, "")
        return

    def run() -> None:
        window.leaving = True  # set at once, since a script's next line has to wait for it
        window.start(_leave, chat, window)

    chat.confirm(partial(_about_to_leave, chat, window), run)


def _about_to_leave(chat: Chat, window: Window) -> str | None:
    standing, others = window.replica.standing, len(window.replica.state.members) - 1
    if standing == "waiting":
        return f"Withdraw your request to join {window.title}{_and_quit(chat)}?"
    if standing != "member":
        return None
    if not others:
        return (
            f"Leave {window.title}{_and_quit(chat)}? You are its last member: all messages will be"
            " deleted."
        )
    question = f"Leave {window.title} and end your membership{_and_quit(chat)}?"
    if window.replica.state.is_admin(window.session.user):
        question += f" {clean_line(window.replica.state.successor)} becomes its admin."
    return question


def _and_quit(chat: Chat) -> str:
    return ", and quit tchat" * _is_last(chat)


async def _leave(chat: Chat, window: Window) -> None:
    state = window.replica.state
    was_admin = state.is_admin(chat.session.user)
    try:
        await chat.session.request(lambda i, n: Leave(i, n, window.replica.name))
        await chat.settle()  # so that the window shows the event before it is closed
    except Refused:
        window.leaving = False
        raise
    # The events of the leave are applied: the state has the new admin, if anybody is left.
    admin = f"; {clean_line(state.admin_name)} is its admin now" * bool(state.admin_name)
    after = admin if was_admin else ""
    if window is chat.current and chat.frontend.is_typing(window):
        window.stay_after_leaving(f"You left {window.title}{after}.")
        return
    chat.close(window)
    group = "the group" if window.is_open else window.title
    window.notice(f"You left {group}{after}.")


async def list_groups(chat: Chat, window: Window, _: str) -> None:
    """Show the groups that the person is a member of, or asks to join, in the order of windows."""
    groups = await chat.session.my_groups()
    chat.elsewhere.update(groups)
    waiting = {fold(group): group for group in chat.elsewhere.waiting}

    def order(group: GroupSummary) -> tuple[float, tuple[int, int]]:
        return _number_of(chat, group) or math.inf, chat.elsewhere.place_of(group.name)

    for group in sorted(groups, key=order):
        if fold(group.name) in waiting or _is_with_blocked(chat, group.name):
            continue
        facts = await _facts_about(chat, group)
        title = chat.title_of(group.name)
        window.notice(f"{title} ({', '.join(facts)})" if facts else title)
    if waiting:
        titles = ", ".join(map(chat.title_of, waiting.values()))
        window.notice(f"new for you, without a window ({len(waiting)}): {titles}")
    if not groups:
        window.notice("You are in no group. /join GROUP asks to join a group, or founds it.")


def _is_with_blocked(chat: Chat, group: str) -> bool:
    """Return whether this is a conversation with a blocked person."""
    return is_direct(group) and fold(other_of(group, chat.session.user)) in chat.blocked


def _number_of(chat: Chat, group: GroupSummary) -> int:
    """Return the number of a group's window; 0 if it has none."""
    names = [fold(window.replica.name) for window in chat.windows]
    return names.index(fold(group.name)) + 1 if fold(group.name) in names else 0


async def _facts_about(chat: Chat, group: GroupSummary) -> list[str]:
    facts: list[str] = [group.standing] if group.standing != "member" else []
    if number := _number_of(chat, group):
        window = chat.windows[number - 1]
        mentions = 0 if window.direct else window.mentions
        return [*facts, f"window {number}", *unread_facts(window.unread, mentions)]
    if group.standing != "member" or group.last <= group.read:
        return facts
    # A longer backlog is not loaded for a list.
    counts, is_all = await chat.elsewhere.count_unread(group)
    mentions = 0 if is_direct(group.name) else counts.mentions
    return [*facts, *unread_facts(counts.total, mentions, "" if is_all else "+")]


# ---------------------------------------------------------------------- direct conversations


def msg(chat: Chat, window: Window, typed: str) -> None:
    """Send a message to one person without switching windows."""
    name, _, text = typed.partition(" ")
    person = _person(chat, name)

    if not text.strip():
        question = f"send what to {clean_line(person)}?"
        chat.ask_text(window, lambda: question, f"/msg {person}")
        return
    text = clean_text(text.strip())
    check_text(text)
    chat.open(direct_name(chat.session.user, person)).say(text, origin=window)


def query(chat: Chat, window: Window, typed: str) -> None:
    """Switch to the direct conversation with a person."""
    chat.switch_to(chat.open(direct_name(chat.session.user, _person(chat, typed))))


def _person(chat: Chat, typed: str) -> str:
    """Return the typed name, in its owner's spelling if known. Raises `Refused` if blocked."""
    name = check_name(name_in(typed), "username")
    if fold(name) in chat.blocked:
        raise blocked_refusal(name)
    return chat.people().get(fold(name), name)


# ---------------------------------------------------------------------- windows


def switch(chat: Chat, window: Window, typed: str) -> None:
    """Switch to a window by its number, or by the beginning of its title."""
    windows = chat.windows
    meant = [one for number, one in enumerate(windows, start=1) if typed == str(number)]
    begun = (one for one in windows if begins_title(one.title, typed))
    meant += sorted(begun, key=lambda one: len(one.title))
    if not meant:
        waiting = [one for one in chat.elsewhere.waiting if begins_title(chat.title_of(one), typed)]
        meant = [chat.open(one, joins=False) for one in waiting[:1]]
    if not meant:
        listed = ", ".join(f"{number} {one.title}" for number, one in enumerate(windows, start=1))
        raise Refused(
            Code.MISSING_ARGUMENT,
            f"There is no window {quote_name(typed)}. Your windows: {listed}. /join GROUP or"
            " /query NAME opens another.",
        )
    if meant[0] is chat.current and not chat.frontend.rewrites:
        window.notice(f"What you type goes to {window.title} already.")
    chat.switch_to(meant[0])


def mute(chat: Chat, window: Window, _: str) -> None:
    """Turn the bell of the window off, for good."""
    if window.muted:
        window.notice(f"{window.title} is muted already. /unmute turns its bell on again.")
        return
    chat.preferences.change("mute", window.replica.name, on=True)
    window.notice(f"{window.title} is muted: its bell is off. /unmute turns it on again.")


def unmute(chat: Chat, window: Window, _: str) -> None:
    """Turn the bell of the window on again."""
    if not window.muted:
        window.notice(f"{window.title} is not muted. /mute turns its bell off.")
        return
    chat.preferences.change("mute", window.replica.name, on=False)
    kept = exception_note(chat.preferences, "mute", window.replica.name)
    window.notice(f"{window.title} is not muted any more: its bell is on.{kept}")


def clear(chat: Chat, window: Window, _: str) -> None:
    """Empty the window."""
    if not chat.frontend.rewrites:
        window.notice("Nothing was cleared: lines that are printed stay.")
        return
    window.clear()
    chat.frontend.changed()


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "msg",
        "messages",
        "sends a private message",
        msg,
        "NAME TEXT",
        "send what to whom (NAME TEXT)?",
        example="bob are you there?",
        completer=first_then_text(other_people),
        aliases=("m",),
    ),
    CommandSpec(
        "query",
        "messages",
        "opens the conversation with one person",
        query,
        "NAME",
        "open the conversation with whom?",
        example="bob",
        choices=other_people,
        aliases=("q",),
    ),
    CommandSpec(
        "join",
        "windows",
        "joins or founds a group; without GROUP, asks to join this one again",
        join,
        "[GROUP]",
        example="lab",
        completer=window_by_title,
        aliases=("j",),
    ),
    CommandSpec(
        "part", "windows", "closes this window; you stay a member", part, aliases=("close",)
    ),
    CommandSpec("leave", "windows", "ends your membership, or withdraws your request", leave),
    CommandSpec("list", "windows", "lists your groups", list_groups),
    CommandSpec(
        "window",
        "windows",
        "switches to a window, by number or name",
        switch,
        "N",
        "switch to which window?",
        example="2",
        choices=window_titles,
        completer=window_by_title,
        aliases=("w",),
    ),
    CommandSpec("mute", "windows", "turns the bell of this window off, on this device", mute),
    CommandSpec("unmute", "windows", "turns the bell of this window on again", unmute),
    CommandSpec(
        "clear",
        "windows",
        "empties this window",
        clear,
        screen_help="; PageUp brings the lines back",
    ),
)
