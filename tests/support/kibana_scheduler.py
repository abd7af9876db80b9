"""Kibana's scheduler: the runs of rules while events arrive, and the alerts that they make.

`scheduled` keeps alerts apart the way Kibana does:

* ``query``: one alert a document (Kibana hashes its index, id and version with the rule's id), at most
  ``max_signals`` a run.
* ``esql``: a row of an aggregating query has no document, so every run alerts on it again, unless
  suppression holds an alert of the same values that is younger than its duration.
* ``threshold``: a group that has alerted is counted anew, from after the last event of that alert.

Sources: Kibana, security_solution/server/lib/detection_engine/rule_types (``esql/utils/generate_alert_id``,
``threshold/get_threshold_bucket_filters``, ``utils``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from detection_pack.model.event import Event
from detection_pack.platforms.elastic.esql_text import WINDOW
from detection_pack.platforms.elastic.imports import name_of
from detection_pack.platforms.elastic.run import columns_of, look_back
from detection_pack.platforms.elastic.schedule import INGESTED, span
from detection_pack.platforms.elastic.store import Store, iso
from detection_pack.platforms.rows import known_sources


@dataclass(frozen=True)
class Arrival:
    """An event and when it can be searched. ``stamped``: whether its document has event.ingested."""

    event: Event
    ingested: datetime
    stamped: bool = True


@dataclass(frozen=True)
class Alert:
    """One alert. ``documents`` holds the event's id; for a row or a bucket it is empty and ``values`` holds,
    as text, what keeps the alert apart from others: what it is suppressed or grouped by."""

    rule: str
    kind: str
    at: datetime
    documents: frozenset[str] = frozenset()
    values: tuple[str, ...] = ()


def scheduled(rule: Mapping[str, Any], arrivals: Sequence[Arrival], suppression: bool = True) -> list[Alert]:
    """The alerts of all runs of a rule, from the first arrival until nothing is in reach.

    ``suppression``: whether the licence has it. A query rule's own suppression, which only merges alerts, is
    not modelled: each of its alerts is one document.
    """
    if rule["type"] == "query":
        return _query_runs(rule, arrivals)
    if rule["type"] == "threshold":
        return _threshold_runs(rule, arrivals)
    return _esql_runs(rule, arrivals, suppression)


def _moments(rule: Mapping[str, Any], arrivals: Sequence[Arrival]) -> Iterator[datetime]:
    """Runs are one interval apart, at times that have nothing to do with the clock's hours."""
    if not arrivals:
        return
    interval = span(rule["interval"])
    moment = min(a.ingested for a in arrivals) + interval / 3
    end = max(a.ingested for a in arrivals) + look_back(rule) + 2 * interval
    while moment <= end:
        yield moment
        moment += interval


def _query_runs(rule: Mapping[str, Any], arrivals: Sequence[Arrival]) -> list[Alert]:
    with Store([a.event for a in arrivals]) as store:
        matching = store.lucene(rule["query"], rule["index"])
    found = [a for a in arrivals if a.event.id in matching]
    found.sort(key=lambda a: (_when(rule, a), a.event.id))
    alerted: set[str] = set()
    alerts: list[Alert] = []
    for moment in _moments(rule, arrivals):
        fresh = [a for a in found if _in_reach(rule, a, moment) and a.event.id not in alerted]
        for arrival in fresh[: rule["max_signals"]]:
            alerted.add(arrival.event.id)
            alerts.append(Alert(name_of(rule), "query", moment, frozenset([arrival.event.id])))
    return alerts


def _when(rule: Mapping[str, Any], arrival: Arrival) -> datetime:
    """The time that the rule's range is about; event.ingested is only as good as its being there."""
    if rule.get("timestamp_override") == INGESTED and arrival.stamped:
        return arrival.ingested
    return arrival.event.time or datetime.fromtimestamp(0, UTC)


def _in_reach(rule: Mapping[str, Any], arrival: Arrival, moment: datetime) -> bool:
    return arrival.ingested <= moment and moment - look_back(rule) < _when(rule, arrival) <= moment


def _threshold_runs(rule: Mapping[str, Any], arrivals: Sequence[Arrival]) -> list[Alert]:
    fields = rule["threshold"]["field"]
    alerted: dict[tuple[str, ...], datetime] = {}
    alerts: list[Alert] = []
    # Kibana ranges and aggregates over one timestamp, which the override replaces.
    times = {arrival.event.id: _when(rule, arrival) for arrival in arrivals}
    with Store([a.event for a in arrivals], times=times) as store:
        for moment in _moments(rule, arrivals):
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


def _esql_runs(rule: Mapping[str, Any], arrivals: Sequence[Arrival], suppression: bool) -> list[Alert]:
    stated = rule.get("alert_suppression") if suppression else None
    latest: dict[tuple[str, ...], datetime] = {}
    alerts: list[Alert] = []
    known: tuple[frozenset[str], list[tuple[str, ...]]] = (frozenset(), [])
    sources = known_sources([a.event for a in arrivals], None)
    for moment in _moments(rule, arrivals):
        seen = [a for a in arrivals if _in_reach(rule, a, moment)]
        ids = frozenset(a.event.id for a in seen)
        if ids != known[0]:
            # An index has its fields whether or not a document is in reach.
            with Store([a.event for a in seen], sources) as store:
                rows = store.esql(rule["query"])
            by = stated["group_by"] if stated else [*(columns_of(rows[0])[0] if rows else ()), WINDOW]
            known = (ids, [tuple(str(row[field]) for field in by) for row in rows])
        for values in known[1]:
            if stated is not None and values in latest:
                if stated["duration"]["unit"] != "h":
                    raise ValueError("suppression is modelled in hours")
                if moment - latest[values] < timedelta(hours=stated["duration"]["value"]):
                    continue
            latest[values] = moment
            alerts.append(Alert(name_of(rule), "esql", moment, values=values))
    return alerts
