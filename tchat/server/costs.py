"""Cost of each request, in units of the work that one ping takes.

A unit is the processor time of one ping among many that arrive together: 11 microseconds on the
machine where the costs were measured. The time of all threads counts, that of the database too. The
costs are those of some requests that arrive together, as in an attack, whether they are allowed or
refused. `tests/server/test_costs.py` measures every frame type, allowed and refused, and fails if
one takes more than three times its cost.

What does not depend on the type alone is added: waking the task of the connection, the size of a
frame, loading a group that nobody has used for a while, and the subscribers that an event is sent
to.
"""

from __future__ import annotations

from tchat.core.vocabulary import TO_SERVER

UNITS_PER_CORE = 90_000
"""How many units one processor core can do in a second."""

CONNECTION = 100.0
"""Accepting a connection: TLS and its task."""

READING = 5.0
"""Waking the task of a connection, for the frames that have arrived together."""

ACTIVATION = 40.0
"""Loading a group that is not active, whether it exists or not."""

PAGE = 30.0
"""Reading a page of a log from the disk, and sending it to a client that catches up."""

LOADED = 0.4
"""Loading one entry of a group's state, such as a member, a file or an edited message."""

COPIED = 0.0015
"""Copying one entry of the state, for the commands that are validated against it."""

ENCODED = 0.2
"""Encoding one entry of the state, for a member who begins with a snapshot."""

LISTENER = 0.1
"""Sending an event to one subscriber. A busy group sends many events at a time, an idle one a
single event to each, which costs more; but then it is idle, and the rate of commands is limited."""

ANNOUNCEMENT = 0.3
"""Telling one subscriber of a group who came, left or is away."""

UNKNOWN = 10.0
"""A frame of an unknown type, which may hold as many items as a frame can."""

TRANSFER = 150.0
"""Beginning and ending a file transfer, besides the connection: opening and storing the file."""

TRANSFERRED = 0.2
"""One KiB of a file that is sent or received: TLS, SHA-256 and the disk."""

HASHED = 0.07
"""One KiB of a file that is read and hashed, to continue a transfer or to verify the copy."""

EXCERPT = 0.006
"""Looking for the matches in one character of a message that a search has found, if it is not
ASCII, which takes next to nothing."""

MOST_FOR_A_SEARCH = 45_000.0
"""The most that the time of a search is charged: half a second. It is less than a person's burst,
so that one search delays nobody, for example after others' messages had to be indexed for it."""

FOREIGN = 12.0
"""Each KiB of a message that is not ASCII: it is sanitized and searched for names by character."""

DELETED = 0.1
"""Removing the words in one character of a deleted message from the index, if it was indexed."""

SEARCHED = 0.1
"""Looking at one event of a log for the edits of a message that is very old and is deleted."""

REFERENCE = 8.0
"""Reading the message that a reply refers to, to compare its stamp."""

_BYTES_PER_UNIT = 1024

_ROWS: dict[str, float] = {
    # the handshake
    "hello": 20,
    "proof": 100,  # the signature, and a name that is claimed for the first time
    "transfer": 30,
    # commands
    "join": 60,
    "approve": 40,
    "deny": 40,
    "deny_all": 60,  # and for each request what its author has paid
    "leave": 45,
    "kick": 45,
    "ban": 40,
    "unban": 20,
    "transfer_admin": 40,
    "invite": 20,
    "post": 12,
    "edit": 18,
    "delete": 120,  # erases: a transaction of its own
    "pin": 20,
    "unpin": 20,
    "share": 80,
    "remove_file": 30,
    "set_topic": 15,
    "set_policy": 15,
    # requests
    "attach": 20,
    "detach": 4,
    "seen": 4,
    "history_request": 100,
    "search": 150,
    "groups_request": 60,
    "away": 6,
    "ping": 1,
    "upload": 60,
    "download": 30,
    "file_list_request": 30,
    "link": 6,
    "keys": 25,
    "unlink": 60,
}

COSTS: dict[str, float] = {word: _ROWS[word] for word in TO_SERVER}
"""The cost of each type of frame that a client may send; one without a row fails here."""


def cost_of_text(text: str) -> float:
    """Return the cost of a message's text, besides that of its size."""
    return 0.0 if text.isascii() else FOREIGN * len(text.encode(errors="replace")) / _BYTES_PER_UNIT


def cost_of_excerpt(text: str) -> float:
    """Return the cost of looking for the first match in a message that a search has found."""
    return 0.0 if text.isascii() else EXCERPT * len(text)


def cost_of_transfer(size: int) -> float:
    """Return the cost of sending or receiving `size` bytes of a file."""
    return TRANSFERRED * size / _BYTES_PER_UNIT


def cost_of_hashing(size: int) -> float:
    """Return the cost of reading and hashing `size` bytes of a file."""
    return HASHED * size / _BYTES_PER_UNIT


def cost_of_size(size: int) -> float:
    """Return the cost of reading, decoding and storing a frame of `size` bytes."""
    return size / _BYTES_PER_UNIT
