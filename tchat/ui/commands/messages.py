"""Commands about messages: reply, edit, delete, pin, resend, search, jump.

A message is referred to by its author ("bob": the newest by bob) or by counting back ("^3": the
third newest); without either, the command applies to the newest suitable message. "^#57-3fa9c1"
is the message with seq 57, if its stamp begins so: commands that are kept for later are completed
with it (`Chat.complete`).
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from tchat.core.group.messages import Delete, Pin, Unpin
from tchat.core.text import check_text, clean_line, clean_text, fold, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, NotLoaded, WrongUsage
from tchat.ui.chat.completion import first_then_text, other_people, text
from tchat.ui.chat.lines import QUOTE_LIMIT, count_text, minute_text, quotation
from tchat.ui.chat.window import TypedEdit, reference_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.pending_message import PendingMessage
    from tchat.core.protocol.frames import SearchHit
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window

_ALIKE = 0.75
"""How similar to a member's name a word has to be to count as that name mistyped."""
_BACK = re.compile(r"\^([0-9]{1,4})")
_SEQ = re.compile(r"\^#([0-9]{1,15})(?:-([0-9a-f]{1,16}))?")


# ---------------------------------------------------------------------- writing


def me(chat: Chat, window: Window, typed: str) -> None:
    """Send an action: "* alice waves"."""
    check_text(typed)
    window.say(f"/me {clean_text(typed)}")


def reply(chat: Chat, window: Window, typed: str) -> None:
    """Reply to a message: the newest by somebody else, unless another is given."""
    target, answer = _replied_to(window, typed)
    if not answer:
        chat.ask_text(
            window,
            lambda: f"reply what? ({window.quote_of(target.seq)})",
            f"/reply {_reference_to(target)}",
        )
        return
    check_text(answer)
    doubt = _doubt(chat, window, target, answer) if answer == typed.strip() else None

    def question() -> str | None:
        _require_present(window, target)
        return doubt

    chat.confirm(question, lambda: window.say(clean_text(answer), target))


def _doubt(chat: Chat, window: Window, target: Line, answer: str) -> str | None:
    """Return a question if a reply without a reference is perhaps not for the author of `target`.

    Its first word may be a mistyped name. Where all windows are printed in one column, the person
    may be answering the latest message, although it is in another window.
    """
    to = f"Reply to {target.who} in {window.title}"
    first, members = answer.split()[0], window.replica.state.members
    if near := get_close_matches(fold(first), members, n=1, cutoff=_ALIKE):
        return f'{clean_line(first)} is not {members[near[0]]}. {to}: "{_shortened(answer)}"?'
    mine = fold(chat.session.user)
    since = next((line.at for line in window.messages()), 0)  # it may be the person's own
    heard = [
        (line.at, line.who, other)
        for other in chat.windows
        if other is not window and not chat.frontend.rewrites
        for line in islice((line for line in other.messages() if fold(line.who) != mine), 1)
        if line.at > since
    ]
    if not heard:
        return None
    _, who, other = max(heard, key=itemgetter(0))
    where = "to you alone" if other.direct else f"in {other.title}"
    how = f"/msg {who} TEXT" if other.direct else f"/window {other.title} and /reply"
    return f"{to}? The last message came from {who} {where}: {how} would answer it."


def _shortened(text: str) -> str:
    return clean_line(text)[:QUOTE_LIMIT] + "…" * (len(clean_line(text)) > QUOTE_LIMIT)


def _replied_to(window: Window, typed: str) -> tuple[Line, str]:
    mine = fold(window.session.user)
    return find_message(window, typed, lambda line: fold(line.who) != mine)


def bind_reply(window: Window, typed: str) -> str:
    """Return the argument of a reply that has a text, with the seq of its message."""
    if _SEQ.match(typed):  # also if that message is not here: a client starts without the log
        return typed
    target, answer = _replied_to(window, typed)
    return f"{_reference_to(target)} {answer}" if answer else typed


def edit(chat: Chat, window: Window, typed: str) -> None:
    """Edit the person's newest message, or put it into the input line for editing."""
    target, changed = _edited(window, typed)
    if fold(target.who) != fold(chat.session.user):
        raise Refused(Code.NOT_AUTHOR, f"Only {target.who} may edit this message.")
    if not changed:
        _offer(chat, window, target)
        return
    check_text(changed)
    window.submit_edit(TypedEdit(target.seq, clean_text(changed), target.stamp))


