"""Events as Elastic holds them, to search with Lucene and ES|QL.

Lucene runs on osmem-server with the index mapping of `mapping.json`; one server serves the whole process.
ES|QL runs on DuckDB through `esql_sql`.
"""

from __future__ import annotations

import atexit
import fnmatch
import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from osmem_server import OsmemServer

from detection_pack.events import Event, parse_time
from detection_pack.platforms.elastic.esql_columns import LOWER_MACRO, address, as_columns
from detection_pack.platforms.elastic.esql_sql import Translation, mapping_types
from detection_pack.platforms.elastic.long_values import decided, is_long
from detection_pack.platforms.rows import csv_rows, insert_rows, load_raw

_HERE = Path(__file__).parent
_BULK = 5_000
_RUNS = itertools.count(1)
_ADDRESSES = ("source.ip", "client.ip")

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
    """The documents of ``events``. Use it as a context manager: it owns indices on the server."""

    def __init__(self, events: Sequence[Event], keeps_item_owner: bool = True) -> None:
        self._run = next(_RUNS)
        self.documents: dict[str, dict[str, Any]] = {}
        self._index_of: dict[str, str] = {}
        self._ids: list[str] = []
        for identifier, index, text in ingested(events, keeps_item_owner):
            self.documents[identifier] = _as_indexed(json.loads(text))
            self._index_of[identifier] = index
        self._ids = list(self.documents)
        self._long = {i for i, document in self.documents.items() if is_long(document, _wildcards())}
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
            for text, identifiers in decided(query, held, _wildcards()):
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
        seen = {i: as_columns(d, _wildcards()) for i, d in self.documents.items() if _within(d, during)}
        held = [(self._index_of[i], json.dumps(d, ensure_ascii=False)) for i, d in seen.items()]
        addresses = {d[f] for d in seen.values() for f in _ADDRESSES if f in d}
        several = {field for d in seen.values() for field, value in d.items() if isinstance(value, list)}
        translation = Translation(text, mapping_types(), addresses, several)
        held = [row for row in held if _matches(row[0], translation.indices)]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(LOWER_MACRO)
            connection.execute("CREATE TABLE esql_source(index_name VARCHAR, document JSON)")
            insert_rows(connection, "esql_source", held)
            rows = connection.execute(translation.sql).fetchall()
        names = list(translation.columns)
        return [{n: _aware(v) for n, v in zip(names, row, strict=True)} for row in rows]

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
        mapping = json.loads((_HERE / "mapping.json").read_text(encoding="utf-8"))
        for logical, long in sorted({(index, i in self._long) for i, index in self._index_of.items()}):
            name = f"run-{self._run}-{'long-' if long else ''}{logical}"
            _request("PUT", f"/{name}", mapping)
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


def ingested(events: Sequence[Event], keeps_item_owner: bool = True) -> list[tuple[str, str, str]]:
    """``(id, index, document as JSON)`` of each event, as the ingest model has it.

    ``keeps_item_owner``: whether user.email of an ExchangeItem record still is the mailbox's owner where
    UserId is an address, or UserId, as the integration's pipeline writes over it.
    """
    with duckdb.connect() as connection:
        load_raw(connection, events)
        connection.execute("CREATE TABLE event_codes(value VARCHAR, code VARCHAR)")
        insert_rows(connection, "event_codes", csv_rows(_HERE / "event_codes.csv"))
        connection.execute(f"SET VARIABLE keeps_item_owner = {keeps_item_owner}")
        connection.execute((_HERE / "ingest.sql").read_text(encoding="utf-8"))
        return connection.execute(
            "SELECT id, index_name, document FROM elastic_documents ORDER BY id"
        ).fetchall()


def _as_indexed(document: dict[str, Any]) -> dict[str, Any]:
    """A typed field holds a value of its type, in one spelling, or nothing: the index template of logs-*-*
    says `ignore_malformed` (component template logs@settings), so the rest of the document is kept."""
    for field, kind in _typed().items():
        if field in document:
            try:
                document[field] = _TYPES[kind](document[field])
            except ValueError:
                del document[field]
    return document


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
    "ip": address,
    "boolean": _boolean,
    "long": _long,
}


@cache
def _typed() -> dict[str, str]:
    return {field: kind for field, kind in _fields() if kind in _TYPES}


@cache
def _wildcards() -> tuple[str, ...]:
    """The fields that hold values of any length; a keyword field here ignores more than 1,024 characters."""
    return tuple(field for field, kind in _fields() if kind == "wildcard")


def _fields() -> list[tuple[str, str]]:
    mapping = json.loads((_HERE / "mapping.json").read_text(encoding="utf-8"))
    return [(field, stated["type"]) for field, stated in mapping["mappings"]["properties"].items()]


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
