"""Run what stands in dist/elastic on events: Lucene, ES|QL, threshold rules, and the rules as imported."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from detection_pack.languages.esql.esql_sql import UnsupportedEsql
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.record_time import parse_time
from detection_pack.model.rule import BY_HAND
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.elastic import timing
from detection_pack.platforms.elastic.column_store import ColumnStore
from detection_pack.platforms.elastic.esql_text import COLUMNS, WINDOW, unscheduled
from detection_pack.platforms.elastic.hunts import HUNTS, load_hunts
from detection_pack.platforms.elastic.imports import PATH, PLATFORM, QUERIES, load_rules, name_of
from detection_pack.platforms.elastic.store import Opener, Searched, Store
from detection_pack.platforms.platform import Run, Sources, Stored
from detection_pack.platforms.records import Records

DEFAULT_LOOKBACK = "24h"
#: `Hit.artefact` is the file, but for a threshold rule, which may alert more often than the Sigma rule: a
#: replay judges it apart, by this ending.
_THRESHOLD = ".threshold.json"


def run(
    given: Run,
    variables: Mapping[str, bool] | None = None,
    opened: Opener | None = None,
    esql: bool = True,
) -> list[Hit]:
    """Execute each rule's files, on the events where ``opened`` puts them. A plain rule gives one hit, with
    no event where nothing matched. A correlation gives one hit a group and window from the ES|QL, which is
    exact, and one a group and window from the threshold rule, which covers it; without ``esql`` the latter
    alone. Raises `PackError` for a file that is missing or refused."""
    clock = given.clock
    span = (clock.now - _span(clock.lookback or DEFAULT_LOOKBACK), clock.now)
    hits: list[Hit] = []
    with (opened or default_opener(given))(given.events, given.sources, variables) as store:
        for rule in given.rules:
            base = given.dist / QUERIES / rule.name
            view = _read_json(base.with_name(f"{rule.name}.view.json"))
            try:
                if rule.window is None:
                    hits.append(_plain(store, rule, built_text(base.with_suffix(".lucene")), view, span))
                    continue
                if esql:
                    hits += _exact(store, rule, built_text(base.with_suffix(".esql")), view, span)
                stated = base.with_name(f"{rule.name}.threshold.json")
                if stated.exists() and not given.exact_only:
                    query = built_text(base.with_suffix(".lucene"))
                    hits += threshold_hits(store, rule, query, _read_json(stated), view, span)
            except (UnsupportedLucene, UnsupportedEsql) as error:
                raise PackError.at(base, 1, str(error), "correct the query or rebuild dist/") from error
    return hits


def default_opener(given: Run) -> Opener:
    """Whole documents for events; for the records of a log the columns that are read."""
    return ColumnStore if isinstance(given.events, Records) else Store


def stored(events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
    """The events as documents of their indices."""
    with Store(events, sources) as store:
        return store.held()


def _plain(
    store: Searched, rule: RuleEntry, query: str, view: Mapping[str, Any], span: tuple[datetime, datetime]
) -> Hit:
    found = store.lucene(query, view["index"], span)
    rows = [(alert_row(one, view), name) for name, one in store.shown(found, fields_of(view)).items()]
    rows.sort(key=lambda row: (str(row[0]["time"]), str(row)), reverse=True)
    shown, ids = tuple(row for row, _ in rows), tuple(name for _, name in rows)
    artefact = f"{QUERIES}/{rule.name}.lucene"
    return Hit(PLATFORM, rule.name, artefact, events=found, rows=shown, row_events=ids)


def fields_of(view: Mapping[str, Any]) -> list[str]:
    """The fields that an alert view shows."""
    detail = [part["field"] for part in view["DetectionDetail"] if not isinstance(part, str)]
    return list(dict.fromkeys([view["time"], *view["columns"].values(), *detail]))


def alert_row(document: Mapping[str, Any], view: Mapping[str, Any]) -> dict[str, Any]:
    """The seven columns of the alert view, from a document's fields."""
    row: dict[str, Any] = {"time": parse_time(document.get(view["time"]))}
    detail = "".join(
        p if isinstance(p, str) else _shown(document, p["field"]) for p in view["DetectionDetail"]
    )
    fixed = {"DetectionType": view["DetectionType"], "DetectionDetail": detail}
    columns: Mapping[str, str] = view["columns"]
    for column in COLUMNS[1:]:
        shown = _shown(document, columns[column]) if column in columns else ""
        row[column] = fixed.get(column, shown)
    return row


def _shown(document: Mapping[str, Any], field: str) -> str:
    """A field as text; an object as JSON of what stands below it."""
    if field in document:
        return str(document[field])
    below = {k.removeprefix(f"{field}."): v for k, v in document.items() if k.startswith(f"{field}.")}
    return json.dumps(below, ensure_ascii=False, sort_keys=True) if below else ""


def _exact(
    store: Searched, rule: RuleEntry, query: str, view: Mapping[str, Any], span: tuple[datetime, datetime]
) -> Iterator[Hit]:
    for row in store.esql(query, span):
        counted = [n for n in row if n.endswith("_count") or n.startswith("value_")]
        yield Hit(
            PLATFORM,
            rule.name,
            f"{QUERIES}/{rule.name}.esql",
            group=_group(rule, view, row),
            window=row[WINDOW],
            value=float(row[counted[-1]]),
            rows=({column: row[column] for column in COLUMNS},),
        )


