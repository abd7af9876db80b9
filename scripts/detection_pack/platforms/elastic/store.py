"""Events as Elastic holds them, to search with Lucene and ES|QL.

The ingest models of the log sources make the documents; `mapping.json` and the sources' field types say how
they are indexed.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import duckdb

from detection_pack.languages.databases import database
from detection_pack.languages.esql.esql_columns import LOWER_MACRO, as_columns
from detection_pack.languages.esql.esql_sql import Translation, UnsupportedEsql
from detection_pack.languages.lucene.document_table import Document
from detection_pack.languages.lucene.field_values import indexed, shown_address
from detection_pack.languages.lucene.lucene_index import During, Indices, json_text
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource, tables_of
from detection_pack.model.record_time import parse_time
from detection_pack.platforms.elastic.conditions import word_characters
from detection_pack.platforms.elastic.documents import PLATFORM, ingested
from detection_pack.platforms.platform import Stored
from detection_pack.platforms.records import Records, insert_rows, records_of

_HERE = Path(__file__).parent
TIMESTAMP = "@timestamp"
#: The types of fields whose values have more than one spelling; ES|QL reads dates itself.
_SPELT = ("ip", "boolean", "long")

Range = tuple[datetime | None, datetime | None]


def now_of(during: Range) -> str | None:
    """What NOW() is for a rule, whose range ends there, in SQL."""
    end = during[1]
    return None if end is None else f"make_timestamp({int(end.timestamp() * 1_000_000)})"


@dataclass(frozen=True)
class Bucket:
    """One group of a threshold rule: its key by field, its events, the distinct values that are counted (0
    where none are), and when the first and the last of its events happened, aware and in UTC."""

    key: Mapping[str, str]
    events: int
    distinct: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class _Read:
    """What ES|QL reads of a document, as JSON, with its time, the addresses in it and the fields that have
    several values."""

    id: str
    index: str
    moment: datetime | None
    text: str
    addresses: Sequence[str]
    several: Sequence[str]


class Searched(Protocol):
    """What the rules ask of events in Elastic: of a `Store`, or of a cluster (`cluster_store`)."""

    def document(self, identifier: str) -> dict[str, Any]: ...

    def shown(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]: ...

    def lucene(self, query: str, indices: Sequence[str], during: Range) -> frozenset[str]: ...

    def times(self, query: str, indices: Sequence[str], during: Range) -> list[datetime]: ...

    def buckets(self, query: str, stated: Mapping[str, Any], during: Range) -> list[Bucket]: ...

    def esql(self, text: str, during: Range) -> list[dict[str, Any]]: ...


#: Puts events where they can be searched, with the log sources and the variables of their models.
Opener = Callable[
    [Sequence[Event] | Records, Iterable[LogSource] | None, Mapping[str, bool] | None],
    AbstractContextManager[Searched],
]


class Store:
    """The documents of ``events``. Use it as a context manager: it owns a database.

    It has the fields of ``sources`` besides those of the events' own. ``variables`` are what the models of
    log sources ask for. ``times``: another @timestamp for some of the documents, by id.
    """

    def __init__(
        self,
        events: Sequence[Event] | Records,
        sources: Iterable[LogSource] | None = None,
        variables: Mapping[str, bool] | None = None,
        times: Mapping[str, datetime] | None = None,
    ) -> None:
        records = records_of(events, sources)
        self._mapping = mapping_of(records.sources)
        properties = self._mapping["mappings"]["properties"]
        self._types: dict[str, str] = {field: stated["type"] for field, stated in properties.items()}
        # Fields that hold values of any length; a keyword field here ignores more than 1,024 characters.
        self._unlimited = tuple(field for field, kind in self._types.items() if kind in ("wildcard", "text"))
        self._spelt = {field: kind for field, kind in self._types.items() if kind in _SPELT}
        self._texts = {i: (index, text) for i, index, text in ingested(records, variables=variables)}
        for identifier, moment in (times or {}).items():
            index, text = self._texts[identifier]
            self._texts[identifier] = index, json_text(json.loads(text) | {TIMESTAMP: iso(moment)})
        self._open = ExitStack()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def _indices(self) -> Indices:
        documents = [Document(i, index, text) for i, (index, text) in self._texts.items()]
        return self._open.enter_context(Indices(documents, self._mapping))

    @property
    def refused(self) -> Mapping[str, str]:
        """Why Elasticsearch would not take some documents, by id; as in production, they are not there."""
        return self._indices.refused

    def document(self, identifier: str) -> dict[str, Any]:
        """A document with flat dotted names, its typed values as the index has them."""
        return self._as_indexed(json.loads(self._texts[identifier][1]))

    def shown(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Documents by id, with at least these fields."""
        return {identifier: self.document(identifier) for identifier in ids}

    def held(self) -> list[Stored]:
        """Every document with its index, those that Elasticsearch would refuse among them."""
        return [
            Stored(i, index, self.document(i), self.refused.get(i)) for i, (index, _) in self._texts.items()
        ]

    @cached_property
    def documents(self) -> Mapping[str, dict[str, Any]]:
        """All documents that Elasticsearch would take, by id."""
        return {i: self.document(i) for i in self._texts if i not in self.refused}

    def lucene(
        self, query: str, indices: Sequence[str] = ("*",), during: Range = (None, None)
    ) -> frozenset[str]:
        """The ids of the documents that a query string finds, in ``(after, upto]`` where times are given.
        Raises `UnsupportedLucene`."""
        return self._indices.search(query, indices, During(TIMESTAMP, *during))

    def times(self, query: str, indices: Sequence[str], during: Range) -> list[datetime]:
        """When what a query string finds happened, in order, to the millisecond."""
        found = self._indices.dates(query, TIMESTAMP, indices, During(TIMESTAMP, *during))
        return [_moment(milliseconds) for milliseconds in found]

    def buckets(
        self, query: str, stated: Mapping[str, Any], during: Range, timestamp: str = TIMESTAMP
    ) -> list[Bucket]:
        """The groups that a Kibana threshold rule with these ``index`` and ``threshold`` alerts on.

        Source: Kibana, rule_types/threshold, build_threshold_aggregation.ts: at least ``value`` documents,
        and at least as many distinct values as ``cardinality`` says. Raises `UnsupportedLucene`.
        """
        threshold = stated["threshold"]
        fields: Sequence[str] = threshold["field"]
        # Kibana's form takes one field to count; its API takes a list of at most one.
        counted: Mapping[str, Any] = (*threshold["cardinality"], {"field": None, "value": 0})[0]
        found = self._indices.composite(
            query,
            fields,
            indices=stated["index"],
            during=During(timestamp, *during),
            counted=counted["field"],
            timestamp=timestamp,
        )
        return [
            Bucket(
                dict(zip(fields, bucket.key, strict=True)),
                bucket.documents,
                bucket.distinct,
                _moment(bucket.first),
                _moment(bucket.last),
            )
            for bucket in found
            if bucket.documents >= threshold["value"] and bucket.distinct >= counted["value"]
        ]

    def esql(
        self, text: str, during: Range = (None, None), arrived: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of an ES|QL query, by column name; dates are aware, in UTC. ``arrived``: the ids of the
        documents that are there, by default all. Raises `UnsupportedEsql`."""
        there = [read for read in self._read if arrived is None or read.id in arrived]
        seen = [read for read in there if _within(read.moment, during)]
        addresses = {address for read in seen for address in read.addresses}
        several = {field for read in seen for field in read.several}
        translation = Translation(text, self._types, addresses, several, now=now_of(during))
        indices = {read.index for read in seen}
        asked = {index for index in indices if _matches(index, translation.indices)}
        held = [(read.index, read.text) for read in seen if read.index in asked]
        with database() as connection:
            connection.execute(LOWER_MACRO)
            connection.execute("CREATE TABLE esql_source(index_name VARCHAR, document JSON)")
            insert_rows(connection, "esql_source", held)
            try:
                rows = connection.execute(translation.sql).fetchall()
            except duckdb.Error as error:
                # A name that is no path of a document, or a value beyond a type, shows only when it runs.
                raise UnsupportedEsql(str(error).split("\n")[0], 1, 1) from error
        names = list(translation.columns)
        return [{n: aware(v) for n, v in zip(names, row, strict=True)} for row in rows]

    @cached_property
    def _read(self) -> list[_Read]:
        """All documents as ES|QL reads them."""
        networked = [field for field, kind in self._types.items() if kind == "ip"]
        found = []
        for identifier, document in self.documents.items():
            columns = as_columns(document, self._unlimited)
            found.append(
                _Read(
                    identifier,
                    self._texts[identifier][0],
                    parse_time(document.get(TIMESTAMP)),
                    json.dumps(columns, ensure_ascii=False),
                    [columns[field] for field in networked if field in columns],
                    [field for field, value in columns.items() if isinstance(value, list)],
                )
            )
        return found

    def _as_indexed(self, document: dict[str, Any]) -> dict[str, Any]:
        """A typed field holds a value of its type, in one spelling, or nothing: the index template of
        logs-*-* says `ignore_malformed` (component template logs@settings), so the rest is kept."""
        for field, kind in self._spelt.items():
            if field in document:
                try:
                    text, whole, _ = indexed(kind, "VARCHAR", str(document[field]))
                except (ValueError, OverflowError):
                    text = whole = None
                if text is None and whole is None:
                    del document[field]
                elif kind == "boolean":
                    document[field] = whole == 1
                else:
                    document[field] = whole if text is None else shown_address(text)
        return document


def mapping_of(sources: Iterable[LogSource]) -> dict[str, Any]:
    """The index mapping: what every index has, and the fields of the sources by the types in their tables.

    A type such as ``keyword+text`` is a field with a further one of the other type below it. ``text(-)`` is
    text whose words are runs of ASCII letters, digits, ``_`` and what stands in parentheses
    (`conditions.word_characters`).
    """
    mapping: dict[str, Any] = json.loads((_HERE / "mapping.json").read_text(encoding="utf-8"))
    properties = mapping["mappings"]["properties"]
    for columns in tables_of(sources, PLATFORM).values():
        for field, stated in columns.items():
            kind, *further = stated.split("+")
            if (more := word_characters(kind)) is not None:
                name = f"words_{more.encode().hex()}"
                separators = rf"[\W&&[^{more}]]+" if more else r"\W+"
                mapping["settings"]["index"].setdefault("analysis", {}).setdefault("analyzer", {})[name] = {
                    "type": "pattern",
                    "pattern": separators,
                }
                properties[field] = {"type": "text", "analyzer": name}
                continue
            typed: dict[str, Any] = {"type": kind} | ({"ignore_above": 1024} if kind == "keyword" else {})
            properties[field] = typed | ({"fields": {t: {"type": t} for t in further}} if further else {})
    return mapping


def iso(moment: datetime) -> str:
    """A moment as documents have it, in UTC, to the millisecond."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _matches(index: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(index, pattern) for pattern in patterns)


def _within(moment: datetime | None, during: Range) -> bool:
    after, upto = during
    if after is None and upto is None:
        return True
    return moment is not None and (after is None or moment > after) and (upto is None or moment <= upto)


def _moment(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)


def aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
