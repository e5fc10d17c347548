"""`tchat ask`: ask a group a question, and wait for the answer."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, explain, key, listed, positive_duration
from tchat.errors import Code, Refused, UsageError
from tchat.exits import TEMPORARY
from tchat.streams import complain, print_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tchat.api.client import Client
    from tchat.api.groups import Event, Group, Message

MOST_OPTIONS = 60
"""The most answers to choose from: their exit statuses have to be less than those of sysexits.h."""

_PUNCTUATION = " \t\n.,;:!?'\"`*_"
_SECONDS_TO_CLOSE = 3.0
_SECONDS_TO_FIND = 0.1  # answers that were given while no command waited
_DESCRIPTION = """\
Post a question in a group, and wait until somebody answers with one of the
options, in a message of their own or a reply. The answer is printed, and the
name of who gave it to standard error; the group is told that the question is
closed. Capitals and punctuation do not matter.

The exit status is the place of the answer: 0 for the first option, 1 for the
second, and so on; 75 if nobody answered in time, or the question could not be
posted in time; 77 if you are no longer a member of the group. Your own messages
are no answers. With --key, a command that was interrupted can be run again: it
waits for answers to the same question, and also finds those given meanwhile.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat ask`."""
    explain(
        parser,
        _DESCRIPTION,
        (
            "tchat ask localhost:7777 --user ci --group ops 'deploy?' && ./deploy",
            "yes is 0, no is 1",
        ),
        (
            "tchat ask work 'which one?' --options red,green,blue --from alice,bob --timeout 1h",
            "wait an hour for alice or bob",
        ),
    )
    add_place(parser, "QUESTION", "the question", required=True)
    parser.add_argument(
        "--options",
        type=listed("option"),
        default=["yes", "no"],
        metavar="LIST",
        help="the possible answers, separated by commas (default: yes,no)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_duration,
        metavar="TIME",
        help="how long to wait (10m, 1h; default: ever)",
    )
    parser.add_argument(
        "--from",
        dest="people",
        type=listed("name"),
        metavar="NAMES",
        help="only these people decide, separated by commas (default: every member)",
    )
    parser.add_argument(
        "--key",
        type=key,
        metavar="KEY",
        help="go on with the question that has this key, if there is one",
    )
    parser.set_defaults(run=_ask)


def _ask(given: argparse.Namespace) -> int:
    from tchat.cli.place import PATIENCE, resolve, run_in_group
    from tchat.core.text import check_name, fold

    resolve(given)
    if not given.words:
        raise UsageError(Code.MISSING_ARGUMENT, "The question is missing.")
    options = [_plain(option) for option in given.options]
    if len(set(options)) < len(options) or not all(options) or len(options) > MOST_OPTIONS:
        raise UsageError(
            Code.MISSING_ARGUMENT, f"--options needs different answers, at most {MOST_OPTIONS}."
        )
    people = {fold(check_name(name, "username")) for name in given.people or ()}
    decide = partial(_decide, given, options, people)
    # With a timeout, that ends the command, and not the lost connection.
    patience = PATIENCE if given.timeout is None else given.timeout + _SECONDS_TO_CLOSE
    return run_in_group(given, decide, patience)


def _plain(text: str) -> str:
    """Return a text as it is compared with the options."""
    return text.strip(_PUNCTUATION).casefold()


async def _decide(
    given: argparse.Namespace,
    options: Sequence[str],
    people: set[str],
    client: Client,
    group: Group,
) -> int:
    """Post the question, wait for the answer, close the question; return the exit status."""
    import trio

    from tchat.signals import ending_signals

    status, answer, question = 0, None, None
    deadline = trio.current_time() + (math.inf if given.timeout is None else given.timeout)
    posting, waiting = trio.CancelScope(deadline=deadline), trio.CancelScope()

    async def end_on_signal() -> None:
        nonlocal status
        async for number in signals:
            status = 128 + number
            posting.deadline = trio.current_time() + _SECONDS_TO_CLOSE
            waiting.cancel()

    # Inside the connection, unlike the signals of other commands: the group has to be told.
    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_on_signal)
            with posting:
                question = await _post(given, group)
            if question is not None:
                waiting.deadline = _deadline(given, question, deadline)
                with waiting:
                    answer = await _answer(client, group, question, options, people)
            nursery.cancel_scope.cancel()
    if question is None and not status:
        complain("tchat: The question could not be posted in time.")
        return TEMPORARY
    if question is None or (answer is None and status and given.key is not None):
        return status  # with the key, the same command goes on
    with trio.move_on_after(_SECONDS_TO_CLOSE) as closing:
        await _close(given, question, answer, interrupted=bool(status))
    if closing.cancelled_caught:
        complain("tchat: The group was not told that the question is closed.")
    if answer is None:
        if not status:
            complain("tchat: Nobody answered in time.")
        return status or TEMPORARY
    place = options.index(_plain(answer.text))
    complain(f"answered by {answer.who}")
    print_line(given.options[place])
    return place


async def _post(given: argparse.Namespace, group: Group) -> Message:
    """Post the question, or return the one that has the key already. Raises `UsageError`."""
    from tchat.core.text import clean_line, clean_text

    text = _question(given)
    question = await group.say(text, key=given.key)
    if given.key is None:
        return question
    asked = f"/me {question.text}" if question.action else question.text
    quoted = f': "{clean_line(asked)}"'
    if not question.seq:
        quoted = ", or of one that is not found any more"
    elif asked == clean_text(text):
        return question
    raise UsageError(
        Code.MISSING_ARGUMENT,
        f"The key {given.key} is that of another question{quoted}. Use another key.",
    )


def _question(given: argparse.Namespace) -> str:
    text = " ".join(given.words)
    return f"{text} (answer {' or '.join(given.options)})"


def _deadline(given: argparse.Namespace, question: Message, deadline: float) -> float:
    """Return when the answer is too late; an earlier run with the same key may have asked."""
    import trio

    if given.timeout is None or given.key is None:
        return deadline
    elapsed: float = max(0.0, (question.group.now - question.at).total_seconds())
    now = trio.current_time()
    left: float = given.timeout - elapsed
    return max(now + _SECONDS_TO_FIND, min(deadline, now + left))


async def _answer(
    client: Client, group: Group, question: Message, options: Sequence[str], people: set[str]
) -> Message:
    """Wait for the first answer that counts."""
    async with client.events(group, since=question.seq or group.last, while_member=True) as events:
        async for event in events:
            if (answer := _counts(event, options, people)) is not None:
                return answer
    raise AssertionError("unreachable")


def _counts(event: Event, options: Sequence[str], people: set[str]) -> Message | None:
    from tchat.api.groups import Message
    from tchat.core.text import fold

    if not isinstance(event, Message) or event.action or _plain(event.text) not in options:
        return None
    return event if not people or fold(event.who) in people else None


async def _close(
    given: argparse.Namespace, question: Message, answer: Message | None, *, interrupted: bool
) -> None:
    """Tell the group that the question is closed, once. Report a refusal: the answer counts."""
    if answer is not None:
        text = f"Closed: {answer.who} answered {answer.text.strip()}."
    else:
        text = "Withdrawn." if interrupted else "Closed: nobody answered in time."
    once = None if given.key is None else f"{given.key} closed"
    try:
        await question.group.say(text, reply_to=question.seq or None, key=once)
    except Refused as refusal:
        complain(f"tchat: {refusal}")
