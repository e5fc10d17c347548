"""The sheets of golden screens: what they show, and why."""

from __future__ import annotations

from dataclasses import replace

from tchat.client.files.queue import Progress
from tchat.ui.tui.lineedit import LineEdit
from tchat.ui.tui.model import Model, Person, Position, Tab
from tests.ui.pictures import DAY, MINUTE, NOON, changed, message, model, notice, typing
from tests.ui.screens import Frame

MOVING = Progress(1, "up", "report.pdf", "moving", 42, 100, 3.1e6, 130.0)
TABS = [
    Tab(1, "#ops", current=True),
    Tab(2, "#dev", unread=3),
    Tab(3, "@bob", unread=4, mentions=4),
    Tab(4, "#design"),
]


def busy(**more: object) -> Model:
    """Return a model with four windows."""
    return changed(model(message("x"), tabs=TABS), **more)


def morning() -> Model:
    """Return a window with most of what a screen can show."""
    lines = [
        message("see you tomorrow", "erin", NOON - DAY, seq=1),
        message("hello everyone", "alice", seq=2),
        message("the numbers are in", "bob", NOON + MINUTE, seq=3),
        notice("bob shared report.pdf (1.2 MB), file 3", NOON + MINUTE, seq=4),
        message("https://wiki.example.org/releases/2.4", "bob", NOON + 2 * MINUTE, seq=5),
        message(
            "@alice 数字看起来不错 👍",
            "carol",
            NOON + 3 * MINUTE,
            seq=6,
            mention=True,
            reply="bob: the numbers are in",
        ),
        message("مرحبا بالعالم", "dave", NOON + 3 * MINUTE, seq=7),
        message("brews coffee", "erin", NOON + 4 * MINUTE, sort="action", seq=8),
        message("who restarts the build server? It has been red since Friday", "erin", seq=9),
    ]
    made = model(*lines, topic="release planning", new_from=6, past="more")
    made.pending = [message("I will", "alice", NOON + 6 * MINUTE, fate="pending")]
    made.people = [
        Person("alice", admin=True, online=True),
        Person("bob", admin=False, online=True),
        Person("carol", admin=False, online=True, away="lunch"),
        Person("dave", admin=False, online=True),
        Person("erin", admin=False, online=False),
    ]
    made.tabs = TABS[:3]
    made.transfers = [Progress(1, "down", "report.pdf", "moving", 42, 100, 3.1e6, 130.0)]
    made.edit.insert("give me five minutes")
    return made


# ---------------------------------------------------------------------- whole screens


def whole_screen() -> list[Frame]:
    """Show a usual window on a usual screen, a very wide one and a narrow one."""
    return [Frame(morning(), 80, 20), Frame(morning(), 120, 20), Frame(morning(), 40, 10)]


def too_small() -> list[Frame]:
    """Show nothing but a notice on a screen of less than 20 by 5 cells."""
    return [Frame(morning(), 19, 10), Frame(morning(), 80, 4), Frame(morning(), 20, 5, "enough")]


# ---------------------------------------------------------------------- the header


def title_narrowing() -> list[Frame]:
    """Give up the topic first, then admin and presence, and never the connection."""
    made = model(people=3, topic="release planning, Friday at noon")
    return [Frame(made, width, 5) for width in (70, 60, 50, 40, 30, 20)]


def title_connection() -> list[Frame]:
    """Alert to a lost connection and to one that is not encrypted; TLS is no alert.

    Nobody is said to be online while the connection is lost.
    """
    offline = model(people=3, connection="offline: nothing listens there")
    offline.people = [replace(person, online=None) for person in offline.people]
    plain = model(people=3, security="not encrypted")
    return [
        Frame(offline, 80, 9),
        Frame(offline, 40, 5),
        Frame(plain, 30, 5),
        Frame(model(), 30, 5),
    ]


def title_waiting() -> list[Frame]:
    """Tell whoever is not a member how they stand: waiting for approval, outside, or banned."""
    standings = ("waiting", "outsider", "banned")
    return [Frame(model(standing=standing), 40, 5) for standing in standings]


