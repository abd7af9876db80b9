"""Run the KQL of dist/ on DuckDB, through duckdb-kql, on rows shaped as Sentinel stores them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import duckdb_kql
from duckdb_kql.engine import schema as schema_of
from duckdb_kql.errors import KqlError

from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource, tables_of
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.kusto.correlations import VALUE, WINDOW_START
from detection_pack.platforms.platform import Run
from detection_pack.platforms.rows import connected, ingest, insert_rows, known_sources

#: The schemas: the id of the platform whose tables a workspace has.
SENTINEL, DEFENDER = "sentinel", "defender"
_TYPES = {
    "string": "VARCHAR DEFAULT ''",
    "datetime": "TIMESTAMP",
    "long": "BIGINT",
    "int": "INTEGER",
    "real": "DOUBLE",
    "bool": "BOOLEAN",
    "dynamic": "JSON",
}
_PROJECTION = "\n| project "
#: A string literal (kept), or the function.
_INGESTION_TIME = re.compile(r'(@"(?:[^"]|"")*"|"(?:[^"\\\n]|\\.)*")|ingestion_time\(\)')
_LOOKBACK = re.compile(r"^let (LookbackPeriod|\w+Lookback) = [^;]+;", re.MULTILINE)


class Workspace:
    """A Log Analytics workspace (or the advanced hunting tables) in memory that holds ``events``.

    It has the tables of ``sources`` besides those of the events' own. ``ingested`` says when each event, by
    its id, reached its table; only a query that asks for ``ingestion_time()`` needs it, and an event without
    one has none. ``schema`` is "sentinel" or "defender".
    """

    def __init__(
        self,
        events: Sequence[Event],
        ingested: Mapping[str, datetime] | None = None,
        schema: str = SENTINEL,
        sources: Iterable[LogSource] | None = None,
    ) -> None:
        known = known_sources(events, sources)
        self.connection = connected()
        self.schema = schema
        self._tables = tables_of(known, schema)
        self._create_tables()
        ingest(self.connection, schema, events, known)
        if ingested:
            self._stamp(ingested)

    def query(self, text: str, clock: Clock) -> list[dict[str, Any]]:
        """The rows of a KQL query, by column name; ``now()`` is the clock's. Times are aware, in UTC."""
        if clock.lookback is not None:
            text = _LOOKBACK.sub(lambda m: f"let {m[1]} = {clock.lookback};", text)
        now = clock.now.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
        text = _with_ingestion_column(_with_plain_characters(text))
        # Not `duckdb_kql.query`: it sets the zone, and the settings are locked. Nothing may be written.
        known = schema_of(self.connection)
        made = duckdb_kql.to_sql(text, schema=known, query_now=now, allow_write=False)
        result = self.connection.sql(str(made), params=made.parameters)
        names = list(result.columns)
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def _create_tables(self) -> None:
        for table, columns in self._tables.items():
            listed = ", ".join(f"{quoted(name)} {_TYPES[kind]}" for name, kind in columns.items())
            own = "_EventId VARCHAR, _IngestionTime TIMESTAMP"
            self.connection.sql(f"CREATE TABLE {quoted(table)} ({own}, {listed})")

    def _stamp(self, ingested: Mapping[str, datetime]) -> None:
        self.connection.sql("CREATE TABLE arrivals(id VARCHAR, arrival VARCHAR)")
        times = [(k, v.astimezone(UTC).replace(tzinfo=None).isoformat()) for k, v in ingested.items()]
        insert_rows(self.connection, "arrivals", times)
        for table in self._tables:
            self.connection.sql(
                f"UPDATE {quoted(table)} SET _IngestionTime = arrival::TIMESTAMP"
                " FROM arrivals WHERE id = _EventId"
            )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
    return _INGESTION_TIME.sub(lambda m: "_IngestionTime" if m[1] is None else m[0], text)


def run(given: Run, schema: str = SENTINEL) -> list[Hit]:
    """Execute ``<schema>/queries/<name>.kql`` for each rule. One hit a plain rule (with no event where none
    matched), one a group and window for a correlation."""
    workspace = Workspace(given.events, schema=schema, sources=given.sources)
    hits: list[Hit] = []
    for rule in given.rules:
        artefact = f"{schema}/queries/{rule.name}.kql"
        hits += verdicts(workspace, built_text(given.dist / artefact), rule, given.clock, artefact)
    return hits


def verdicts(workspace: Workspace, text: str, rule: RuleEntry, clock: Clock, artefact: str) -> list[Hit]:
    """Run one query as it stands, with the identity of its rows added to its last projection."""
    groups = _group_columns(text) if rule.window is not None else []
    identity = ["_EventId"]
    if rule.window is not None:
        identity = [WINDOW_START, VALUE, *(f"_Group{i} = {name}" for i, name in enumerate(groups))]
    head, found, tail = text.rpartition(_PROJECTION)
    if not found or len(groups) != len(rule.group_by):
        raise PackError.at(artefact, 1, "is not a query of this pack", "build dist/ again")
    try:
        rows = workspace.query(f"{head}{found}{', '.join(identity)}, {tail}", clock)
    except (KqlError, duckdb.Error) as error:
        what = f"cannot be executed here ({str(error).splitlines()[0]})"
        raise PackError.at(artefact, 1, what, "leave the rule out of this replay") from error
    if rule.window is None:
        seen = tuple({k: v for k, v in row.items() if k != "_EventId"} for row in rows)
        return [
            Hit(workspace.schema, rule.name, artefact, frozenset(row["_EventId"] for row in rows), rows=seen)
        ]
    return [_correlated(workspace.schema, rule, artefact, row) for row in rows]


def _group_columns(text: str) -> list[str]:
    """The group columns of a correlation's ``summarize … by …, WindowStart = …`` line."""
    found = re.findall(rf"^    by (?:(.*), )?{WINDOW_START} = bin\(", text, re.MULTILINE)
    return [part.split(" = ")[0] for part in found[-1].split(", ")] if found and found[-1] else []


def _correlated(platform: str, rule: RuleEntry, artefact: str, row: Mapping[str, Any]) -> Hit:
    shown = {k: v for k, v in row.items() if k not in (WINDOW_START, VALUE) and not k.startswith("_Group")}
    group = tuple((field, str(row[f"_Group{i}"])) for i, field in enumerate(rule.group_by))
    window = row[WINDOW_START].replace(tzinfo=UTC)
    return Hit(
        platform, rule.name, artefact, group=group, window=window, value=float(row[VALUE]), rows=(shown,)
    )
