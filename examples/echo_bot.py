"""Echo bot: answers "!echo TEXT" with TEXT.

Run it with: python examples/echo_bot.py HOST PORT --group GROUP
"""

from tchat.bot import Message, run_bot


async def echo(message: Message) -> None:
    """Answer "!echo TEXT" with TEXT."""
    if message.text.startswith("!echo "):
        await message.reply(message.text.removeprefix("!echo "))


if __name__ == "__main__":
    run_bot(echo)
