"""Where logs, cursors, names and files are kept: a protocol and two implementations."""
