"""Tests of streams and addresses."""
