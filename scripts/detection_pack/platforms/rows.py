"""Raw records into DuckDB, and each log source's own model of what a platform's connector makes of them.

The SQL of a log source is data that anybody may bring: it runs where no file, network or extension can be
reached, and where no setting can be changed.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from pathlib import Path

import duckdb

from detection_pack.languages.databases import MEMORY, SPILLED
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource

#: Settings of every connection that runs SQL of a log source or a query of dist/.
SAFE = {"enable_external_access": "false", "python_enable_replacements": "false"}
#: The SQL file of a log source that every platform's model may build on.
COMMON = "common"
_MACROS = Path(__file__).with_name("ingest_macros.sql")


def connected() -> duckdb.DuckDBPyConnection:
    """A database in memory, its zone UTC, that reaches nothing outside and keeps its settings.

    It holds `MEMORY` at most and spills the rest to a folder that DuckDB makes when it must and removes.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        **SAFE,
        "memory_limit": MEMORY,
        "temp_directory": str(Path(tempfile.gettempdir()) / f"detection-pack-{secrets.token_hex(16)}"),
        "max_temp_directory_size": SPILLED,
    }
    connection = duckdb.connect(config=config)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def known_sources(
    events: Sequence[Event], sources: Iterable[LogSource] | None = None
) -> tuple[LogSource, ...]:
    """The log sources whose models run: the given ones (None: no others), then those of the events."""
    return tuple(dict.fromkeys([*(sources or ()), *(event.source for event in events)]))


def ingest(
    connection: duckdb.DuckDBPyConnection,
    platform: str,
    events: Sequence[Event],
    sources: Sequence[LogSource],
    macros: Path | None = None,
    variables: Mapping[str, bool] | None = None,
) -> None:
    """Run the models of the sources, each on its own events: ``common.sql``, then the platform's.

    Each finds ``raw(id, time TIMESTAMP, record JSON)`` and ``enums(enum, value, name)`` of its source, the
    macros of every platform and those in ``macros``, and fills the tables that the platform's engine has
    made. ``variables`` are what a model may ask for with ``getvariable``. Raises `PackError`.
    """
    _load(connection, events, sources)
    for name, value in (variables or {}).items():
        assert name.isidentifier()
        connection.execute(f"SET VARIABLE {name} = {value}")
    _prepare(connection, "", macros)  # the engine's tables are there without any source, too
    for source in sources:
        _prepare(connection, source.name, macros)
        for name in (COMMON, platform):
            if (text := source.sql(name)) is not None:
                _run(connection, text, source.folder / f"{name}.sql")


def _prepare(connection: duckdb.DuckDBPyConnection, source: str, macros: Path | None) -> None:
    """What a source's model finds. ``source`` is a folder's name: small letters, digits, underscores."""
    for table, columns in (("raw", "id, time, record"), ("enums", "enum, value, name")):
        view = f"SELECT {columns} FROM all_{table} WHERE source = '{source}'"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {view}")
    for path in (_MACROS, *([macros] if macros else [])):
        connection.execute(path.read_text(encoding="utf-8"))


def _load(
    connection: duckdb.DuckDBPyConnection, events: Sequence[Event], sources: Sequence[LogSource]
) -> None:
    connection.execute("CREATE TABLE all_enums(source VARCHAR, enum VARCHAR, value VARCHAR, name VARCHAR)")
    named = [
        (source.name, enumeration, str(value), name)
        for source in sources
        for enumeration, values in source.enumerations.items()
        for value, name in values.items()
    ]
    insert_rows(connection, "all_enums", named)
    connection.execute("CREATE TABLE all_raw(source VARCHAR, id VARCHAR, time TIMESTAMP, record JSON)")
    insert_rows(connection, "all_raw", [_raw_row(event) for event in events])


def _raw_row(event: Event) -> tuple[str, str, str | None, str]:
    moment = event.time
    stamp = None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return event.source.name, event.id, stamp, event.json()


def _run(connection: duckdb.DuckDBPyConnection, text: str, path: Path) -> None:
    try:
        connection.execute(text)
    except duckdb.Error as error:
        what = str(error).split("\n")[0]
        line = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
        todo = "correct the ingest model of the log source"
        raise PackError.at(path, int(line[1]) if line else 1, what, todo) from error


def insert_rows(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[str | None]]
) -> None:
    """Insert text rows in one statement: row by row, 20,000 records take a minute."""
    if rows:
        turned = [list(column) for column in zip(*rows, strict=True)]
        unnested = ", ".join("unnest(CAST(? AS VARCHAR[]))" for _ in turned)
        connection.execute(f"INSERT INTO {table} SELECT {unnested}", turned)