def pinned() -> list[Frame]:
    """Show the pinned message's first line under the title; not in the bare view."""

    def shown(*, bare: bool = False) -> Model:
        first = "bob: the deploy window is Friday, 10:00 to 12:00"
        return model(message("hello"), pinned=first, topic="release 2.4", bare=bare)

    return [
        Frame(shown(), 60, 8),
        Frame(shown(), 30, 6, "cut off"),
        Frame(shown(), 20, 5, "on a low screen, messages come first"),
        Frame(shown(bare=True), 60, 6, "bare"),
    ]


def title_direct() -> list[Frame]:
    """Show the other person's presence in a direct conversation, if it is known."""

    def two(*others: Person) -> Model:
        people = [Person("alice", admin=False, online=True), *others]
        return changed(model(), title="@bob", direct=True, people=people)

    bob = Person("bob", admin=False, online=True)
    return [
        Frame(two(bob), 40, 5, "online"),
        Frame(two(replace(bob, online=False)), 40, 5, "offline"),
        Frame(two(replace(bob, away="at lunch")), 40, 5, "away"),
        Frame(two(), 40, 5, "not known yet"),
    ]


# ---------------------------------------------------------------------- the status bar


def status_windows() -> list[Frame]:
    """Leave out windows without activity first, those with mentions last."""
    one = model(message("x"), tabs=TABS[:1])
    tabs = [Tab(n, f"#{n}{'漢' * 20}", current=n == 9) for n in range(1, 201)]
    tabs[76] = replace(tabs[76], unread=1)
    many = model(message("x"), tabs=tabs)
    return [
        *(Frame(busy(), width, 5) for width in (60, 40, 30, 20)),
        Frame(one, 40, 5, "a single window needs no list"),
        Frame(many, 80, 5, "of 200 windows those with unread messages are shown"),
    ]


def status_attention() -> list[Frame]:
    """Count requests to join and unsent messages, in fewer words where it is narrow."""
    alone = model(message("x"), requests=["frank", "gina"], unanswered=3)
    among = busy(requests=["frank", "gina"], unanswered=3)
    return [
        Frame(alone, 80, 5),
        *(Frame(among, width, 5) for width in (80, 60, 40, 30, 20)),
        Frame(busy(requests=["frank"]), 80, 5, "one asks"),
    ]


def status_scrolled() -> list[Frame]:
    """Tell the way back to the newest messages, and how many are new."""
    lines = [message(f"m{n}") for n in range(30)]
    more = model(*lines, position=Position(15))
    new = model(*lines, position=Position(15), below=12)
    among = busy(lines=lines, position=Position(15), below=12, requests=["frank", "gina"])
    return [
        *(Frame(made, 60, 5) for made in (more, new)),
        *(Frame(among, width, 5) for width in (60, 30, 20)),
    ]


def status_missed() -> list[Frame]:
    """Count the unread messages above the pane, until they were in sight once."""
    lines = [message(f"m{n}", seq=n) for n in range(1, 31)]
    made = model(*lines, new_from=6)
    among = busy(lines=lines, new_from=6, requests=["frank", "gina"])
    many = model(*(message(f"m{n}", seq=n) for n in range(1, 1100)), new_from=1)
    return [
        Frame(made, 60, 5),
        *(Frame(among, width, 5) for width in (60, 30, 20)),
        Frame(changed(model(*lines, new_from=6), shown_from=12), 60, 5, "six were never in sight"),
        Frame(changed(model(*lines, new_from=6), shown_from=6), 60, 5, "all were in sight"),
        Frame(many, 60, 5, "more than are counted"),
    ]


def status_hint() -> list[Frame]:
    """Put a hint about a key in the place of everything else."""
    hint = "Press Ctrl-D twice to quit, or type /quit; you stay a member."
    return [Frame(busy(requests=["frank"], hint=hint), width, 5) for width in (80, 40, 20)]


def status_too_long() -> list[Frame]:
    """Say that the typed text is too long for a message before Enter does."""
    frames = []
    for text, width in (("x\n" * 8192, 80), ("é\n" * 8192, 80), ("é\n" * 8192, 30)):
        made = model()
        made.edit.insert(text)
        frames.append(Frame(made, width, 5))
    return frames


