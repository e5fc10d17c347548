"""Request dispatch: pass each frame of a chat connection to its handler.

`RequestDispatcher.handle` is the table. Commands, and requests about a group's current state, go to
the group's actor, which replies itself; the others are answered here from the store. The connection
has charged the cost of the frame's type already; what depends on its group is charged here, before
the work.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from sys import getsizeof
from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.core.group.compaction import last_forgotten_edit
from tchat.core.group.direct import check_group, is_direct, is_others
from tchat.core.group.feature import Command
from tchat.core.group.features import decode_event
from tchat.core.group.files import Share
from tchat.core.group.membership import Join
from tchat.core.group.messages import Delete, Post
from tchat.core.group.rules import decide
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Away,
    Detach,
    Download,
    FileListRequest,
    GroupsRequest,
    HistoryRequest,
    KeyList,
    KeysRequest,
    LinkCode,
    LinkRequest,
    NameKey,
    Ok,
    Ping,
    Pong,
    Search,
    Seen,
    Unlink,
    Upload,
    encode,
    failed,
)
from tchat.core.protocol.schema import clean
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError, Refused
from tchat.server.accounts import LINK_CODE_SECONDS
from tchat.server.connections.file_requests import (
    check_group_quota,
    check_quota,
    check_uploaded,
    prepare_download,
    prepare_file_list,
    prepare_upload,
)
from tchat.server.connections.history import list_groups, read_history, search
from tchat.server.costs import (
    ACTIVATION,
    ANNOUNCEMENT,
    COPIED,
    ENCODED,
    LISTENER,
    LOADED,
    MOST_FOR_A_SEARCH,
    REFERENCE,
    SEARCHED,
    cost_of_text,
)
from tchat.server.groups.actor import begins_with_state
from tchat.server.groups.inbox import Execute, OlderEdits, Query, ReadReceipt, Subscribe
from tchat.server.groups.subscriptions import Subscription
from tchat.server.ledger import LONGEST_WAIT
from tchat.server.rate_limiter import too_fast
from tchat.server.sanitize import check_own_group
from tchat.store.base import DataDamaged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.schema import Frame
    from tchat.server.context import ServerContext
    from tchat.server.groups.actor import GroupActor
    from tchat.server.ledger import LedgerAccount
    from tchat.server.rate_limiter import RateKind
    from tchat.server.send_queue import SendQueue

FileRequest = TypeVar("FileRequest", Upload, Download, FileListRequest)

_MAX_SUBSCRIPTIONS = 256
_FORGOTTEN_MEANWHILE = 4096  # events
_EVENT_BYTES = 100
"""What an event takes on the disk besides its command: the author, times, and its place."""


class RequestDispatcher:
    """Handles the requests of one client, whose replies go to `send_queue`.

    `subscriptions` are the groups (folded) that the client follows, `announced` those with a notice
    of activity that the client has not answered yet. Work is charged to `account`;
    `on_delayed` is called after a command has waited for the person's rate.
    """

    __slots__ = (
        "_account",
        "_author",
        "_charge",
        "_context",
        "_on_delayed",
        "_person",
        "_send_queue",
        "announced",
        "subscriptions",
    )

    def __init__(
        self,
        context: ServerContext,
        author: Author,
        send_queue: SendQueue,
        account: LedgerAccount,
        on_delayed: Callable[[], None],
    ) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.announced: set[str] = set()
        self._context = context
        self._author = author
        self._person = fold(author.name)
        self._send_queue = send_queue
        self._account = account
        self._charge = account.charge
        self._on_delayed = on_delayed

    async def handle(self, frame: Frame, size: int) -> None:  # noqa: C901  # a table
        """Handle a frame of `size` bytes.

        Raises `Refused` to refuse it, `ProtocolError` to end the connection.
        """
        match frame:
            case Command():
                await self._execute(frame, size)
            case Attach():
                await self._subscribe(frame)
            case Detach():
                self._unsubscribe(fold(check_group(frame.group)))
            case Seen():
                await self._mark_read(frame)
            case HistoryRequest():
                await self._read_history(frame)
            case Search():
                await self._search(frame)
            case GroupsRequest():
                self._reply(await list_groups(self._context, self._author, frame))
            case Upload():
                await self._ask_about_files(frame, prepare_upload)
            case Download():
                await self._ask_about_files(frame, prepare_download)
            case FileListRequest():
                await self._ask_about_files(frame, prepare_file_list)
            case Away():
                self._set_away(frame)
            case LinkRequest():
                code = self._context.accounts.new_link_code(self._author)
                self._reply(LinkCode(frame.id, code, int(LINK_CODE_SECONDS * 1000)))
            case KeysRequest():
                await self._list_keys(frame)
            case Unlink():
                await self._unlink(frame)
            case Ping():
                self._reply(Pong())
            case _:
                raise ProtocolError(
                    Code.HANDSHAKE, f"A {frame.type} frame is not allowed after the handshake."
                )

    def close(self) -> None:
        """End all subscriptions of the connection."""
        for key, subscription in self.subscriptions.items():
            self._context.registry.unsubscribe(subscription, key)

    # -------------------------------------------------------------- helpers

    def _reply(self, frame: Frame) -> None:
        self._send_queue.push(encode(frame))

    def _checked(self, group: str) -> str:
        """Return a group's display name. Raises `Refused`; see `check_own_group`."""
        return check_own_group(group, self._author)

    async def _send_to_group(
        self, group: str, item: Execute | Subscribe | ReadReceipt | Query
    ) -> None:
        """Charge an item, and give it to the group's actor, which answers."""
        key, registry = fold(group), self._context.registry
        actor = registry.find(key)
        if self._account.is_limited:
            self._charge_for(item, actor)
        if type(item) is not Execute and actor is not None and await actor.try_read(item):
            return
        if actor is None or not actor.inbox.try_put(item):
            await registry.send(key, item, self._charge_loading)

    def _charge_for(
        self, item: Execute | Subscribe | ReadReceipt | Query, actor: GroupActor | None
    ) -> None:
        """Charge what an item costs in its group, besides the cost of its frame."""
        if actor is None:
            self._charge(ACTIVATION)
        elif type(item) is Execute:
            self._charge(LISTENER * actor.listeners + COPIED * actor.entries)
        elif type(item) is Subscribe:
            self._charge(ANNOUNCEMENT * actor.listeners)
            if begins_with_state(item.request):
                self._account.charge_apart(ENCODED * actor.entries_to_encode)

    def _cost_of_announcement(self, key: str) -> float:
        """Return what it costs to tell everybody who follows a group."""
        actor = self._context.registry.find(key)
        return 0.0 if actor is None else ANNOUNCEMENT * actor.listeners

    def _charge_loading(self, entries: int) -> None:
        self._account.charge_apart(LOADED * entries)

    # -------------------------------------------------------------- commands

    async def _execute(self, command: Command, size: int) -> None:
        group = self._checked(command.group)
        text, memory = command.message_text, size
        if not text.isascii():
            self._charge(cost_of_text(text))
            memory = max(size, getsizeof(text))  # up to four bytes for each code point
        if isinstance(command, Post) and command.refers_to is not None:
            self._charge(REFERENCE)
        command = clean(command if command.group == group else replace(command, group=group))
        checks: Sequence[Callable[[], None]] = ()
        if isinstance(command, Join):
            checks = await self._join_checks(command)
        elif self._context.limits.messages and (
            wait := self._context.rate_limiter.reserve("messages", self._person)
        ):
            checks = await self._delay("messages", wait)
        if self._context.limits.texts and not command.erases:
            # First: what is refused for its size must not count towards the quota of groups.
            checks = (*await self._keep_text_rate(size), *checks)
        if isinstance(command, Share):
            checks = (*checks, *await self._share_checks(command))
        charge = self._account.charge_apart
        older_edits = await self._find_older_edits(command) if isinstance(command, Delete) else None
        item = Execute(self._author, command, self._send_queue, checks, charge, memory, older_edits)
        await self._send_to_group(group, item)

    # The actor runs these checks, but not for a repeated command: its first copy may be committed,
    # and if the repeat were refused, the author would write the same message again. The data that
    # the checks need is loaded here, because a batch must not wait for the disk.

    async def _keep_text_rate(self, size: int) -> Sequence[Callable[[], None]]:
        """Wait until the rate of texts allows a command of `size` bytes.

        Every command counts, since every event stays on the disk: a topic as much as a message.
        Only those that erase do not: what they erase has been counted.
        """
        kib = (size + _EVENT_BYTES) / 1024
        wait = self._context.rate_limiter.reserve("texts", self._person, kib)
        if wait <= LONGEST_WAIT:
            rates, peer = self._context.network_rates, self._account.peer
            wait = max(wait, rates.reserve("address_texts", peer, kib))
        return await self._delay("texts", wait) if wait else ()

    async def _find_older_edits(self, command: Delete) -> OlderEdits | None:
        """Return the edits of a very old message that may be deleted, from the log.

        The state of the group has forgotten them. The search takes time in proportion to the log,
        and nobody else waits for it here. None if it is not needed, or not allowed, as it seems:
        the actor looks again.
        """
        key = fold(command.group)
        actor = self._context.registry.find(key)
        if actor is None or command.target >= last_forgotten_edit(actor.group):
            return None
        group, store, limits = actor.group, self._context.store, self._context.limits.group
        if group.standing(self._person) != "member":
            return None  # and nothing is read for a stranger
        body = (await store.find(key, [command.target])).get(command.target)
        target = None if body is None else decode_event(body)
        try:
            if not decide(group, self._author, command, self._context.clock(), limits, target):
                return None
        except Refused:
            return None
        # The state may forget some more until the actor executes the command.
        upto = min(last_forgotten_edit(group) + _FORGOTTEN_MEANWHILE, group.seq)
        self._account.charge_apart(min(SEARCHED * (upto - command.target), MOST_FOR_A_SEARCH))
        return OlderEdits(upto, await store.edits_of(key, command.target, upto))

    async def _delay(self, kind: RateKind, wait: float) -> Sequence[Callable[[], None]]:
        """Wait until a rate allows the command; if that takes too long, it is refused."""
        if wait > LONGEST_WAIT:
            return (partial(_refuse, too_fast(kind, wait)),)
        await trio.sleep(wait)
        self._on_delayed()
        return ()

    async def _join_checks(self, command: Join) -> Sequence[Callable[[], None]]:
        quota, person, group = self._context.group_quota, self._person, fold(command.group)
        await quota.load(person)
        checks: Sequence[Callable[[], None]] = ()
        if not quota.has(person, group):  # to join again changes nothing
            if wait := self._context.rate_limiter.reserve("joins", person):
                checks = await self._delay("joins", wait)
            await quota.load(person)  # the cache may have dropped the person meanwhile
        return (*checks, partial(quota.reserve, person, group))

    async def _share_checks(self, command: Share) -> Sequence[Callable[[], None]]:
        context, person = self._context, self._person
        size = await context.store.files.lease(person, command.sha256, context.clock())
        used = await context.store.files.usage(person)
        in_group = await context.store.files.group_usage(fold(command.group), command.sha256)
        return (
            partial(check_uploaded, size, command.size),
            partial(check_quota, context, used),
            partial(check_group_quota, context, in_group, command.size),
        )

    # -------------------------------------------------------------- subscriptions

    async def _subscribe(self, request: Attach) -> None:
        group = check_group(request.group)
        if is_others(group, self._author.name):
            self._reply(Attached(request.id, group, "outsider"))
            return
        key = fold(group)
        self._unsubscribe(key)
        if len(self.subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise Refused(
                Code.TOO_MANY, f"A connection can follow at most {_MAX_SUBSCRIPTIONS} groups."
            )
        subscription = Subscription(self._author, self._send_queue, self.announced)
        self.subscriptions[key] = subscription
        await self._send_to_group(key, Subscribe(subscription, replace(request, group=group)))

    def _unsubscribe(self, key: str) -> None:
        self.announced.discard(key)
        subscription = self.subscriptions.pop(key, None)
        if subscription is not None:
            registry = self._context.registry
            self._charge(self._cost_of_announcement(key))
            registry.unsubscribe(subscription, key)

    # -------------------------------------------------------------- history and files

    async def _mark_read(self, seen: Seen) -> None:
        """Record a read position; ignore those of groups that the person is not in."""
        group = self._checked(seen.group)
        if not is_direct(group) and not self._context.registry.is_active(fold(group)):
            # Nobody answers, so an unknown group need not be loaded.
            try:
                await self._context.group_quota.load(self._person)
            except DataDamaged:
                return
            if not self._context.group_quota.has(self._person, fold(group)):
                return
        await self._send_to_group(group, ReadReceipt(self._author.name, seen.seq, self._send_queue))

    async def _read_history(self, request: HistoryRequest) -> None:
        request = replace(request, group=self._checked(request.group))
        page = await read_history(
            self._context, self._author, self._send_queue, request, self._charge_loading
        )
        self._reply(page)

    async def _search(self, request: Search) -> None:
        if request.group is not None:
            request = replace(request, group=self._checked(request.group))
        self._reply(await search(self._context, self._author, request, self._account))

    async def _ask_about_files(
        self,
        request: FileRequest,
        prepare: Callable[
            [ServerContext, Author, FileRequest], Awaitable[Callable[[Group], Frame]]
        ],
    ) -> None:
        """Do the slow part of a request here; the group's actor then decides and replies."""
        group = self._checked(request.group)
        if is_direct(group):
            raise Refused(Code.DIRECT, "Direct conversations have no files; use a group.")
        answer = await prepare(self._context, self._author, request)

        def decide(group: Group) -> None:
            try:
                self._reply(answer(group))
            except Refused as refusal:
                self._reply(failed(refusal, request.id))

        def refuse(refusal: Refused) -> None:
            self._reply(failed(refusal, request.id))

        await self._send_to_group(group, Query(decide, self._send_queue, refuse))

    # -------------------------------------------------------------- the person

    def _set_away(self, request: Away) -> None:
        reason = clean(request).text
        presence = self._context.presence
        if presence.set_away(self._person, reason):
            registry = self._context.registry
            for group in presence.followed_groups(self._person):
                # The change is announced to everybody who follows the group.
                self._charge(1 + self._cost_of_announcement(group))
                registry.refresh_presence(group)
        self._reply(Ok(request.id))

    async def _list_keys(self, request: KeysRequest) -> None:
        keys = await self._context.accounts.keys(self._person)
        self._reply(KeyList(request.id, tuple(NameKey(key.public, key.since) for key in keys)))

    async def _unlink(self, request: Unlink) -> None:
        await self._context.accounts.unlink(self._author, request.key)
        self._reply(Ok(request.id))


def _refuse(refusal: Refused) -> None:
    raise refusal
