"""The fields of documents as columns: those that a query reads, computed from records, and no others.

One row a document. A field's column holds what the index keeps of it (`field_values.indexed`): text, a whole
or a real number, null where there is none. A value of a typed field is converted once, not in each document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from detection_pack.languages.databases import literal
from detection_pack.languages.lucene.field_values import indexed, shown_address
from detection_pack.languages.lucene.index_mapping import ANALYSED, REALS, TEXTUAL, FieldType, IndexMapping
from detection_pack.languages.lucene.lucene_sql import Column
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.elastic.documents import (
    DOCUMENTS,
    ID,
    INDEX,
    KEPT,
    KEPT_BELOW,
    MACROS,
    NAMED,
    NAMED_BELOW,
    NOT_KEPT,
    PLATFORM,
    RESERVED,
    stated,
)
from detection_pack.platforms.records import Records, insert_rows, quoted
from detection_pack.platforms.rows import ingest

_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_SIMPLE = re.compile(r"[\w.:@/-]+")
_MACRO = """
CREATE OR REPLACE TEMP MACRO last_named(listed, name, held) AS
    CASE WHEN CAST(listed AS VARCHAR)[1] = '[' AND contains(CAST(listed AS VARCHAR), held) THEN
        list_filter(CAST(listed AS JSON[]),
            lambda one: one ->> '$.Name' = name AND one ->> '$.Value' IS NOT NULL)[-1] ->> '$.Value' END;
CREATE OR REPLACE TEMP MACRO kept_value(json) AS
    CASE WHEN CAST(json AS VARCHAR)[1] NOT IN ('{', '[') THEN json ->> '$' END;
CREATE OR REPLACE TEMP MACRO as_values(json) AS
    CASE WHEN CAST(json AS VARCHAR)[1] = '[' THEN
        list_filter(list_transform(CAST(json AS JSON[]), lambda one: one ->> '$'),
            lambda one: one IS NOT NULL)
        WHEN json ->> '$' <> '' THEN [json ->> '$'] END;
CREATE OR REPLACE TEMP MACRO as_document_value(json) AS
    CASE WHEN CAST(json AS VARCHAR)[1] = '[' THEN json
        WHEN json ->> '$' <> '' THEN to_json(json ->> '$') END;
CREATE OR REPLACE TEMP MACRO utf16(text) AS
    length(text) + length(regexp_replace(text, '[^\\x{10000}-\\x{10FFFF}]', '', 'g'));
