"""The rules and the words of tchat: no Trio, no clock, no randomness, no disk."""
