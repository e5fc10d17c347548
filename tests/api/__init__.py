"""Tests of the public API, as its users would write them: a real server, and people on it."""