def status_transfer() -> list[Frame]:
    """Show a transfer's progress at the right; the percentage disappears last."""
    moving = model(message("x"), transfers=[MOVING])
    return [Frame(moving, width, 5) for width in (80, 40, 30, 20)]


def status_transfer_phases() -> list[Frame]:
    """Tell the phases of a transfer apart; cut a long file name."""
    phases = [
        replace(MOVING, way="down"),
        replace(MOVING, phase="queued"),
        replace(MOVING, phase="checking", done=0),
        replace(MOVING, phase="checking"),
        replace(MOVING, left=None, rate=0.0),
        replace(MOVING, done=100, left=0.0),
        replace(MOVING, phase="sharing"),
        replace(MOVING, name="a-name-that-is-much-longer-than-thirty-cells.tar.gz"),
    ]
    return [Frame(model(message("x"), transfers=[progress]), 80, 5) for progress in phases]


def status_transfer_stalled() -> list[Frame]:
    """Say that a transfer stands still, and for how long; prefer one that moves."""
    stalled = replace(MOVING, done=90, rate=0.0, left=None, stalled=75.0)
    sharing = replace(stalled, phase="sharing")
    return [
        *(Frame(model(message("x"), transfers=[stalled]), width, 5) for width in (80, 40, 20)),
        Frame(model(message("x"), transfers=[sharing]), 80, 5),
        Frame(model(message("x"), transfers=[stalled, replace(MOVING, number=2)]), 80, 5),
    ]


def status_transfer_and_windows() -> list[Frame]:
    """Keep a transfer's rate and time left on a narrow screen, beside windows with activity."""
    quiet = model(message("x"), transfers=[MOVING], tabs=[TABS[0], Tab(2, "#dev"), Tab(3, "@bob")])
    return [Frame(quiet, 40, 5), Frame(busy(transfers=[MOVING]), 60, 5)]


def status_transfers() -> list[Frame]:
    """Show of several transfers the one that finishes first, with its number."""
    queued = replace(MOVING, number=3, phase="queued", done=0)
    several = [replace(MOVING, done=7), replace(MOVING, number=2, name="b.iso"), queued]
    return [Frame(model(message("x"), transfers=several), width, 5) for width in (80, 30)]


# ---------------------------------------------------------------------- messages


def messages_sorts() -> list[Frame]:
    """Tell message, action, notice and error apart without colours."""
    made = model(
        message("joined", "bob"),
        message("joined", "bob", sort="action"),
        notice("bob joined"),
        message("bob joined", "", sort="error"),
    )
    return [Frame(made, 60, 8)]


def messages_grouped() -> list[Frame]:
    """Name the author once for messages in quick succession, and in the first row."""
    made = model(
        message("one"),
        message("two", at=NOON + 4 * MINUTE),
        message("much later", at=NOON + 9 * MINUTE),
        notice("carol joined", at=NOON + 9 * MINUTE),
        message("welcome", at=NOON + 9 * MINUTE),
    )
    cut = model(message("one"), message("two " * 30), message("three"))
    return [Frame(made, 60, 9), Frame(cut, 40, 7, "the first row in sight names the author")]


def messages_wrapped() -> list[Frame]:
    """Indent wrapped rows; keep a text's line breaks and leading spaces."""
    made = model(message("word " * 18), message("def f():\n    return 1\n\nsee?", "carol"))
    return [Frame(made, 60, 10)]


def messages_hanging() -> list[Frame]:
    """Begin wrapped rows under the indentation of their line, or a notice's second column."""
    code = "if ready:\n    send(message, to=everybody, at=https://example.org/a/path)\n    wait()"
    deep = message(" " * 60 + "far to the right, or almost", "carol")
    columns = notice("/approve NAME    approves a request to join, as soon as somebody asks")
    lines = (message(code), deep, columns)
    return [
        Frame(model(*lines), 50, 15),
        Frame(model(*lines, bare=True), 40, 13, "text to be copied gets no spaces"),
    ]


