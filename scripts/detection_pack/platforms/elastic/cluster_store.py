"""Events in indices of our own on somebody's cluster: the same questions as `store.Store`, asked of the real
thing.

An index of ours is named ``detection-pack-replay-<run>-<index>`` and carries a mark in its mapping's
``_meta``. Nothing without both is ever written to or removed. A run removes its indices at its end; what a
killed run left is found by its mark (`leftovers`) and removed by the next.
"""

from __future__ import annotations

import copy
import fnmatch
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.record_time import parse_time
from detection_pack.platforms.elastic.cluster import OPTION, Cluster, Refused, refusal
from detection_pack.platforms.elastic.documents import ingested
from detection_pack.platforms.elastic.store import TIMESTAMP, Bucket, Range, iso, mapping_of
from detection_pack.platforms.records import Records, records_of

PREFIX = "detection-pack-replay-"
MARK = "detection-pack replay"
#: A run of another host, or one whose process number lives on, counts as gone after this.
STALE_SECONDS = 24 * 3600
_NAME = re.compile(re.escape(PREFIX) + r"([0-9a-f]{12})-[a-z0-9._-]+")
#: Documents and bytes of one bulk request; a cluster takes 100 MB unless it is told otherwise.
_BULK, _BULK_BYTES = 5_000, 8_000_000
_PAGE = 10_000
#: Records have names of their own, and in an index of ours each is a field.
_FIELDS = 20_000
#: Characters of each reason for which a document is refused.
_REASON = 150
#: The most rows that ES|QL gives (esql.query.result_truncation_max_size).
_ROWS = 10_000
_FROM = re.compile(r"^FROM ([a-z0-9.,*_ -]+)$", re.MULTILINE)
_UNKNOWN = re.compile(r"Unknown column \[([^\]]+)\]")


@dataclass(frozen=True)
class Leftover:
    """An index of a run that has ended without removing it. ``created`` is the cluster's word for when."""

    name: str
    host: str
    created: datetime


