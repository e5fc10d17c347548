"""Tests of the command line's commands for scripts, each in a process of its own."""
