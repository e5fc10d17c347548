"""Settings of a group: its topic, and its join policy.

An open group admits whoever asks; a group with approval has them wait for the admin. Opening a
group admits those who wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from tchat.core.group.feature import Body, Command, Event, LogLine
from tchat.core.group.membership import Approved
from tchat.core.group.state import Policy  # noqa: TC001  # read at run time, by `schema`
from tchat.core.protocol.schema import Clean, record
from tchat.core.text import clean_limited

if TYPE_CHECKING:
    from tchat.core.group.feature import Context, Facts, Reader
    from tchat.core.group.state import Group

TOPIC_LIMIT = 200
"""Longest topic, in code points."""


def clean_topic(text: str) -> str:
    """Return a topic as it is shown. Raises `Refused` (text_too_long)."""
    return clean_limited(text, TOPIC_LIMIT, "A topic")


@record
class SetTopic(Command):
    """Say what the group is about; an empty text removes the topic (admin)."""

    type = "set_topic"
    allowed = "admin"
    text: Annotated[str, Clean(clean_topic)]

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the topic, unless it is the present one."""
        clean_topic(self.text)  # for its limit: a rule does not rely on the server's cleaning
        return [TopicSet(self.text)] if self.text != group.topic else []


@record
class TopicSet(Body):
    """The actor, the admin, set the topic; an empty one removes it."""

    kind = "topic_set"
    log_lines = (LogLine("topic_set", "{user} changed the topic of {group}"),)
    text: str

    def apply(self, group: Group, event: Event) -> None:
        """Set the topic."""
        group.topic = self.text

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return the new topic."""
        if not self.text:
            return f"{event.actor} removed the topic"
        return f"{event.actor} set the topic: {self.text}"


@record
class SetPolicy(Command):
    """Set who may join: everybody, or those whom the admin approves (admin)."""

    type = "set_policy"
    allowed = "admin"
    policy: Policy

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the policy and, for an open group, the approval of those who wait."""
        if self.policy == group.policy:
            return []
        room = max(context.limits.members - len(group.members), 0) if self.policy == "open" else 0
        waiting = list(group.requests.values())[:room]
        return [PolicySet(self.policy), *(Approved(request.name) for request in waiting)]


@record
class PolicySet(Body):
    """The actor, the admin, set who may join."""

    kind = "policy_set"
    log_lines = (LogLine("policy_set", "{user} set who may join {group}: {policy}"),)
    policy: Policy

    def apply(self, group: Group, event: Event) -> None:
        """Set the policy."""
        group.policy = self.policy

    def log_facts(self) -> Facts:
        """Return the policy in words."""
        return {"policy": "everybody" if self.policy == "open" else "those who are approved"}

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who may join from now on."""
        if self.policy == "open":
            return f"{event.actor}: anyone may join now"
        return f"{event.actor}: joining now needs approval"


COMMANDS: tuple[type[Command], ...] = (SetTopic, SetPolicy)
EVENTS: tuple[type[Body], ...] = (TopicSet, PolicySet)
