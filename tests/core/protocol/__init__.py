"""Tests of tchat.core.protocol."""