def messages_tabs() -> list[Frame]:
    """Expand tabs to stops of 8 cells from the beginning of the text."""
    table = "name\tsize\ndisk\t12\n数字字字\t3\n\t\tsum"
    lines = (
        message(table),
        message("all:\n\tgcc -o program program.c library.c", "alice"),
        message("points\tthere", sort="action"),
    )
    wide, bare = model(*lines), model(*lines, bare=True)
    return [Frame(wide, 60, 12), Frame(wide, 40, 14), Frame(bare, 40, 12)]


def messages_found() -> list[Frame]:
    """Point out the message that /jump went to, among messages that are alike."""
    lines = [message("the same https://example.org", seq=seq) for seq in (1, 2, 3)]
    return [Frame(model(*lines, found=2), 60, 8)]


def messages_links() -> list[Frame]:
    """Underline a URL, also where it is broken, and not the punctuation after it."""
    text = "see https://example.org/a/rather/long/address?with=a&query=in#it, ok?"
    action = message("links https://example.org.", sort="action")
    gone = message("https://example.org", "carol", deleted=True)
    return [Frame(model(message(text), action, gone), 40, 10)]


def messages_days_and_new() -> list[Frame]:
    """Draw a line above a new day, and above the first unread message."""
    days = model(message("old"), message("new", at=NOON + DAY))
    unread = model(message("seen", seq=7), notice("from here"), message("not", seq=8))
    unread.lines += [notice("nothing else"), message("nor", seq=9)]
    unread.new_from = 8
    read = model(message("one", seq=7), message("two", seq=8), new_from=9)
    own = model(message("mine", "alice", seq=9), message("other", seq=10), new_from=8)
    return [
        Frame(days, 60, 8),
        Frame(unread, 60, 10),
        Frame(read, 60, 6, "all is read"),
        Frame(own, 60, 7, "not above what one has written"),
    ]


def messages_replies_and_changes() -> list[Frame]:
    """Quote the message replied to; tell what was edited or deleted."""
    reply = message("12 MB", reply="alice: how large is it, and can I still get it somewhere?")
    made = model(
        reply,
        message("12 MB", edited=True),
        message("x" * 40, "carol", edited=True),
        message("", "alice", deleted=True, edited=True),
    )
    return [Frame(made, 60, 10)]


def messages_marks() -> list[Frame]:
    """Mark with » what mentions me, with … what is being sent, with ✗ what has failed."""
    made = model(
        message("@alice look", mention=True),
        message("waves at alice", sort="action"),
        message("pokes alice", sort="action", mention=True),
    )
    made.pending = [
        message("going", "alice", fate="pending"),
        message("lost", "alice", fate="failed"),
    ]
    return [Frame(made, 60, 9)]


def messages_columns() -> list[Frame]:
    """Fit the name column to members and authors, within limits; no times if narrow."""
    silent = model(message("x", "al"))
    silent.people = [Person("christopher", admin=True, online=True)]
    return [
        Frame(model(message("x", "al"), message("y", "christopher")), 60, 6),
        Frame(silent, 60, 6, "members who have said nothing count"),
        Frame(model(message("x", "漢" * 32)), 60, 6, "a long name is cut"),
        Frame(model(message("x", "漢" * 32)), 44, 6),
        Frame(model(message("x", "漢" * 32)), 30, 6),
        Frame(model(message("hello you")), 20, 6),
    ]


def messages_bare() -> list[Frame]:
    """Show text without columns and members, so that lines can be copied whole."""
    made = model(
        message("hello everyone, this is rather long and goes on", "bob"),
        message("for @alice", "carol", mention=True, reply="bob: hello"),
        message("waves", "carol", sort="action"),
        notice("dave joined"),
        people=3,
        bare=True,
    )
    made.pending = [message("on my way", "alice", fate="pending")]
    return [Frame(made, 40, 14), Frame(made, 80, 12)]


def messages_past() -> list[Frame]:
    """Tell above the first line whether there are earlier messages."""
    return [
        Frame(model(message("hello"), past="more"), 60, 6),
        Frame(model(past="more"), 60, 5),
        Frame(model(message("hello"), past="loading"), 60, 6),
        Frame(model(past="loading"), 60, 5),
        Frame(model(), 60, 5, "an empty group"),
    ]


# ---------------------------------------------------------------------- members


