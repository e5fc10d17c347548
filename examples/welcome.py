"""Welcome: let in whoever asks to join, and greet them. The bot has to be the group's admin.

Run it with: python examples/welcome.py HOST PORT --group GROUP --create
"""

from contextlib import suppress

import tchat


async def welcome(request: tchat.JoinRequest) -> None:
    """Approve every request to join, and greet the new member."""
    with suppress(tchat.Refused):  # the bot was killed last time after it had approved
        await request.approve()
    topic = request.group.topic or "whatever you like"
    await request.group.say(
        f"Welcome, {request.who}! We talk about {topic}.", key=f"welcome {request.seq}"
    )


if __name__ == "__main__":
    tchat.run_bot(welcome, of=tchat.JoinRequest)
