"""How Kibana runs a detection rule, and what alerts come of it.

* ``query``: one alert a document (Kibana hashes its index, id and version with the rule's id), at most
  ``max_signals`` a run; what is left, the next run finds. With suppression one alert for the documents that
  share the values of its fields, until its duration is over: the first stands in the alert, the others are
  counted in it.
* ``esql``: a row of an aggregating query has no document, so every run alerts on it again, unless
  suppression holds an alert of the same values that is younger than its duration. A run looks at three times
  ``max_signals`` rows, in the query's order.
* ``threshold``: a group that has alerted is counted anew, from after the last event of that alert.

A run looks from ``from`` before its start to its start, whenever it was due. That Kibana makes up for runs
that failed, by longer look-backs, is left out.

Sources: Kibana, security_solution/server/lib/detection_engine/rule_types (``esql/esql.ts``,
``esql/utils/generate_alert_id``, ``query/alert_suppression``, ``threshold/get_threshold_bucket_filters``,
``utils``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from detection_pack.model.timespan import Timespan
from detection_pack.platforms.arrivals import Arrival, starts
from detection_pack.platforms.elastic.esql_text import WINDOW
from detection_pack.platforms.elastic.imports import name_of
from detection_pack.platforms.elastic.run import columns_of, look_back
from detection_pack.platforms.elastic.store import Store, iso
from detection_pack.platforms.elastic.timing import INGESTED, span
from detection_pack.platforms.records import known_sources

#: How many times ``max_signals`` rows of an ES|QL query a run looks at.
PAGES = 3


@dataclass(frozen=True)
class Alert:
    """One alert. ``documents`` holds the ids of its events; for a row or a bucket it is empty and ``values``
    holds, as text, what keeps the alert apart from others: what it is suppressed or grouped by."""

    rule: str
    kind: str
    at: datetime
    documents: frozenset[str] = frozenset()
    values: tuple[str, ...] = ()


def scheduled(
    rule: Mapping[str, Any],
    arrivals: Sequence[Arrival],
    suppression: bool = True,
    moments: Sequence[datetime] | None = None,
) -> list[Alert]:
    """The alerts of all runs of a rule. ``suppression``: whether the licence has it. ``moments``: when the
    runs start; by default one interval apart, from the first arrival until nothing is in reach."""
    runs = list(_moments(rule, arrivals) if moments is None else moments)
    stated = rule.get("alert_suppression") if suppression else None
    if rule["type"] == "query":
        return _query_runs(rule, arrivals, runs, stated)
    if rule["type"] == "threshold":
        return _threshold_runs(rule, arrivals, runs)
    return _esql_runs(rule, arrivals, runs, stated)


def _moments(rule: Mapping[str, Any], arrivals: Sequence[Arrival]) -> Iterator[datetime]:
    """Runs are one interval apart, at times that have nothing to do with the clock's hours."""
    if arrivals:
        interval = span(rule["interval"])
        first = min(a.ingested for a in arrivals) + interval / 3
        end = max(a.ingested for a in arrivals) + look_back(rule) + 2 * interval
        yield from (start.started for start in starts(first, end, interval))


def _query_runs(
    rule: Mapping[str, Any],
    arrivals: Sequence[Arrival],
    runs: Sequence[datetime],
    stated: Mapping[str, Any] | None,
) -> list[Alert]:
    with Store([a.event for a in arrivals]) as store:
        matching = store.lucene(rule["query"], rule["index"])
        values = {i: _values(store.document(i), stated) for i in matching}
    found = [a for a in arrivals if a.event.id in matching]
    found.sort(key=lambda a: (_when(rule, a), a.event.id))
    alerted: set[str] = set()
    alerts: list[Alert] = []
    latest: dict[tuple[str, ...], int] = {}
    for moment in runs:
        made = 0
        for arrival in found:
            identifier = arrival.event.id
            if identifier in alerted or not _in_reach(rule, arrival, moment):
                continue
            own = values[identifier]
            held = latest.get(own) if own and stated else None
            if held is not None and stated and moment - alerts[held].at < _duration(stated):
                alerts[held] = replace(alerts[held], documents=alerts[held].documents | {identifier})
            elif made == rule["max_signals"]:
                continue
            else:
                made += 1
                latest[own] = len(alerts)
                alerts.append(Alert(name_of(rule), "query", moment, frozenset([identifier]), own))
            alerted.add(identifier)
    return alerts


