"""What keys do that is not done in the input line: one function for each action of `bindings`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tchat.ui.chat.completion import offers
from tchat.ui.commands import people
from tchat.ui.tui.scroll import down, first_new, page, up

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.ui.chat.window import Window
    from tchat.ui.tui.app import App


def do(app: App, action: str) -> None:
    """Do an action of the window."""
    act = _ACTIONS.get(action)
    if act is not None:
        act(app)


def enter(app: App) -> None:
    """Send the message, run the command, or answer the question."""
    room = app.chat.current
    line = room.edit.submit()
    if line.strip() or app.chat.asked is not None:
        _to_newest(room)
    told = len(room.lines)
    app.chat.enter(line)
    if room is app.chat.current and told < len(room.lines):  # it may be more than a page
        app.scroll_to_line(told)


def complete(app: App, *, back: bool = False) -> None:
    """Complete the word before the cursor; again, to the next that fits."""
    app.chat.current.edit.complete(partial(offers, app.chat), back=back)


def interrupt(app: App) -> None:
    """Clear the line; where it is empty, answer no question, and say how to leave."""
    room = app.chat.current
    if room.edit.text:
        room.edit.clear()
    else:
        app.chat.question = None
        room.notice("Ctrl-D or /3 leaves")


def leave(app: App) -> None:
    """Ask whether to leave; while leaving, do not wait."""
    if app.chat.done.is_set():
        app.quit()
    app.asked_to_leave = True


def suspend(app: App) -> None:
    """Stop the program until the shell lets it go on."""
    app.screen.suspend()


# ---------------------------------------------------------------- scrolling


def page_up(app: App) -> None:
    """Scroll towards the past; at its end, ask for more of it."""
    room, model, size = app.chat.current, app.refreshed(), app.screen.size
    if app.at_top:
        room.load_past()
    room.position = up(model, page(model, *size), *size)


def page_down(app: App) -> None:
    """Scroll towards the present."""
    room, model, size = app.chat.current, app.refreshed(), app.screen.size
    room.position = down(model, page(model, *size), *size)
    if room.position is None:
        room.attend()


def bottom(app: App) -> None:
    """Show the newest messages, and answer no question."""
    app.chat.question = None
    _to_newest(app.chat.current)


def _to_newest(room: Window) -> None:
    room.position = None
    room.attend()


def first_unread(app: App) -> None:
    """Scroll to where the unread messages begin."""
    room = app.chat.current
    if not room.new_from:
        room.notice("nothing is unread here")
        return
    if (index := first_new(app.refreshed())) is not None:
        app.scroll_to_line(index)


def search_text(app: App) -> None:
    """Begin to search the messages."""
    app.chat.current.edit.set("/search ")


# ---------------------------------------------------------------- windows


def _step(app: App, by: int) -> None:
    rooms = app.chat.rooms
    app.chat.go(rooms[(rooms.index(app.chat.current) + by) % len(rooms)])


def _go_to(number: int, app: App) -> None:
    if number <= len(app.chat.rooms):
        app.chat.go(app.chat.rooms[number - 1])


def next_activity(app: App) -> None:
    """Go where something was said or is asked: first where this person is meant."""
    others = (room for room in app.chat.rooms if room is not app.chat.current)
    waiting = [room for room in others if room.unread or asking(room)]
    if waiting:
        app.chat.go(max(waiting, key=_urgency))


def _urgency(room: Window) -> tuple[bool, int]:
    return room.mentions + asking(room) > 0, -room.chat.rooms.index(room)


def asking(room: Window) -> int:
    """Return how many wait in a room for this person to let them in."""
    state = room.replica.state
    return len(state.requests) if state.is_admin(room.session.user) else 0


def members(app: App) -> None:
    """Show the members beside the messages, or hide them."""
    app.model.show_people = not app.model.show_people


def bare_view(app: App) -> None:
    """Show the messages alone, as text to copy; or all again."""
    app.model.bare = not app.model.bare


def approve_next(app: App) -> None:
    """Let the first one in who asks; who asks in another room is to be seen before that."""
    room = app.chat.current
    elsewhere = next(filter(asking, app.chat.rooms), None)
    if asking(room):
        asked = next(iter(room.replica.state.requests.values()))
        people.COMMANDS["approve"](room, asked.name)
    elif elsewhere is not None:
        app.chat.go(elsewhere)
    else:
        room.require_admin()
        room.notice("nobody asks to join")


_ACTIONS: dict[str, Callable[[App], None]] = {
    "enter": enter,
    "complete": complete,
    "complete-back": partial(complete, back=True),
    "interrupt": interrupt,
    "leave": leave,
    "quit": lambda app: app.quit(),
    "suspend": suspend,
    "redraw": lambda app: app.screen.redraw(),
    "page-up": page_up,
    "page-down": page_down,
    "bottom": bottom,
    "first-unread": first_unread,
    "search-text": search_text,
    "next-window": lambda app: _step(app, 1),
    "previous-window": lambda app: _step(app, -1),
    **{f"window-{number}": partial(_go_to, number) for number in range(1, 10)},
    "next-activity": next_activity,
    "last-window": lambda app: app.chat.go_back(),
    "members": members,
    "bare-view": bare_view,
    "approve-next": approve_next,
}