"""


class NoColumns(Exception):
    """What is asked for has no columns: whole documents must answer."""


@dataclass(frozen=True)
class _View:
    """A model's view: its columns with their types, and the dotted names below which keys and named values
    stand, None where it has none of them."""

    columns: Mapping[str, str]
    kept_below: str | None
    named_below: str | None


class DocumentColumns:
    """Columns of the documents of ``records`` for one connection."""

    def __init__(
        self, records: Records, mapping: IndexMapping, variables: Mapping[str, bool] | None = None
    ) -> None:
        self.cursor = records.cursor()
        self.cursor.execute(_MACRO)
        self._records, self._mapping, self._variables = records, mapping, variables
        self._numbers = count()
        self._views = [self._described(view) for view in self._ingested({})]

    def typed(self, field: str) -> FieldType:
        """The type of a field; one without a mapping is text."""
        kind = self._mapping.fields.get(field)
        if kind is None:
            kind = self._mapping.text if self._mapping.dynamic else None
        if kind is None or self._mapping.below_flattened(field) is not None:
            raise NoColumns(f'"{field}" has no type of its own')
        return kind

    def several(self, field: str) -> bool:
        """Whether a document may have several values of a field."""
        return any(view.columns.get(self._parent(field)) == "JSON" for view in self._views)

    def table(self, fields: Sequence[str]) -> tuple[str, dict[str, Column]]:
        """SQL for the rows (``_id``, ``index_name`` and columns) and the columns of these fields as an index
        keeps them."""
        for field in fields:
            if self._holds_fields(field):
                raise NoColumns(f'"{field}" is an object')
        name, columns = self._texts(fields)
        joins, made = [], {}
        for field, column in columns.items():
            made[field], join = self._as_indexed(name, field, column)
            joins.append(join)
        return f"{name}{''.join(joins)}", made

    def shown(self, fields: Sequence[str], ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Documents with these fields alone, as `Store.document` has them; a name above fields stands for
        what a record has below it."""
        name, columns = self._texts(fields)
        self.cursor.execute("CREATE OR REPLACE TEMP TABLE wanted(id VARCHAR)")
        insert_rows(self.cursor, "wanted", [(identifier,) for identifier in ids])
        # A list is shown as the record has it: of one value, or of none, too.
        held = (c.sql if not c.several else f"listed_{c.sql[1:-1]}" for c in columns.values())
        cells = ", ".join([ID, *held])
        below = {f: f'"below_{n}"' for n, f in enumerate(fields) if self._is_above(f)}
        cells += "".join(f", {cell}" for cell in below.values())
        rows = self._records.execute(
            self.cursor, f"SELECT {cells} FROM {name} SEMI JOIN wanted ON wanted.id = {ID}"
        ).fetchall()
        found = {}
        for identifier, *values in rows:
            document = {f: self._shown(f, v) for f, v in zip(columns, values, strict=False) if v is not None}
            for field, listed in zip(below, values[len(columns) :], strict=True):
                document |= {f"{field}.{k}": v for k, v in _named(listed)}
            found[str(identifier)] = {f: v for f, v in document.items() if v is not None}
        return found

    def texts(self, fields: Sequence[str]) -> tuple[str, dict[str, Column]]:
        """SQL for the rows and the columns of these fields as ES|QL reads them: text in one spelling, a date
        as ISO 8601, a keyword's value that is not too long."""
        name, columns = self._texts(fields)
        joins, made = [], {}
        for field, column in columns.items():
            kind = self.typed(field)
            if kind.name in (*TEXTUAL, *ANALYSED, "date") or column.several:
                limit = kind.ignore_above if kind.name in TEXTUAL else None
                made[field] = Column(_limited(column, limit), column.several)
                continue
            table = self._converted(name, field, column)
            made[field] = Column(f"{table}.spelt")
            joins.append(f" LEFT JOIN {table} ON {table}.said = {column.sql}")
        return f"{name}{''.join(joins)}", made

    # -- how columns are made ------------------------------------------------------------------------------

    def _parent(self, field: str) -> str:
        return self._mapping.copies.get(field, field)

    def _holds_fields(self, field: str) -> bool:
        return any(
            field in (view.named_below, view.kept_below)
            or any(name.startswith(f"{field}.") for name in view.columns)
            for view in self._views
        )

    def _is_above(self, field: str) -> bool:
        return any(view.named_below == field for view in self._views)

    def _texts(self, fields: Sequence[str]) -> tuple[str, dict[str, Column]]:
        """The name of a view of the rows, and the columns with the values as the documents have them."""
        parents = list(dict.fromkeys(map(self._parent, fields)))
        places = {parent: n for n, parent in enumerate(parents)}
        rows = []
        for name, view in zip(self._ingested(places), self._views, strict=True):
            cells = [f"{self._cell(view, p)} AS {quoted(f'd{n}')}" for p, n in places.items()]
            cells += [f"{self._listed(view, p)} AS listed_d{n}" for p, n in places.items() if self.several(p)]
            cells += [
                f"{NAMED if view.named_below == field else 'CAST(NULL AS JSON)'} AS {quoted(f'below_{n}')}"
                for n, field in enumerate(fields)
                if self._is_above(field)
            ]
            rows.append(f"SELECT {', '.join([ID, INDEX, *cells])} FROM {name}")
        made = f"columns_{next(self._numbers)}"
        if not rows:
            nothing = [f"CAST(NULL AS VARCHAR) AS {quoted(f'd{n}')}" for n in places.values()]
            empty = ", ".join([f"NULL AS {ID}", f"CAST(NULL AS VARCHAR) AS {INDEX}", *nothing])
            rows = [f"SELECT {empty} WHERE false"]
        self.cursor.execute(f"CREATE TEMP VIEW {made} AS {' UNION ALL BY NAME '.join(rows)}")
        columns = {f: Column(quoted(f"d{places[self._parent(f)]}"), self.several(f)) for f in fields}
        return made, columns

    def _cell(self, view: _View, field: str) -> str:
        """SQL for a field of the rows of a view: text, or a list where any model may give several values."""
        several = self.several(field)
        if field in view.columns and field not in RESERVED:
            if view.columns[field] == "JSON":
                return f"as_values({quoted(field)})"
            return _as(f"nullif({quoted(field)}, '')", several)
        found = []
        if view.kept_below is not None and field.startswith(f"{view.kept_below}."):
            key = field.removeprefix(f"{view.kept_below}.")
            value = f"kept_value(struct_extract({KEPT}, {literal(self._kept_name(field))}))"
            if NOT_KEPT in view.columns:
                value = f"CASE WHEN NOT list_contains({NOT_KEPT}, {literal(key)}) THEN {value} END"
            found.append(value)
        if view.named_below is not None and field.startswith(f"{view.named_below}."):
            key = field.removeprefix(f"{view.named_below}.")
            held = json.dumps(key, ensure_ascii=False) if _SIMPLE.fullmatch(key) else ""
            found.append(f"last_named({NAMED}, {literal(key)}, {literal(held)})")
        if not found:
            return _as("CAST(NULL AS VARCHAR)", several)
        return _as(f"nullif(coalesce({', '.join(found)}), '')", several)

    def _listed(self, view: _View, field: str) -> str:
        """SQL for a field that may have several values as the document has it, as JSON."""
        if view.columns.get(field) == "JSON":
            return f"as_document_value({quoted(field)})"
        return f"to_json({self._cell(view, field)}[1])"

    @staticmethod
    def _kept_name(field: str) -> str:
        return "k" + field.encode().hex()

    def _ingested(self, fields: Mapping[str, int]) -> list[str]:
        filled = ingest(
            self.cursor,
            PLATFORM,
            self._records,
            MACROS,
            self._variables,
            raw=lambda source: self._raw(source, fields),
        )
        return filled.get(DOCUMENTS, [])

    def _raw(self, source: LogSource, fields: Iterable[str]) -> str:
        """``raw`` with the keys that these fields may be kept from."""
        below = {view.kept_below for view in getattr(self, "_views", ())} - {None}
        packed = [
            f"{self._kept_name(field)} := {self._records.key(source, field.removeprefix(f'{above}.'))}"
            for field in fields
            for above in below
            if field.startswith(f"{above}.")
        ]
        kept = f"struct_pack({', '.join(packed)})" if packed else "NULL"
        return self._records.raw(source, more=[f"{kept} AS {KEPT}"])

    def _described(self, view: str) -> _View:
        columns = {str(r[0]): str(r[1]) for r in self.cursor.execute(f"DESCRIBE FROM {view}").fetchall()}
        return _View(
            columns,
            stated(self.cursor, view, KEPT_BELOW) if KEPT in columns else None,
            stated(self.cursor, view, NAMED_BELOW) if NAMED in columns else None,
        )

    # -- values as an index keeps them ---------------------------------------------------------------------

    def _as_indexed(self, name: str, field: str, column: Column) -> tuple[Column, str]:
        kind = self.typed(field)
        if kind.name in TEXTUAL:
            text = _limited(column, kind.ignore_above)
            if kind.lowercase:
                text = (
                    f"list_transform({text}, lambda one: lower(one))" if column.several else f"lower({text})"
                )
            return Column(text, column.several), ""
        if kind.word is not None:
            return Column(_words(column, kind.word), True), ""
        if column.several:
            raise NoColumns(f'"{field}" is {kind.name} and may have several values')
        if kind.name == "date":
            moment = f"epoch_ms(CAST(replace({column.sql}, 'Z', '') AS TIMESTAMP))"
            odd = "error('a date that is not written as the models write dates')"
            fine = f"WHEN regexp_full_match({column.sql}, {literal(_DATE)}) THEN {moment}"
            return Column(f"(CASE WHEN {column.sql} IS NULL THEN NULL {fine} ELSE {odd} END)"), ""
        table = self._converted(name, field, column)
        kept = "text" if kind.name == "ip" else "real" if kind.name in REALS else "whole"
        return Column(f"{table}.{kept}"), f" LEFT JOIN {table} ON {table}.said = {column.sql}"

    def _converted(self, name: str, field: str, column: Column) -> str:
        """The name of a table with every different value of a field, as it is kept and as it is shown; one
        that is not of the field's type is not in it (``ignore_malformed``)."""
        kind = self.typed(field)
        sql = f"SELECT DISTINCT {column.sql} FROM {name} WHERE {column.sql} IS NOT NULL"
        rows: list[tuple[str | None, ...]] = []
        for (said,) in self._records.execute(self.cursor, sql).fetchall():
            try:
                text, whole, real = indexed(kind.name, "VARCHAR", said)
            except (ValueError, OverflowError):
                continue
            held = (text, _plain(whole), None if real is None else repr(real))
            rows.append((said, *held, _spelt(kind.name, text, whole, real)))
        made = f"values_{next(self._numbers)}"
        self.cursor.execute(
            f"CREATE TEMP TABLE {made}(said VARCHAR, text VARCHAR, whole BIGINT, real DOUBLE, spelt VARCHAR)"
        )
        insert_rows(self.cursor, made, rows)
        return made

    def _shown(self, field: str, value: Any) -> Any:
        """A value as `Store.document` has it."""
        if self.several(field):
            return json.loads(value)
        kind = self.typed(field)
        if kind.name not in ("ip", "boolean", "long"):
            return value
        try:
            text, whole, _ = indexed(kind.name, "VARCHAR", value)
        except (ValueError, OverflowError):
            return None
        if kind.name == "boolean":
            return whole == 1
        return whole if text is None else shown_address(text)


