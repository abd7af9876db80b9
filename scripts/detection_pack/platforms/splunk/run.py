"""Run the SPL of dist/ on DuckDB, on events shaped as Splunk shows them at search time.

No registry holds an engine for SPL. This one executes exactly the commands, functions and operators that the
pack writes, with the semantics that Splunk documents; anything else raises `UnsupportedSpl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from detection_pack.languages.spl.spl_parser import UnsupportedSpl, macros_of, parse
from detection_pack.languages.spl.spl_pipeline import Pipelines
from detection_pack.languages.spl.spl_sql import SQL_MACROS
from detection_pack.languages.spl.spl_steps import ORIGIN, Lookup, Surroundings
from detection_pack.languages.spl.spl_times import moment_before
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.platform import Run, Sources, Stored
from detection_pack.platforms.records import Records, records_of
from detection_pack.platforms.splunk.app import App, open_app
from detection_pack.platforms.splunk.events import EventTable
from detection_pack.platforms.splunk.imports import FORMS, MACROS, PLATFORM
from detection_pack.platforms.splunk.index_times import DUE
from detection_pack.platforms.splunk.lists import lookups_in
from detection_pack.platforms.splunk.own_fields import UnreadableName

#: For this connection alone; others of the run have their own.
TEMPORARY_MACROS = SQL_MACROS.replace("CREATE OR REPLACE MACRO", "CREATE OR REPLACE TEMP MACRO")


@dataclass(frozen=True)
class Row:
    """A result row and where it comes from: an event or the events of a `tstats` group, or the group and
    window of a `stats`."""

    values: Mapping[str, Any]
    events: tuple[str, ...]
    group: tuple[str, ...]
    window: datetime | None
    value: float | None

    @property
    def event(self) -> str | None:
        return self.events[0] if len(self.events) == 1 else None


class Workspace:
    """Events as Splunk shows them, ready for any number of searches; ``sources`` as for Sentinel's.

    ``indexed`` says when events were indexed, by their ids; of others it counts as if it was just now.
    ``held`` as for `EventTable`.
    """

    def __init__(
        self,
        events: Sequence[Event] | Records,
        sources: Iterable[LogSource] | None = None,
        indexed: Mapping[str, datetime] | None = None,
        held: bool = False,
    ) -> None:
        self._records = records_of(events, sources)
        self.connection = self._records.cursor()
        self.connection.execute(TEMPORARY_MACROS)
        self.events = EventTable(self._records, self.connection, indexed, held)

    def stored(self) -> list[Stored]:
        """The events with their search-time fields, then as the data sets hold them."""
        fields = self.events.all_fields()
        return [
            Stored(
                identifier, place, _filled({"_time": _moment(time)} | (more or fields.get(identifier, {})))
            )
            for identifier, place, time, more in self.events.places()
        ]

    def search(
        self,
        spl: str,
        macros: Mapping[str, str],
        now: datetime,
        window: tuple[datetime, datetime] | None = None,
        lookups: Mapping[str, Lookup] | None = None,
        indexed: tuple[datetime, datetime] | None = None,
    ) -> list[Row]:
        """The rows of any SPL search within what the engine supports, `_time` aware and in UTC.

        ``window`` is the time range that the search is dispatched with, ``indexed`` that of index times.
        Raises `UnsupportedSpl`.
        """
        tree, source = parse(spl, macros)
        around = Surroundings(
            now.timestamp(),
            _bounds(window),
            _bounds(indexed),
            lookups or {},
            self.events.data_sets,
            self.events.type_of,
        )
        statement = Pipelines(source, around).statement(tree)
        try:
            self.events.show(statement.reads)
            found = self._records.execute(self.connection, statement.sql).fetchall()
        except UnreadableName as error:
            raise UnsupportedSpl(str(error)) from error
        except duckdb.Error as error:
            # A pattern beyond RE2, or several values where one is needed, shows only when the query runs.
            raise UnsupportedSpl(str(error).split("\n")[0].split("unsupported SPL: ")[-1]) from error
        return [_row(list(statement.columns), values) for values in found]


def _bounds(between: tuple[datetime, datetime] | None) -> tuple[float, float] | None:
    return None if between is None else (between[0].timestamp(), between[1].timestamp())


def stored(events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
    """The events with their search-time fields, then as the data sets hold them."""
    return Workspace(events, sources).stored()


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: _value(value) for name, value in fields.items() if value not in (None, [])}


def _row(names: list[str], values: tuple[Any, ...]) -> Row:
    events, group, window, value = values[: len(ORIGIN)]
    shown = {n: _value(v) for n, v in zip(names, values[len(ORIGIN) :], strict=True)}
    if "_time" in shown:
        shown["_time"] = _moment(shown["_time"])
    return Row(shown, tuple(events or ()), tuple(group or ()), _moment(window), value)


def _value(value: Any) -> Any:
    """One value of a list of one; several stay a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _moment(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)


