"""Raw records into DuckDB: the tables that every ingest model reads."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import duckdb

from detection_pack.model.event import Event, raw_rows

_ENUMS = Path(__file__).parents[1] / "model" / "enums.csv"


def load_raw(connection: duckdb.DuckDBPyConnection, events: Sequence[Event]) -> None:
    """Create ``raw(id, kind, record JSON)`` with the events and ``enums(enum, value, name)``, all text."""
    connection.execute("CREATE TABLE enums(enum VARCHAR, value VARCHAR, name VARCHAR)")
    insert_rows(connection, "enums", csv_rows(_ENUMS))
    connection.execute("CREATE TABLE raw(id VARCHAR, kind VARCHAR, record JSON)")
    insert_rows(connection, "raw", raw_rows(events))


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[str]]) -> None:
    """Insert text rows in one statement: row by row, 20,000 records take a minute."""
    if rows:
        turned = [list(column) for column in zip(*rows, strict=True)]
        unnested = ", ".join("unnest(CAST(? AS VARCHAR[]))" for _ in turned)
        connection.execute(f"INSERT INTO {table} SELECT {unnested}", turned)


def csv_rows(path: Path) -> list[tuple[str, ...]]:
    """The rows of a CSV file without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]
