"""Tests of the client without a user interface, mostly against a real server."""
