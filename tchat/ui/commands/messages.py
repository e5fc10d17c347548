"""The commands about messages: said in another way, changed, taken away, found again.

A message is meant by who said it ("bob": his newest) or by how many messages ago it was said
("^3"); without either, the newest that the command can be about.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from tchat.core.group import commands as core
from tchat.core.text import check_text, clean_line, clean_text, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.lines import count_text, latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.pending_message import PendingMessage
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window

_BACK = re.compile(r"\^([0-9]{1,4})")
_MOST_PAGES = 2000


def me(room: Window, text: str) -> None:
    """Say what one does."""
    check_text(text)
    room.say(f"/me {clean_text(text)}")


def reply(room: Window, typed: str) -> None:
    """Answer a message: the newest of somebody else, unless another is meant."""
    mine = fold(room.session.user)
    target, text = _meant(room, typed, lambda line: fold(line.who) != mine)
    if not text:
        raise Refused(Code.MISSING_ARGUMENT, "It is /reply TEXT, or /reply NAME TEXT.")
    room.say(clean_text(text), target.seq)


def edit(room: Window, typed: str) -> None:
    """Change one's newest message, or put it where one types, to be changed there."""
    _require_sent(room)
    mine = fold(room.session.user)
    target, text = _meant(room, typed, lambda line: fold(line.who) == mine, by_name=False)
    first = typed.partition(" ")[0]
    back = first if _BACK.fullmatch(first) else ""
    if text and room.offered is not None and room.offered[0] == back:
        seq = room.offered[1]  # what was counted then; there may be newer messages now
    elif fold(target.who) != mine:
        raise Refused(Code.NOT_AUTHOR, f"Only {target.who} may change this message.")
    else:
        seq = target.seq
    if not text:
        _offer(room, back, target)
        return
    check_text(text)
    group = room.replica.name
    room.submit(lambda i, n: core.Edit(i, n, group, seq, clean_text(text)))


def _offer(room: Window, back: str, target: Line) -> None:
    """Put a message where one types, and remember which it is."""
    words = ("/edit", *([back] if back else []), *(["/me"] if target.sort == "action" else []))
    if not room.chat.face.offer(f"{' '.join(words)} {target.text}"):
        raise Refused(Code.MISSING_ARGUMENT, "It is /edit TEXT, with all of the new text.")
    room.offered = (back, target.seq)


def delete(room: Window, typed: str) -> None:
    """Take a message away: one's newest, unless another is meant."""
    _require_sent(room)
    mine = fold(room.session.user)
    target, rest = _meant(room, typed, lambda line: fold(line.who) == mine)
    if rest:
        raise Refused(Code.NO_SUCH_MESSAGE, "It is /delete, or /delete NAME, or /delete ^3.")
    group = room.replica.name
    room.submit(lambda i, n: core.Delete(i, n, group, target.seq))


def resend(room: Window, _: str) -> None:
    """Send again what was refused."""
    for pending in _failed(room):
        room.start(room.session.resend(pending).wait)


def discard(room: Window, _: str) -> None:
    """Forget what was refused."""
    failed = _failed(room)
    for pending in failed:
        room.session.discard(pending)
    room.notice(f"{count_text(len(failed), 'message')} forgotten")


def search(room: Window, words: str) -> None:
    """Find messages in all groups of which one is a member."""
    room.start(_search, room, words)


def jump(room: Window, typed: str) -> None:
    """Go to a message that was found."""
    found = room.chat.found
    number = int(typed) if typed.isascii() and typed.isdigit() else 0
    if not 1 <= number <= len(found):
        raise Refused(Code.NO_SUCH_MESSAGE, "There is no such number; /search finds messages.")
    group, seq = found[number - 1]
    room.start(_jump, room, group, seq)


COMMANDS: dict[str, Callable[[Window, str], None]] = {
    "me": me,
    "reply": reply,
    "edit": edit,
    "delete": delete,
    "resend": resend,
    "discard": discard,
    "search": search,
    "jump": jump,
}
"""What these commands do, by their words; each is given the room and what was typed behind it."""


def _meant(
    room: Window, typed: str, fits: Callable[[Line], bool], *, by_name: bool = True
) -> tuple[Line, str]:
    """Return the message that is meant, and the text behind what says so."""
    room.require_member()
    first, _, rest = typed.partition(" ")
    if back := _BACK.fullmatch(first):
        _require_sent(room)
        messages = list(room.messages())
        place = int(back[1]) - 1
        if not 0 <= place < len(messages):
            raise Refused(Code.NO_SUCH_MESSAGE, f"There is no message {first} here.")
        return messages[place], rest.strip()
    if by_name and fold(first) in room.replica.state.members:
        by_them = [line for line in room.messages() if fold(line.who) == fold(first)]
        if by_them:
            return by_them[0], rest.strip()
    newest = next(filter(fits, room.messages()), None)
    if newest is None:
        raise Refused(Code.NO_SUCH_MESSAGE, "There is no message here that could be meant.")
    return newest, typed.strip()


def _require_sent(room: Window) -> None:
    """Raise `Refused` while it cannot be said which message is the newest."""
    if room.sending:
        raise Refused(
            Code.NO_SUCH_MESSAGE, "What you said last is still on its way; try again in a moment."
        )


def _failed(room: Window) -> list[PendingMessage]:
    failed = [pending for pending in room.replica.pending if pending.failure is not None]
    if not failed:
        raise Refused(Code.NO_SUCH_MESSAGE, "All that you said here was sent, or is on its way.")
    return failed


async def _search(room: Window, words: str) -> None:
    room.chat.searching += 1
    try:
        found = await room.session.search(words)
    finally:
        room.chat.searching -= 1
    room.chat.found = [(hit.group, hit.seq) for hit in found.hits]
    for number, hit in reversed(list(enumerate(found.hits, start=1))):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(latest(hit.at) / 1000))
        where = room.chat.title_of(hit.group)
        room.notice(
            f"{number:>2}  {when}  {where} <{clean_line(hit.actor)}> {clean_line(hit.text)}"
        )
    if not found.hits:
        room.notice(f"nothing was found for: {words}")
    elif room.chat.face.rewrites:
        more = "; there are more, older ones" if found.older else ""
        room.notice(f"/jump 1 goes to the newest{more}")


async def _jump(room: Window, group: str, seq: int) -> None:
    """Bring a message in front of the person, with what was said around it."""
    there = room.chat.open(group)
    await room.chat.ready(there)
    there.uncover()
    for _ in range(_MOST_PAGES):
        if there.replica.first <= seq or not await room.session.load_history(there.replica):
            break
        await room.chat.settle()
    room.chat.go(there)
    room.chat.face.reveal(there, seq)
