"""A database of raw records that is filled from files, a table a log source, and then closed to the outside.

While it is filled it may read the files that its owner names, and nothing is run in it but its owner's SQL.
`RecordStore.records` locks it: what an ingest model or a query of dist/ says can reach nothing any more.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import (
    ID,
    RECORD,
    TIME,
    Records,
    Table,
    bounds,
    insert_rows,
    locked,
    quoted,
)

#: What is known of a record besides: its file, its place in it (the number of its entry or line), its kind.
FILE, PLACE, KIND = "_file", "_place", "_kind"
_OWN = (ID, TIME, RECORD, FILE, PLACE, KIND)
#: Records that Python inserts at once, and how much text.
_ROWS, _TEXT = 2_000, 8 << 20


@dataclass(frozen=True)
class Row:
    """One record: its id, its time, its keys as JSON text, and where it stands."""

    id: str
    time: datetime
    file: int
    place: int
    kind: str
    record: str | None
    keys: tuple[str | None, ...]


class RecordStore:
    """``wanted``: by the name of the source the keys to load, None for whole records; a source that is not
    named has none of its keys loaded."""

    def __init__(
        self, sources: Iterable[LogSource], wanted: Mapping[str, frozenset[str] | None] | None = None
    ) -> None:
        self.sources = tuple(sources)
        self.connection = duckdb.connect(config={"python_enable_replacements": "false", **bounds()})
        self.connection.execute("SET TimeZone = 'UTC'")
        # Compressed, a record of ten keys takes a tenth.
        self.catalog = f"records_{secrets.token_hex(4)}"
        self.connection.execute(f"ATTACH ':memory:' AS {self.catalog} (COMPRESS)")
        self.tables: dict[str, Table] = {}
        self._waiting: dict[str, list[Row]] = {source.name: [] for source in self.sources}
        self._size = 0
        for source in self.sources:
            keys = (wanted or {}).get(source.name, frozenset())
            table = Table(
                f"{self.catalog}.main.raw_{source.name}",
                {} if keys is None else dict(_columns(keys)),
                keys is None,
            )
            self.tables[source.name] = table
            columns = "".join(f", {quoted(column)} JSON" for column in table.columns.values())
            self.connection.execute(
                f"CREATE TABLE {table.name}({ID} VARCHAR, {TIME} TIMESTAMP, {RECORD} JSON,"
                f" {FILE} INTEGER, {PLACE} BIGINT, {KIND} VARCHAR{columns})"
            )

    def add(self, source: LogSource, row: Row) -> None:
        """One record more, its ``keys`` in the order of the table's columns."""
        waiting = self._waiting[source.name]
        waiting.append(row)
        self._size += sum(len(key) for key in row.keys if key) + len(row.record or "")
        if len(waiting) >= _ROWS or self._size > _TEXT:
            self.flush()

    def flush(self) -> None:
        for name, waiting in self._waiting.items():
            rows: list[Sequence[str | None]] = [
                (
                    *(one.id, one.time.replace(tzinfo=None).isoformat(), one.record),
                    *(str(one.file), str(one.place), one.kind, *one.keys),
                )
                for one in waiting
            ]
            insert_rows(self.connection, self.tables[name].name, rows)
            waiting.clear()
        self._size = 0

    def fill(self, source: LogSource, insert: str) -> tuple[int, array[int]] | None:
        """Run a statement that fills a source's table. A row without an id goes again: the number of those
        that stay, and the places of those that went. None where the statement fails, and nothing is
        filled."""
        table = self.tables[source.name].name
        try:
            [(count,)] = self.connection.execute(insert).fetchall()
        except duckdb.Error:
            return None
        sql = f"SELECT {PLACE} FROM {table} WHERE {ID} IS NULL ORDER BY {PLACE}"
        found, went = self.connection.execute(sql), array("Q")
        while rows := found.fetchmany(_ROWS):
            went.extend(place for (place,) in rows)
        if went:
            self.connection.execute(f"DELETE FROM {table} WHERE {ID} IS NULL")
        return count - len(went), went

    def discard(self, source: LogSource, file: int) -> None:
        """Forget what was filled from a file."""
        self.connection.execute(f"DELETE FROM {self.tables[source.name].name} WHERE {FILE} = {file}")

    def counted(self) -> Mapping[tuple[str, str], int]:
        """The number of records by the source's name and their kind."""
        found: dict[tuple[str, str], int] = {}
        for source in self.sources:
            sql = f"SELECT {KIND}, count(*) FROM {self.tables[source.name].name} GROUP BY ALL ORDER BY ALL"
            for kind, n in self.connection.execute(sql).fetchall():
                key = (source.name, source.kind_name(kind))
                found[key] = found.get(key, 0) + n
        return found

    def records(self) -> Records:
        """What was loaded; from here on the database reaches nothing outside."""
        self.flush()
        locked(self.connection)
        return Records(self.connection, self.sources, self.tables)


def _columns(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A column for each key: SQL takes names without regard to case, and some are the table's own."""
    taken = set(_OWN)
    for key in sorted(keys):
        name = key
        while name.lower() in taken or not name:
            name += "~"
        taken.add(name.lower())
        yield key, name
