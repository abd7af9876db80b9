"""The raw records of one run, in a database that every platform's ingest model and query reads.

A log source has one table, ``raw_<source>``: ``_id`` (unique in the source), ``_time`` (TIMESTAMP in UTC,
null where the record says none), ``_record`` (the record as JSON) and, as JSON too, one column for each of
its keys that was loaded. Records of a file have only the keys that are read; which these are, `Probe` finds
out, by running the same queries on no records at all.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from detection_pack.languages.databases import MEMORY, SPILLED, literal
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource

#: Settings of every connection that runs SQL of a log source or a query of dist/.
SAFE = {"enable_external_access": "false", "python_enable_replacements": "false"}
ID, TIME, RECORD = "_id", "_time", "_record"


def connected() -> duckdb.DuckDBPyConnection:
    """A database in memory, its zone UTC, that reaches nothing outside and keeps its settings.

    It holds `MEMORY` at most and spills the rest to a folder that DuckDB makes when it must and removes.
    """
    connection = duckdb.connect(config={**SAFE, **bounds()})
    locked(connection)
    return connection


def bounds() -> dict[str, str]:
    """The settings that bound a database's memory and disk."""
    return {
        "memory_limit": MEMORY,
        "temp_directory": str(Path(tempfile.gettempdir()) / f"detection-pack-{secrets.token_hex(16)}"),
        "max_temp_directory_size": SPILLED,
    }