def members() -> list[Frame]:
    """Mark ★ admin, ● online, ◐ away, ○ offline; count the rest."""
    some = model(message("hello"), people=3)
    some.people.append(Person("dave", admin=False, online=True, away="lunch"))
    absent = model(message("x"), people=3)
    absent.people[0] = replace(absent.people[0], online=False)
    return [
        Frame(some, 80, 8),
        Frame(absent, 80, 6),
        Frame(model(message("x"), people=30), 80, 10),
    ]


def members_hidden() -> list[Frame]:
    """Hide members on a narrow screen, if switched off, in a direct conversation."""
    made = model(message("x"), people=3)
    return [
        Frame(made, 63, 6),
        Frame(made, 64, 6),
        Frame(model(message("x"), people=3, show_people=False), 80, 6, "switched off"),
        Frame(model(message("x"), people=3, direct=True), 80, 6, "direct"),
    ]


# ---------------------------------------------------------------------- the prompt


def prompt_rows() -> list[Frame]:
    """Break typed text where a row is full; the cursor is on the next character."""
    return [
        Frame(typing("你好"), 40, 5, "wide characters"),
        Frame(typing("e\u0301"), 40, 5, "a combining accent"),
        Frame(typing("x" * 31 + "y" * 10), 40, 6, "longer than a row"),
        Frame(typing("x" * 31), 40, 6, "the cursor after a full row"),
        Frame(typing("x" * 31, "y"), 40, 6, "the cursor on a broken row"),
        Frame(typing("x" * 30, "漢"), 40, 6),
        Frame(typing("x" * 30, "\n"), 40, 6),
        Frame(typing("one\ntwo\n", "three"), 40, 9, "several lines"),
        Frame(typing("all:\n\tgcc\t-o a", "\ta.c"), 40, 9, "tabs"),
        Frame(typing("x" * 30 + "\t", "y"), 40, 6, "a tab at the end of a row"),
        Frame(typing("", "\u200d".join("👩" * 10)), 24, 12, "a character wider than a row"),
        Frame(typing("a\x1b[2J\u202eb"), 40, 5, "controls are shown as signs"),
        Frame(changed(typing("hello"), user="漢" * 32), 40, 5, "a long name leaves room"),
    ]


def prompt_window() -> list[Frame]:
    """Show text of more than a third of the screen around the cursor."""
    lines = "".join(f"{n}\n" for n in range(9))
    return [
        Frame(typing("", lines), 40, 10),
        Frame(typing("0\n1\n2\n3\n", lines.removeprefix("0\n1\n2\n3\n")), 40, 10),
        Frame(typing(lines), 40, 10),
    ]


def prompt_question() -> list[Frame]:
    """Put a question in the place of the prompt, and a long one above the answer."""
    long = "Do you want to leave #ops, where nobody else is the admin?"
    return [
        Frame(typing("bob", question="kick whom?"), 40, 6),
        Frame(typing("n", question=long), 40, 12),
        Frame(typing("n", question=long), 20, 5, "as much as there is room for"),
    ]


def prompt_search() -> list[Frame]:
    """Show the pattern of a history search, and whether it found anything."""
    frames = []
    for pattern in ("dep", "depx"):
        made = model(edit=LineEdit(["deploy the site"]))
        made.edit.do("search-history")
        made.edit.insert(pattern)
        frames.append(Frame(made, 60, 5))
    return frames


SHEETS = [
    *(whole_screen, too_small),
    *(title_narrowing, title_connection, title_waiting, title_direct, pinned),
    *(status_windows, status_attention, status_scrolled),
    *(status_missed, status_hint, status_too_long),
    *(status_transfer, status_transfer_phases, status_transfer_stalled, status_transfers),
    status_transfer_and_windows,
    *(messages_sorts, messages_grouped, messages_wrapped, messages_hanging, messages_tabs),
    *(messages_links, messages_days_and_new, messages_found, messages_replies_and_changes),
    *(messages_marks, messages_columns, messages_bare),
    *(messages_past, members, members_hidden),
    *(prompt_rows, prompt_window, prompt_question, prompt_search),
]
"""All sheets, in the order of the screen from top to bottom."""
