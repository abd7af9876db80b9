"""DuckDB as every query of the pack gets it: in memory, without files or network, within limits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

#: What a query may hold in memory; the rest goes to a folder of its own, which is removed at the end.
MEMORY = "2GB"
SPILLED = "20GB"


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read no file, load no extension and change none of these settings."""
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": False,
            "memory_limit": MEMORY,
            "temp_directory": folder,
            "max_temp_directory_size": SPILLED,
            "lock_configuration": True,
        }
        with duckdb.connect(config=config) as connection:
            yield connection


def insert_rows(
    connection: duckdb.DuckDBPyConnection, table: str, types: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Insert rows in one statement, ``types`` being DuckDB's of the columns: row by row is a thousand times
    slower."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        unnested = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in types)
        connection.execute(f"INSERT INTO {table} SELECT {unnested}", columns)


def literal(text: str) -> str:
    """Text as an SQL literal."""
    if "\0" in text:
        return "(" + " || chr(0) || ".join(map(literal, text.split("\0"))) + ")"
    return "'" + text.replace("'", "''") + "'"
