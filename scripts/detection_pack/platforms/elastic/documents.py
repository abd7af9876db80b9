"""The documents that the log sources' models make of records, with all their fields, as JSON objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb

from detection_pack.languages.databases import literal
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import RECORD, Records, quoted, records_of
from detection_pack.platforms.rows import ingest

PLATFORM = "elastic"
MACROS = Path(__file__).with_name("ingest_macros.sql")
DOCUMENTS = "elastic_documents"
ID, INDEX = "_id", "index_name"
KEPT, KEPT_BELOW, NOT_KEPT = "kept", "kept_below", "not_kept"
NAMED, NAMED_BELOW = "named_values", "named_below"
#: Columns of a model that are no fields.
RESERVED = (ID, INDEX, KEPT, NOT_KEPT, NAMED)


def stated(cursor: duckdb.DuckDBPyConnection, view: str, macro: str) -> str:
    """What a macro without parameters says in the model that has made a view."""
    row = cursor.execute(f"SELECT {view.partition('.')[0]}.{macro}()").fetchone()
    assert row is not None
    return str(row[0])


def ingested(
    events: Sequence[Event] | Records,
    sources: Iterable[LogSource] | None = None,
    variables: Mapping[str, bool] | None = None,
) -> list[tuple[str, str, str]]:
    """``(id, index, document as JSON)`` of each event, with flat dotted names, in the order of the ids."""
    records = records_of(events, sources)
    cursor = records.cursor()
    filled = ingest(
        cursor,
        PLATFORM,
        records,
        MACROS,
        variables,
        raw=lambda source: records.raw(source, more=[f"{RECORD} AS {KEPT}"]),
    )
    parts = []
    for view in filled.get(DOCUMENTS, []):
        columns = {str(row[0]): str(row[1]) for row in cursor.execute(f"DESCRIBE FROM {view}").fetchall()}
        parts += _parts(cursor, view, columns)
    if not parts:
        return []
    # Null and empty values are dropped; a list stays a list.
    rows = cursor.execute(
        f"""
        WITH pieces AS ({" UNION ALL BY NAME ".join(parts)}), filled AS (
            SELECT {ID}, {INDEX}, name, value ->> '$' AS said,
                CASE WHEN json_type(value) = 'ARRAY' THEN value ELSE to_json(said) END AS held
            FROM pieces
        )
        SELECT {ID}, {INDEX}, json_group_object(name, held)
        FROM filled WHERE said IS NOT NULL AND said <> '' AND NOT contains(name, '"')
        GROUP BY {ID}, {INDEX} ORDER BY {ID}
        """
    ).fetchall()
    return [(str(identifier), str(index), str(document)) for identifier, index, document in rows]


def _parts(cursor: duckdb.DuckDBPyConnection, view: str, columns: Mapping[str, str]) -> list[str]:
    """SQL for the ``name`` and the JSON ``value`` of every field of the rows of a view."""
    own = []
    for name, kind in columns.items():
        if name not in RESERVED:
            value = quoted(name) if kind == "JSON" else f"to_json({quoted(name)})"
            own.append(f"{{'name': {literal(name)}, 'value': {value}}}")
    parts = [f"SELECT {ID}, {INDEX}, unnest([{', '.join(own)}], recursive := true) FROM {view}"]
    if KEPT in columns:
        # By json_each: a name with a quote or a backslash in it cannot stand in a JSON path.
        parts.append(
            f"SELECT {ID}, {INDEX}, {literal(stated(cursor, view, KEPT_BELOW) + '.')} || entry.key AS name,"
            " entry.value AS value"
            f" FROM {view}, json_each({KEPT}) AS entry"
            f" WHERE json_type(entry.value) NOT IN ('NULL', 'ARRAY', 'OBJECT')"
            + (f" AND NOT list_contains({NOT_KEPT}, entry.key)" if NOT_KEPT in columns else "")
        )
    if NAMED in columns:
        below = literal(stated(cursor, view, NAMED_BELOW) + ".")
        listed = (
            f"SELECT {ID}, {INDEX}, unnest(CAST({NAMED} AS JSON[])) AS one,"
            f" generate_subscripts(CAST({NAMED} AS JSON[]), 1) AS place"
            f" FROM {view} WHERE json_type({NAMED}) = 'ARRAY'"
        )
        parts.append(
            f"SELECT {ID}, {INDEX}, {below} || (one ->> '$.Name') AS name,"
            f" to_json(arg_max(one ->> '$.Value', place)) AS value FROM ({listed})"
            " WHERE one ->> '$.Name' IS NOT NULL AND one ->> '$.Value' IS NOT NULL GROUP BY ALL"
        )
    return parts
