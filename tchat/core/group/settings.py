"""Settings of a group: its topic, and its join policy.

In an open group, everybody who asks becomes a member; otherwise they wait for the admin's approval.
Opening a group approves the people who are waiting.
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
    """Return a topic, sanitized. Raises `Refused` (text_too_long)."""
    return clean_limited(text, TOPIC_LIMIT, "A topic")


@record
class SetTopic(Command):
    """Set the topic; an empty text removes it (admin)."""

    type = "set_topic"
    allowed = "admin"
    text: Annotated[str, Clean(clean_topic)]

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the topic, unless it is unchanged."""
        clean_topic(self.text)  # checks the limit: rules do not rely on the server's sanitizing
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
    """Set who may join: everybody, or only people whom the admin approves (admin)."""

    type = "set_policy"
    allowed = "admin"
    policy: Policy

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the policy and, for an open group, the approval of waiting people."""
        if self.policy == group.policy:
            return []
        room = max(context.limits.members - len(group.members), 0) if self.policy == "open" else 0
        waiting = [
            request
            for request in group.requests.values()
            if group.ban_on(request.name, request.key) is None
        ]
        return [PolicySet(self.policy), *(Approved(request.name) for request in waiting[:room])]


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
