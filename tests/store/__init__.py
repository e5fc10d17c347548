"""The stores: one contract for all, and what SQLite promises besides."""
