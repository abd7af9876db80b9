"""Run what stands in dist/elastic/queries on events: Lucene, Kibana's threshold rule, ES|QL."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from detection_pack.languages.esql.esql_sql import UnsupportedEsql
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.record_time import parse_time
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.elastic import schedule
from detection_pack.platforms.elastic.artefacts import FOLDER
from detection_pack.platforms.elastic.esql_text import COLUMNS, WINDOW
from detection_pack.platforms.elastic.store import Opener, Searched, Store

PLATFORM = "elastic"
DEFAULT_LOOKBACK = "24h"


def run(
    dist: Path,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
    variables: Mapping[str, bool] | None = None,
    opened: Opener = Store,
    esql: bool = True,
) -> list[Hit]:
    """Execute each rule's files, on the events where ``opened`` puts them. A plain rule gives one hit, with
    no event where nothing matched. A correlation gives one hit a group and window from the ES|QL, which is
    exact, and one a group and window from the threshold rule, which covers it; without ``esql`` the latter
    alone. Raises `PackError` for a file that is missing or refused."""
    span = (clock.now - _span(clock.lookback or DEFAULT_LOOKBACK), clock.now)
    hits: list[Hit] = []
    with opened(events, sources, variables) as store:
        for rule in rules:
            base = dist / FOLDER / rule.name
            view = _read_json(base.with_name(f"{rule.name}.view.json"))
            try:
                if rule.window is None:
                    hits.append(_plain(store, rule, built_text(base.with_suffix(".lucene")), view, span))
                    continue
                if esql:
                    hits += _exact(store, rule, built_text(base.with_suffix(".esql")), view, span)
                stated = base.with_name(f"{rule.name}.threshold.json")
                if stated.exists():
                    query = built_text(base.with_suffix(".lucene"))
                    hits += threshold_hits(store, rule, query, _read_json(stated), view, span)
            except (UnsupportedLucene, UnsupportedEsql) as error:
                raise PackError.at(base, 1, str(error), "correct the query or rebuild dist/") from error
    return hits


def _plain(
    store: Searched, rule: RuleEntry, query: str, view: Mapping[str, Any], span: tuple[datetime, datetime]
) -> Hit:
    found = store.lucene(query, view["index"], span)
    rows = [alert_row(store.document(identifier), view) for identifier in found]
    rows.sort(key=lambda row: (str(row["time"]), str(row)), reverse=True)
    return Hit(PLATFORM, rule.name, f"{FOLDER}/{rule.name}.lucene", events=found, rows=tuple(rows))


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
            f"{FOLDER}/{rule.name}.esql",
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
                artefact = f"{FOLDER}/{rule.name}.threshold.json"
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


def _floor(moment: datetime, span: timedelta) -> datetime:
    start = datetime.fromtimestamp(0, UTC)
    return start + ((moment - start) // span) * span


def _span(text: str) -> timedelta:
    try:
        return schedule.span(text)
    except ValueError as error:
        raise PackError.at("--lookback", 1, str(error), 'write one such as "24h"') from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(built_text(path))
    except ValueError as error:
        raise PackError.at(path, 1, "is not JSON", "build dist/ again") from error
    return data
