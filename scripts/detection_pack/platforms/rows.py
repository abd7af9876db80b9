"""Each log source's own model of what a platform's connector makes of its records, as SQL over them.

A model says ``INSERT INTO <table> BY NAME SELECT …``; nothing is inserted: it becomes a view, so that a query
computes of a record what it reads and no more. Below it the table's name stands for these rows. Every source
has a schema of its own, in which its views and macros find each other and no other source's. The SQL of a
log source is data that anybody may bring: it runs where no file, network or extension can be reached, and
where no setting can be changed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from itertools import count
from pathlib import Path

import duckdb

from detection_pack.languages.databases import literal
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import Records, insert_rows, quoted

#: The SQL file of a log source that every platform's model may build on.
COMMON = "common"
_MACROS = Path(__file__).with_name("ingest_macros.sql")
_COMMENTS = r"(?:\s|--[^\n]*\n)*"
_FILLING = re.compile(
    rf'{_COMMENTS}INSERT\s+INTO\s+(?:"((?:[^"]|"")+)"|([\w.]+))\s+BY\s+NAME\b', re.IGNORECASE
)
_TEMPORARY = re.compile(rf"{_COMMENTS}CREATE\s+(?:OR\s+REPLACE\s+)?TEMP(?:ORARY)?\b", re.IGNORECASE)
_TODO = "correct the ingest model of the log source"
_WORD, _COMMENT = re.compile(r"\w+"), re.compile(r"--[^\n]*")
_numbers = count()
#: In the names of variables, so that no model can set one of another source.
_OURS = secrets.token_hex(8)


def ingest(
    cursor: duckdb.DuckDBPyConnection,
    platform: str,
    records: Records,
    macros: Path | None = None,
    variables: Mapping[str, bool] | None = None,
    raw: Callable[[LogSource], str] | None = None,
    needed: Callable[[str], bool] | None = None,
) -> dict[str, list[str]]:
    """Run the models of the sources, each on its own records: ``common.sql``, then the platform's.

    Each finds ``raw`` (`Records.raw`) and ``enums(enum, value, name)`` of its source, the macros of every
    platform and those in ``macros``. ``variables`` are what a model may ask for with ``getvariable``, ``raw``
    gives SQL for another ``raw`` than `Records.raw`, whose columns it has. A source without a record is left
    out, unless one of the tables that it fills is ``needed`` even when it is empty. The result has, for each
    table that models fill, the SQL names of the views that do. Raises `PackError`.
    """
    for name, value in (variables or {}).items():
        assert name.isidentifier()
        cursor.execute(f"SET VARIABLE {name} = {value}")
    found: dict[str, list[str]] = {}
    for source in records.sources:
        if source.name in records.silent and not (needed and any(map(needed, _fills(source, platform)))):
            continue
        schema = f"model_{next(_numbers)}"
        cursor.execute(f"CREATE SCHEMA {schema}; USE {schema}")
        try:
            models = {name: text for name in (COMMON, platform) if (text := source.sql(name)) is not None}
            _prepare(cursor, source, (raw or records.raw)(source), macros, models.values())
            for name, text in models.items():
                _run(cursor, text, source.folder / f"{name}.sql", schema, found)
        finally:
            cursor.execute("USE main")
    return found


def _fills(source: LogSource, platform: str) -> list[str]:
    """The tables that a source's model of a platform fills."""
    return [_filled(found) for found in _FILLING.finditer(source.sql(platform) or "")]


def _filled(filling: re.Match[str]) -> str:
    return filling[1].replace('""', '"') if filling[1] else filling[2]