def _edited(window: Window, typed: str) -> tuple[Line, str]:
    """Return the message that an edit refers to, and its new text, with its indentation."""
    mine = fold(window.session.user)
    first, _, rest = typed.partition(" ")
    if not _SEQ.fullmatch(first):
        require_sent(window)
    target, _ = find_message(window, typed, lambda line: fold(line.who) == mine, by_name=False)
    return target, rest if _SEQ.fullmatch(first) or _BACK.fullmatch(first) else typed


def bind_edit(window: Window, typed: str) -> str:
    """Return the argument of an edit that has a text, with the seq of its message."""
    if _SEQ.match(typed):
        return typed
    target, changed = _edited(window, typed)
    return f"{_reference_to(target)} {changed}" if changed else typed


def _offer(chat: Chat, window: Window, target: Line) -> None:
    """Put a message into the input line, with its seq."""
    chat.require_idle(window)
    text = f"/me {target.text}" if target.sort == "action" else target.text
    if not chat.frontend.fill_input(window, TypedEdit(target.seq, text, target.stamp).line):
        raise WrongUsage


def delete(chat: Chat, window: Window, typed: str) -> None:
    """Delete a message: the person's newest, unless another is given.

    To delete somebody else's message, the person has to confirm.
    """
    mine, target = fold(chat.session.user), _deleted(window, typed)
    group = window.replica.name

    def question() -> str | None:
        _require_present(window, target)
        # The server refuses the deletion of another's message to everybody but the admin.
        allowed = window.replica.state.is_admin(chat.session.user)
        if fold(target.who) == mine or not allowed:
            return None
        return f"Delete this message for everybody? \u201c{window.quote_of(target.seq)}\u201d"

    def run() -> None:
        window.submit(lambda i, n: Delete(i, n, group, target.seq, stamp=target.stamp))

    chat.confirm(question, run)


def _deleted(window: Window, typed: str) -> Line:
    mine = fold(window.session.user)
    if not _SEQ.fullmatch(typed):
        require_sent(window)
    return find_named(window, typed, lambda line: fold(line.who) == mine)


def bind_delete(window: Window, typed: str) -> str:
    """Return the reference of a deletion as a seq."""
    return typed if _SEQ.match(typed) else _reference_to(_deleted(window, typed))


def bind_pin(window: Window, typed: str) -> str:
    """Return the reference to the message that is to be pinned as a seq; without one, ""."""
    if not typed or _SEQ.match(typed):
        return typed
    return _reference_to(find_named(window, typed, lambda line: True))


def pin(chat: Chat, window: Window, typed: str) -> None:
    """Show the pinned message, or pin the given one. Raises `Refused`."""
    window.require_member()
    if not typed:
        window.start(_show_pin, window)
        return
    window.require_admin()
    # Resolved at once: as soon as a new message arrives, "^2" means another one.
    target = find_named(window, typed, lambda line: True)
    group = window.replica.name
    window.submit(lambda i, n: Pin(i, n, group, target.seq, stamp=target.stamp))


async def _show_pin(window: Window) -> None:
    pinned = window.replica.state.pinned
    if pinned is None:
        window.notice(f"No message is pinned. {_who_pins(window)}".rstrip())
    else:
        window.notice(f"pinned: {await window.load_quote(pinned, limit=None)}")


def _who_pins(window: Window) -> str:
    state = window.replica.state
    if state.is_admin(window.session.user):
        return "/pin ^1 pins the last one, /pin NAME somebody's last one."
    return f"Only the admin, {state.admin_name}, may pin one." if state.admin_name else ""


def unpin(chat: Chat, window: Window, _: str) -> None:
    """Unpin the pinned message."""
    group = window.replica.name
    window.submit(lambda i, n: Unpin(i, n, group))


def resend(chat: Chat, window: Window, _: str) -> None:
    """Send the refused messages of the window again; say where others wait."""
    for pending in _failed(chat, window):
        window.start(chat.session.resend(pending).wait)
    _tell_others(chat, window)


def discard(chat: Chat, window: Window, _: str) -> None:
    """Discard the refused messages, once that is confirmed: nobody else has them."""

    def question() -> str:
        failed = _failed(chat, window)
        count = count_text(len(failed), "unsent message")
        which = " The last is" * bool(failed[1:])
        return f"Discard {count}?{which} {quotation(chat.session.user, failed[-1].text)}"

    def run() -> None:
        failed = _failed(chat, window)
        for pending in failed:
            chat.session.discard(pending)
        window.notice(f"{count_text(len(failed), 'message')} discarded")
        _tell_others(chat, window)

    chat.confirm(question, run)


