"""Regular expressions on long values, in linear time.

osmem-server 0.1.6 takes time with the square of a value's length: the expressions of a core rule take 0.1 s
on 5,000 characters, 1.3 s on 20,000 and 17 s on 80,000, where Lucene's automaton reads each character once. A
command line may have 32,767. So the documents that hold a long value stand in an index of their own, and RE2
(in DuckDB) decides the expressions on their fields; the server decides the rest of the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

#: Characters from which on a value is long. Below, the server needs a few milliseconds at most.
LONG = 1_000
#: A quoted phrase, an escaped character, or a regular expression with the field that it is for.
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|(?P<field>[A-Za-z_@][\w.@]*):/(?P<pattern>(?:\\.|[^/\\])*)/|/(?:\\.|[^/\\])*/|\\.',
    re.DOTALL,
)
EVERYTHING, NOTHING = "*:*", "_exists_:no_document_has_this"


@dataclass(frozen=True)
class Clause:
    """``field:/pattern/`` in a query, from ``start`` to ``end``."""

    field: str
    pattern: str
    start: int
    end: int


def is_long(document: Mapping[str, Any], fields: Sequence[str]) -> bool:
    """Whether one of these fields holds a long value."""
    return any(len(str(document.get(field, ""))) >= LONG for field in fields)


def clauses(query: str, fields: Sequence[str]) -> list[Clause]:
    """The regular expressions of a query string that are for one of these fields, in order."""
    return [
        Clause(found["field"], found["pattern"], found.start(), found.end())
        for found in _TOKEN.finditer(query)
        if found["field"] in fields
    ]


def decided(
    query: str, documents: Mapping[str, Mapping[str, Any]], fields: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """The query with its expressions decided, and the documents that it stands for so; all of them once.

    An expression that RE2 does not take stays, for the server to decide.
    """
    known = clauses(query, fields)
    alike: dict[tuple[bool | None, ...], list[str]] = {}
    with duckdb.connect() as connection:
        for identifier, document in documents.items():
            verdicts = tuple(_matches(connection, document.get(c.field), c.pattern) for c in known)
            alike.setdefault(verdicts, []).append(identifier)
    for verdicts, identifiers in alike.items():
        text = query
        for clause, verdict in reversed(list(zip(known, verdicts, strict=True))):
            if verdict is not None:
                text = text[: clause.start] + (EVERYTHING if verdict else NOTHING) + text[clause.end :]
        yield text, identifiers


def _matches(connection: duckdb.DuckDBPyConnection, value: Any, pattern: str) -> bool | None:
    """Lucene's expressions match the whole value, and their ``.`` is any character."""
    if value is None:
        return False
    try:
        found = connection.execute("SELECT regexp_full_match(?, ?, 's')", [str(value), pattern]).fetchone()
    except (duckdb.Error, UnicodeEncodeError):
        return None
    return bool(found and found[0])