def locked(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on no statement reaches a file, the network or a setting."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def stamp(moment: datetime) -> str:
    """A time as a TIMESTAMP in UTC is written."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def declared_keys(source: LogSource) -> list[str]:
    """The keys that an ingest model of the source finds as columns of ``raw``: its fields, and of a field
    with dots also what stands before the first, below which a nested record has it."""
    return list(dict.fromkeys(key for name in source.fields for key in (name, name.partition(".")[0])))


@dataclass(frozen=True)
class Table:
    """A source's table: its name, and the column of each key that was loaded. ``whole``: its ``_record`` is
    there, from which every other key can be taken."""

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False


class Records:
    """The records of one run. ``tables`` are by the name of the source. ``silent``: the names of sources that
    have no record, whose models make nothing and need not be run."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        sources: Iterable[LogSource],
        tables: Mapping[str, Table],
        silent: Iterable[str] = (),
    ) -> None:
        self.connection = connection
        self.sources = tuple(sources)
        self.tables = dict(tables)
        self.silent = frozenset(silent)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one engine's own: it sees the tables, nobody else its temporary objects."""
        return self.connection.cursor()

    def execute(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None
    ) -> duckdb.DuckDBPyConnection:
        """Run a statement that reads records. Every engine does so here, so that a `Probe` sees it."""
        return cursor.execute(sql, parameters)

    def key(self, source: LogSource, key: str) -> str:
        """SQL for a top-level key of the source's records, as JSON, where ``raw`` is in scope."""
        table = self.tables[source.name]
        if key in table.columns:
            return quoted(table.columns[key])
        if table.whole:
            pointer = "/" + key.replace("~", "~0").replace("/", "~1")
            return f"json_extract({RECORD}, {literal(pointer)})"
        return "NULL::JSON"

    def raw(self, source: LogSource, parts: Iterable[str] | None = None, more: Iterable[str] = ()) -> str:
        """SQL that selects what the models of a source find as ``raw``: ``_id``, ``_time``, ``_record``, and
        every declared key as JSON, null where a record lacks it. With ``parts``, ``_record`` is a structure
        of these keys instead of the whole record; ``more`` are further columns, SQL with `key`."""
        table = self.tables[source.name]
        declared = dict.fromkeys(declared_keys(source))
        extra = [key for key in table.columns if key not in declared]
        keys = [f"{self.key(source, key)} AS {quoted(key)}" for key in declared]
        others = [quoted(table.columns[key]) for key in extra]
        record = RECORD
        if parts is not None:
            packed = ", ".join(f"{quoted(key)} := {self.key(source, key)}" for key in sorted(parts))
            record = f"{f'struct_pack({packed})' if packed else 'NULL'} AS {RECORD}"
        return f"SELECT {', '.join([ID, TIME, record, *keys, *others, *more])} FROM {table.name}"

    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last time of all records; None where no record has one."""
        parts = " UNION ALL ".join(f"SELECT {TIME} AS t FROM {t.name}" for t in self.tables.values())
        if not parts:
            return None
        row = self.connection.cursor().execute(f"SELECT min(t), max(t) FROM ({parts})").fetchone()
        if row is None or row[0] is None:
            return None
        return row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC)


def known_sources(
    events: Iterable[Event], sources: Iterable[LogSource] | None = None
) -> tuple[LogSource, ...]:
    """The given log sources (None: no others), then those of the events."""
    return tuple(dict.fromkeys([*(sources or ()), *(event.source for event in events)]))


def records_of(events: Sequence[Event] | Records, sources: Iterable[LogSource] | None = None) -> Records:
    """Events as records of these sources besides their own; records as they are."""
    if isinstance(events, Records):
        return events
    known = known_sources(events, sources)
    connection = connected()
    tables = {source.name: Table(f"raw_{source.name}", whole=True) for source in known}
    silent = []
    for source in known:
        _create(connection, tables[source.name])
        own = [event for event in events if event.source is source]
        insert_rows(connection, tables[source.name].name, [_row(event) for event in own])
        silent += [] if own else [source.name]
    return Records(connection, known, tables, silent)


def _create(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    keys = "".join(f", {quoted(column)} JSON" for column in table.columns.values())
    connection.execute(f"CREATE TABLE {table.name}({ID} VARCHAR, {TIME} TIMESTAMP, {RECORD} JSON{keys})")


def _row(event: Event) -> tuple[str, str | None, str]:
    return event.id, None if event.time is None else stamp(event.time), event.json()


def insert_rows(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[str | None]]
) -> None:
    """Insert text rows in one statement: row by row, 20,000 records take a minute."""
    if rows:
        turned = [list(column) for column in zip(*rows, strict=True)]
        unnested = ", ".join("unnest(CAST(? AS VARCHAR[]))" for _ in turned)
        connection.execute(f"INSERT INTO {table} SELECT {unnested}", turned)


class Probe(Records):
    """No records at all, and a list of what is read of them.

    An engine that is run on it leaves in ``wanted`` the keys of each source that its statements read, by the
    name of the source, and in ``whole`` the sources whose records they read as such.
    """

    def __init__(self, sources: Iterable[LogSource]) -> None:
        known = tuple(sources)
        connection = duckdb.connect(config={**SAFE, **bounds()})
        # With a filter inside a scan, the plan does not list the columns that it alone reads.
        connection.execute(
            "SET disabled_optimizers = 'filter_pushdown,statistics_propagation,empty_result_pullup'"
        )
        locked(connection)
        tables = {s.name: Table(f"raw_{s.name}", {k: k for k in declared_keys(s)}) for s in known}
        for table in tables.values():
            _create(connection, table)
        super().__init__(connection, known, tables)
        self.wanted: dict[str, set[str]] = {source.name: set() for source in known}
        self.whole: set[str] = set()

    def execute(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None
    ) -> duckdb.DuckDBPyConnection:
        [(_, plan)] = cursor.execute(f"EXPLAIN (FORMAT json) {sql}", parameters).fetchall()
        for node in json.loads(plan):
            self._note(node)
        # What a query would find is known; what it needs for others must be there.
        if sql.split(maxsplit=1)[0].upper() in ("SELECT", "WITH", "FROM"):
            return cursor.execute("SELECT NULL WHERE false")
        return cursor.execute(sql, parameters)

    def key(self, source: LogSource, key: str) -> str:
        if key in self.tables[source.name].columns:
            return quoted(key)
        self.wanted[source.name].add(key)
        return "NULL::JSON"

    def _note(self, node: Mapping[str, Any]) -> None:
        for child in node["children"]:
            self._note(child)
        scanned = str(node["extra_info"].get("Table", "")).rpartition(".")[2]
        for name, table in self.tables.items():
            if scanned == table.name:
                read = node["extra_info"].get("Projections") or []
                columns = [read] if isinstance(read, str) else read
                self.wanted[name] |= {column for column in columns if column in table.columns}
                if RECORD in columns:
                    self.whole.add(name)
