"""Commands about people: approve, kick, ban, transfer the admin role; presence, away, ignore."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tchat.core.fingerprints import fingerprint
from tchat.core.group.membership import (
    Approve,
    Ban,
    Deny,
    DenyAll,
    Kick,
    TransferAdmin,
    Unban,
    key_note,
)
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.text import check_name, clean_line, fold, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, WrongUsage, name_in
from tchat.ui.chat.completion import other_members, other_people, requests, text
from tchat.ui.chat.gathering import some_of
from tchat.ui.chat.lines import count_text
from tchat.ui.chat.notices import exception_note, unknown_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tchat.client.request import MakeCommand
    from tchat.core.group.feature import Command
    from tchat.core.group.state import Policy
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window

ALL = "all"
_POLICIES: dict[str, Policy] = {"open": "open", "approval": "approval"}


# ---------------------------------------------------------------------- membership


def _handler_of(
    make: Callable[[int, int, str, str], Command],
    question: Callable[[Window, str], str | None] = lambda _window, _name: None,
) -> Callable[[Chat, Window, str], None]:
    """Return a handler that sends a command about the person named by its argument.

    `question` returns the question that asks for confirmation; None if none is needed.
    """

    def handle(chat: Chat, window: Window, typed: str) -> None:
        group, name = window.replica.name, check_name(name_in(typed), "username")
        chat.confirm(
            partial(question, window, name),
            lambda: window.submit(lambda i, n: make(i, n, group, name)),
        )

    return handle


def _about_to_kick(window: Window, name: str) -> str | None:
    member = _other_member(window, name)
    return member and f"Kick {member} from {window.title}?"


def _about_to_ban(window: Window, name: str) -> str | None:
    person, state = fold(name), window.replica.state
    if person in state.banned or person == fold(window.session.user):
        return None
    shown = clean_line(state.members.get(person, name))
    loses = " and end their membership" * (person in state.members)
    return f"Ban {shown} from {window.title}{loses}?"


def _about_to_transfer(window: Window, name: str) -> str | None:
    member = _other_member(window, name)
    return member and f"Make {member} the admin of {window.title}? You will no longer be its admin."


def _other_member(window: Window, name: str) -> str | None:
    """Return a member's name as shown; None for oneself and for people who are not members."""
    person = fold(name)
    known = window.replica.state.members.get(person)
    return None if known is None or person == fold(window.session.user) else clean_line(known)


_approve_one = _handler_of(Approve)
_deny_one = _handler_of(Deny)


def approve(chat: Chat, window: Window, typed: str) -> None:
    """Approve the request of the person named, or all; "@all" is a person called "all".

    All are those that are listed when the question is asked: who asks after that is not approved
    unseen. So there is a command for each of them.
    """
    if typed.lower() != ALL:
        _approve_one(chat, window, typed)
        return
    names = window.requests
    chat.confirm(
        partial(_about_to_approve_all, window, names),
        lambda: window.submit_all([_approval(window, name) for name in _asking(window, names)]),
    )


def _approval(window: Window, name: str) -> MakeCommand:
    group = window.replica.name
    return lambda i, n: Approve(i, n, group, name)


def _asking(window: Window, names: Sequence[str]) -> list[str]:
    """Return who of these people still asks to join. Raises `Refused` if nobody does."""
    asking = set(window.requests)
    still = [name for name in names if name in asking]
    if not still:
        raise Refused(Code.NO_SUCH_REQUEST, "Nobody is asking to join.")
    return still


def _about_to_approve_all(window: Window, names: Sequence[str]) -> str:
    _asking(window, names)
    who = some_of([*map(clean_line, names)])
    return f"Approve {count_text(len(names), 'request')} to join {window.title}: {who}?"


def deny(chat: Chat, window: Window, typed: str) -> None:
    """Deny the request of the person named, or all requests; "@all" is a person called "all"."""
    if typed.lower() != ALL:
        _deny_one(chat, window, typed)
        return
    group = window.replica.name
    chat.confirm(
        partial(_about_to_deny_all, window),
        lambda: window.submit(lambda i, n: DenyAll(i, n, group)),
    )


