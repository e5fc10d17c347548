"""tchat, group chat for the terminal: each group is an ordered, durable log of events."""

__version__ = "0.2.0"
