"""Echo: answer "!echo TEXT" with TEXT.

Run it with: python examples/echo.py HOST PORT --group GROUP
"""

import tchat


async def echo(message: tchat.Message) -> None:
    """Answer "!echo TEXT" with TEXT."""
    if message.text.startswith("!echo "):
        await message.reply(message.text.removeprefix("!echo "))


if __name__ == "__main__":
    tchat.run_bot(echo)
