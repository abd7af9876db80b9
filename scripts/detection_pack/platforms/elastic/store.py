"""Events as Elastic holds them, to search with Lucene and ES|QL: `ingest.sql` makes the documents, and
`mapping.json` says how they are indexed."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

from detection_pack.events import Event, parse_time
from detection_pack.languages.databases import database
from detection_pack.languages.lucene.document_table import Document
from detection_pack.languages.lucene.field_values import indexed, shown_address
from detection_pack.languages.lucene.lucene_index import During, Indices, json_text
from detection_pack.platforms.elastic.esql_sql import Translation, mapping_types
from detection_pack.platforms.rows import csv_rows, insert_rows, load_raw

_HERE = Path(__file__).parent
TIMESTAMP = "@timestamp"
_ADDRESSES = ("source.ip", "client.ip")

Range = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Bucket:
    """One group of a threshold rule: its key by field, its events, the distinct values that are counted (0
    where none are), and when the first and the last of its events happened, aware and in UTC."""

    key: Mapping[str, str]
    events: int
    distinct: int
    first: datetime
    last: datetime


class Searched(Protocol):
    """What the rules ask of events in Elastic: of a `Store`, or of a cluster (`cluster_store`)."""

    def document(self, identifier: str) -> dict[str, Any]: ...

    def lucene(self, query: str, indices: Sequence[str], during: Range) -> frozenset[str]: ...

    def times(self, query: str, indices: Sequence[str], during: Range) -> list[datetime]: ...

    def buckets(self, query: str, stated: Mapping[str, Any], during: Range) -> list[Bucket]: ...

    def esql(self, text: str, during: Range) -> list[dict[str, Any]]: ...


#: Puts events, with `keeps_item_owner`, where they can be searched.
Opener = Callable[[Sequence[Event], bool], AbstractContextManager[Searched]]


class Store:
    """The documents of ``events``. Use it as a context manager: it owns a database.

    ``times``: another @timestamp for some of the documents, by id.
    """

    def __init__(
        self,
        events: Sequence[Event],
        keeps_item_owner: bool = True,
        times: Mapping[str, datetime] | None = None,
    ) -> None:
        self._texts = {i: (index, text) for i, index, text in ingested(events, keeps_item_owner)}
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
        return self._open.enter_context(Indices(documents, _mapping()))

    @property
    def refused(self) -> Mapping[str, str]:
        """Why Elasticsearch would not take some documents, by id; as in production, they are not there."""
        return self._indices.refused

    def document(self, identifier: str) -> dict[str, Any]:
        """A document with flat dotted names, its typed values as the index has them."""
        return _as_indexed(json.loads(self._texts[identifier][1]))

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

    def esql(self, text: str, during: Range = (None, None)) -> list[dict[str, Any]]:
        """The rows of an ES|QL query, by column name; dates are aware, in UTC. Raises `UnsupportedEsql`."""
        held = [
            (self._texts[i][0], json.dumps(d, ensure_ascii=False))
            for i, d in self.documents.items()
            if _within(d, during)
        ]
        addresses = {d[f] for d in self.documents.values() for f in _ADDRESSES if f in d}
        translation = Translation(text, mapping_types(), addresses)
        held = [row for row in held if _matches(row[0], translation.indices)]
        with database() as connection:
            connection.execute("CREATE TABLE esql_source(index_name VARCHAR, document JSON)")
            insert_rows(connection, "esql_source", held)
            rows = connection.execute(translation.sql).fetchall()
        names = list(translation.columns)
        return [{n: _aware(v) for n, v in zip(names, row, strict=True)} for row in rows]


def ingested(events: Sequence[Event], keeps_item_owner: bool = True) -> list[tuple[str, str, str]]:
    """``(id, index, document as JSON)`` of each event, as the ingest model has it.

    ``keeps_item_owner``: whether user.email of an ExchangeItem record still is the mailbox's owner where
    UserId is an address, or UserId, as the integration's pipeline writes over it.
    """
    with database() as connection:
        load_raw(connection, events)
        connection.execute("CREATE TABLE event_codes(value VARCHAR, code VARCHAR)")
        insert_rows(connection, "event_codes", csv_rows(_HERE / "event_codes.csv"))
        connection.execute(f"SET VARIABLE keeps_item_owner = {keeps_item_owner}")
        connection.execute((_HERE / "ingest.sql").read_text(encoding="utf-8"))
        return connection.execute(
            "SELECT id, index_name, document FROM elastic_documents ORDER BY id"
        ).fetchall()


def iso(moment: datetime) -> str:
    """A moment as documents have it, in UTC, to the millisecond."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _as_indexed(document: dict[str, Any]) -> dict[str, Any]:
    """A typed field holds a value of its type, in one spelling, or nothing: the index template of logs-*-*
    says `ignore_malformed` (component template logs@settings), so the rest of the document is kept."""
    for field, kind in _typed().items():
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


@cache
def _mapping() -> dict[str, Any]:
    mapping: dict[str, Any] = json.loads((_HERE / "mapping.json").read_text(encoding="utf-8"))
    return mapping


@cache
def _typed() -> dict[str, str]:
    """The fields whose values have more than one spelling; ES|QL reads dates itself."""
    properties: dict[str, dict[str, str]] = _mapping()["mappings"]["properties"]
    return {
        field: stated["type"]
        for field, stated in properties.items()
        if stated["type"] in ("ip", "boolean", "long")
    }


def _matches(index: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(index, pattern) for pattern in patterns)


def _within(document: Mapping[str, Any], during: Range) -> bool:
    after, upto = during
    if after is None and upto is None:
        return True
    moment = parse_time(document.get(TIMESTAMP))
    return moment is not None and (after is None or moment > after) and (upto is None or moment <= upto)


def _moment(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
