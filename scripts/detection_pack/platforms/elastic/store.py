"""Events as Elastic holds them, to search with Lucene and ES|QL.

Lucene runs on osmem-server with the index mapping of `mapping.json` and of the log sources; one server serves
the whole process.
ES|QL runs on DuckDB through `esql_sql`.
"""

from __future__ import annotations

import atexit
import fnmatch
import ipaddress
import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from osmem_server import OsmemServer

from detection_pack.languages.esql.esql_sql import Translation
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource, tables_of
from detection_pack.model.record_time import parse_time
from detection_pack.platforms.elastic.long_values import decided, is_long
from detection_pack.platforms.rows import connected, ingest, insert_rows, known_sources

PLATFORM = "elastic"
_HERE = Path(__file__).parent
_BULK = 5_000
_RUNS = itertools.count(1)
_MACROS = _HERE / "ingest_macros.sql"
#: The pieces of a record as one document; empty and null values are dropped.
_DOCUMENTS = """
WITH filled AS (
    SELECT pieces.id, index_name, entry.key AS name, entry.value ->> '$' AS value
    FROM elastic_pieces AS pieces, json_each(document) AS entry
)
SELECT id, index_name, json_group_object(name, value) AS document
FROM filled WHERE value IS NOT NULL AND value <> '' AND NOT contains(name, '"')
GROUP BY id, index_name ORDER BY id
"""

#: Why Elasticsearch refuses a document for the names of its fields (DotExpandingXContentParser), or because
#: what is an object in a document before it is a value in this one (DocumentParser).
_REFUSALS = (
    "makes object resolution ambiguous",
    "cannot contain only whitespace",
    "as object, but found a concrete value",
)

Range = tuple[datetime | None, datetime | None]


class SearchFailed(Exception):
    """The server refused a query or a document."""