def _as(value: str, several: bool) -> str:
    return f"(CASE WHEN {value} IS NOT NULL THEN [{value}] END)" if several else value


def _limited(column: Column, limit: int | None) -> str:
    """A keyword's values without those that are too long, null where none is left. A text in UTF-16 code
    units is as long as in characters, and one more for each beyond the BMP."""
    if limit is None:
        return f"nullif({column.sql}, [])" if column.several else column.sql
    short = f"(strlen({{0}}) <= {limit} OR utf16({{0}}) <= {limit})"
    if column.several:
        kept = f"list_distinct(list_filter({column.sql}, lambda one: {short.format('one')}))"
        return f"nullif({kept}, [])"
    return f"(CASE WHEN {short.format(column.sql)} THEN {column.sql} END)"


def _words(column: Column, word: str) -> str:
    """The words of analysed text, in lower case, null where there are none."""
    held = f"array_to_string({column.sql}, ' ')" if column.several else column.sql
    found = f"regexp_extract_all({held}, {literal(word)})"
    return f"nullif(list_distinct(list_transform({found}, lambda one: lower(one))), [])"


def _plain(whole: int | None) -> str | None:
    return None if whole is None else str(whole)


def _spelt(kind: str, text: str | None, whole: int | None, real: float | None) -> str | None:
    if kind == "ip":
        return None if text is None else shown_address(text)
    if kind == "boolean":
        return "true" if whole else "false"
    return str(whole if real is None else real)


def _named(listed: str | None) -> Iterable[tuple[str, str]]:
    """The names and values of a JSON list of named values, the last of a name."""
    try:
        entries = json.loads(listed) if listed else []
    except ValueError:
        return []
    found = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("Name") is not None and entry.get("Value") is not None:
            value = entry["Value"]
            found[str(entry["Name"])] = (
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
    return [(name, value) for name, value in found.items() if value]
