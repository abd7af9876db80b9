"""Run the KQL of dist/ on DuckDB, through duckdb-kql, on rows shaped as Sentinel stores them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import duckdb
import duckdb_kql
from duckdb_kql.errors import KqlError

from detection_pack.languages.kept import kept
from detection_pack.languages.kql.address_ranges import RANGE_MACROS, register
from detection_pack.languages.kql.joined_terms import with_joined_terms
from detection_pack.languages.kql.known_text import without_dispatch
from detection_pack.languages.kql.watchlists import (
    SEARCH_KEY,
    WATCHLIST_MACROS,
    register_watchlists,
    watchlist_table,
    with_watchlists,
)
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.kusto.correlations import VALUE, WINDOW_START
from detection_pack.platforms.kusto.tables import EVENT, INGESTED, WHOLE, Tables
from detection_pack.platforms.kusto.watchlist_file import Watchlist, watchlists_in
from detection_pack.platforms.platform import Run, Sources, Stored
from detection_pack.platforms.records import Records, insert_rows, quoted, records_of, stamp

#: The schemas: the id of the platform whose tables a workspace has.
SENTINEL, DEFENDER = "sentinel", "defender"
#: The table into which Sentinel writes what its rules have alerted on, with the columns that queries read.
ALERTS = "SecurityAlert"
_ALERT_COLUMNS = {"TimeGenerated": "TIMESTAMP", "ExtendedProperties": "VARCHAR"}
#: duckdb-kql's parameter for the time of the query.
_NOW = "kqlnow"
_PROJECTION = "\n| project "
#: A string literal (kept), or the function.
_INGESTION_TIME = re.compile(r'(@"(?:[^"]|"")*"|"(?:[^"\\\n]|\\.)*")|ingestion_time\(\)')
#: The events of a row, where a plain rule raises one alert for several, and what it does for that.
EVENTS = "_EventIds"
_GROUPED = "\n| summarize\n"
_LOOKBACK = re.compile(r"^let (LookbackPeriod|\w+Lookback) = [^;]+;", re.MULTILINE)


register()
register_watchlists()


class Workspace:
    """A Log Analytics workspace (or the advanced hunting tables) in memory that holds ``events``.

    It has the tables of ``sources`` besides those of the events' own. ``ingested`` says when each event, by
    its id, or when all of them reached their table; only a query that asks for ``ingestion_time()`` needs it,
    and an event without one has none. ``schema`` is "sentinel" or "defender". ``watchlists``: by alias.
    """

    def __init__(
        self,
        events: Sequence[Event] | Records,
        ingested: Mapping[str, datetime] | datetime | None = None,
        schema: str = SENTINEL,
        sources: Iterable[LogSource] | None = None,
        watchlists: Mapping[str, Watchlist] | None = None,
    ) -> None:
        self._records = records_of(events, sources)
        self.connection = self._records.cursor()
        self.connection.execute(RANGE_MACROS + WATCHLIST_MACROS)
        self.schema = schema
        self._tables = Tables(self.connection, schema, self._records, ingested)
        self._columns = dict(self._tables.columns)
        if schema == SENTINEL:
            columns = ", ".join(f"{name} {kind}" for name, kind in _ALERT_COLUMNS.items())
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {ALERTS}({columns})")
            self._columns[ALERTS] = list(_ALERT_COLUMNS)
        self._watchlists: dict[str, Sequence[str]] = {}
        for alias, items in (watchlists or {}).items():
            self._create_watchlist(alias, items)

    def _create_watchlist(self, alias: str, watchlist: Watchlist) -> None:
        """A table of texts, with the search key; without items it has no columns of theirs."""
        rows = [
            [item.get(watchlist.search_key, ""), *(item.get(name, "") for name in watchlist.columns)]
            for item in watchlist.items
        ]
        columns = [SEARCH_KEY, *(watchlist.columns if rows else ())]
        table = watchlist_table(alias)
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {quoted(table)}"
            f"({', '.join(f'{quoted(name)} VARCHAR' for name in columns)})"
        )
        if rows:
            insert_rows(self.connection, table, rows)
        self._watchlists[alias] = columns
        self._columns[table] = columns

    def whole_tables(self) -> Mapping[str, Mapping[str, str]]:
        """The tables with whole records in them, ``{table: {column: type}}``."""
        return self._tables.whole()

    def restrict(self, table: str, condition: str) -> frozenset[str]:
        """Let a table hold only the rows of which this is true, in SQL. Returns the ids of their events."""
        self._tables.restrict(table, condition)
        return frozenset(
            row[0] for row in self.connection.sql(f"SELECT {EVENT} FROM {quoted(table)}").fetchall()
        )

    def hold(self, table: str) -> str:
        """As `Tables.hold`."""
        return self._tables.hold(table)

    def set_alerts(self, raised: Sequence[tuple[datetime, str]]) -> None:
        """Let the table of alerts hold these: when each was raised, and its ExtendedProperties."""
        self.connection.execute(f"DELETE FROM {ALERTS}")
        rows = [(stamp(moment), text) for moment, text in raised]
        if rows:
            insert_rows(self.connection, ALERTS, rows)

    def query(self, text: str, clock: Clock) -> list[dict[str, Any]]:
        """The rows of a KQL query, by column name; ``now()`` is the clock's. Times are aware, in UTC."""
        if clock.lookback is not None:
            text = _LOOKBACK.sub(lambda m: f"let {m[1]} = {clock.lookback};", text)
        text = _with_ingestion_column(_with_plain_characters(text))
        text = with_watchlists(text, self._watchlists)
        columns = self._tables.read_by(text)
        known = self._tables.text_in(text)
        named = tuple((t, tuple(c)) for t, c in (self._columns | columns).items())
        sql, timed = _translated(text, named, tuple(sorted(known)))
        sql = with_joined_terms(self._tables.ready(sql, columns))
        now = clock.now.astimezone(UTC).replace(tzinfo=None)
        result = self._records.execute(self.connection, sql, {_NOW: now} if timed else {})
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@lru_cache(maxsize=256)
def _translated(
    text: str, columns: tuple[tuple[str, tuple[str, ...]], ...], texts: tuple[str, ...]
) -> tuple[str, bool]:
    """A query over tables of these columns, of which ``texts`` are known to hold text, as SQL, and whether
    the SQL asks for the time of the query."""
    # Not `duckdb_kql.query`: it sets the zone, and the settings are locked. Nothing may be written.
    known = {table: list(names) for table, names in columns}

    def made() -> tuple[str, bool]:
        sql = duckdb_kql.to_sql(text, schema=known, query_now="2000-01-01T00:00:00Z", allow_write=False)
        assert set(sql.parameters) <= {_NOW}
        return without_dispatch(str(sql), texts), _NOW in sql.parameters

    sql, timed = kept("KQL", [text, json.dumps(known), *texts], made)
    return sql, timed


