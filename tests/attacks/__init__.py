"""Attacks on a real server; each prints what it cost the server."""