def _about_to_deny_all(window: Window) -> str:
    # The number of requests is not in the question: it would be asked again whenever it changes.
    if not window.replica.state.requests:
        raise Refused(Code.NO_SUCH_REQUEST, "Nobody is asking to join.")
    return f"Deny all requests to join {window.title}?"


def requests_or_all(chat: Chat) -> list[str]:
    """Return the names of those who ask to join, and the word for all if there are several."""
    names = requests(chat)
    return [*names, ALL] if len(names) > 1 else names


def show_requests(chat: Chat, window: Window, _: str) -> None:
    """Show who asks to join."""
    window.notice(_listed("asking to join", list(_requests(window))))
    if hidden := len(window.replica.state.requests) - window.waiting_for_approval:
        window.notice(f"Not listed: {count_text(hidden, 'request')} of people whom you /block.")


def banned(chat: Chat) -> list[str]:
    """Return the names of those who are banned from the current group."""
    return [clean_line(name) for name in chat.current.replica.state.banned.values()]


def policy(chat: Chat, window: Window, typed: str) -> None:
    """Show or set who may join."""
    window.require_member()
    if window.direct:
        raise Refused(Code.DIRECT, "Nobody can join a direct conversation.")
    if not typed:
        is_open = window.replica.state.policy == "open"
        rule = (
            "is open: anyone may join"
            if is_open
            else "needs approval: the admin decides who may join"
        )
        window.notice(f"{window.title} {rule}.{_if_admin(window, 'policy open|approval sets it')}")
        return
    window.require_admin()
    chosen = _POLICIES.get(typed.lower())
    if chosen is None:
        raise WrongUsage
    group = window.replica.name
    window.submit(lambda i, n: SetPolicy(i, n, group, chosen))


def topic(chat: Chat, window: Window, typed: str) -> None:
    """Show or set the topic; a lone "-" removes it."""
    window.require_member()
    if not typed:
        now = window.replica.state.topic
        window.notice(
            f"topic: {clean_line(now)}"
            if now
            else f"There is no topic.{_if_admin(window, 'topic TOPIC sets one')}"
        )
        return
    window.require_admin()
    group = window.replica.name
    window.submit(lambda i, n: SetTopic(i, n, group, "" if typed == "-" else typed))


# ---------------------------------------------------------------------- members and presence


def members(chat: Chat, window: Window, _: str) -> None:
    """Show all members."""
    window.require_member()
    window.notice(_listed("members", [_marked(window, name) for name in window.members()]))


def online(chat: Chat, window: Window, _: str) -> None:
    """Show the members who are online, except ignored people."""
    _with_presence(chat, window, partial(_show_online, chat, window))


def _show_online(chat: Chat, window: Window) -> None:
    window.require_member()
    if not window.replica.presence_known:
        _show_unknown(window)
        return
    shown = [name for name in window.online() if fold(name) not in chat.ignored]
    window.notice(_listed("online", [_marked(window, name) for name in shown]))


def _with_presence(chat: Chat, window: Window, show: Callable[[], None]) -> None:
    """Call `show` once the server has told who is online, which it does right after the log."""

    async def wait() -> None:
        await chat.wait_for_presence(window)
        show()

    if chat.expects_presence(window):
        window.start(wait)
    else:
        show()


def admin(chat: Chat, window: Window, _: str) -> None:
    """Show who the admin is."""
    window.require_member()
    name = window.replica.state.admin_name
    window.notice(f"The admin is {name}." if name else "A direct conversation has no admin.")


def who(chat: Chat, window: Window, _: str) -> None:
    """Show each member's presence, except that of ignored people."""
    _with_presence(chat, window, partial(_show_presence, chat, window))


def _show_presence(chat: Chat, window: Window) -> None:
    window.require_member()
    if not window.replica.presence_known:
        _show_unknown(window)
        return
    shown = [name for name in window.members() if fold(name) not in chat.ignored]
    present = [name for name in shown if fold(name) in window.replica.online]
    for name in present:
        window.notice(f"{_marked(window, name)} is {_presence(window, name)}")
    absent = [name for name in shown if name not in present]
    if absent:
        window.notice(_listed("offline", [_marked(window, name) for name in absent]))


