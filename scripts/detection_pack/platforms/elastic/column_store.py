"""Records of a log as Elastic holds them, searched by the fields that a query reads, not as whole documents.

What has no columns (the existence of an object, a typed field with several values) is answered by whole
documents, `Store`; a `Probe` then learns that whole records are read. One thing only the whole documents of
an index decide: whether Elasticsearch takes a document whose field is an object where another's is a value.
Such documents are taken here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import duckdb

from detection_pack.languages.databases import literal
from detection_pack.languages.esql.esql_columns import LOWER_MACRO
from detection_pack.languages.esql.esql_sql import Translation as EsqlTranslation
from detection_pack.languages.esql.esql_sql import UnsupportedEsql, fields_read
from detection_pack.languages.lucene.index_mapping import read_mapping
from detection_pack.languages.lucene.lucene_index import milliseconds
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.languages.lucene.lucene_sql import Column, ColumnTranslation
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.elastic.document_columns import DocumentColumns, NoColumns
from detection_pack.platforms.elastic.documents import ID, INDEX
from detection_pack.platforms.elastic.store import (
    TIMESTAMP,
    Bucket,
    Range,
    Store,
    aware,
    mapping_of,
    now_of,
)
from detection_pack.platforms.records import Probe, Records, quoted, records_of

Result = TypeVar("Result")


class ColumnStore:
    """The documents of ``records``. Use it as a context manager, as a `Store`."""

    def __init__(
        self,
        events: Sequence[Event] | Records,
        sources: Iterable[LogSource] | None = None,
        variables: Mapping[str, bool] | None = None,
    ) -> None:
        self._records = records_of(events, sources)
        self._variables = variables
        body = mapping_of(self._records.sources)
        self._mapping = read_mapping(body)
        properties = body["mappings"]["properties"]
        self._types: dict[str, str] = {field: stated["type"] for field, stated in properties.items()}
        self._columns = DocumentColumns(self._records, self._mapping, variables)
        self._columns.cursor.execute(LOWER_MACRO)
        self._whole: Store | None = None

    def __enter__(self) -> ColumnStore:
        return self

    def __exit__(self, *exit_of: object) -> None:
        if self._whole is not None:
            self._whole.__exit__(*exit_of)

    def document(self, identifier: str) -> dict[str, Any]:
        """A whole document, which needs the whole record."""
        return self._documents().document(identifier)

    def shown(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        wanted = list(ids)
        # Of no documents nothing is shown, but what would be read of one has to be known.
        if not wanted and not isinstance(self._records, Probe):
            return {}
        return self._columns.shown(fields, wanted)

    def lucene(
        self, query: str, indices: Sequence[str] = ("*",), during: Range = (None, None)
    ) -> frozenset[str]:
        """As `Store.lucene`."""

        def found() -> frozenset[str]:
            named: dict[str, Column] = {}
            read = self._read(query, lambda field: Column(quoted(field)))
            fields = list(dict.fromkeys([*read.fields, TIMESTAMP]))
            table, named = self._columns.table(fields)
            condition = self._read(query, named.__getitem__).condition
            sql = f"SELECT {ID} FROM {table} WHERE {condition} AND {self._within(named[TIMESTAMP], during)}"
            sql += f" AND {_in_indices(indices)}"
            rows = self._records.execute(self._columns.cursor, sql).fetchall()
            return frozenset(str(identifier) for (identifier,) in rows)

        return self._or_whole(found, lambda whole: whole.lucene(query, indices, during))

    def times(self, query: str, indices: Sequence[str], during: Range) -> list[datetime]:
        """As `Store.times`."""
        return self._documents().times(query, indices, during)

    def buckets(self, query: str, stated: Mapping[str, Any], during: Range) -> list[Bucket]:
        """As `Store.buckets`."""
        return self._documents().buckets(query, stated, during)

    def esql(self, text: str, during: Range = (None, None)) -> list[dict[str, Any]]:
        """As `Store.esql`."""
        return self._or_whole(lambda: self._esql(text, during), lambda whole: whole.esql(text, during))

    def _esql(self, text: str, during: Range) -> list[dict[str, Any]]:
        fields = list(dict.fromkeys([*fields_read(text, self._types), TIMESTAMP]))
        table, columns = self._columns.texts(fields)
        cursor = self._columns.cursor
        single = {field: _single(column) for field, column in columns.items()}
        cells = ", ".join(f"{sql} AS {quoted(field)}" for field, sql in single.items())
        several = [
            field for field, column in columns.items() if column.several and self._several(table, column)
        ]
        stamp = f"epoch_ms(CAST(replace({single[TIMESTAMP]}, 'Z', '') AS TIMESTAMP))"
        where = self._within(Column(stamp), during)
        cursor.execute(
            f"CREATE OR REPLACE TEMP VIEW esql_rows AS SELECT {INDEX}, {cells} FROM {table} WHERE {where}"
        )
        addresses = [
            str(value)
            for field in fields
            if self._types.get(field) == "ip"
            for (value,) in self._records.execute(
                cursor, f"SELECT DISTINCT {quoted(field)} FROM esql_rows WHERE {quoted(field)} IS NOT NULL"
            ).fetchall()
        ]
        translation = EsqlTranslation(text, self._types, addresses, several, quoted, now_of(during))
        where = _in_indices(translation.indices)
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW esql_source AS FROM esql_rows WHERE {where}")
        try:
            rows = self._records.execute(cursor, translation.sql).fetchall()
        except duckdb.Error as error:
            raise UnsupportedEsql(str(error).split("\n")[0], 1, 1) from error
        names = list(translation.columns)
        return [{n: aware(v) for n, v in zip(names, row, strict=True)} for row in rows]

    def _several(self, table: str, column: Column) -> bool:
        rows = self._records.execute(
            self._columns.cursor, f"SELECT count(*) FROM {table} WHERE len({column.sql}) > 1"
        ).fetchall()
        return any(number for (number,) in rows)

    def _read(self, query: str, column: Callable[[str], Column]) -> ColumnTranslation:
        types = _Types(self._columns)
        return ColumnTranslation(query, types, column)

    @staticmethod
    def _within(timestamp: Column, during: Range) -> str:
        after, upto = during
        said = [f"{timestamp.sql} {sign} {milliseconds(m)}" for sign, m in ((">", after), ("<=", upto)) if m]
        return " AND ".join(said) or "true"

    def _or_whole(self, columns: Callable[[], Result], whole: Callable[[Store], Result]) -> Result:
        try:
            return columns()
        except (NoColumns, UnsupportedLucene):
            return whole(self._documents())

    def _documents(self) -> Store:
        if self._whole is None:
            self._whole = Store(self._records, variables=self._variables)
        return self._whole


def _single(column: Column) -> str:
    """The only value of a field; null where it has several."""
    return f"CASE WHEN len({column.sql}) = 1 THEN {column.sql}[1] END" if column.several else column.sql


class _Types(dict[str, Any]):
    """The type of any field, with a mapping or without."""

    def __init__(self, columns: DocumentColumns) -> None:
        super().__init__()
        self._columns = columns

    def get(self, field: str, default: Any = None) -> Any:
        return self._columns.typed(field)


def _in_indices(patterns: Sequence[str]) -> str:
    """SQL for whether a document is in an index of one of these names or patterns."""
    alternatives = [f"{INDEX} GLOB {literal(pattern)}" for pattern in patterns]
    return f"({' OR '.join(alternatives) or 'false'})"
