"""Tests of tchat.core.group; a file for each feature module, and one for the rules."""