def whois(chat: Chat, window: Window, typed: str) -> None:
    """Show details about a person, from all windows whose group they are in."""
    _with_presence(chat, window, partial(_show_details, chat, window, typed))


def _show_details(chat: Chat, window: Window, typed: str) -> None:
    person = fold(name_in(typed))
    windows = [w for w in (window, *chat.windows) if w.replica.standing == "member"]
    shared = [w for w in windows if person in w.replica.state.members]
    if not shared:
        _show_other(window, typed)
        return
    state = shared[0].replica.state
    name = clean_line(state.members[person])
    of_group = "" if shared[0] is window else f" of {shared[0].title}"
    facts = [f"the admin{of_group}"] if state.is_admin(name) else []
    # Any window may know the presence; a conversation without messages does not.
    best = max(shared, key=lambda w: (person in w.replica.online, w.replica.presence_known))
    window.notice(f"{name} is {', '.join([*facts, _presence(best, name)])}")
    for key, owner in state.keys.items():
        if fold(owner) == person:
            window.notice(f"{name} joined with key {fingerprint(key)}")
    if person != fold(chat.session.user):
        titles = dict.fromkeys(other.title for other in shared)
        window.notice(f"{name} is with you in {', '.join(titles)}")


def _show_other(window: Window, typed: str) -> None:
    """Show the request to join of somebody who shares no group with this person."""
    window.require_member()
    state, person = window.replica.state, fold(name_in(typed))
    asked = state.requests.get(person)
    if asked is None:
        banned = ", and is banned" * (person in state.banned)
        raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(typed)} is not a member{banned}.")
    key = f" ({key_note(asked.key, state.keys)})" if asked.key else ""
    window.notice(f"{clean_line(asked.name)} asks to join{key}")


# ---------------------------------------------------------------------- away, ignored people


async def away(chat: Chat, window: Window, reason: str) -> None:
    """Mark this person as away, or as back."""
    await chat.session.set_away(reason or None)
    window.notice(
        f"You are away: {reason}. /away alone brings you back." if reason else "You are back."
    )


def ignore(chat: Chat, window: Window, typed: str) -> None:
    """Hide somebody's messages permanently on this device, or show who is ignored."""
    if not typed:
        window.notice(
            _listed("ignored", ignored(chat))
            if ignored(chat)
            else "Nobody is ignored. /ignore NAME hides somebody's messages."
        )
        return
    name = check_name(name_in(typed), "username")
    if fold(name) == fold(chat.session.user):
        raise Refused(Code.YOURSELF, "You cannot ignore yourself.")
    if chat.preferences.has("ignore", name):
        window.notice(f"{name} is ignored already. /unignore {name} shows their messages again.")
        return
    is_known = chat.knows(name)
    chat.set_ignored(name, on=True)
    window.notice(
        f"Messages from {name} are hidden. /unignore {name} shows them again."
        f"{'' if is_known else unknown_note(name)}"
    )


def unignore(chat: Chat, window: Window, typed: str) -> None:
    """Stop ignoring somebody."""
    person = fold(name_in(typed))
    if not chat.preferences.has("ignore", person):
        raise Refused(
            Code.NO_SUCH_MEMBER, f"{quote_name(typed)} is not ignored; /ignore lists who is."
        )
    chat.set_ignored(person, on=False)
    if person in chat.blocked:
        window.notice(f"{quote_name(typed)} is not ignored any more, but blocked: see /unblock.")
        return
    kept = exception_note(chat.preferences, "ignore", person)
    window.notice(f"Messages from {quote_name(typed)} are shown again.{kept}")


def ignored(chat: Chat) -> list[str]:
    """Return the folded names of the people who are ignored."""
    return sorted(map(clean_line, chat.preferences.listed("ignore")))


# ---------------------------------------------------------------------- names and texts


def _requests(window: Window) -> Iterator[str]:
    state, blocked = window.replica.state, window.context.blocked
    asking = (asked for person, asked in state.requests.items() if person not in blocked)
    for name, key in ((asked.name, asked.key) for asked in asking):
        yield f"{name} ({key_note(key, state.keys)})" if key else name


