"""Documents as an index keeps them: every value of every field, typed, in one DuckDB table.

Sources: Elasticsearch, "Arrays" (a field has any number of values), "ignore_malformed", "ignore_above",
"Dynamic field mapping", "Object field type"; for names ``DotExpandingXContentParser``, ``DocumentParser``.
The mapping is worked out before the values: names, then what is object and what is value, then types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb

from detection_pack.languages.databases import insert_rows, literal
from detection_pack.languages.lucene.field_values import indexed
from detection_pack.languages.lucene.index_mapping import (
    ANALYSED,
    TEXTUAL,
    FieldType,
    IndexMapping,
    UnsupportedMapping,
)
from detection_pack.languages.lucene.object_paths import Leaf, Paths

#: What Java's ``String.isBlank`` takes for white space.
_WHITE = r"[\t-\r\x{1c}-\x{20}\x{1680}\x{2000}-\x{2006}\x{2008}-\x{200a}\x{2028}\x{2029}\x{205f}\x{3000}]"
#: A name with a part that is empty or blank; dots at its end are left out before.
_BAD_NAME = rf"(^|\.){_WHITE}*(\.|$)"
#: Bytes of the longest term that Lucene keeps.
_LONGEST_TERM = 32_766

_DYNAMIC = {"BOOLEAN": "boolean", "BIGINT": "long", "UBIGINT": "long", "HUGEINT": "long", "DOUBLE": "float"}

# `walk` holds every value with its dotted path, arrays opened; dots at the end of a name are dropped.
_WALK = rf"""
CREATE TEMP TABLE walk AS
WITH RECURSIVE walk(number, path, value, kind, fine) AS (
    SELECT number, '', document, json_type(document), true FROM documents
    UNION ALL
    SELECT number,
        CASE WHEN parent = 'ARRAY' THEN path WHEN path = '' THEN name ELSE path || '.' || name END,
        value, json_type(value),
        fine AND (parent = 'ARRAY' OR NOT (
            (name = '' OR contains(name, '.') OR name[1] <= ' ' OR name[1] > '~')
            AND regexp_matches(name, {literal(_BAD_NAME)})))
    FROM (
        SELECT walk.number, walk.path, walk.kind AS parent, walk.fine, entry.value,
            CASE WHEN ends_with(entry.key, '.') THEN rtrim(entry.key, '.') ELSE entry.key END AS name
        FROM walk, json_each(walk.value) AS entry WHERE walk.kind IN ('OBJECT', 'ARRAY')
    )
)
SELECT number, path, value ->> '$' AS text, kind, fine FROM walk
WHERE kind NOT IN ('NULL', 'ARRAY') AND (path <> '' OR NOT fine)
"""


@dataclass(frozen=True)
class Document:
    """``text`` is a JSON object. ``id`` is unique among the documents of a table."""

    id: str
    index: str
    text: str


class DocumentTable:
    """The tables ``documents(number, id, index_name)`` and ``terms(field, number, text, whole, real)``.

    ``types``: what each field is in each index, by (index, field); ``refused``: the reason for each document
    that Elasticsearch would not take, by id. Raises `UnsupportedMapping` for values that need a mapping which
    is not modelled.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, documents: Sequence[Document], mapping: IndexMapping
    ) -> None:
        self._connection = connection
        self._mapping = mapping
        self.refused: dict[str, str] = {}
        self._ids = [document.id for document in documents]
        connection.execute(
            "CREATE TEMP TABLE documents(number INTEGER, id VARCHAR, index_name VARCHAR, document JSON)"
        )
        rows = [(n, d.id, d.index, d.text) for n, d in enumerate(documents)]
        insert_rows(connection, "documents", ("INTEGER", "VARCHAR", "VARCHAR", "VARCHAR"), rows)
        connection.execute(_WALK)
        self._names()
        self.types = {
            (index, field): kind for index in self._indices() for field, kind in mapping.fields.items()
        }
        self._objects()
        self._dynamic()
        self._values()
        connection.execute("DROP TABLE walk")
        connection.execute("ALTER TABLE documents DROP COLUMN document")

    def _indices(self) -> list[str]:
        rows = self._connection.execute("SELECT DISTINCT index_name FROM documents").fetchall()
        return sorted(str(name) for (name,) in rows)

    # -- what is refused ---------------------------------------------------------------------------------

    def _names(self) -> None:
        rows = self._connection.execute("SELECT number, min(path) FROM walk WHERE NOT fine GROUP BY number")
        bad = [
            (number, f'field name "{path}" has an empty or blank part')
            for number, path in rows.fetchall()
            if self._mapping.below_flattened(path) is None
        ]
        self._drop(bad)

    def _objects(self) -> None:
        """Refuse documents in which what is an object elsewhere is a value, or the other way round."""
        rows = self._connection.execute(
            "SELECT DISTINCT index_name, path, kind = 'OBJECT' FROM walk JOIN documents USING (number)"
        ).fetchall()
        for index in {index for index, _, _ in rows}:
            paths = Paths(self._mapping)
            for _, path, is_object in (row for row in rows if row[0] == index):
                paths.note(Leaf(path, is_object))
            if disputed := paths.disputed():
                self._drop(paths.refused(self._holding(index, disputed)))

    def _holding(self, index: str, disputed: Iterable[str]) -> list[tuple[int, Leaf]]:
        """The paths of all documents that hold a disputed one, document by document."""
        insert = "CREATE OR REPLACE TEMP TABLE disputed(path VARCHAR)"
        self._connection.execute(insert)
        insert_rows(self._connection, "disputed", ("VARCHAR",), [(path,) for path in disputed])
        rows = self._connection.execute(
            "SELECT DISTINCT number, path, kind = 'OBJECT' FROM walk WHERE number IN ("
            " SELECT number FROM walk JOIN documents USING (number) JOIN disputed"
            " ON walk.path = disputed.path OR starts_with(walk.path, disputed.path || '.')"
            " WHERE index_name = ?) ORDER BY number, path",
            [index],
        ).fetchall()
        return [(number, Leaf(path, is_object)) for number, path, is_object in rows]

    def _drop(self, refused: Iterable[tuple[int, str]]) -> None:
        rows = list(refused)
        self.refused |= {self._ids[number]: reason for number, reason in rows}
        self._connection.execute("CREATE OR REPLACE TEMP TABLE dropped(number INTEGER)")
        insert_rows(self._connection, "dropped", ("INTEGER",), [(number,) for number, _ in rows])
        if rows:
            for table in ("documents", "walk"):
                self._connection.execute(f"DELETE FROM {table} WHERE number IN (FROM dropped)")

    # -- types -------------------------------------------------------------------------------------------

    def _dynamic(self) -> None:
        """The type of each field without a mapping: that of its first value."""
        if not self._mapping.dynamic:
            return
        rows = self._connection.execute(
            "SELECT index_name, path, list(DISTINCT kind) FROM walk JOIN documents USING (number)"
            " WHERE kind <> 'OBJECT' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        for index, path, kinds in rows:
            if (index, path) in self.types or self._mapping.below_flattened(path) is not None:
                continue
            kind = kinds[0] if len(kinds) == 1 else self._first_kind(index, path)
            self.types[index, path] = self._dynamic_type(path, kind)

    def _first_kind(self, index: str, path: str) -> str:
        rows = self._connection.execute(
            "SELECT DISTINCT kind FROM walk WHERE path = $path AND kind <> 'OBJECT' AND number = ("
            " SELECT min(number) FROM walk JOIN documents USING (number)"
            " WHERE path = $path AND index_name = $index AND kind <> 'OBJECT')",
            {"path": path, "index": index},
        ).fetchall()
        found = {_DYNAMIC.get(kind, kind) for (kind,) in rows}
        if len(found) != 1:
            raise UnsupportedMapping(f'"{path}" has no mapping, and its first values are of several types')
        return str(rows[0][0])

    def _dynamic_type(self, path: str, kind: str) -> FieldType:
        if kind in _DYNAMIC:
            return FieldType(_DYNAMIC[kind], ignore_malformed=self._mapping.ignore_malformed)
        if self._mapping.text is None:
            raise UnsupportedMapping(
                f'"{path}" has no mapping, and no dynamic template says how text is kept'
            )
        return self._mapping.text

    # -- values ------------------------------------------------------------------------------------------

    def _values(self) -> None:
        run = self._connection.execute
        run(
            "CREATE TEMP TABLE types(index_name VARCHAR, path VARCHAR, field VARCHAR, type VARCHAR,"
            " ignore_above INTEGER, lowercase BOOLEAN, ignore_malformed BOOLEAN, word VARCHAR)"
        )
        rows = [
            (
                index,
                self._mapping.copies.get(field, field),
                field,
                t.name,
                t.ignore_above,
                t.lowercase,
                t.ignore_malformed,
                t.word,
            )
            for (index, field), t in self.types.items()
            if t.name != "flattened" and (t.name not in ANALYSED or t.word is not None)
        ]
        kinds = ("VARCHAR",) * 4 + ("INTEGER", "BOOLEAN", "BOOLEAN", "VARCHAR")
        insert_rows(self._connection, "types", kinds, rows)
        run(
            "CREATE TEMP TABLE typed AS SELECT number, field, type, kind, text, ignore_above, lowercase,"
            " ignore_malformed, word FROM walk JOIN documents USING (number)"
            " JOIN types USING (index_name, path)"
            " WHERE kind <> 'OBJECT'"
        )
        self._converted()
        self._malformed()
        self._flattened()
        # A value in UTF-16 code units is as long as in characters, and one more for each beyond the BMP.
        run(
            "CREATE TEMP TABLE terms AS SELECT DISTINCT field, number, text, whole, real FROM ("
            " SELECT field, number, CASE WHEN lowercase THEN lower(text) ELSE text END AS text,"
            "  NULL::BIGINT AS whole, NULL::DOUBLE AS real FROM typed"
            f" WHERE type IN {TEXTUAL} AND (ignore_above IS NULL OR strlen(text) <= ignore_above"
            "  OR length(text) + length(regexp_replace(text, '[^\\x{10000}-\\x{10FFFF}]', '', 'g'))"
            "  <= ignore_above)"
            " UNION ALL SELECT field, number, lower(unnest(regexp_extract_all(text, word))), NULL, NULL"
            " FROM typed WHERE word IS NOT NULL"
            " UNION ALL SELECT field, number, kept, whole, real FROM typed"
            " JOIN converted USING (type, kind, text) WHERE kept IS NOT NULL OR whole IS NOT NULL"
            " OR real IS NOT NULL"
            ") ORDER BY field, number"
        )
        for table in ("types", "typed", "converted"):
            run(f"DROP TABLE {table}")

    def _converted(self) -> None:
        """Each different value of the types that are not text, once, by `field_values.indexed`."""
        run = self._connection.execute
        rows = run(
            f"SELECT DISTINCT type, kind, text FROM typed WHERE type NOT IN {TEXTUAL} AND word IS NULL"
        ).fetchall()
        run(
            "CREATE TEMP TABLE converted(type VARCHAR, kind VARCHAR, text VARCHAR, fine BOOLEAN,"
            " kept VARCHAR, whole BIGINT, real DOUBLE)"
        )
        found = []
        for kind, json_type, text in rows:
            try:
                found.append((kind, json_type, text, True, *indexed(kind, json_type, text)))
            except (ValueError, OverflowError):
                found.append((kind, json_type, text, False, None, None, None))
        types = ("VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN", "VARCHAR", "BIGINT", "DOUBLE")
        insert_rows(self._connection, "converted", types, found)

    def _malformed(self) -> None:
        rows = self._connection.execute(
            "SELECT number, min(field) FROM typed LEFT JOIN converted USING (type, kind, text)"
            " WHERE (NOT fine AND NOT ignore_malformed)"
            f" OR (type = 'keyword' AND ignore_above IS NULL AND strlen(text) > {_LONGEST_TERM})"
            f" OR (word IS NOT NULL AND strlen(text) > {_LONGEST_TERM} AND len(list_filter("
            f"  regexp_extract_all(text, word), lambda one: strlen(one) > {_LONGEST_TERM})) > 0)"
            " GROUP BY number"
        ).fetchall()
        self._drop((number, f'"{field}" holds a value that its type does not take') for number, field in rows)
        if rows:
            self._connection.execute("DELETE FROM typed WHERE number IN (FROM dropped)")

    def _flattened(self) -> None:
        """The values below a flattened field, each under its own key; all of them are text."""
        for index, field in [key for key, kind in self.types.items() if kind.name == "flattened"]:
            kind = self.types[index, field]
            self._connection.execute(
                "INSERT INTO typed SELECT number, path, 'keyword', kind, text, ?, false, true, NULL FROM walk"
                " JOIN documents USING (number) WHERE index_name = ? AND kind <> 'OBJECT'"
                " AND starts_with(path, ? || '.')",
                [kind.ignore_above, index, field],
            )
