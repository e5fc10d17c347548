"""Databases of older versions, made from new ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tchat.store.sqlite.schema import MIGRATIONS

if TYPE_CHECKING:
    import sqlite3


def remove_tables_since(connection: sqlite3.Connection, table: str) -> None:
    """Make the database one from before the migration that creates `table`."""
    statements = [sql for sql, _ in MIGRATIONS]
    version = next(n for n, sql in enumerate(statements) if f"CREATE TABLE {table} " in sql)
    later = "".join(statements[version:])
    connection.execute("ALTER TABLE segments DROP COLUMN digest")
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", later):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for name in re.findall(r"CREATE TABLE (\w+)", later):
        connection.execute(f"DROP TABLE IF EXISTS {name}")  # some replaced an older table
    connection.execute(f"PRAGMA user_version = {version}")
