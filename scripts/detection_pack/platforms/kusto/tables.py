"""The tables of a workspace as views over raw records, and the parts of a whole record that a query reads.

A table may hold the record itself in one column (type ``record`` in the CSV file of the source's columns). A
query reads parts of it, and so that the whole need not be there, the column then holds those parts alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

import duckdb

from detection_pack.languages.databases import literal
from detection_pack.languages.kql.known_text import text_columns
from detection_pack.languages.kql.named_columns import named_columns
from detection_pack.model.log_source import tables_of
from detection_pack.platforms.records import Records, insert_rows, quoted, stamp
from detection_pack.platforms.rows import ingest

#: The column of a row's record, and that of its arrival.
EVENT, INGESTED = "_EventId", "_IngestionTime"
#: The type of a column that holds the record.
WHOLE = "record"
TYPES = {
    "string": "VARCHAR",
    "datetime": "TIMESTAMP",
    "long": "BIGINT",
    "int": "INTEGER",
    "real": "DOUBLE",
    "bool": "BOOLEAN",
    "dynamic": "JSON",
    WHOLE: "JSON",
}
_PART = r"json_extract\({column}, '\$\.(\w+)([^']*)'\)"
#: In a list of columns.
_LISTED = r"(?:(?<=SELECT )|(?<=, )){column}(?=, | FROM)"


class Tables:
    """The tables of one platform's schema for one engine. ``columns`` are their names, as KQL sees them."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        schema: str,
        records: Records,
        ingested: Mapping[str, datetime] | datetime | None = None,
    ) -> None:
        self._cursor, self._schema, self._records = cursor, schema, records
        self._tables = tables_of(records.sources, schema)
        self._wholes = {
            name for table in self._tables.values() for name, kind in table.items() if kind == WHOLE
        }
        self._with_whole = [name for name, columns in self._tables.items() if WHOLE in columns.values()]
        self._arrival = self._arrivals(ingested)
        self.columns = {table: [EVENT, INGESTED, *columns] for table, columns in self._tables.items()}
        self._parts: frozenset[str] | None = frozenset()
        self._conditions: dict[str, str] = {}
        self._filled: dict[str, list[str]] = {}
        self._held: set[str] = set()
        self._shown: dict[str, Sequence[str]] = {}
        self._make()

    def read_by(self, text: str) -> dict[str, list[str]]:
        """`columns`, of each table those that a KQL query reads, and perhaps more."""
        return {
            table: [EVENT, INGESTED, *named_columns(text, columns, self._conditions.get(table, ""))]
            for table, columns in self._tables.items()
        }

    def text_in(self, text: str) -> frozenset[str]:
        """The names that stand for text wherever a KQL query has them."""
        kinds = [{name: kind == "string" for name, kind in one.items()} for one in self._tables.values()]
        return text_columns(text, [*kinds, {EVENT: True, INGESTED: False}])

    def ready(self, sql: str, columns: Mapping[str, Sequence[str]]) -> str:
        """A translated query, after which the tables hold what it reads of these columns."""
        self._show(sql, columns)
        if not any(quoted(table) in sql for table in self._with_whole):
            return sql
        said, parts = self._partial(sql)
        if parts is not None and (self._parts is None or not parts <= self._parts):
            self._parts = parts | (self._parts or frozenset())
            self._make(sql, columns)
        if parts is not None and self._shows_no_whole(said):
            return said
        if self._parts is not None:
            self._parts = None
            self._make(sql, columns)
        return sql

    def hold(self, table: str) -> str:
        """Make an empty table of a view, and leave it to its owner to fill. Returns the name of one with all
        of the view's rows."""
        self._show("", {table: self.columns[table]}, {table})
        self._cursor.execute(f"CREATE TEMP TABLE everything AS FROM {quoted(table)}")
        self._cursor.execute(f"DROP VIEW {quoted(table)}")
        self._cursor.execute(f"CREATE TEMP TABLE {quoted(table)} AS FROM everything LIMIT 0")
        self._held.add(table)
        return "everything"

    def restrict(self, table: str, condition: str) -> None:
        """Let a table hold only the rows of which this is true, in SQL."""
        self._conditions[table] = condition
        self._make()

    def whole(self) -> Mapping[str, Mapping[str, str]]:
        """The tables with whole records, ``{table: {column: type}}``."""
        self._parts = None
        self._make()
        return self._tables

    def _partial(self, sql: str) -> tuple[str, frozenset[str] | None]:
        """The query with parts of a record instead of paths into it, and their names; None where it reads the
        record in another way."""
        parts: set[str] = set()
        for name in self._wholes:
            column = re.escape(quoted(name))
            pattern = re.compile(_PART.format(column=column))
            parts |= {found[1] for found in pattern.finditer(sql)}
            rest = re.sub(_LISTED.format(column=column), "", pattern.sub("", sql))
            if quoted(name) in rest:
                return sql, None
            sql = pattern.sub(lambda found, name=name: _part(name, found[1], found[2]), sql)  # type: ignore[misc]
        return sql, frozenset(parts)

    def _shows_no_whole(self, sql: str) -> bool:
        rows = self._cursor.execute(f"DESCRIBE {_without_parameters(sql)}").fetchall()
        return not any(str(kind).startswith("STRUCT") for _, kind, *_ in rows)

    def _make(self, sql: str = "", columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """All views with all columns, or those that a statement reads with these."""
        raw = partial(self._records.raw, parts=self._parts)
        self._filled = ingest(self._cursor, self._schema, self._records, raw=raw)
        self._shown = {}
        self._show(sql, columns or self.columns, () if sql else self._tables)

    def _show(self, sql: str, columns: Mapping[str, Sequence[str]], more: Collection[str] = ()) -> None:
        """Give the tables that a statement reads, and ``more``, these columns: to bind a view of a hundred
        takes longer than to run a query over few rows of it."""
        for table, kinds in self._tables.items():
            if table in self._held or self._shown.get(table) == columns[table]:
                continue
            if table in more or quoted(table) in sql:
                self._create(table, {name: kinds[name] for name in columns[table] if name in kinds})
                self._shown[table] = columns[table]

    def _create(self, table: str, columns: Mapping[str, str]) -> None:
        """A view of columns of a table; one that no model fills is empty text, or null where it is none."""
        filled = self._filled.get(table, [])
        empty = [
            f"CAST(NULL AS {self._empty_type(kind)}) AS {quoted(name)}"
            for name, kind in columns.items()
            if kind != WHOLE or not filled
        ]
        rows = [
            f"SELECT {', '.join([f'CAST(NULL AS VARCHAR) AS {EVENT}', *empty])} WHERE false",
            *(f"FROM {view}" for view in filled),
        ]
        typed = [f"{_typed(*column)} AS {quoted(column[0])}" for column in columns.items()]
        self._cursor.execute(
            f"CREATE OR REPLACE TEMP VIEW {quoted(table)} AS FROM"
            f" (SELECT {EVENT}, {self._arrival[0]} AS {INGESTED}, {', '.join(typed)}"
            f" FROM ({' UNION ALL BY NAME '.join(rows)}){self._arrival[1]})"
            f" WHERE {self._conditions.get(table, 'true')}"
        )

    def _empty_type(self, kind: str) -> str:
        """The type of a column that no model fills: of a whole record, that of the parts that are read."""
        if kind != WHOLE or not self._parts:
            return TYPES[kind]
        return f"STRUCT({', '.join(f'{quoted(part)} JSON' for part in sorted(self._parts))})"

    def _arrivals(self, ingested: Mapping[str, datetime] | datetime | None) -> tuple[str, str]:
        """SQL for when a row arrived, and what to join for it."""
        if ingested is None:
            return "CAST(NULL AS TIMESTAMP)", ""
        if isinstance(ingested, datetime):
            return f"CAST({literal(stamp(ingested))} AS TIMESTAMP)", ""
        self._cursor.execute("CREATE TEMP TABLE arrivals(_arrived VARCHAR PRIMARY KEY, _arrival TIMESTAMP)")
        insert_rows(self._cursor, "arrivals", [(k, stamp(v)) for k, v in ingested.items()])
        return "_arrival", f" LEFT JOIN arrivals ON _arrived = {EVENT}"


def timestamp(moment: datetime) -> str:
    """A time as an SQL literal."""
    return f"TIMESTAMP {literal(stamp(moment))}"


def _typed(name: str, kind: str) -> str:
    if kind == WHOLE:
        return quoted(name)
    value = f"coalesce({quoted(name)}, '')" if kind == "string" else quoted(name)
    return f"CAST({value} AS {TYPES[kind]})"


def _part(column: str, key: str, below: str) -> str:
    found = f"struct_extract({quoted(column)}, '{key}')"
    return f"json_extract({found}, '${below}')" if below else found


def _without_parameters(sql: str) -> str:
    """The statement to describe: the only parameter is the time of the query."""
    return sql.replace("$kqlnow", "TIMESTAMP '2000-01-01'")