def _prepare(
    cursor: duckdb.DuckDBPyConnection,
    source: LogSource,
    raw: str,
    macros: Path | None,
    models: Iterable[str],
) -> None:
    """What a source's models find. What reads the enumerations takes longest to make, and most models name
    none of it."""
    shared = [_macros(path) for path in (_MACROS, *([macros] if macros else []))]
    # A comment of a model, or text in it, that names one makes it for nothing.
    words = frozenset().union(*map(_words, models), *(_words(_COMMENT.sub("", text)) for text in shared))
    named = [
        (enumeration, str(value), name)
        for enumeration, values in source.enumerations.items()
        for value, name in values.items()
    ]
    if "enums" in words:
        cursor.execute("CREATE TABLE enums(enum VARCHAR, value VARCHAR, name VARCHAR)")
        insert_rows(cursor, "enums", named)
    if words & {"name_of", "spelled"}:
        looked_up = _looked_up(cursor, f"{source.name}_names", named)
        cursor.execute(f"CREATE MACRO name_of(kind, said) AS {looked_up}")
        cursor.execute("CREATE MACRO spelled(kind, said) AS coalesce(name_of(kind, said), said)")
    if "number_of" in words:
        turned = [(enumeration, name, value) for enumeration, value, name in named]
        looked_up = _looked_up(cursor, f"{source.name}_numbers", turned)
        cursor.execute(f"CREATE MACRO number_of(kind, said) AS {looked_up}")
    for text in shared:
        cursor.execute(text)
    cursor.execute(f"CREATE VIEW raw AS {raw}")


@cache
def _macros(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _looked_up(cursor: duckdb.DuckDBPyConnection, about: str, named: Iterable[tuple[str, str, str]]) -> str:
    """(enumeration, key, value) as one expression, the first value of a key: a plan leaves out what nobody
    reads of it, which it does not with a join. Each enumeration is a variable of the connection, made once:
    written out, it would be read again for every query."""
    maps: dict[str, dict[str, str]] = {}
    for enumeration, key, value in named:
        maps.setdefault(enumeration, {}).setdefault(key, value)
    cases = []
    for number, (enumeration, found) in enumerate(maps.items()):
        name = f"{about}_{number}_{_OURS}"
        variable = literal(name)
        if cursor.execute(f"SELECT getvariable({variable}) IS NULL").fetchone() == (True,):
            held = literal(json.dumps(found, ensure_ascii=False))
            made = f"CAST(CAST({held} AS JSON) AS MAP(VARCHAR, VARCHAR))"
            cursor.execute(f"SET VARIABLE {name} = {made}")
        cases.append(f"WHEN {literal(enumeration)} THEN getvariable({variable})[said]")
    return f"CASE kind {' '.join(cases)} END" if cases else "CAST(NULL AS VARCHAR)"


def _run(
    cursor: duckdb.DuckDBPyConnection, text: str, path: Path, schema: str, found: dict[str, list[str]]
) -> None:
    """Run a model, a statement at a time. A statement's line is that of its first word."""
    before = 0
    try:
        for statement in cursor.extract_statements(text):
            start = text.index(statement.query, before)
            before = start + len(statement.query)
            first = text.count("\n", 0, start) + 1
            _run_one(cursor, statement.query, path, first, schema, found)
    except duckdb.Error as error:
        raise _fault(path, 1, error) from error


def _run_one(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    path: Path,
    first: int,
    schema: str,
    found: dict[str, list[str]],
) -> None:
    if _TEMPORARY.match(query):
        # It would be seen before what other sources' models have of the same name.
        raise PackError.at(path, first, "makes something temporary", "leave out TEMP")
    filling = _FILLING.match(query)
    if filling is None:
        sql, name = query, ""
    else:
        table = _filled(filling)
        name = f"{schema}.{quoted(f'{table}/{len(found.setdefault(table, []))}')}"
        # The lines stay where they are.
        sql = f"CREATE VIEW {name} AS " + "\n" * query.count("\n", 0, filling.end()) + query[filling.end() :]
    try:
        cursor.execute(sql)
    except duckdb.Error as error:
        raise _fault(path, first, error) from error
    if name:
        found[table].append(name)
        own = [view for view in found[table] if view.startswith(f"{schema}.")]
        rows = " UNION ALL BY NAME ".join(f"FROM {view}" for view in own)
        cursor.execute(f"CREATE OR REPLACE VIEW {schema}.{quoted(table)} AS {rows}")


def _fault(path: Path, first: int, error: duckdb.Error) -> PackError:
    line = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
    number = first + int(line[1]) - 1 if line else first
    return PackError.at(path, number, str(error).split("\n")[0], _TODO)