def _group(rule: RuleEntry, view: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    names = ((canonical, view["fields"][canonical]) for canonical in rule.group_by)
    return tuple((c, "" if found[f] is None else str(found[f])) for c, f in names)


def threshold_hits(
    store: Searched,
    rule: RuleEntry,
    query: str,
    stated: Mapping[str, Any],
    view: Mapping[str, Any],
    span: tuple[datetime, datetime],
) -> list[Hit]:
    """The alerts of a threshold rule that runs every ``interval`` over the events, once a group and window.

    A run at t counts what lies in ``(t - from, t]``. The window of an alert is that of its earliest event.
    """
    interval, back = _span(stated["interval"]), _span(stated["from"].removeprefix("now-"))
    window = timedelta(seconds=rule.window or 3600)
    found: dict[tuple[Any, datetime], Hit] = {}
    for moment in _moments(store, query, stated["index"], span, interval, back):
        during = (max(moment - back, span[0]), moment)
        for bucket in store.buckets(query, stated, during):
            group = _group(rule, view, bucket.key)
            key = (group, _floor(bucket.first, window))
            value = bucket.distinct if stated["threshold"]["cardinality"] else bucket.events
            known = found.get(key)
            if known is None or (known.value or 0) < value:
                artefact = f"{QUERIES}/{rule.name}.threshold.json"
                found[key] = Hit(
                    PLATFORM, rule.name, artefact, group=group, window=key[1], value=float(value)
                )
    return [found[key] for key in sorted(found)]


def _moments(
    store: Searched,
    query: str,
    indices: Sequence[str],
    span: tuple[datetime, datetime],
    interval: timedelta,
    back: timedelta,
) -> Iterator[datetime]:
    """The runs worth making: one for each set of events that some run sees."""
    times = store.times(query, indices, span)
    seen: set[tuple[int, int]] = set()
    for time in times:
        moment = _floor(time, interval)
        while moment <= time + back + interval:
            held = (bisect_right(times, moment - back), bisect_right(times, moment))
            if held[0] < held[1] and held not in seen:
                seen.add(held)
                yield moment
            moment += interval


def run_imports(
    given: Run, variables: Mapping[str, bool] | None = None, opened: Opener = Store, esql: bool = True
) -> list[Hit]:
    """Execute the Kibana rules of these Sigma rules, or the Discover sessions of the hunting tier. A plain
    rule gives one hit with all its events; a correlation one hit a group and window. ``opened`` and
    ``esql`` as in `run`. Without ``clock.lookback`` a rule's own ``from`` says how far back."""
    hunting = [entry for entry in given.rules if entry.tier in BY_HAND]
    alerting = [entry for entry in given.rules if entry.tier not in BY_HAND]
    files = ((PATH, load_rules, alerting), (HUNTS, load_hunts, hunting))
    hits: list[Hit] = []
    with opened(given.events, given.sources, variables) as store:
        for path, load, listed in files:
            entries = {entry.name: entry for entry in listed}
            for rule in load(given.dist) if entries else ():
                if (entry := entries.get(name_of(rule))) is None or (rule["type"] == "esql" and not esql):
                    continue
                back = timing.span(given.clock.lookback) if given.clock.lookback else look_back(rule)
                try:
                    hits += _imported(store, path, rule, entry, (given.clock.now - back, given.clock.now))
                except (UnsupportedLucene, UnsupportedEsql) as error:
                    at = given.dist / path
                    raise PackError.at(at, 1, f"{entry.name}: {error}", "rebuild dist/") from error
    return hits


def _imported(
    store: Searched, path: str, rule: Mapping[str, Any], entry: RuleEntry, during: tuple[datetime, datetime]
) -> Iterator[Hit]:
    kind, query = rule["type"], rule["query"]
    if kind == "query":
        yield Hit(PLATFORM, entry.name, path, events=store.lucene(query, rule["index"], during))
    elif kind == "threshold":
        # The parameters of threshold_hits are those of Kibana's rule, the groups in the order of the entry's.
        view = {"fields": dict(zip(entry.group_by, rule["threshold"]["field"], strict=True))}
        for hit in threshold_hits(store, entry, query, rule, view, during):
            yield replace(hit, artefact=f"{path}#{entry.name}{_THRESHOLD}")
    else:
        own = during[1] - during[0] == look_back(rule)
        for row in store.esql(query if own else unscheduled(query), during):
            groups, value = columns_of(row)
            named = zip(entry.group_by, groups, strict=True)
            group = tuple((canonical, "" if row[f] is None else str(row[f])) for canonical, f in named)
            yield Hit(
                PLATFORM,
                entry.name,
                path,
                group=group,
                window=row[WINDOW],
                value=float(row[value]),
                rows=({column: row[column] for column in COLUMNS},),
            )


def columns_of(row: Mapping[str, Any]) -> tuple[Sequence[str], str]:
    """The columns of the groups and of what was counted; a row is the alert view, groups, window, count."""
    names = list(row)
    at = names.index(WINDOW)
    return names[len(COLUMNS) : at], names[at + 1]


def look_back(rule: Mapping[str, Any]) -> timedelta:
    """How far back a Kibana rule's own ``from`` reaches."""
    return timing.span(str(rule["from"]).removeprefix("now-"))


def _floor(moment: datetime, span: timedelta) -> datetime:
    start = datetime.fromtimestamp(0, UTC)
    return start + ((moment - start) // span) * span


def _span(text: str) -> timedelta:
    try:
        return timing.span(text)
    except ValueError as error:
        raise PackError.at("--lookback", 1, str(error), 'write one such as "24h"') from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(built_text(path))
    except ValueError as error:
        raise PackError.at(path, 1, "is not JSON", "build dist/ again") from error
    return data
