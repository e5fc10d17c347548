"""Tests of the stores: one contract for all, and what SQLite adds."""
