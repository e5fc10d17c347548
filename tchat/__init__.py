"""Group chat for the terminal: a group is an ordered log, the rest is a way to look at it."""

__version__ = "0.1.0"
