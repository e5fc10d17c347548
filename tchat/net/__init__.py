"""Streams and addresses: what client and server both need to reach each other."""