class Store:
    """The documents of ``events``. Use it as a context manager: it owns indices on the server.

    It has the fields of ``sources`` besides those of the events' own. ``variables`` are what the models of
    log sources ask for.
    """

    def __init__(
        self,
        events: Sequence[Event],
        sources: Iterable[LogSource] | None = None,
        variables: Mapping[str, bool] | None = None,
    ) -> None:
        self._run = next(_RUNS)
        known = known_sources(events, sources)
        self._mapping = mapping_of(known)
        properties = self._mapping["mappings"]["properties"]
        self._types: dict[str, str] = {field: stated["type"] for field, stated in properties.items()}
        # Fields that hold values of any length; a keyword field here ignores more than 1,024 characters.
        self._wildcards = tuple(field for field, kind in self._types.items() if kind == "wildcard")
        self.documents: dict[str, dict[str, Any]] = {}
        self._index_of: dict[str, str] = {}
        self._ids: list[str] = []
        for identifier, index, text in ingested(events, known, variables):
            self.documents[identifier] = self._as_indexed(json.loads(text))
            self._index_of[identifier] = index
        self._ids = list(self.documents)
        self._long = {i for i, document in self.documents.items() if is_long(document, self._wildcards)}
        self._created: dict[tuple[str, bool], str] = {}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._created.values():
            _request("DELETE", f"/{name}")
        self._created.clear()

    def lucene(
        self, query: str, indices: Sequence[str] = ("*",), during: Range = (None, None)
    ) -> frozenset[str]:
        """The ids of the documents that a query string finds, in ``(after, upto]`` where times are given."""
        body = {"size": max(len(self._ids), 1), "_source": False}
        answers = [_request_search(self._names(indices, False), _filter(query, during), body)]
        if names := self._names(indices, True):
            held = {i: self.documents[i] for i in self._ids if i in self._long and i in self.documents}
            for text, identifiers in decided(query, held, self._wildcards):
                numbers = [str(n) for n, i in enumerate(self._ids) if i in identifiers]
                clauses = [*_filter(text, during), {"ids": {"values": numbers}}]
                answers.append(_request_search(names, clauses, body))
        hits = [hit for found in answers for hit in found.get("hits", {}).get("hits", ())]
        return frozenset(self._ids[int(hit["_id"])] for hit in hits)

    def search(
        self, query: str, indices: Sequence[str], during: Range, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Any search over what a query string finds, sent as Kibana sends it."""
        return _request_search(self._names(indices), _filter(query, during), body)

    def esql(self, text: str, during: Range = (None, None)) -> list[dict[str, Any]]:
        """The rows of an ES|QL query, by column name; dates are aware, in UTC. Raises `UnsupportedEsql`."""
        self._names(("*",))  # what is refused shows when it is indexed
        held = [
            (self._index_of[i], json.dumps(d, ensure_ascii=False))
            for i, d in self.documents.items()
            if _within(d, during)
        ]
        networked = [field for field, kind in self._types.items() if kind == "ip"]
        addresses = {d[f] for d in self.documents.values() for f in networked if f in d}
        translation = Translation(text, self._types, addresses)
        held = [row for row in held if _matches(row[0], translation.indices)]
        with connected() as connection:
            connection.execute("CREATE TABLE esql_source(index_name VARCHAR, document JSON)")
            insert_rows(connection, "esql_source", held)
            rows = connection.execute(translation.sql).fetchall()
        names = list(translation.columns)
        return [{n: _aware(v) for n, v in zip(names, row, strict=True)} for row in rows]

    def _as_indexed(self, document: dict[str, Any]) -> dict[str, Any]:
        """A typed field holds a value of its type, in one spelling, or nothing: the index template of
        logs-*-* says `ignore_malformed` (component template logs@settings), so the rest is kept."""
        for field, kind in self._types.items():
            if field in document and kind in _TYPES:
                try:
                    document[field] = _TYPES[kind](document[field])
                except ValueError:
                    del document[field]
        return document

    def _names(self, indices: Sequence[str], long: bool | None = None) -> list[str]:
        """The server's indices for the patterns; with ``long`` only those with long values, or without."""
        if not self._created:
            self._create()
        return [
            name
            for (logical, own), name in self._created.items()
            if _matches(logical, indices) and long in (None, own)
        ]

    def _create(self) -> None:
        for logical, long in sorted({(index, i in self._long) for i, index in self._index_of.items()}):
            name = f"run-{self._run}-{'long-' if long else ''}{logical}"
            _request("PUT", f"/{name}", self._mapping)
            self._created[logical, long] = name
        lines = []
        for number, identifier in enumerate(self._ids):
            index = self._created[self._index_of[identifier], identifier in self._long]
            lines.append(json.dumps({"index": {"_index": index, "_id": str(number)}}))
            lines.append(json.dumps(self.documents[identifier]))
        for start in range(0, len(lines), 2 * _BULK):
            body = ("\n".join(lines[start : start + 2 * _BULK]) + "\n").encode()
            answer = _request("POST", "/_bulk?refresh=true", body)
            for item in answer["items"] if answer.get("errors") else ():
                if "error" in item["index"]:
                    self._refused(self._ids[int(item["index"]["_id"])], str(item["index"]["error"]))

    def _refused(self, identifier: str, reason: str) -> None:
        """A record with names that cannot be fields of the index is not there, as in production. Raises
        `SearchFailed` for any other reason."""
        if not any(known in reason for known in _REFUSALS):
            raise SearchFailed(f"a document was refused: {reason}")
        del self.documents[identifier]


def ingested(
    events: Sequence[Event],
    sources: Iterable[LogSource] | None = None,
    variables: Mapping[str, bool] | None = None,
) -> list[tuple[str, str, str]]:
    """``(id, index, document as JSON)`` of each event, as the ingest models of the sources have it."""
    with connected() as connection:
        ingest(connection, PLATFORM, events, known_sources(events, sources), _MACROS, variables)
        return connection.execute(_DOCUMENTS).fetchall()


def mapping_of(sources: Iterable[LogSource]) -> dict[str, Any]:
    """The index mapping: what every index has, and the fields of the sources by the types in their tables.

    A type such as ``keyword+text`` is a field with a further one of the other type below it.
    """
    mapping: dict[str, Any] = json.loads((_HERE / "mapping.json").read_text(encoding="utf-8"))
    properties = mapping["mappings"]["properties"]
    for columns in tables_of(sources, PLATFORM).values():
        for field, stated in columns.items():
            kind, *further = stated.split("+")
            typed: dict[str, Any] = {"type": kind} | ({"ignore_above": 1024} if kind == "keyword" else {})
            properties[field] = typed | ({"fields": {t: {"type": t} for t in further}} if further else {})
    return mapping


def _boolean(value: Any) -> bool:
    """What a boolean field takes ("Boolean field type"): true, "true", false, "false" and the empty text."""
    if value in (True, "true"):
        return True
    if value in (False, "false", ""):
        return False
    raise ValueError(value)


def _long(value: Any) -> int:
    """What a long field takes, with `coerce` as it is by default: whole numbers, as text too, and the whole
    part of others ("Numeric field types", "coerce")."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(value) from None
    if not number.is_finite() or not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return int(number)


_TYPES: dict[str, Callable[[Any], Any]] = {
    "ip": lambda value: str(ipaddress.ip_address(value)),
    "boolean": _boolean,
    "long": _long,
}


def _matches(index: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(index, pattern) for pattern in patterns)


def _within(document: Mapping[str, Any], during: Range) -> bool:
    after, upto = during
    if after is None and upto is None:
        return True
    moment = parse_time(document.get("@timestamp"))
    return moment is not None and (after is None or moment > after) and (upto is None or moment <= upto)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


@cache
def _server() -> OsmemServer:
    server = OsmemServer.start()
    atexit.register(server.process.kill)
    return server


def _filter(query: str, during: Range) -> list[dict[str, Any]]:
    """What Kibana sends for a query string and a time range."""
    clauses: list[dict[str, Any]] = [{"query_string": {"query": query, "analyze_wildcard": True}}]
    after, upto = during
    bounds = {k: _iso(v) for k, v in (("gt", after), ("lte", upto)) if v is not None}
    return [*clauses, {"range": {"@timestamp": bounds}}] if bounds else clauses


def _request_search(
    names: Sequence[str], clauses: Sequence[Mapping[str, Any]], body: Mapping[str, Any]
) -> dict[str, Any]:
    if not names:
        return {}
    path = f"/{','.join(names)}/_search"
    return _request("POST", path, {**body, "query": {"bool": {"filter": clauses}}})


def _request(method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> dict[str, Any]:
    kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    url = _server().url + urllib.parse.quote(path, safe="/,?=&*")
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise SearchFailed(error.read().decode(errors="replace")[:500]) from error
    return answer
