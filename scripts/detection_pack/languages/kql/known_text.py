"""What duckdb-kql asks of every column at run time, left out for columns that are known to hold text.

A schema has the names of columns there and not their types, so the SQL tries a column as JSON, as a truth
value, a time, a span and a real number wherever KQL wants text. DuckDB binds all of it, which takes longer
than to run a query over few rows. The rest of the SQL stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from duckdb_kql import ir
from duckdb_kql.translate import render_kql_tostring

from detection_pack.languages.kql.named_columns import bare, names_its_columns

#: Functions whose value is text whatever they are given.
_TEXT = {"tostring", "strcat", "tolower", "toupper", "trim_start", "trim_end"}
_TEXT |= {"replace_regex", "replace_string"}
_ASSIGNED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*=(?![=~])")
_EXPANDED = re.compile(r"\bmv-expand\s+(\w+)")
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_END = re.compile(r"\sby\s")
#: What a CASE is read by; a string or a quoted name is passed over.
_WORD = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\b(?:CASE|ELSE|END)\b")


def text_columns(query: str, columns: Iterable[Mapping[str, bool]]) -> frozenset[str]:
    """The names that stand for text wherever the query has them. ``columns``: of each table, whether a column
    is text. None of a query of which `names_its_columns` does not hold."""
    if not names_its_columns(query):
        return frozenset()
    said = bare(query)
    held: dict[str, bool] = {}
    for table in columns:
        for name, is_text in table.items():
            held[name] = is_text and held.get(name, True)
    assigned: dict[str, list[str]] = {}
    for found in _ASSIGNED.finditer(said):
        assigned.setdefault(found[1], []).append(_expression(said, found.end()))
    names = {name for name, is_text in held.items() if is_text} | (assigned.keys() - held.keys())
    names -= set(_EXPANDED.findall(said))
    while others := {n for n in names for one in assigned.get(n, ()) if not _is_text(one, names)}:
        names -= others
    # SQL does not tell names apart by letter case.
    folded = {name.lower() for name in {*held, *assigned} - names}
    return frozenset(name for name in names if name.lower() not in folded)


def without_dispatch(sql: str, text: Iterable[str]) -> str:
    """The same SQL for columns that are text."""
    for name in sorted(text):
        column = '"' + name.replace('"', '""') + '"'
        if f"typeof({column})" in sql:
            sql = sql.replace(_asked(name), f"coalesce({column}, '')")
            sql = _otherwise(sql, f"CASE WHEN typeof({column}) = 'JSON' THEN ")
    return sql


@lru_cache(maxsize=1024)
def _asked(name: str) -> str:
    return render_kql_tostring(ir.ColumnRef(name))


def _otherwise(sql: str, start: str) -> str:
    """The SQL with what stands behind ELSE in place of each CASE that begins so."""
    at = 0
    while (at := sql.find(start, at)) >= 0:
        depth, otherwise = 1, -1
        for found in _WORD.finditer(sql, at + len("CASE")):
            depth += (found[0] == "CASE") - (found[0] == "END")
            if depth == 1 and found[0] == "ELSE" and otherwise < 0:
                otherwise = found.end()
            if depth == 0:
                sql = f"{sql[:at]}({sql[otherwise : found.start()].strip()}){sql[found.end() :]}"
                break
        else:
            return sql
    return sql


def _is_text(expression: str, names: set[str]) -> bool:
    expression = expression.strip()
    if expression == '""' or expression in names:
        return True
    call = _CALL.fullmatch(expression)
    if call is None or not _balanced(call[2]):
        return False
    if call[1] == "iff":
        parts = list(_parts(call[2]))
        return len(parts) == 3 and all(_is_text(part, names) for part in parts[1:])
    return call[1] in _TEXT


def _balanced(text: str) -> bool:
    """Whether no bracket closes what was opened before the text."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _parts(text: str) -> Iterator[str]:
    """The arguments of a call."""
    depth, start = 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _expression(text: str, start: int) -> str:
    """What is assigned: to the next comma, pipe, semicolon, closing bracket or ``by`` outside of brackets."""
    depth = 0
    for at in range(start, len(text)):
        character = text[at]
        if depth == 0 and (character in ",|;)" or _END.match(text, at)):
            return text[start:at]
        depth += (character in "([{") - (character in ")]}")
    return text[start:]
