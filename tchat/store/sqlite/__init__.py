"""The SQLite engine: one database file, one writer thread, group commit."""
