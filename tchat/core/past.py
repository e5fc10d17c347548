"""Frames about what was before: a group's state and log, what was said, and where.

A log may be far longer than anybody reads. One who comes to a group for the first time since the
program started gets its state, in snapshots, and its latest events; those before come a page at a
time, as somebody reads on towards the past; and what was said long ago is found by its words.
"""

from __future__ import annotations

from tchat.core.schema import Frame, record


@record
class HistoryRequest(Frame):
    """Ask for the events of a group's log before event `before`. Answered by `Past`."""

    type = "history_request"
    id: int
    group: str
    before: int


@record
class Search(Frame):
    """Ask for messages that have all the words of `text`, in one's groups or in one of them.

    Answered by `Found`. `skip` is how many of the newest were found before.
    """

    type = "search"
    id: int
    text: str
    group: str | None = None
    skip: int = 0


@record
class GroupsRequest(Frame):
    """Ask in which groups one is, or asks to be. Answered by `GroupList`."""

    type = "groups_request"
    id: int


@record
class Snapshot(Frame):
    """A piece of the group's state as of event `seq`; `more` of it follows. See `snapshots`."""

    type = "snapshot"
    group: str
    seq: int
    data: bytes
    more: bool


@record
class Past(Frame):
    """The events `first` to `last`, packed as they would come by themselves; none at the start."""

    type = "past"
    re: int
    first: int
    last: int
    frames: bytes


@record
class Found(Frame):
    """Messages that were found, the newest first: five lists side by side.

    Each is event `seq` of its group, and has in `texts` what it says now, cut short if it is long.
    `older` says whether there are more.
    """

    type = "found"
    re: int
    groups: tuple[str, ...]
    seqs: tuple[int, ...]
    ats: tuple[int, ...]
    actors: tuple[str, ...]
    texts: tuple[str, ...]
    older: bool = False


@record
class GroupList(Frame):
    """A person's groups, four lists side by side: the last event of each, and the last one seen."""

    type = "group_list"
    re: int
    groups: tuple[str, ...]
    standings: tuple[str, ...]
    seqs: tuple[int, ...]
    reads: tuple[int, ...]
