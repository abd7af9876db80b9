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
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.rows import connected, ingest, known_sources

PLATFORM = "splunk"
UNION = f"{PLATFORM}/remote_email_collection.spl"
MACROS = f"{PLATFORM}/macros.conf"

_MACROS = Path(__file__).with_name("ingest_macros.sql")


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


#: The other forms of a rule's search, by the ending of their files.
FORMS = (".tstats.spl", ".raw.spl")


class Workspace:
    """Events as Splunk shows them, ready for any number of searches; ``sources`` as for Sentinel's."""

    def __init__(self, events: Sequence[Event], sources: Iterable[LogSource] | None = None) -> None:
        self.connection = connected()
        self.connection.execute(SQL_MACROS)
        ingest(self.connection, PLATFORM, events, known_sources(events, sources), _MACROS)
        tables = self.connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
        # A model makes a data set as a table of its name, which no other table has a dot in.
        self._data_sets = frozenset(name for (name,) in tables if "." in name)

    def search(
        self,
        spl: str,
        macros: Mapping[str, str],
        now: datetime,
        window: tuple[datetime, datetime] | None = None,
        lookups: Mapping[str, Lookup] | None = None,
    ) -> list[Row]:
        """The rows of any SPL search within what the engine supports, `_time` aware and in UTC.

        ``window`` is the time range that the search is dispatched with. Raises `UnsupportedSpl`.
        """
        tree, source = parse(spl, macros)
        bounds = None if window is None else (window[0].timestamp(), window[1].timestamp())
        around = Surroundings(now.timestamp(), bounds, lookups or {}, self._data_sets)
        statement = Pipelines(source, around).statement(tree)
        try:
            found = self.connection.execute(statement.sql).fetchall()
        except duckdb.Error as error:
            # A pattern beyond RE2, or several values where one is needed, shows only when the query runs.
            raise UnsupportedSpl(str(error).split("\n")[0].split("unsupported SPL: ")[-1]) from error
        return [_row(list(statement.columns), values) for values in found]


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


def run(
    dist: Path,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
) -> list[Hit]:
    """Execute ``splunk/queries/<name>.spl`` of every rule, and its other forms where there are some, as
    they stand.

    A plain rule gives one hit with the ids of its events, a correlation one hit a group and window. The
    other forms of a rule give a hit without rows: theirs would repeat the rule's. Raises `PackError` where a
    file cannot be read or holds SPL that this engine does not support.
    """
    workspace = Workspace(events, sources)
    macros = _macros(dist, clock)
    hits: list[Hit] = []
    for rule in rules:
        artefact = f"{PLATFORM}/queries/{rule.name}.spl"
        hits += hits_of(rule, artefact, _rows(workspace, dist / artefact, macros, clock))
        for form in FORMS:
            other = f"{PLATFORM}/queries/{rule.name}{form}"
            if (dist / other).is_file():
                rows = _rows(workspace, dist / other, macros, clock)
                hits += [replace(hit, rows=()) for hit in hits_of(rule, other, rows)]
    return hits


def hits_of(rule: RuleEntry, artefact: str, rows: Sequence[Row]) -> list[Hit]:
    """The rows of one search as hits."""
    if rule.window is not None:
        return [_correlated(rule, artefact, row) for row in rows]
    seen = frozenset(event for row in rows for event in row.events)
    return [Hit(PLATFORM, rule.name, artefact, seen, rows=tuple(row.values for row in rows))]


def run_union(dist: Path, events: Sequence[Event], clock: Clock) -> list[Mapping[str, Any]]:
    """The rows of ``splunk/remote_email_collection.spl``, as it stands. Raises `PackError`."""
    return [row.values for row in _rows(Workspace(events), dist / UNION, _macros(dist, clock), clock)]


def execute(
    spl: str, events: Sequence[Event], clock: Clock, macros: Mapping[str, str] | None = None
) -> list[Row]:
    """Run any supported SPL search on events; ``macros`` maps a macro's name to its definition."""
    return Workspace(events).search(spl, macros or {}, clock.now)


def _rows(workspace: Workspace, path: Path, macros: Mapping[str, str], clock: Clock) -> list[Row]:
    try:
        return workspace.search(built_text(path), macros, clock.now)
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


def _macros(dist: Path, clock: Clock) -> dict[str, str]:
    macros = macros_of(built_text(dist / MACROS))
    if clock.lookback is not None:
        macros |= {name: f"-{clock.lookback}" for name in macros if name.endswith("_lookback")}
    return macros