def _failed(chat: Chat, window: Window) -> list[PendingMessage]:
    failed = [pending for pending in window.replica.pending if pending.failure is not None]
    if not failed:
        sentences = ["None of your messages here was refused.", chat.refused_elsewhere(window)]
        raise Refused(Code.NO_SUCH_MESSAGE, " ".join(filter(None, sentences)))
    return failed


def _tell_others(chat: Chat, window: Window) -> None:
    if sentence := chat.refused_elsewhere(window):
        window.notice(sentence)


# ---------------------------------------------------------------------- references to messages


def find_message(
    window: Window, typed: str, fits: Callable[[Line], bool], *, by_name: bool = True
) -> tuple[Line, str]:
    """Return the message to which the argument refers, and the text after the reference.

    Without a reference, it is the newest message that `fits`. Raises `Refused`.
    """
    window.require_member()
    first, _, rest = typed.partition(" ")
    if seq := _SEQ.fullmatch(first):
        return _message_at(window, int(seq[1]), seq[2] or ""), rest.strip()
    if back := _BACK.fullmatch(first):
        require_sent(window)
        messages = list(window.messages())
        place = int(back[1]) - 1
        if not 0 <= place < len(messages):
            raise _not_found(window, f"message {first}", exists=place >= 0)
        return messages[place], rest.strip()
    if by_name and fold(first) in window.replica.state.members:
        by_them = [line for line in window.messages() if fold(line.who) == fold(first)]
        if by_them:
            return by_them[0], rest.strip()
        raise _not_found(window, f"message of {window.replica.state.members[fold(first)]}")
    newest = next(filter(fits, window.messages()), None)
    if newest is None:
        raise _not_found(window)
    return newest, typed.strip()


def _require_present(window: Window, target: Line) -> None:
    """Raise `Refused` if a message was deleted since a command found it."""
    if target.seq in window.replica.deleted:
        raise Refused(
            Code.NO_SUCH_MESSAGE, "That message was deleted meanwhile; nothing is left to do."
        )


def _reference_to(line: Line) -> str:
    return reference_to(line.seq, line.stamp)


def _message_at(window: Window, seq: int, stamp: str) -> Line:
    """Return the message with a seq. Raises `Refused` if its stamp does not begin with `stamp`."""
    found = next((line for line in window.messages() if line.seq == seq), None)
    if found is not None and (found.stamp or b"").hex().startswith(stamp):
        return found
    is_lost = stamp and seq > window.replica.last and window.replica.caught_up
    if found is not None or is_lost:
        raise Refused(
            Code.LOG_REPLACED, "That message is lost: the server was restored from a backup."
        )
    if seq in window.replica.deleted:
        raise Refused(Code.NO_SUCH_MESSAGE, "That message was deleted meanwhile.")
    raise _not_found(window, f"message ^#{seq}", exists=seq < window.replica.first)


def _not_found(window: Window, what: str = "such message", *, exists: bool = True) -> Refused:
    if exists and window.past != "all":
        return NotLoaded(what)
    return Refused(Code.NO_SUCH_MESSAGE, f"There is no {what} here.")


def find_named(window: Window, typed: str, fits: Callable[[Line], bool]) -> Line:
    """Return the message that is meant by a whole argument; see `find_message`."""
    target, rest = find_message(window, typed, fits)
    if not rest:
        return target
    if len(typed.split()) > 1:
        raise WrongUsage
    # Perhaps a former member, whose name is not looked up in the text of a reply.
    by_them = (line for line in window.messages() if fold(line.who) == fold(typed))
    found = next(by_them, None)
    if found is None:
        raise _not_found(window, f"message of {quote_name(typed)}")
    return found


def require_sent(window: Window) -> None:
    """Raise `Refused` while messages are being sent: which one is the newest is not known yet."""
    if window.sending:
        raise Refused(
            Code.NO_SUCH_MESSAGE, "Your last message is still being sent; try again in a moment."
        )


# ---------------------------------------------------------------------- searching


def search(chat: Chat, window: Window, words: str) -> None:
    """Search the messages of all groups that the person is a member of."""
    chat.searching += 1  # at once: a /jump in the next line of a script has to wait for it
    window.start(_search, chat, window, words)