def _show_unknown(window: Window) -> None:
    """Show the members without their presence: the connection is lost, or was just made."""
    names = [_marked(window, name) for name in window.members()]
    window.notice("Who is online is not known at the moment.")
    window.notice(_listed("members", names))


def _presence(window: Window, name: str) -> str:
    if not window.replica.presence_known:
        return "of unknown presence"
    if fold(name) not in window.replica.online:
        return "offline"
    reason = window.replica.away.get(fold(name))
    return f"away: {clean_line(reason)}" if reason else "online"


def _marked(window: Window, name: str) -> str:
    return f"{name} (admin)" if window.replica.state.is_admin(name) else name


def _if_admin(window: Window, usage: str) -> str:
    """Return a sentence about a command, for the admin, who alone may use it; otherwise ""."""
    return f" /{usage}." if window.replica.state.is_admin(window.session.user) else ""


def _listed(title: str, names: list[str]) -> str:
    return f"{title} ({len(names)}): {', '.join(names)}" if names else f"{title}: nobody"


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "requests", "basics", "lists who asks to join", show_requests, number=1, admin=True
    ),
    CommandSpec(
        "approve",
        "basics",
        "approves a request to join, or all",
        approve,
        "NAME|all",
        "approve whom?",
        example="bob",
        choices=requests_or_all,
        number=2,
        admin=True,
    ),
    CommandSpec("members", "basics", "lists all members", members, number=4),
    CommandSpec("online", "basics", "lists the members who are online", online, number=5),
    CommandSpec(
        "transfer",
        "basics",
        "makes another member the admin",
        _handler_of(TransferAdmin, _about_to_transfer),
        "NAME",
        "make whom the admin?",
        example="bob",
        choices=other_members,
        number=6,
        admin=True,
    ),
    CommandSpec("admin", "basics", "shows who the admin is", admin, number=7),
    CommandSpec(
        "kick",
        "basics",
        "removes a member, who may ask to join again",
        _handler_of(Kick, _about_to_kick),
        "NAME",
        "kick whom?",
        example="bob",
        choices=other_members,
        number=8,
        admin=True,
    ),
    CommandSpec(
        "deny",
        "people",
        "denies a request to join, or all of them",
        deny,
        "NAME|all",
        "deny whom?",
        example="bob",
        choices=requests_or_all,
        admin=True,
    ),
    CommandSpec(
        "ban",
        "people",
        "removes somebody and bars them from joining again",
        _handler_of(Ban, _about_to_ban),
        "NAME",
        "ban whom?",
        example="bob",
        choices=other_people,
        admin=True,
    ),
    CommandSpec(
        "unban",
        "people",
        "lifts a ban",
        _handler_of(Unban),
        "NAME",
        "unban whom?",
        example="bob",
        choices=banned,
        admin=True,
    ),
    CommandSpec(
        "policy",
        "people",
        "shows or sets who may join: anyone, or after approval",
        policy,
        "[open|approval]",
        example="approval",
        choices=lambda _: list(_POLICIES),
    ),
    CommandSpec(
        "topic",
        "people",
        "shows or sets the topic; - removes it",
        topic,
        "[TOPIC]",
        example="Plans for Friday",
        completer=text,
    ),
    CommandSpec("who", "people", "shows who is online or away", who, aliases=("names",)),
    CommandSpec(
        "whois",
        "people",
        "shows details about somebody",
        whois,
        "NAME",
        "show details about whom?",
        example="bob",
        choices=other_people,
    ),
    CommandSpec(
        "away",
        "people",
        "marks you as away; without a reason, as back",
        away,
        "[REASON]",
        example="lunch",
        completer=text,
    ),
    CommandSpec(
        "ignore",
        "people",
        "hides somebody's messages on this device, or lists who is ignored",
        ignore,
        "[NAME]",
        example="bob",
        choices=other_people,
    ),
    CommandSpec(
        "unignore",
        "people",
        "shows somebody's messages again",
        unignore,
        "NAME",
        "stop ignoring whom?",
        example="bob",
        choices=ignored,
    ),
)
