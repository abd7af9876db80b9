"""How Microsoft Defender XDR runs a custom detection, and what alerts come of it.

Sources: "Create custom detection rules" (the look-back of each frequency, the first run over 30 days, 150
alerts a run; what has the same entities and custom details is one alert, though several runs find it);
Microsoft Graph, ruleSchedule ("events match this window based on either event time or ingestion time").
Whether the look-back goes by the one or the other is a parameter. How late a run starts is documented
nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from detection_pack.model.event import Clock, RuleEntry
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.defender.backend import TIME
from detection_pack.platforms.defender.detections import LOOKBACKS
from detection_pack.platforms.kusto.run import Workspace, result_rows
from detection_pack.platforms.kusto.tables import EVENT, INGESTED, timestamp

#: What the run reads that is made when a detection is saved.
FIRST_LOOKBACK = timedelta(days=30)
MOST_ALERTS = 150


@dataclass(frozen=True)
class DefenderAlert:
    """One alert. ``event``: the id of a plain rule's event."""

    at: datetime
    row: Mapping[str, Any] = field(repr=False)
    event: str | None = None


def alerts(
    stated: Mapping[str, Any],
    entry: RuleEntry,
    table: str,
    arrivals: Sequence[Arrival],
    runs: Sequence[Start],
    by_arrival: bool = False,
) -> Iterator[DefenderAlert]:
    """The alerts of successive runs of a detection on one table, from the run on that saving it makes.

    ``stated``: the detection's file. ``by_arrival``: whether the look-back takes rows by their arrival as
    well as by their time. A run on the same rows as the one before finds the same, and is left out.
    """
    hours = int(stated["schedule"]["frequency"].removeprefix("PT").removesuffix("H"))
    lookback = timedelta(seconds=LOOKBACKS[hours * 3600])
    template = stated["detectionAction"]["alertTemplate"]
    telling = [*template["customDetails"].values()]
    for mappings in template["entityMappings"].values():
        telling += [column for mapping in mappings for column in mapping.values()]
    workspace = Workspace(
        [a.event for a in arrivals], {a.event.id: a.ingested for a in arrivals}, schema="defender"
    )
    text = stated["queryCondition"]["queryText"]
    raised: set[tuple[str, ...]] = set()
    before: frozenset[str] | None = None
    for number, run in enumerate(runs):
        back = lookback if number else FIRST_LOOKBACK
        since = f"{TIME} > {timestamp(run.started - back)}"
        if by_arrival:
            since = f"({since} OR {INGESTED} > {timestamp(run.started - back)})"
        now = f"{TIME} <= {timestamp(run.started)} AND {INGESTED} <= {timestamp(run.started)}"
        seen = workspace.restrict(table, f"{since} AND {now}")
        if seen == before:
            continue
        before = seen
        made = 0
        for row in result_rows(workspace, text, entry, Clock(run.started)):
            said = tuple(str(row[column]) for column in telling)
            if said not in raised and made < MOST_ALERTS:
                made += 1
                raised.add(said)
                yield DefenderAlert(run.started, row, row.get(EVENT))