async def _search(chat: Chat, window: Window, words: str) -> None:
    try:
        hits, older = await _find(chat, words)
    finally:
        chat.searching -= 1
    chat.found = hits
    for number, hit in reversed(list(enumerate(hits, start=1))):
        when = minute_text(hit.at)
        author, text = clean_line(hit.actor), clean_line(hit.text)
        window.notice(f"{number:>2}  {when}  {chat.title_of(hit.group)} <{author}> {text}")
    if not hits:
        window.notice(f"No messages found for: {words}")
    elif chat.frontend.rewrites:
        more = "; older results are not shown" if older else ""
        window.notice(f"/jump 1 goes to the newest result{more}.")


async def _find(chat: Chat, words: str) -> tuple[list[SearchHit], bool]:
    """Return the newest messages that were found, and whether there are older ones.

    Messages of ignored people are left out; if a page has no others, the next page is searched.
    """
    skip = 0
    while True:
        found = await chat.session.search(words, skip=skip)
        hits = [hit for hit in found.hits if fold(hit.actor) not in chat.ignored]
        skip += len(found.hits)
        if hits or not (found.older and found.hits):
            return hits, found.older


def found_numbers(chat: Chat) -> list[str]:
    """Return the numbers of the search results."""
    return [str(number) for number in range(1, len(chat.found) + 1)]


def jump(chat: Chat, window: Window, typed: str) -> None:
    """Go to a search result, with the messages around it. Raises `Refused`."""
    number = int(typed) if typed.isascii() and typed.isdigit() else 0
    if not 1 <= number <= len(chat.found):
        raise Refused(Code.NO_SUCH_MESSAGE, "There is no such result; /search WORDS searches.")
    window.start(_jump, chat, window, chat.found[number - 1])


async def _jump(chat: Chat, window: Window, hit: SearchHit) -> None:
    """Open a group's window, load its history back to a message, and show that message.

    Raises `Refused` if the person has begun to type in the meantime: the rest would land there. Or
    if another message has its seq since the search.
    """
    there, seq = chat.open(hit.group), hit.seq
    await chat.ready(there)
    await there.load_back_to(seq)
    if not there.is_open:
        raise Refused(Code.NOT_CONFIRMED, f"{there.title} was closed, so /jump has stopped.")
    if not there.replica.may_have(seq, hit.at, hit.actor):
        raise Refused(
            Code.LOG_REPLACED,
            "That message is lost: the server was restored from a backup. /search WORDS searches"
            " again.",
        )
    chat.require_idle(window)
    chat.switch_to(there)
    chat.frontend.reveal(there, seq)


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "me",
        "messages",
        "sends an action: * you TEXT",
        me,
        "TEXT",
        "do what?",
        example="waves",
        completer=text,
    ),
    CommandSpec(
        "reply",
        "messages",
        "replies to the last message, or to NAME's",
        reply,
        "[NAME|^N] TEXT",
        example="^2 yes, at ten",
        completer=first_then_text(other_people),
        counts_messages=True,
        bind=bind_reply,
    ),
    CommandSpec(
        "edit",
        "messages",
        "edits your last message",
        edit,
        "[^N] [TEXT]",
        example="^2 the complete new text",
        screen_help="; without TEXT, puts it into the input line",
        completer=text,
        keeps_indent=True,
        counts_messages=True,
        bind=bind_edit,
    ),
    CommandSpec(
        "delete",
        "messages",
        "deletes your last message, or NAME's",
        delete,
        "[NAME|^N]",
        example="^2",
        choices=other_people,
        counts_messages=True,
        bind=bind_delete,
    ),
    CommandSpec(
        "pin",
        "messages",
        "shows the pinned message, or pins NAME's last or the N-th last (admin)",
        pin,
        "[NAME|^N]",
        example="^1",
        choices=other_people,
        aliases=("pins",),
        counts_messages=True,
        bind=bind_pin,
    ),
    CommandSpec("unpin", "messages", "unpins the pinned message", unpin, admin=True),
    CommandSpec("resend", "messages", "sends the refused messages again", resend),
    CommandSpec("discard", "messages", "discards the refused messages", discard),
    CommandSpec(
        "search",
        "messages",
        "searches the messages of all your groups",
        search,
        "WORDS",
        "search for what?",
        example="printer office",
        completer=text,
    ),
    CommandSpec(
        "jump",
        "messages",
        "goes to a search result",
        jump,
        "N",
        "go to which result?",
        example="1",
        choices=found_numbers,
        counts_messages=True,
    ),
)
