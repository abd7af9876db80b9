"""The table of events that searches read, with a column of each field that the search at hand asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from detection_pack.languages.spl.spl_sql import EVENT_COLUMN, event_column, quoted_name
from detection_pack.languages.spl.spl_steps import DATA_SET, EVENT_TABLE
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import Records
from detection_pack.platforms.rows import ingest
from detection_pack.platforms.splunk.imports import PLATFORM
from detection_pack.platforms.splunk.own_fields import named_field, names_of, own_field, own_type

_MACROS = Path(__file__).with_name("ingest_macros.sql")
_EVENTS, _INDEX_TIMES = "splunk_events", "splunk_index_times"
_ID, _TIME, _INDEXED, _OWN, _NAMED = "_id", "_time", "_indextime", "_fields", "_named_values"
#: What an event has besides its fields, with what it is where a model says nothing.
_DEFAULTS = {
    "index": "'main'",
    "sourcetype": "CAST(NULL AS VARCHAR)",
    "tag": "CAST([] AS VARCHAR[])",
    "_raw": "CAST(NULL AS VARCHAR)",
}
#: Columns of a model's rows that are no field of their name.
_NO_FIELDS = {_ID, _TIME, _OWN, _NAMED, *_DEFAULTS}
#: A column that no field has, so that there is one of the kind.
_NO_EVENT_COLUMN = f"""NULL AS "{EVENT_COLUMN}'" """
#: The first value that a list of named values has for a name; ``held`` is what its JSON text then contains.
_NAMED_VALUE = """
CREATE OR REPLACE TEMP MACRO named_value(listed, name, held) AS
    CASE WHEN CAST(listed AS VARCHAR)[1] = '[' AND contains(CAST(listed AS VARCHAR), held) THEN
        list_filter(CAST(listed AS JSON[]),
            lambda one: one ->> '$.Name' = name AND one ->> '$.Value' IS NOT NULL)[1] ->> '$.Value' END
