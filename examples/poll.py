"""Poll: "!poll Lunch? | pizza | soup" asks, "!vote 2" votes, and "!result" counts.

Run it with: python examples/poll.py HOST PORT --group GROUP
There is no file: after a restart, the poll is counted again from the group's history.
"""

import tchat

LONGEST = 1000  # so that the answers, which are longer, fit into a message


class Poll:
    """The latest poll of a group, and the votes, one for each person."""

    def __init__(self) -> None:
        self.question, self.options = "", [""]
        self.votes: dict[str, int] = {}

    def take(self, event: tchat.Event) -> str:
        """Count an event, and return the answer to it; empty if it needs none."""
        if not isinstance(event, tchat.Message) or event.mine:
            return ""
        match event.text.split(maxsplit=1):
            case ["!poll", rest]:
                question, *options = [part.strip() for part in rest.split("|")]
                if len(rest) > LONGEST:
                    return f"A poll has at most {LONGEST} characters."
                self.question, self.options = question, options
                self.votes.clear()
                numbered = [f"{n} {option}" for n, option in enumerate(self.options, start=1)]
                return "\n".join([self.question, *numbered, "Vote with !vote NUMBER."])
            case ["!vote", number] if number in map(str, range(1, len(self.options) + 1)):
                self.votes[event.who] = int(number)
                return ""
            case ["!vote", *_]:
                return f"Vote with a number from 1 to {len(self.options)}."
            case ["!result"]:
                votes = list(self.votes.values())
                counts = enumerate(self.options, start=1)
                return "\n".join(
                    [self.question, *(f"{option}: {votes.count(n)}" for n, option in counts)]
                )
        return ""


async def poll(client: tchat.Client, groups: list[tchat.Group]) -> None:
    """Ask, and count the votes: "!poll QUESTION | OPTION | OPTION", "!vote 1", "!result"."""
    group, current, counted = groups[0], Poll(), False
    async with client.events(group, since="seen", cursor="poll") as events:
        async for event in events:
            if not counted:  # the first new event: count what earlier runs have handled
                for earlier in await group.history(before=event.seq, limit=1000):
                    current.take(earlier)
                counted = True
            if answer := current.take(event):
                await event.group.say(answer, reply_to=event.seq, key=f"answer {event.seq}")
            await events.ack(event)


if __name__ == "__main__":
    tchat.run(poll, user="poll")
