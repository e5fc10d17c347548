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
    for name in re.findall(r"CREATE TABLE (\w+)", "".join(statements[version:])):
        connection.execute(f"DROP TABLE {name}")
    connection.execute(f"PRAGMA user_version = {version}")