class ClusterStore:
    """The documents of ``events`` on ``cluster``. Use it as a context manager: it owns indices there.

    ``refused``: why the cluster did not take some documents, by id; they are in no answer. The questions
    raise `Refused` for a query that the cluster refuses.
    """

    def __init__(
        self,
        cluster: Cluster,
        events: Sequence[Event] | Records,
        sources: Iterable[LogSource] | None = None,
        variables: Mapping[str, bool] | None = None,
    ) -> None:
        self._cluster = cluster
        self._run = secrets.token_hex(6)
        self._created: dict[str, str] = {}
        records = records_of(events, sources)
        self._mapping = mapping_of(records.sources)
        self._rows = ingested(records, variables=variables)
        self._at = {identifier: number for number, (identifier, _, _) in enumerate(self._rows)}
        self.refused: dict[str, str] = {}

    def document(self, identifier: str) -> dict[str, Any]:
        """A document with flat dotted names, as it was sent."""
        document: dict[str, Any] = json.loads(self._rows[self._at[identifier]][2])
        return document

    def shown(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Documents by id, with at least these fields."""
        return {identifier: self.document(identifier) for identifier in ids}

    def __enter__(self) -> ClusterStore:
        try:
            for logical in sorted({index for _, index, _ in self._rows}):
                name = f"{PREFIX}{self._run}-{logical}"
                self._created[logical] = name
                self._cluster.request("PUT", f"/{name}", _index(self._run, self._mapping))
            self._fill()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def names(self) -> tuple[str, ...]:
        """The cluster's names of this run's indices."""
        return tuple(self._created.values())

    def remove(self) -> None:
        """Remove this run's indices; what is not there any more is fine."""
        names = list(self._created.values())
        self._created.clear()
        remove(self._cluster, names)

    def lucene(
        self, query: str, indices: Sequence[str] = ("*",), during: Range = (None, None)
    ) -> frozenset[str]:
        """The ids of the documents that a query string finds, in ``(after, upto]`` where times are given."""
        hits = self._hits(query, indices, during, {"_source": False})
        return frozenset(self._rows[int(hit["_id"])][0] for hit in hits)

    def times(self, query: str, indices: Sequence[str], during: Range) -> list[datetime]:
        """When what a query string finds happened, in order, to the millisecond."""
        wanted = {"_source": False, "docvalue_fields": [{"field": TIMESTAMP, "format": "epoch_millis"}]}
        hits = self._hits(query, indices, during, wanted)
        found = sorted(int(hit["fields"][TIMESTAMP][0]) for hit in hits if "fields" in hit)
        return [_moment(milliseconds) for milliseconds in found]

    def _hits(
        self, query: str, indices: Sequence[str], during: Range, wanted: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Everything that a query string finds, page by page, as it was at one point in time."""
        names = self._names(indices)
        if not names:
            return
        opened = self._cluster.request("POST", f"/{','.join(names)}/_pit?keep_alive=5m")["id"]
        body = {
            **wanted,
            "size": _PAGE,
            "track_total_hits": False,
            "sort": ["_shard_doc"],
            "query": {"bool": {"filter": _filter(query, during)}},
        }
        try:
            while True:
                answer = _whole(self._cluster.request("POST", "/_search", {**body, "pit": {"id": opened}}))
                hits = answer["hits"]["hits"]
                yield from hits
                if len(hits) < _PAGE:
                    return
                body["search_after"] = hits[-1]["sort"]
        finally:
            self._cluster.request("DELETE", "/_pit", {"id": opened})

    def buckets(self, query: str, stated: Mapping[str, Any], during: Range) -> list[Bucket]:
        """The groups that a threshold rule alerts on, as Kibana's composite aggregation gives them.

        Kibana has the least numbers checked by ``bucket_selector``, which drops buckets and does nothing
        else; here they are checked after the answer, so that no script need be allowed. Source: kibana,
        rule_types/threshold, build_threshold_aggregation.ts.
        """
        names, threshold = self._names(stated["index"]), stated["threshold"]
        if not names:
            return []
        aggregations: dict[str, Any] = {
            "max_timestamp": {"max": {"field": TIMESTAMP}},
            "min_timestamp": {"min": {"field": TIMESTAMP}},
        }
        for cardinality in threshold["cardinality"]:
            aggregations["cardinality_count"] = {"cardinality": {"field": cardinality["field"]}}
        sources = [{field: {"terms": {"field": field}}} for field in threshold["field"]]
        composite: dict[str, Any] = {"size": _PAGE, "sources": sources}
        body = {
            "size": 0,
            "query": {"bool": {"filter": _filter(query, during)}},
            "aggs": {"thresholdTerms": {"composite": composite, "aggs": aggregations}},
        }
        if not sources:
            # Without a field to group by Kibana counts all as one, in build_threshold_aggregation.ts too.
            body["aggs"] = {"thresholdTerms": {"filter": {"match_all": {}}, "aggs": aggregations}}
            answer = _whole(self._cluster.request("POST", f"/{','.join(names)}/_search", body))
            one = {"key": {}, **answer["aggregations"]["thresholdTerms"]}
            return [_bucket(one, ())] if one["doc_count"] and _enough(one, threshold) else []
        found: list[dict[str, Any]] = []
        while True:
            answer = _whole(self._cluster.request("POST", f"/{','.join(names)}/_search", body))
            terms = answer["aggregations"]["thresholdTerms"]
            found += terms["buckets"]
            if "after_key" not in terms:
                return [_bucket(one, threshold["field"]) for one in found if _enough(one, threshold)]
            composite["after"] = terms["after_key"]

    def esql(self, text: str, during: Range = (None, None)) -> list[dict[str, Any]]:
        """The rows of an ES|QL query, by column name; dates are aware, in UTC.

        A field that no document and no mapping has is an error in ES|QL; where the rule's own indices have
        it, ours get it as a keyword.
        """
        source = _FROM.search(text)
        if source is None:
            raise PackError.at(OPTION, 1, "the ES|QL query has no plain FROM", "run detection-pack build")
        names = self._names([one.strip() for one in source[1].split(",")])
        if not names:
            return []
        limited = f"{text[: source.start()]}FROM {', '.join(names)}{text[source.end() :]}\n| LIMIT {_ROWS}"
        answer = self._query(names, {"query": limited, "filter": {"bool": {"filter": _bounds(during)}}})
        if len(answer["values"]) >= _ROWS:
            raise PackError.at(
                OPTION, 1, f"ES|QL has more than {_ROWS} rows", "replay fewer events at a time"
            )
        columns = [(column["name"], column["type"]) for column in answer["columns"]]
        return [
            {name: _aware(value, kind) for (name, kind), value in zip(columns, row, strict=True)}
            for row in answer["values"]
        ]

    def _query(self, names: Sequence[str], body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return _whole(self._cluster.request("POST", "/_query", body))
        except Refused as error:
            unknown = set(_UNKNOWN.findall(error.reason))
            if not unknown:
                raise
            added = {"properties": {field: {"type": "keyword", "ignore_above": 1024} for field in unknown}}
            self._cluster.request("PUT", f"/{','.join(names)}/_mapping", added)
            return _whole(self._cluster.request("POST", "/_query", body))

    def _names(self, indices: Sequence[str]) -> list[str]:
        """Our indices that stand for those that the patterns name."""
        return [
            name
            for logical, name in self._created.items()
            if any(fnmatch.fnmatchcase(logical, pattern) for pattern in indices)
        ]

    def _fill(self) -> None:
        lines: list[bytes] = []
        size = 0
        for number, (_, logical, text) in enumerate(self._rows):
            action = {"index": {"_index": self._created[logical], "_id": str(number)}}
            line = f"{json.dumps(action)}\n{_one_line(text)}\n".encode()
            if lines and (len(lines) == _BULK or size + len(line) > _BULK_BYTES):
                self._send(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            self._send(lines)
        if self._created:
            self._cluster.request("POST", f"/{','.join(self._created.values())}/_refresh")

    def _send(self, lines: Sequence[bytes]) -> None:
        """A document that is refused is not there, as in production; one for which there is no room comes
        again."""
        for wait in (1.0, 3.0, 9.0, None):
            answer = self._cluster.request("POST", "/_bulk", b"".join(lines))
            later = []
            for line, item in zip(lines, answer["items"], strict=True):
                stated = item["index"]
                if "error" not in stated:
                    continue
                if stated["status"] == 429 and wait is not None:
                    later.append(line)
                elif stated["status"] == 400:
                    self.refused[self._rows[int(stated["_id"])][0]] = _cause(stated["error"])
                else:
                    raise refusal(self._cluster.url, stated["status"], _cause(stated["error"]))
            if not later:
                return
            lines = later
            time.sleep(wait or 0)


def leftovers(cluster: Cluster) -> list[Leftover]:
    """The indices of runs that are gone: ours by name and by mark, and their process has ended."""
    found = cluster.request("GET", f"/{PREFIX}*?expand_wildcards=all&features=mappings,settings") or {}
    left = []
    for name, stated in sorted(found.items()):
        meta = stated.get("mappings", {}).get("_meta", {})
        mark = meta.get("detection_pack", {}) if isinstance(meta, dict) else {}
        named = _NAME.fullmatch(name)
        if (
            named is None
            or not isinstance(mark, dict)
            or mark.get("made_by") != MARK
            or mark.get("run") != named[1]
        ):
            continue
        created = int(stated["settings"]["index"]["creation_date"]) / 1000
        if not _still_runs(mark, created):
            left.append(Leftover(name, str(mark.get("machine")), datetime.fromtimestamp(created, UTC)))
    return left


def remove(cluster: Cluster, names: Sequence[str]) -> None:
    """Remove indices by their whole names, one by one: no wildcard is ever sent. Raises `PackError` at the
    end for those that could not be."""
    failed: list[PackError] = []
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"not an index of ours: {name}")
        try:
            cluster.request("DELETE", f"/{name}?expand_wildcards=none")
        except Refused as error:
            if error.status != 404:
                failed.append(_not_removed(name, error))
        except PackError as error:
            failed.append(_not_removed(name, error))
    if failed:
        raise PackError([finding for error in failed for finding in error.findings])


def _not_removed(name: str, error: PackError) -> PackError:
    return PackError.at(
        OPTION, 1, f"{name} is still there: {error.findings[0].what}", "the next run removes it"
    )


def _still_runs(mark: Mapping[str, Any], created: float) -> bool:
    if time.time() - created > STALE_SECONDS:
        return False
    if mark.get("machine") != socket.gethostname() or not isinstance(mark.get("pid"), int):
        return True
    try:
        os.kill(mark["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _index(run: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The body that creates an index: our mapping and mark, and what the template of logs-*-* says of
    malformed values (component template logs@settings)."""
    body: dict[str, Any] = copy.deepcopy(dict(mapping))
    index = body["settings"].setdefault("index", {})
    index.setdefault("mapping", {})
    index |= {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": -1}
    index["mapping"] |= {"ignore_malformed": True, "total_fields": {"limit": _FIELDS}}
    mark = {"made_by": MARK, "run": run, "machine": socket.gethostname(), "pid": os.getpid()}
    body["mappings"]["_meta"] = {"detection_pack": mark}
    return body


def _one_line(text: str) -> str:
    """JSON without a line break, in ASCII: a bulk request is lines."""
    return json.dumps(json.loads(text))


def _filter(query: str, during: Range) -> list[dict[str, Any]]:
    """What Kibana sends for a query string and a time range."""
    return [{"query_string": {"query": query, "analyze_wildcard": True}}, *_bounds(during)]


def _bounds(during: Range) -> list[dict[str, Any]]:
    after, upto = during
    bounds = {k: iso(v) for k, v in (("gt", after), ("lte", upto)) if v is not None}
    return [{"range": {TIMESTAMP: bounds}}] if bounds else []


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of all shards; a part of the verdicts would look like fewer hits."""
    shards = answer.get("_shards", {})
    if answer.get("timed_out") or answer.get("is_partial") or shards.get("failed"):
        reasons = [str(f.get("reason", {}).get("reason")) for f in shards.get("failures", ())]
        raise PackError.at(
            OPTION, 1, f"the answer is a part: {'; '.join(reasons) or 'timed out'}", "try again"
        )
    return answer


def _bucket(bucket: Mapping[str, Any], fields: Sequence[str]) -> Bucket:
    return Bucket(
        {field: str(bucket["key"][field]) for field in fields},
        bucket["doc_count"],
        bucket.get("cardinality_count", {}).get("value", 0),
        _moment(bucket["min_timestamp"]["value"]),
        _moment(bucket["max_timestamp"]["value"]),
    )


def _enough(bucket: Mapping[str, Any], threshold: Mapping[str, Any]) -> bool:
    counted = bucket.get("cardinality_count", {}).get("value", 0)
    return bucket["doc_count"] >= threshold["value"] and all(
        counted >= cardinality["value"] for cardinality in threshold["cardinality"]
    )


def _cause(error: Mapping[str, Any]) -> str:
    """The reasons from the outermost to the innermost, shortened: they quote the document."""
    reasons = [str(error.get("reason"))]
    while isinstance(error.get("caused_by"), dict):
        error = error["caused_by"]
        reasons.append(str(error.get("reason")))
    return ": ".join(reason[:_REASON] for reason in reasons)


def _aware(value: Any, kind: str) -> Any:
    return parse_time(value) if kind in ("date", "date_nanos") else value
