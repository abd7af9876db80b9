"""The tables of Sentinel that the pack queries: columns and types, from Azure Monitor's reference."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "tables"


@cache
def columns(table: str) -> Mapping[str, str]:
    """``{column: Kusto type}`` of a table, in the reference's order; KeyError for a table without one."""
    path = _FOLDER / f"{table}.csv"
    if not table.isidentifier() or not path.is_file():
        raise KeyError(table)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["column"]: row["type"] for row in csv.DictReader(file)}


def table_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))
