"""Records with one identity: repetitions of one record, or several that share a name.

Contents are compared only where an id repeats. What is the same as one before it goes; another content gets a
name of its own, by the file and the line where it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from detection_pack.model.log_source import LogSource
from detection_pack.platforms.record_store import FILE, PLACE, RecordStore
from detection_pack.platforms.records import ID, insert_rows
from detection_pack.replay.export_file import ExportFile
from detection_pack.replay.locating import matched
from detection_pack.replay.matching import Matcher

_AT_ONCE = 5_000


def settle(store: RecordStore, exports: Sequence[ExportFile], matcher: Matcher) -> int:
    """Give each record of the store an id of its own; the number of repetitions that are gone."""
    return sum(_settle(store, exports, matcher, source) for source in store.sources)


def _settle(store: RecordStore, exports: Sequence[ExportFile], matcher: Matcher, source: LogSource) -> int:
    connection, table = store.connection, store.tables[source.name].name
    # A hash takes less to count than a text, and may be wrong in one direction only.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE repeated AS"
        f" SELECT {ID} AS id, {FILE} AS file, {PLACE} AS place FROM {table}"
        f" WHERE hash({ID}) IN (SELECT hash({ID}) FROM {table} GROUP BY ALL HAVING count(*) > 1)"
    )
    connection.execute(
        "DELETE FROM repeated WHERE id IN (SELECT id FROM repeated GROUP BY id HAVING count(*) = 1)"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE contents(file INTEGER, place BIGINT, line BIGINT, digest VARCHAR)"
    )
    files = connection.execute("SELECT DISTINCT file FROM repeated ORDER BY file").fetchall()
    for (file,) in files:
        _digest(store, exports[file], matcher, file)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE compared AS SELECT *,"
        " row_number() OVER (PARTITION BY id, digest ORDER BY file, place) AS copy"
        " FROM repeated JOIN contents USING (file, place)"
    )
    gone = "SELECT file, place FROM compared WHERE copy > 1"
    deleted = connection.execute(f"DELETE FROM {table} WHERE ({FILE}, {PLACE}) IN ({gone})").fetchall()
    others = connection.execute(
        "SELECT * FROM (SELECT id, file, place, line,"
        " row_number() OVER (PARTITION BY id ORDER BY file, place) AS n"
        " FROM compared WHERE copy = 1) WHERE n > 1 ORDER BY file, place"
    )
    for rows in iter(lambda: others.fetchmany(_AT_ONCE), []):
        _rename(store, table, exports, rows)
    return int(deleted[0][0]) if deleted else 0


def _digest(store: RecordStore, export: ExportFile, matcher: Matcher, file: int) -> None:
    """Note what each of a file's records with a repeated id says."""
    connection = store.connection
    listed = connection.execute("SELECT place FROM repeated WHERE file = ?", [file]).fetchall()
    places = {place for (place,) in listed}
    rows: list[tuple[str, str, str, str]] = []
    for place, entry in export.found(places):
        if place in places and entry.data is not None and (match := matched(matcher, entry.data)) is not None:
            digest = hashlib.sha256(match.as_event().json().encode()).hexdigest()
            rows.append((str(file), str(place), str(entry.line), digest))
        if len(rows) == _AT_ONCE:
            insert_rows(connection, "contents", rows)
            rows.clear()
    insert_rows(connection, "contents", rows)


def _rename(
    store: RecordStore,
    table: str,
    exports: Sequence[ExportFile],
    rows: Sequence[tuple[str, int, int, int, int]],
) -> None:
    connection = store.connection.cursor()
    for id_, file, place, line, _ in rows:
        for name in _names(id_, exports[file], line):
            taken = connection.execute(f"SELECT 1 FROM {table} WHERE {ID} = ? LIMIT 1", [name]).fetchone()
            if taken is None:
                break
        connection.execute(
            f"UPDATE {table} SET {ID} = ? WHERE {FILE} = ? AND {PLACE} = ?", [name, file, place]
        )


def _names(id_: str, export: ExportFile, line: int) -> Iterator[str]:
    yield f"{id_} ({PurePath(export.label).name}:{line})"
    name = f"{id_} ({export.label}:{line})"
    while True:
        yield name
        name += "'"
