"""Run what stands in dist/elastic/rules.ndjson: the rules as imported, and as Kibana schedules them.

`run_rules` executes every rule's query and parameters over all events at once. `scheduled` makes the runs
that Kibana would make while events arrive, and keeps alerts apart the way Kibana does:

* ``query``: one alert a document (Kibana hashes its index, id and version with the rule's id), at most
  ``max_signals`` a run.
* ``esql``: a row of an aggregating query has no document, so every run alerts on it again, unless
  suppression holds an alert of the same values that is younger than its duration.
* ``threshold``: a group that has alerted is counted anew, from after the last event of that alert.

Sources: Kibana, security_solution/server/lib/detection_engine/rule_types (``esql/utils/generate_alert_id``,
``threshold/get_threshold_bucket_filters``, ``utils``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from detection_pack.languages.esql.esql_sql import UnsupportedEsql
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.elastic.esql_text import COLUMNS, WINDOW
from detection_pack.platforms.elastic.rules import NAME_TAG, PATH
from detection_pack.platforms.elastic.run import PLATFORM, threshold_hits
from detection_pack.platforms.elastic.schedule import INGESTED, span
from detection_pack.platforms.elastic.store import Opener, Searched, Store, iso
from detection_pack.platforms.rows import known_sources

#: `Hit.artefact` is the file, but for a threshold rule, which may alert more often than the Sigma rule: a
#: replay judges it apart, by this ending.
_THRESHOLD = ".threshold.json"


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


def load_rules(dist: Path) -> list[dict[str, Any]]:
    """The rules of rules.ndjson, without its last line. Raises `PackError`."""
    path = dist / PATH
    try:
        lines = [json.loads(line) for line in built_text(path).split("\n") if line]
    except ValueError as error:
        raise PackError.at(path, 1, "is not JSON, a line each", "run detection-pack build") from error
    return [line for line in lines if "rule_id" in line]


def name_of(rule: Mapping[str, Any]) -> str:
    """The Sigma name that a rule's tags carry; empty for a rule of somebody else."""
    named = (tag.removeprefix(NAME_TAG) for tag in rule["tags"] if tag.startswith(NAME_TAG))
    return next(named, "")


def run_rules(
    dist: Path,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
    variables: Mapping[str, bool] | None = None,
    opened: Opener = Store,
    esql: bool = True,
) -> list[Hit]:
    """Execute the Kibana rules of these Sigma rules. A query rule gives one hit with all its events; the
    others one hit a group and window. ``opened`` and ``esql`` as in `engine.run`. Without ``clock.lookback``
    a rule's own ``from`` says how far back."""
    entries = {entry.name: entry for entry in rules}
    hits: list[Hit] = []
    with opened(events, sources, variables) as store:
        for rule in load_rules(dist):
            if (entry := entries.get(name_of(rule))) is None or (rule["type"] == "esql" and not esql):
                continue
            back = span(clock.lookback) if clock.lookback else _back(rule)
            try:
                hits += _run(store, rule, entry, (clock.now - back, clock.now))
            except (UnsupportedLucene, UnsupportedEsql) as error:
                raise PackError.at(dist / PATH, 1, f"{entry.name}: {error}", "rebuild dist/") from error
    return hits


def _run(
    store: Searched, rule: Mapping[str, Any], entry: RuleEntry, during: tuple[datetime, datetime]
) -> Iterator[Hit]:
    kind, query = rule["type"], rule["query"]
    if kind == "query":
        yield Hit(PLATFORM, entry.name, PATH, events=store.lucene(query, rule["index"], during))
    elif kind == "threshold":
        # The parameters of threshold_hits are those of Kibana's rule, the groups in the order of the entry's.
        view = {"fields": dict(zip(entry.group_by, rule["threshold"]["field"], strict=True))}
        for hit in threshold_hits(store, entry, query, rule, view, during):
            yield replace(hit, artefact=f"{PATH}#{entry.name}{_THRESHOLD}")
    else:
        for row in store.esql(query, during):
            groups, value = _parts(row)
            named = zip(entry.group_by, groups, strict=True)
            group = tuple((canonical, "" if row[f] is None else str(row[f])) for canonical, f in named)
            yield Hit(
                PLATFORM,
                entry.name,
                PATH,
                group=group,
                window=row[WINDOW],
                value=float(row[value]),
                rows=({column: row[column] for column in COLUMNS},),
            )


def _parts(row: Mapping[str, Any]) -> tuple[Sequence[str], str]:
    """The columns of the groups and of what was counted; a row is the alert view, groups, window, count."""
    names = list(row)
    at = names.index(WINDOW)
    return names[len(COLUMNS) : at], names[at + 1]


def _back(rule: Mapping[str, Any]) -> timedelta:
    return span(str(rule["from"]).removeprefix("now-"))


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
    end = max(a.ingested for a in arrivals) + _back(rule) + 2 * interval
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
    return arrival.ingested <= moment and moment - _back(rule) < _when(rule, arrival) <= moment


def _threshold_runs(rule: Mapping[str, Any], arrivals: Sequence[Arrival]) -> list[Alert]:
    fields = rule["threshold"]["field"]
    alerted: dict[tuple[str, ...], datetime] = {}
    alerts: list[Alert] = []
    # Kibana ranges and aggregates over one timestamp, which the override replaces.
    times = {arrival.event.id: _when(rule, arrival) for arrival in arrivals}
    with Store([a.event for a in arrivals], times=times) as store:
        for moment in _moments(rule, arrivals):
            during = (moment - _back(rule), moment)
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
            by = stated["group_by"] if stated else [*(_parts(rows[0])[0] if rows else ()), WINDOW]
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