def stored(events: Sequence[Event], schema: str, sources: Sources | None = None) -> list[Stored]:
    """The events as rows of their tables."""
    workspace = Workspace(events, schema=schema, sources=sources)
    found = []
    for table, kinds in workspace.whole_tables().items():
        result = workspace.connection.sql(f"FROM {quoted(table)}")
        for row in result.fetchall():
            held = dict(zip(result.columns, row, strict=True))
            identifier = str(held.pop(EVENT))
            held.pop(INGESTED)
            filled = {k: v for name, value in held.items() for k, v in _paths(name, value, kinds[name])}
            found.append(Stored(identifier, table, filled))
    return found


def _paths(name: str, value: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """A column as a query names what it holds: a dynamic object by the paths of its members."""
    if value in (None, ""):
        return
    if kind in ("dynamic", WHOLE):
        value = json.loads(value)
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _paths(f"{name}.{key}", inner, "")
    else:
        yield name, value


def _with_plain_characters(text: str) -> str:
    r"""The query with its ``\uXXXX`` escapes as characters: duckdb-kql 1.1 reads them as ``uXXXX``."""

    def decoded(found: re.Match[str]) -> str:
        units = bytes.fromhex(found[2].replace("\\u", ""))
        return found[1] + units.decode("utf-16-be", "surrogatepass")

    return re.sub(r"(?<!\\)((?:\\\\)*)((?:\\u[0-9a-f]{4})+)", decoded, text)


def _with_ingestion_column(text: str) -> str:
    """The query with ``ingestion_time()`` as a column of ours: duckdb-kql 1.1 has no such function.

    In a string literal it stays as it is, so that a rule's value is not touched.
    """
    return _INGESTION_TIME.sub(lambda m: INGESTED if m[1] is None else m[0], text)


def run(given: Run, schema: str = SENTINEL) -> list[Hit]:
    """Execute ``<schema>/queries/<name>.kql`` for each rule. One hit a plain rule (with no event where none
    matched), one a group and window for a correlation."""
    watchlists = watchlists_in(given.dist) if schema == SENTINEL else {}
    workspace = Workspace(given.events, schema=schema, sources=given.sources, watchlists=watchlists)
    hits: list[Hit] = []
    for rule in given.rules:
        artefact = f"{schema}/queries/{rule.name}.kql"
        hits += verdicts(workspace, built_text(given.dist / artefact), rule, given.clock, artefact)
    return hits


def verdicts(workspace: Workspace, text: str, rule: RuleEntry, clock: Clock, artefact: str) -> list[Hit]:
    """Run one query as it stands, with the identity of its rows added to its last projection. Raises
    `PackError`."""
    try:
        rows = result_rows(workspace, text, rule, clock)
    except ValueError as error:
        raise PackError.at(artefact, 1, "is not a query of this pack", "build dist/ again") from error
    except (KqlError, duckdb.Error) as error:
        what = f"cannot be executed here ({str(error).splitlines()[0]})"
        raise PackError.at(artefact, 1, what, "leave the rule out of this replay") from error
    if rule.window is not None:
        return [correlated_hit(workspace.schema, rule, artefact, row) for row in rows]
    if _is_grouped(text):
        seen = tuple({k: v for k, v in row.items() if k != EVENTS} for row in rows)
        together = frozenset(str(event) for row in rows for event in row[EVENTS])
        return [Hit(workspace.schema, rule.name, artefact, together, rows=seen)]
    seen = tuple({k: v for k, v in row.items() if k != EVENT} for row in rows)
    ids = tuple(str(row[EVENT]) for row in rows)
    return [Hit(workspace.schema, rule.name, artefact, frozenset(ids), rows=seen, row_events=ids)]


def result_rows(workspace: Workspace, text: str, rule: RuleEntry, clock: Clock) -> list[dict[str, Any]]:
    """The rows of one query as it stands, with the identity of each besides: of a plain rule the event, or
    `EVENTS` where it raises one alert for several; of a correlation window, value and groups. Raises
    ValueError for a query that is none of this pack, KqlError and duckdb.Error."""
    groups = _group_columns(text) if rule.window is not None else []
    identity = [EVENT]
    if rule.window is not None:
        identity = [WINDOW_START, VALUE, *(f"_Group{i} = {name}" for i, name in enumerate(groups))]
    head, found, tail = text.rpartition(_PROJECTION)
    if not found or len(groups) != len(rule.group_by):
        raise ValueError("not a query of this pack")
    if rule.window is None and _is_grouped(text):
        head = f"{_GROUPED}    {EVENTS} = make_list({EVENT}),\n".join(head.rsplit(_GROUPED, 1))
        head = head.replace(_PROJECTION, f"{_PROJECTION}{EVENT}, ")
        identity = [EVENTS]
    return workspace.query(f"{head}{found}{', '.join(identity)}, {tail}", clock)


def _is_grouped(text: str) -> bool:
    """Whether a plain rule's query gives one row for several events."""
    return _GROUPED in text


def _group_columns(text: str) -> list[str]:
    """The group columns of a correlation's last ``summarize … by …, WindowStart …`` line."""
    found = re.findall(rf"^    by (?:(.*), )?{WINDOW_START}(?: = .+)?$", text, re.MULTILINE)
    return [part.split(" = ")[0] for part in found[-1].split(", ")] if found and found[-1] else []


def correlated_hit(platform: str, rule: RuleEntry, artefact: str, row: Mapping[str, Any]) -> Hit:
    """What a row of `result_rows` of a correlation says."""
    shown = {k: v for k, v in row.items() if k not in (WINDOW_START, VALUE) and not k.startswith("_Group")}
    group = tuple((field, str(row[f"_Group{i}"])) for i, field in enumerate(rule.group_by))
    window = row[WINDOW_START].replace(tzinfo=UTC)
    return Hit(
        platform, rule.name, artefact, group=group, window=window, value=float(row[VALUE]), rows=(shown,)
    )
