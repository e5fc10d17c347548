"""The client's settings file, command-line options and directories."""
