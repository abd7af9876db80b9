"""How Microsoft Sentinel runs an analytics rule, and what alerts come of it.

Sources: "Scheduled analytics rules in Microsoft Sentinel" (frequency, period, the run five minutes late,
event grouping, 150 alerts), "Handle ingestion delay", "Surface custom event details in alerts", "Service
limits" (50 values of a custom detail, 2 KB of all), as said below. What the documentation leaves open is a
parameter here: whether ``now()`` is the time that a run is due or that it starts, by how much it starts late,
and how long an alert takes to its table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from detection_pack.model.event import Clock, RuleEntry
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.kusto.run import EVENTS, Workspace, result_rows
from detection_pack.platforms.kusto.tables import EVENT, INGESTED, timestamp
from detection_pack.platforms.records import quoted

#: A run reads the period up to its due time, and starts five minutes after that or later.
DELAY = timedelta(minutes=5)
#: Of more results than this the last alert of a run holds all that are left.
MOST_ALERTS = 150
_VALUES, _BYTES = 50, 2_048
#: Longer than any query leaves a row that has just arrived to the next run.
_WAIT = timedelta(minutes=15)


@dataclass(frozen=True)
class SentinelAlert:
    """One alert. ``events``: the ids of the events of a plain rule that its results hold. ``rows``: its
    results."""

    at: datetime
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    events: frozenset[str] = frozenset()
    #: The values of its custom details, as SecurityAlert has them.
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def extended_properties(self) -> str:
        """The column of SecurityAlert: JSON, in which custom details are JSON in a text once more."""
        return json.dumps({"Custom Details": json.dumps(self.details), "ProcessedBySentinel": "True"})


@dataclass(frozen=True)
class Behaviour:
    """What the documentation leaves open.

    ``now_is_due``: whether ``now()`` is the time that a run is due. ``delivery``: how long an alert takes
    into SecurityAlert.
    """

    now_is_due: bool
    delivery: timedelta = timedelta(minutes=5)


def alerts(
    stated: Mapping[str, Any],
    entry: RuleEntry,
    table: str,
    arrivals: Sequence[Arrival],
    runs: Sequence[Start],
    behaviour: Behaviour,
) -> Iterator[SentinelAlert]:
    """The alerts of successive runs of a rule on one table. ``stated``: the rule's file. The query runs as it
    stands on the rows that are there when a run starts, with their time cut to the period before it was due.

    A run is left out where nothing has come since one that raised no alert: nothing can come of it. Of a
    correlation that is so only if no row has left the period either.
    """
    period = timedelta(seconds=Timespan.parse(stated["queryPeriod"]).seconds)
    workspace = Workspace([a.event for a in arrivals], {a.event.id: a.ingested for a in arrivals})
    held = workspace.connection
    everything = workspace.hold(table)
    raised: list[SentinelAlert] = []
    before: tuple[frozenset[Any], int] | None = None
    for run in runs:
        started = run.started + DELAY
        now = run.due if behaviour.now_is_due else started
        known = [a for a in raised if run.due - period < a.at <= min(run.due, started - behaviour.delivery)]
        held.execute(f"DELETE FROM {quoted(table)}")
        held.execute(
            f"INSERT INTO {quoted(table)} FROM {everything} WHERE {INGESTED} <= {timestamp(started)}"
            f" AND TimeGenerated > {timestamp(run.due - period)} AND TimeGenerated <= {timestamp(run.due)}"
        )
        # What has just arrived may have to wait, which makes it new once more.
        waits = f"{INGESTED} > {timestamp(now - _WAIT)}"
        seen = frozenset(held.execute(f"SELECT {EVENT}, {waits} FROM {quoted(table)}").fetchall())
        same = before is not None and (seen == before[0] or (entry.window is None and seen <= before[0]))
        if same and before is not None and len(known) <= before[1]:
            continue
        workspace.set_alerts([(alert.at, alert.extended_properties()) for alert in known])
        made = list(_raised(stated, result_rows(workspace, stated["query"], entry, Clock(now)), started))
        before = None if made else (seen, len(known))
        raised += made
        yield from made


def _raised(
    stated: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], at: datetime
) -> Iterator[SentinelAlert]:
    """AlertPerResult: an alert a row, the last of them with all rows that are left. SingleAlert: one."""
    each = stated["eventGroupingSettings"]["aggregationKind"] == "AlertPerResult"
    groups = [[row] for row in rows] if each else [list(rows)] if rows else []
    if len(groups) > MOST_ALERTS:
        rest = [row for group in groups[MOST_ALERTS - 1 :] for row in group]
        groups = [*groups[: MOST_ALERTS - 1], rest]
    for group in groups:
        events = frozenset(event for row in group for event in row.get(EVENTS) or [row.get(EVENT)] if event)
        yield SentinelAlert(at, tuple(group), events, _details(stated.get("customDetails") or {}, group))


def _details(stated: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The custom details of an alert, in their order: what does not fit any more is left out."""
    found: dict[str, list[str]] = {}
    room = _BYTES
    for key, column in stated.items():
        for value in list(dict.fromkeys(str(row[column]) for row in rows))[:_VALUES]:
            room -= len(json.dumps(value, ensure_ascii=False).encode()) + (
                0 if key in found else len(key) + 6
            )
            if room >= 0:
                found.setdefault(key, []).append(value)
    return found
