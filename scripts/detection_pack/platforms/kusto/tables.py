"""The tables that the pack queries: columns and types.

Microsoft Sentinel's are Azure Monitor's reference, Defender XDR's are the advanced hunting reference; the two
differ where a table has one name in both (Sentinel has TimeGenerated, Defender XDR has Timestamp).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: The schemas: a platform's id, which is the folder of its tables.
SENTINEL, DEFENDER = "sentinel", "defender"
_FOLDER = Path(__file__).parent / "tables"


@cache
def columns(table: str, schema: str = SENTINEL) -> Mapping[str, str]:
    """``{column: Kusto type}`` of a table, in the reference's order; KeyError for a table without one."""
    path = _FOLDER / schema / f"{table}.csv"
    if not table.isidentifier() or not path.is_file():
        raise KeyError(table)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["column"]: row["type"] for row in csv.DictReader(file)}


def table_names(schema: str = SENTINEL) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (_FOLDER / schema).glob("*.csv")))