def run(given: Run) -> list[Hit]:
    """Execute ``splunk/queries/<name>.spl`` of every rule, and its other forms where there are some, as
    they stand.

    A plain rule gives one hit with the ids of its events, a correlation one hit a group and window. The
    other forms of a rule give a hit without rows: theirs would repeat the rule's. Raises `PackError` where a
    file cannot be read or holds SPL that this engine does not support.
    """
    dist, clock = given.dist, given.clock
    workspace = Workspace(given.events, given.sources)
    macros, lookups = macros_in(dist, clock), lookups_in(dist)
    hits: list[Hit] = []
    for rule in given.rules:
        artefact = f"{PLATFORM}/queries/{rule.name}.spl"
        hits += hits_of(rule, artefact, _rows(workspace, dist / artefact, macros, clock, lookups))
        for form in filter(None, () if given.exact_only else FORMS):
            other = f"{PLATFORM}/queries/{rule.name}{form}.spl"
            if (dist / other).is_file():
                rows = _rows(workspace, dist / other, macros, clock, lookups)
                hits += [replace(hit, rows=(), row_events=()) for hit in hits_of(rule, other, rows)]
    return hits


def run_imports(given: Run) -> list[Hit]:
    """Execute every saved search of these rules, as if it were enabled and before any throttling.

    The artefact of a hit is the archive's path; that of a search on a data set adds its name, so that neither
    form of a rule can hide what the other misses.
    """
    return run_app(open_app(given.dist), given)


def run_app(app: App, given: Run) -> list[Hit]:
    """`run_imports` of an app that has been opened, whose files count, and not those of ``given.dist``."""
    workspace = Workspace(given.events, given.sources)
    clock, macros = given.clock, _reaching_back(app.macros, given.clock)
    hits: list[Hit] = []
    for rule in given.rules:
        for stanza in (rule.name + form for form in FORMS):
            settings = app.saved_searches.get(stanza)
            if settings is None:
                continue
            artefact = app.path if stanza == rule.name else f"{app.path}/{stanza}"
            window = _window(settings, clock)
            try:
                rows = workspace.search(settings["search"], macros, clock.now, window, app.lookups)
            except UnsupportedSpl as error:
                todo = "change the rule, or teach languages/spl this SPL"
                raise PackError.at(
                    f"{app.path}/{stanza}", 1, f"unsupported SPL: {error.what}", todo
                ) from error
            hits += hits_of(rule, artefact, rows)
    return hits


def _window(settings: Mapping[str, str], clock: Clock) -> tuple[datetime, datetime]:
    earliest, latest = settings["dispatch.earliest_time"], settings["dispatch.latest_time"]
    if clock.lookback is not None:
        earliest = f"-{clock.lookback}"
    if not earliest.startswith("-") or latest != "now":
        raise UnsupportedSpl(f"the time range {earliest} to {latest}")
    return datetime.fromtimestamp(moment_before(earliest, clock.now.timestamp()), UTC), clock.now


def hits_of(rule: RuleEntry, artefact: str, rows: Sequence[Row]) -> list[Hit]:
    """The rows of one search as hits."""
    if rule.window is not None:
        return [_correlated(rule, artefact, row) for row in rows]
    seen = frozenset(event for row in rows for event in row.events)
    values, ids = tuple(row.values for row in rows), tuple(row.event or "" for row in rows)
    return [Hit(PLATFORM, rule.name, artefact, seen, rows=values, row_events=ids)]


def _rows(
    workspace: Workspace,
    path: Path,
    macros: Mapping[str, str],
    clock: Clock,
    lookups: Mapping[str, Lookup],
) -> list[Row]:
    try:
        return workspace.search(built_text(path), macros, clock.now, lookups=lookups)
    except UnsupportedSpl as error:
        todo = "change the rule, or teach languages/spl this SPL"
        raise PackError.at(path, error.line or 1, f"unsupported SPL: {error.what}", todo) from error


def _correlated(rule: RuleEntry, artefact: str, row: Row) -> Hit:
    group = tuple(zip(rule.group_by, row.group, strict=True))
    return Hit(
        PLATFORM,
        rule.name,
        artefact,
        group=group,
        window=row.window,
        value=row.value,
        rows=(row.values,),
    )


def macros_in(dist: Path, clock: Clock) -> dict[str, str]:
    """The macros of a build, by name; the clock's look-back stands in for theirs."""
    return _reaching_back(macros_of(built_text(dist / MACROS)), clock)


def _reaching_back(macros: Mapping[str, str], clock: Clock) -> dict[str, str]:
    own = (name for name in macros if name.endswith("_lookback") and clock.lookback is not None)
    since = (name for name in macros if name.endswith("_since") and clock.lookback is not None)
    found = dict(macros) | dict.fromkeys(own, f"-{clock.lookback}")
    return found | dict.fromkeys(since, f'relative_time({DUE}, "-{clock.lookback}")')