def _values(document: Mapping[str, Any], stated: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What a document is suppressed by; nothing where it has no value in one of the fields and the rule then
    does not suppress."""
    fields = stated["group_by"] if stated else ()
    if stated and stated["missing_fields_strategy"] == "doNotSuppress" and not document.keys() >= set(fields):
        return ()
    return tuple(str(document.get(field)) for field in fields)


def _duration(stated: Mapping[str, Any]) -> timedelta:
    return timedelta(
        seconds=Timespan.parse(f"{stated['duration']['value']}{stated['duration']['unit']}").seconds
    )


def _when(rule: Mapping[str, Any], arrival: Arrival) -> datetime:
    """The time that the rule's range is about; event.ingested is only as good as its being there."""
    if rule.get("timestamp_override") == INGESTED and arrival.stamped:
        return arrival.ingested
    return arrival.event.time or datetime.fromtimestamp(0, UTC)


def _in_reach(rule: Mapping[str, Any], arrival: Arrival, moment: datetime) -> bool:
    return arrival.ingested <= moment and moment - look_back(rule) < _when(rule, arrival) <= moment


def _threshold_runs(
    rule: Mapping[str, Any], arrivals: Sequence[Arrival], runs: Sequence[datetime]
) -> list[Alert]:
    fields = rule["threshold"]["field"]
    alerted: dict[tuple[str, ...], datetime] = {}
    alerts: list[Alert] = []
    # Kibana ranges and aggregates over one timestamp, which the override replaces.
    times = {arrival.event.id: _when(rule, arrival) for arrival in arrivals}
    with Store([a.event for a in arrivals], times=times) as store:
        for moment in runs:
            during = (moment - look_back(rule), moment)
            if not any(_in_reach(rule, a, moment) for a in arrivals):
                continue
            alerted = {values: last for values, last in alerted.items() if last > during[0]}
            query = rule["query"]
            for values, last in alerted.items():
                said = [f'{field}:"{_escaped(value)}"' for field, value in zip(fields, values, strict=True)]
                said.append(f"@timestamp:[* TO {iso(last).replace(':', chr(92) + ':')}]")
                query = f"({query}) AND NOT ({' AND '.join(said)})"
            for bucket in store.buckets(query, rule, during):
                values = tuple(bucket.key[field] for field in fields)
                alerted[values] = bucket.last
                alerts.append(Alert(name_of(rule), "threshold", moment, values=values))
    return alerts


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _esql_runs(
    rule: Mapping[str, Any],
    arrivals: Sequence[Arrival],
    runs: Sequence[datetime],
    stated: Mapping[str, Any] | None,
) -> list[Alert]:
    latest: dict[tuple[str, ...], datetime] = {}
    alerts: list[Alert] = []
    seen: frozenset[str] = frozenset()
    known: list[tuple[str, ...]] = []
    events = [a.event for a in arrivals]
    with Store(events, known_sources(events, None)) as store:
        for moment in runs:
            ids = frozenset(a.event.id for a in arrivals if _in_reach(rule, a, moment))
            if ids != seen:
                # Between changes the same rows are found, or fewer.
                rows = store.esql(rule["query"], (moment - look_back(rule), moment), ids)
                by = stated["group_by"] if stated else [*(columns_of(rows[0])[0] if rows else ()), WINDOW]
                seen, known = ids, [tuple(str(row[field]) for field in by) for row in rows]
            made = 0
            for values in known[: PAGES * rule["max_signals"]]:
                if stated is not None and values in latest and moment - latest[values] < _duration(stated):
                    continue
                if made == rule["max_signals"]:
                    break
                made += 1
                latest[values] = moment
                alerts.append(Alert(name_of(rule), "esql", moment, values=values))
    return alerts
