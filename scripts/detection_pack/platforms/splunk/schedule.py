"""Splunk's scheduler: which runs a saved search has, what each of them finds, and which alerts that makes.

What is modelled, and where it is said:

* ``cron_schedule`` says when a run is due. It may start later; it covers the time that it was due for, in any
  case (Reporting Manual, "Prioritize concurrently scheduled reports").
* ``realtime_schedule``: 0 leaves no run out, and what was due while Splunk was down runs afterwards, if that
  is not longer ago than `CATCH_UP`; 1 leaves out what was due while it was down (savedsearches.conf;
  limits.conf, max_continuous_scheduled_search_lookback). One run of a search at a time (max_concurrent).
* ``dispatch.earliest_time`` and ``latest_time`` bound the time of an event, ``index_earliest`` and
  ``index_latest`` when it was indexed; ``@`` rounds down.
* ``alert.digest_mode``: 1 makes one alert of all results of a run, 0 one of each, of the first `MOST_ALERTS`
  (limits.conf, max_per_result_alerts).
* ``alert.suppress``: an alert is held back if one of the same search was raised less than
  ``alert.suppress.period`` ago, of alerts a result one with the same values of all ``alert.suppress.fields``
  (Alerting Manual, "Throttle alerts").

* A run that ends with an error (``fails``) raises nothing and is not repeated: a continuous schedule performs
  each run, and nothing says again. Durable search does (savedsearches.conf, durable.track_time_type); over
  which index times is not documented, and a search that sets it is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from detection_pack.languages.spl.spl_times import moment_before
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.splunk.app import App
from detection_pack.platforms.splunk.run import Row, Workspace
from detection_pack.platforms.splunk.timing import LATEST_START

#: How long ago a run may have been due that continuous scheduling catches up with.
CATCH_UP = timedelta(seconds=LATEST_START)
MOST_ALERTS = 500


@dataclass(frozen=True)
class Alert:
    """One triggered alert: by which run, and the results that it is about."""

    run: Start
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Outage:
    """Splunk is down from ``start`` on and up again at ``end``."""

    start: datetime
    end: datetime


def runs(
    settings: Mapping[str, str],
    between: tuple[datetime, datetime],
    outages: Sequence[Outage] = (),
    delay: Callable[[datetime], timedelta] = lambda _due: timedelta(),
    fails: Callable[[datetime], bool] = lambda _due: False,
) -> list[Start]:
    """The runs that are due between two times and end well, in order. ``delay`` is how long after it is due a
    run starts, ``fails`` whether the run that was due then ends with an error. Raises ValueError for a
    schedule that is not modelled."""
    if settings.get("durable.track_time_type", "none") != "none":
        raise ValueError("a durable search")
    found: list[Start] = []
    for due in _due_times(settings["cron_schedule"], between):
        started = due + delay(due)
        down = next((one for one in outages if one.start <= started < one.end), None)
        if down is not None:
            if settings.get("realtime_schedule", "1") != "0" or down.end - due > CATCH_UP:
                continue
            started = down.end + delay(due)
        if found:
            started = max(started, found[-1].started)
        found.append(Start(due, started))
    return [run for run in found if not fails(run.due)]


def _due_times(cron: str, between: tuple[datetime, datetime]) -> Iterator[datetime]:
    minute, *others = cron.split()
    if not minute.isdigit() or others != ["*"] * 4:
        raise ValueError(f"the schedule {cron!r}")
    moment = between[0].replace(minute=int(minute), second=0, microsecond=0)
    while moment < between[1]:
        if moment >= between[0]:
            yield moment
        moment += timedelta(hours=1)


def alerts(app: App, stanza: str, arrivals: Sequence[Arrival], planned: Sequence[Start]) -> Iterator[Alert]:
    """The alerts of a saved search of the app, as if it were enabled, in ``planned`` runs. Raises ValueError
    for settings that are not modelled, and as `Workspace.search`."""
    settings = app.saved_searches[stanza]
    if (settings["counttype"], settings["relation"], settings["quantity"]) != (
        "number of events",
        "greater than",
        "0",
    ):
        raise ValueError("an alert on other than any result")
    throttle = _Throttle(settings)
    indexed = {one.event.id: one.ingested for one in arrivals}
    workspace = Workspace([one.event for one in arrivals], indexed=indexed, held=True)
    for run in planned:
        time, index_time = _ranges(settings, run)
        if not any(_within(one.event.time, time) and _within(one.ingested, index_time) for one in arrivals):
            continue
        rows = workspace.search(settings["search"], app.macros, run.due, time, app.lookups, index_time)
        for held in throttle.let_through(run.started, rows):
            yield Alert(run, held)


def _within(moment: datetime | None, between: tuple[datetime, datetime]) -> bool:
    return moment is not None and between[0] <= moment < between[1]


def _ranges(
    settings: Mapping[str, str], run: Start
) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime]]:
    """The range of event times and that of index times; a run sees nothing that is indexed after it
    starts."""
    due = run.due.timestamp()

    def moment(name: str, otherwise: datetime) -> datetime:
        text = settings.get(name)
        if text is None or text == "now":
            return otherwise if text is None else run.due
        return datetime.fromtimestamp(moment_before(text, due), UTC)

    first, last = datetime.fromtimestamp(0, UTC), run.started
    latest = min(moment("dispatch.index_latest", last), last)
    return (
        (moment("dispatch.earliest_time", first), moment("dispatch.latest_time", last)),
        (moment("dispatch.index_earliest", first), latest),
    )


class _Throttle:
    """Which results of a run make which alerts."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._digest = settings["alert.digest_mode"] == "1"
        self._period: timedelta | None = None
        self._fields: list[str] = []
        if settings["alert.suppress"] == "1":
            self._period = timedelta(seconds=Timespan.parse(settings["alert.suppress.period"]).seconds)
            self._fields = settings.get("alert.suppress.fields", "").split(",")
            if self._digest == bool(self._fields[0]):
                raise ValueError("fields to throttle by belong to alerts a result, and those need some")
        self._raised: dict[tuple[object, ...], datetime] = {}

    def let_through(self, moment: datetime, rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
        if self._digest:
            if rows and self._free((), moment):
                yield tuple(rows)
            return
        for row in rows[:MOST_ALERTS]:
            key = tuple(row.values.get(name) for name in self._fields)
            if any(value in (None, "") for value in key):
                raise ValueError("a result without a value to throttle by")
            if self._free(key, moment):
                yield (row,)

    def _free(self, key: tuple[object, ...], moment: datetime) -> bool:
        if self._period is None:
            return True
        last = self._raised.get(key)
        if last is not None and moment < last + self._period:
            return False
        self._raised[key] = moment
        return True
