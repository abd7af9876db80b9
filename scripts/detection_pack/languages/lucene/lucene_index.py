"""Indices of documents to search with query strings and to count as Kibana's threshold rules do."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import duckdb

from detection_pack.languages.databases import database, literal
from detection_pack.languages.lucene.document_table import Document, DocumentTable
from detection_pack.languages.lucene.field_values import shown_address
from detection_pack.languages.lucene.index_mapping import (
    ANALYSED,
    REALS,
    FieldType,
    UnsupportedMapping,
    read_mapping,
)
from detection_pack.languages.lucene.lucene_sql import Translation

#: Answers that are kept: a threshold rule asks the same query for each of its runs.
_KEPT = 8


@dataclass(frozen=True)
class During:
    """Documents whose date ``field`` lies in ``(after, upto]``, to the millisecond; None is open."""

    field: str
    after: datetime | None = None
    upto: datetime | None = None


@dataclass(frozen=True)
class Bucket:
    """One group of `Indices.composite`.

    ``key``: a value of each grouping field, in order, as text. ``documents`` counts them, ``distinct`` the
    different values of the counted field (0 where none was asked for), ``first`` and ``last`` are the
    earliest and latest date in milliseconds since 1970, None where no document has one.
    """

    key: tuple[str, ...]
    documents: int
    distinct: int
    first: int | None
    last: int | None


class Indices:
    """Documents of one or more indices with one mapping. Use it as a context manager: it owns a database.

    ``mapping`` is the body of a create-index request. `refused` holds the reason for each document that
    Elasticsearch would not have taken, by id. Raises `UnsupportedMapping`.
    """

    def __init__(self, documents: Sequence[Document], mapping: Mapping[str, Any]) -> None:
        read = read_mapping(mapping)
        with ExitStack() as stack:
            self._connection: duckdb.DuckDBPyConnection = stack.enter_context(database())
            table = DocumentTable(self._connection, documents, read)
            self._stack = stack.pop_all()
        self.refused = table.refused
        self._types = table.types
        self._names = sorted({document.index for document in documents})
        self._found: dict[tuple[str, tuple[str, ...]], str] = {}
        self._made = 0

    def __enter__(self) -> Indices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def search(
        self, query: str, indices: Sequence[str] = ("*",), during: During | None = None
    ) -> frozenset[str]:
        """The ids of the documents in indices of these names or patterns that a query string finds. Raises
        `UnsupportedLucene`, and `UnsupportedMapping` where a field is of several types there."""
        found = self._matching(query, indices)
        sql = f"SELECT id FROM documents JOIN {found} USING (number) WHERE {self._within(during)}"
        return frozenset(str(identifier) for (identifier,) in self._connection.execute(sql).fetchall())

    def dates(
        self, query: str, field: str, indices: Sequence[str] = ("*",), during: During | None = None
    ) -> list[int]:
        """The dates in ``field`` of what a query string finds, ascending, in milliseconds since 1970."""
        found = self._matching(query, indices)
        sql = (
            f"SELECT whole FROM terms JOIN {found} USING (number)"
            f" WHERE {_named(field)} AND {self._within(during)} ORDER BY whole"
        )
        return [int(whole) for (whole,) in self._connection.execute(sql).fetchall()]

    def composite(
        self,
        query: str,
        fields: Sequence[str],
        *,
        indices: Sequence[str] = ("*",),
        during: During | None = None,
        counted: str | None = None,
        timestamp: str = "@timestamp",
    ) -> list[Bucket]:
        """All groups of what a query string finds, in the order of their keys.

        A document is in one group for each combination of its values, and in none where it lacks a field
        (Elasticsearch, "Composite aggregation"); without fields all documents are one group. The number of
        distinct values is exact, where the aggregation ``cardinality`` is so up to its precision threshold
        of 3,000.
        """
        types = self._searched(indices)
        found = self._matching(query, indices)
        names = [f"k{n}" for n, _ in enumerate(fields)]
        joins = "".join(
            f" JOIN ({self._keys(types, field, name)}) USING (number)"
            for field, name in zip(fields, names, strict=True)
        )
        keys = ", ".join(names) or "k"
        own = keys if names else "0 AS k"
        grouped = f"SELECT number, {own} FROM {found}{joins} WHERE {self._within(during)}"
        dates = (
            "SELECT number, min(whole) AS low, max(whole) AS high FROM terms"
            f" WHERE {_named(timestamp)} GROUP BY number"
        )
        distinct = "0"
        values = ""
        if counted is not None:
            distinct = "COALESCE(max(counted.n), 0)"
            values = (
                f" LEFT JOIN (SELECT {keys}, count(DISTINCT value) AS n FROM grouped"
                f" JOIN ({self._keys(types, counted, 'value')}) USING (number) GROUP BY {keys}) AS counted"
                f" USING ({keys})"
            )
        rows = self._connection.execute(
            f"WITH grouped AS ({grouped}) SELECT {keys}, count(*), {distinct}, min(low), max(high)"
            f" FROM grouped LEFT JOIN ({dates}) USING (number){values} GROUP BY {keys} ORDER BY {keys}"
        ).fetchall()
        kinds = [types.get(field) for field in fields]
        return [self._bucket(row if fields else row[1:], kinds) for row in rows]

    @staticmethod
    def _bucket(row: Sequence[Any], types: Sequence[FieldType | None]) -> Bucket:
        *values, documents, distinct, first, last = row
        key = tuple(_shown(value, kind) for value, kind in zip(values, types, strict=True))
        return Bucket(key, documents, distinct, first, last)

    def _keys(self, types: Mapping[str, FieldType], field: str, name: str) -> str:
        kind = types.get(field)
        if kind is None:
            return f"SELECT number, text AS {name} FROM terms WHERE false"
        if kind.name in (*ANALYSED, "flattened"):
            raise UnsupportedMapping(f'groups by "{field}", which is {kind.name}, are not modelled')
        column = (
            "text"
            if kind.name in ("keyword", "wildcard", "ip")
            else "real"
            if kind.name in REALS
            else "whole"
        )
        return f"SELECT number, {column} AS {name} FROM terms WHERE {_named(field)}"

    # -- what is searched --------------------------------------------------------------------------------

    def _matching(self, query: str, indices: Sequence[str]) -> str:
        """The name of a table of the numbers of the documents that match, at any time."""
        asked = (query, tuple(indices))
        if asked not in self._found:
            if len(self._found) >= _KEPT:
                oldest = next(iter(self._found))
                self._connection.execute(f"DROP TABLE {self._found.pop(oldest)}")
            sql = Translation(query, self._searched(indices)).sql
            listed = ", ".join(map(literal, self._logical(indices))) or "NULL"
            self._made += 1
            name = f"found_{self._made}"
            self._connection.execute(f"CREATE TEMP TABLE {name} AS {sql} AND index_name IN ({listed})")
            self._found[asked] = name
        return self._found[asked]

    def _logical(self, patterns: Sequence[str]) -> list[str]:
        return [n for n in self._names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]

    def _searched(self, patterns: Sequence[str]) -> dict[str, FieldType]:
        found: dict[str, FieldType] = {}
        names = set(self._logical(patterns))
        for (index, field), kind in self._types.items():
            if index in names and found.setdefault(field, kind) != kind:
                raise UnsupportedMapping(f'"{field}" is of several types in the indices that are searched')
        return found

    def _within(self, during: During | None) -> str:
        if during is None or (during.after is None and during.upto is None):
            return "true"
        bounds = [(">", during.after), ("<=", during.upto)]
        said = "".join(
            f" AND whole {sign} {milliseconds(moment)}" for sign, moment in bounds if moment is not None
        )
        return f"number IN (SELECT number FROM terms WHERE {_named(during.field)}{said})"


def matches(query: str, documents: Iterable[Mapping[str, Any]], mapping: Mapping[str, Any]) -> list[bool]:
    """For each document whether a query string finds it in an index with this mapping; one that the index
    refuses is not found."""
    listed = as_documents(documents)
    with Indices(listed, mapping) as held:
        found = held.search(query)
    return [document.id in found for document in listed]


def aggregate(
    query: str,
    documents: Iterable[Mapping[str, Any]],
    mapping: Mapping[str, Any],
    *,
    fields: Sequence[str],
    counted: str | None = None,
    timestamp: str = "@timestamp",
) -> list[Bucket]:
    """`Indices.composite` over documents in one index with this mapping."""
    with Indices(as_documents(documents), mapping) as held:
        return held.composite(query, fields, counted=counted, timestamp=timestamp)


def as_documents(documents: Iterable[Mapping[str, Any]], index: str = "documents") -> list[Document]:
    """Documents of one index, their ids their places, from 0."""
    return [Document(str(n), index, json_text(document)) for n, document in enumerate(documents)]


def json_text(document: Mapping[str, Any]) -> str:
    """A document as UTF-8 can hold it: half of a surrogate pair becomes a question mark."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


def _named(field: str) -> str:
    return f"field = {literal(field)}"


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() // 0.001) if moment.microsecond % 1000 else round(moment.timestamp() * 1000)


def _shown(value: Any, kind: FieldType | None) -> str:
    if kind is not None and kind.name == "ip":
        return shown_address(value)
    if kind is not None and kind.name == "boolean":
        return "true" if value else "false"
    return str(value)