"""


class EventTable:
    """The view ``splunk_events`` of one connection, and the data sets: ``{name: {field: type}}``. ``held``
    makes tables of them, for few events that one search is asked of again and again."""

    def __init__(
        self,
        records: Records,
        cursor: duckdb.DuckDBPyConnection,
        indexed: Mapping[str, datetime] | None = None,
        held: bool = False,
    ) -> None:
        self._records, self._cursor = records, cursor
        self._made: dict[tuple[str, ...], dict[str, list[str]]] = {}
        self._shown: dict[str, str] | None = None
        self._relation = "TABLE" if held else "VIEW"
        cursor.execute(_NAMED_VALUE)
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {_INDEX_TIMES} (event VARCHAR PRIMARY KEY, moment DOUBLE)"
        )
        if indexed:
            rows = [[identifier, moment.timestamp()] for identifier, moment in indexed.items()]
            cursor.executemany(f"INSERT INTO {_INDEX_TIMES} VALUES (?, ?)", rows)
        found = f"(SELECT moment FROM {_INDEX_TIMES} WHERE event = {_ID})"
        self._index_time = found if indexed else "CAST(NULL AS DOUBLE)"
        tables = self._ingested({})
        self._columns = [self._described(view) for view in tables.get(_EVENTS, [])]
        self._fields = [
            {name: kind for name, kind in columns.items() if name not in _NO_FIELDS}
            for columns in self._columns
        ]
        self.data_sets = {
            # A data set has a dot in its name, which no other table has.
            name: self._data_set_types(views)
            for name, views in tables.items()
            if "." in name
        }
        self.show({})

    def type_of(self, name: str) -> str:
        """Whether the events' field may have several values ("mv") or has one at most ("one")."""
        if any(fields.get(name, "VARCHAR") != "VARCHAR" for fields in self._fields):
            return "mv"
        return "one" if all(name in fields for fields in self._fields) else own_type(name)

    def show(self, fields: Mapping[str, str]) -> None:
        """Make the view, and the data sets, with these fields of the events, each of its type."""
        if self._shown == fields:
            return
        tables = self._ingested(fields)
        rows = [
            self._rows(view, columns, fields)
            for view, columns in zip(tables.get(_EVENTS, []), self._columns, strict=True)
        ]
        if not rows:
            held = [
                f"CAST(NULL AS VARCHAR{'[]' * (kind == 'mv')}) AS {event_column(n)}"
                for n, kind in fields.items()
            ]
            meta = [f"{default} AS {quoted_name(name)}" for name, default in _DEFAULTS.items()]
            first = ["CAST(NULL AS VARCHAR) AS _id", "CAST(NULL AS DOUBLE) AS _time"]
            first += [f"CAST(NULL AS DOUBLE) AS {_INDEXED}", _NO_EVENT_COLUMN]
            rows = [f"SELECT {', '.join([*first, *meta, *held])} WHERE false"]
        self._replace(EVENT_TABLE, rows)
        for name in self.data_sets:
            timed = f"epoch({_TIME}) AS {_TIME}), {self._index_time} AS {_INDEXED}"
            views = [f"SELECT * REPLACE ({timed} FROM {view}" for view in tables[name]]
            self._replace(DATA_SET + name, views)
        self._shown = dict(fields)

    def _replace(self, name: str, rows: Sequence[str]) -> None:
        every = " UNION ALL BY NAME ".join(rows)
        self._cursor.execute(f"CREATE OR REPLACE TEMP {self._relation} {quoted_name(name)} AS {every}")

    def _rows(self, view: str, columns: Mapping[str, str], fields: Mapping[str, str]) -> str:
        found = [f"{_ID}", f"epoch({_TIME}) AS {_TIME}"]
        found += [f"{self._index_time} AS {_INDEXED}", _NO_EVENT_COLUMN]
        for name, default in _DEFAULTS.items():
            value = f"coalesce({quoted_name(name)}, {default})" if name in columns else default
            found.append(f"{value} AS {quoted_name(name)}")
        for number, (name, kind) in enumerate(fields.items()):
            found.append(f"{self._field(columns, name, kind, number)} AS {event_column(name)}")
        return f"SELECT {', '.join(found)} FROM {view}"

    def _field(self, columns: Mapping[str, str], name: str, kind: str, number: int) -> str:
        """SQL for one field of an event in a view with these columns."""
        if name in columns and name not in _NO_FIELDS:
            return _as(kind, quoted_name(name), columns[name] != "VARCHAR")
        several = own_type(name) == "mv"
        if _OWN not in columns:
            return _as(kind, "CAST(NULL AS VARCHAR)", False)
        own = f"struct_extract({_OWN}, 'f{number}')"
        if _NAMED not in columns:
            return _as(kind, own, several)
        return f"coalesce({_as(kind, own, several)}, {_as(kind, named_field(name), False)})"

    def _ingested(self, fields: Iterable[str]) -> dict[str, list[str]]:
        """The views that the models make with the records' own fields of these names: searches of one rule
        ask for the same."""
        names = tuple(fields)
        if names not in self._made:
            raw = partial(self._raw, fields=names)
            # A data set is there even if nothing fills it.
            self._made[names] = ingest(
                self._cursor, PLATFORM, self._records, _MACROS, raw=raw, needed=lambda table: "." in table
            )
        return self._made[names]

    def _raw(self, source: LogSource, fields: Iterable[str]) -> str:
        """``raw`` with the record's own fields of these names."""
        own = [f"f{n} := {own_field(self._records, source, name)}" for n, name in enumerate(fields)]
        packed = f"struct_pack({', '.join(own)})" if own else "NULL"
        return self._records.raw(source, more=[f"{packed} AS {_OWN}"])

    def _described(self, view: str) -> dict[str, str]:
        rows = self._cursor.execute(f"DESCRIBE FROM {view}").fetchall()
        return {str(name): str(kind) for name, kind, *_ in rows}

    def _data_set_types(self, views: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for view in views:
            for name, kind in self._described(view).items():
                if name not in (_ID, _TIME):
                    found[name] = "one" if kind == "VARCHAR" and found.get(name, "one") == "one" else "mv"
        return found

    def places(self) -> Iterator[tuple[str, str, float | None, dict[str, Any]]]:
        """(id, place, ``_time`` in seconds, fields) of every event by its sourcetype, whose fields are those
        of `all_fields`, then of the data sets with theirs."""
        sql = f"SELECT {_ID}, sourcetype, {_TIME} FROM {quoted_name(EVENT_TABLE)}"
        for identifier, sourcetype, time in self._cursor.execute(sql).fetchall():
            yield str(identifier), str(sourcetype), time, {}
        for name in sorted(self.data_sets):
            found = self._cursor.execute(f"FROM {quoted_name(DATA_SET + name)}")
            columns = [column[0] for column in found.description or []]
            for row in found.fetchall():
                held = dict(zip(columns, row, strict=True))
                yield str(held.pop(_ID)), name, held.pop(_TIME), held

    def all_fields(self) -> dict[str, dict[str, Any]]:
        """Every field of every event, by its id: texts, and lists of texts where there are several. It asks
        for all names that any record has, so it is for few records."""
        names: dict[str, None] = {}
        for fields in self._fields:
            names |= dict.fromkeys(fields)
        for table in self._records.tables.values():
            for (text,) in self._cursor.execute(f"SELECT _record FROM {table.name}").fetchall():
                names |= dict.fromkeys(sorted(names_of(json.loads(text))))
        for view, columns in zip(self._ingested({})[_EVENTS], self._columns, strict=True):
            if _NAMED in columns:
                one = f"SELECT unnest(CAST({_NAMED} AS JSON[])) ->> '$.Name' AS name FROM {view}"
                rows = self._cursor.execute(f"{one} WHERE CAST({_NAMED} AS VARCHAR)[1] = '['").fetchall()
                names |= dict.fromkeys(sorted({name for (name,) in rows if name}))
        return self.values(names)

    def values(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """These fields of every event that has them, by its id: texts, and lists of texts where there may be
        several. Raises `UnreadableName`."""
        fields = {name: self.type_of(name) for name in names}
        self.show(fields)
        cells = ", ".join([_ID, *(event_column(name) for name in fields)])
        rows = self._cursor.execute(f"SELECT {cells} FROM {quoted_name(EVENT_TABLE)}").fetchall()
        return {
            str(row[0]): {n: v for n, v in zip(fields, row[1:], strict=True) if v is not None} for row in rows
        }


def _as(kind: str, text: str, several: bool) -> str:
    """A value, or a list where ``several``, as the type that is asked for."""
    if kind == "one" or several:
        return text
    return f"(CASE WHEN {text} IS NOT NULL THEN [{text}] END)"
