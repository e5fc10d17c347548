"""User interface: the chat and its commands, with two front ends, full screen and plain lines."""
