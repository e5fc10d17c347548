"""Tests of tchat.server, mostly over real sockets."""
