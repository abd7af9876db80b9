"""The clean part of a file in one statement of SQL: rows that hold plain records, or records as text in a
column.

It says of `matching` what is simple: a record that is there as its source writes it, with a time in ISO 8601
and an identity. Every other row of the file, whatever is odd about it, is left to `matching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from detection_pack.languages.databases import literal
from detection_pack.model.event import MAX_LEVELS
from detection_pack.model.export_form import ABSENT, PRESENT, ExportForm
from detection_pack.model.log_source import LogSource
from detection_pack.model.record_time import ISO8601
from detection_pack.platforms.record_store import FILE, KIND, PLACE
from detection_pack.platforms.records import ID, RECORD, TIME, Table, quoted
from detection_pack.replay.export_file import SUB, ExportFile
from detection_pack.replay.json_values import LISTS, LONGEST
from detection_pack.replay.matching import DOCUMENTS, RAW, Match, Matcher, Unreadable, documents

#: How many entries show what a file holds.
SAMPLE = 20
_TIME = r'"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?Z?"'


@dataclass(frozen=True)
class CleanRows:
    """How the clean rows of a file are read: ``key`` is the column that holds the records (None: the rows are
    records)."""

    file: ExportFile
    source: LogSource
    form: ExportForm
    key: str | None
    earlier: Sequence[ExportForm] = ()
    _columns: dict[str, str] = field(default_factory=dict)

    def insert(self, table: Table, number: int) -> str:
        """The statement that fills ``table`` from the file, ``number`` being the file's. A row that is not
        clean has no `ID`, and its `PLACE`."""
        values = {key: self._inner(key) for key in self._needed(table)}
        time = values[self.source.time.field]
        clean = " AND ".join(
            [
                *self._guards(values),
                self._identified(values),
                "moment IS NOT NULL AND year(moment) BETWEEN 1971 AND 2199",
                *(
                    f"coalesce(regexp_full_match({values[n]}, '-?[0-9]+'), true)"
                    for n in self._numbers(values)
                ),
                *(_shallow(values[key]) for key in table.columns),
            ]
        )
        identity = " || '/' || ".join(f"({values[name]} ->> '$')" for name in self.source.identity)
        kept = [
            f"CAST({_written(value)} AS JSON)" if key == self.source.time.field else self._json(value)
            for key, value in ((key, values[key]) for key in table.columns)
        ]
        kind = f"{values[self.source.kind]} ->> '$'" if self.source.kind else "NULL"
        chosen = [
            f"CASE WHEN coalesce({clean}, false) THEN {identity} END AS {ID}",
            f"moment AS {TIME}",
            f"CAST(NULL AS JSON) AS {RECORD}",
            f"{number} AS {FILE}",
            f"{PLACE}",
            f"coalesce({kind}, {literal(self.form.title)}) AS {KIND}",
            *(
                f"{value} AS {quoted(table.columns[key])}"
                for key, value in zip(table.columns, kept, strict=True)
            ),
        ]
        # The scan comes last: it is to know every column that the rest asks for.
        scan = f"SELECT *, {_moment(time)} AS moment FROM ({self._scan()})"
        return f"INSERT INTO {table.name} BY NAME SELECT {', '.join(chosen)} FROM ({scan})"

    # ---- values -------------------------------------------------------------------------------------

    def _needed(self, table: Table) -> list[str]:
        recognised = (key for condition in self.form.recognise for key in condition)
        kind = [self.source.kind] if self.source.kind else []
        return list(
            dict.fromkeys([*table.columns, *self.source.identity, self.source.time.field, *kind, *recognised])
        )

    def _inner(self, key: str) -> str:
        """A key of the record as JSON, null where the record has none."""
        return self._column(key if self.key is None else f"{self.key}\0{key}")

    def _outer(self, key: str) -> str:
        """A key of the row as JSON."""
        return self._column(key)

    def _column(self, key: str) -> str:
        return self._columns.setdefault(key, f"k{len(self._columns)}")

    @property
    def _plain(self) -> bool:
        """Whether the scan has the keys of records as JSON."""
        return self.key is None and self.file.table is None

    def _json(self, value: str) -> str:
        """A key of the record as JSON, from its column of text. What was JSON already is not read again."""
        return f"CASE WHEN {value} IS NOT NULL THEN j{value} END" if self._plain else f"CAST({value} AS JSON)"

    # ---- conditions ---------------------------------------------------------------------------------

    def _guards(self, values: Mapping[str, str]) -> Iterator[str]:
        """The form is the first that knows the row, and the row is not wrapped in another."""
        yield f"({' OR '.join(self._fulfils(one, values) for one in self.form.recognise)})"
        inside = [name for name in self.form.inside if name != self.key]
        if self.key is not None:
            inside = list(self.form.inside)[: list(self.form.inside).index(self.key)]
            yield from (self._nothing_outside(name, values) for name in self.form.outside if name in values)
        wrapped = [*DOCUMENTS, RAW, *(LISTS if self.key is None else ()), *inside]
        for name in dict.fromkeys(part for one in wrapped for part in (one, one.partition(".")[0])):
            if name not in values and self._possible(name):
                yield f"{self._outer(name)} IS NULL"
        for form in self.earlier:
            for condition in form.recognise:
                if (held := self._held_by_earlier(form, condition, values)) is not None:
                    yield held

    def _held_by_earlier(
        self, form: ExportForm, condition: Mapping[str, Sequence[str]], values: Mapping[str, str]
    ) -> str | None:
        """That an earlier form does not know the row by this condition; None where no row can fulfil it.

        What must be absent is not asked: a row that is left to `matching` for nothing costs time alone.
        """
        there = {key: wanted for key, wanted in condition.items() if ABSENT not in wanted}
        same = self.key is None or self.key in form.inside
        if same:
            known = dict(values)
            missing = [key for key in there if key not in known]
            if not all(self.key is not None or self._possible(key) for key in missing):
                return None
            known.update({key: self._inner(key) for key in missing})
            return f"NOT {self._fulfils(there, known)}" if there else None
        if not there or not all(self._possible(key) for key in there):
            return None
        return f"NOT {self._fulfils(there, {key: self._outer(key) for key in there})}"

    def _possible(self, name: str) -> bool:
        if self.file.table is not None:
            return name in self.file.table.header
        # SQL has one column for names that differ in case alone, the first.
        folds = {key.lower(): key for key in reversed(self._columns)}
        return self.key is not None or folds.get(name.lower(), name) == name

    def _fulfils(self, wanted: Mapping[str, Sequence[str]], values: Mapping[str, str]) -> str:
        parts = []
        for key, stated in wanted.items():
            absent = f"({values[key]} IS NULL OR {values[key]} = '\"\"')"
            if PRESENT in stated:
                said = f"NOT {absent}"
            else:
                listed = ", ".join(literal(one.lower()) for one in stated)
                said = f"(NOT {absent} AND lower({values[key]} ->> '$') IN ({listed}))"
            parts.append(f"({absent} OR {said})" if ABSENT in stated else said)
        return f"({' AND '.join(parts)})"

    def _nothing_outside(self, name: str, values: Mapping[str, str]) -> str:
        keys = [key for key in self.form.outside[name] if self._possible(key)]
        around = " AND ".join(f"{self._outer(key)} IS NULL" for key in keys)
        there = f"({values[name]} IS NOT NULL AND {values[name]} <> '\"\"')"
        return f"({there} OR ({around}))" if around else "true"

    def _identified(self, values: Mapping[str, str]) -> str:
        parts = (
            f"({v} <> '\"\"' AND (left({v}, 1) = '\"' OR regexp_full_match({v}, '[0-9]+'))"
            f" AND NOT contains({v}, '\\u0000'))"
            for v in (values[name] for name in self.source.identity)
        )
        return " AND ".join(parts)

    def _numbers(self, values: Mapping[str, str]) -> list[str]:
        return [
            name
            for name in values
            if (about := self.source.fields.get(name)) and about.enumeration and about.type == "integer"
        ]

    # ---- the file -----------------------------------------------------------------------------------

    def _scan(self) -> str:
        path, place = literal(str(self.file.path)), f"row_number() OVER () * {SUB} AS {PLACE}"
        outer = [key for key in self._columns if "\0" not in key]
        inner = [key for key in self._columns if "\0" in key]
        if self.file.table is not None:
            rows, holder, taken = self._scan_table(path, outer)
        elif self.key is None:
            keys = ", ".join(f"{literal(key)}: 'JSON'" for key in outer)
            rows = (
                f"read_json({path}, format='newline_delimited', columns={{{keys}}}, ignore_errors=true,"
                f" maximum_object_size={LONGEST})"
            )
            columns = [
                f"{_text(quoted(key))} AS {name}, {quoted(key)} AS j{name}"
                for key, name in ((key, self._columns[key]) for key in outer)
            ]
            return f"SELECT {place}, {', '.join(columns)} FROM {rows}"
        else:
            rows = (
                f"read_json_objects({path}, format='newline_delimited', ignore_errors=true,"
                f" maximum_object_size={LONGEST})"
            )
            listed = ", ".join(literal(_pointer(key)) for key in [self.key, *outer])
            rows = f"(SELECT json_extract(json, [{listed}]) AS o FROM {rows})"
            holder = "o[1] ->> '$'"
            taken = [f"{_text(f'o[{n}]')} AS {self._columns[key]}" for n, key in enumerate(outer, start=2)]
        listed = ", ".join(literal(_pointer(key.partition("\0")[2])) for key in inner)
        columns = [f"{_text(f'i[{n}]')} AS {self._columns[key]}" for n, key in enumerate(inner, start=1)]
        names = [self._columns[key] for key in outer]
        parts = [place, f"TRY(json_extract({holder}, [{listed}])) AS i", *taken]
        found = f"SELECT {', '.join(parts)} FROM {rows}"
        return f"SELECT {', '.join([PLACE, *names, *columns])} FROM ({found})"

    def _scan_table(self, path: str, outer: Sequence[str]) -> tuple[str, str, list[str]]:
        table = self.file.table
        assert table is not None and self.key is not None
        columns = ", ".join(f"c{n}: 'VARCHAR'" for n in range(len(table.header)))
        at = {name: f"c{n}" for n, name in enumerate(table.header)}
        rows = (
            f"read_csv({path}, header=false, auto_detect=false, skip={table.before}, columns={{{columns}}},"
            f" delim={literal(table.separator)}, quote='\"', escape='\"', max_line_size={LONGEST})"
        )
        return (
            rows,
            at[self.key],
            [f"{_text(f'to_json({at[key]})')} AS {self._columns[key]}" for key in outer],
        )


def clean_rows(file: ExportFile, matcher: Matcher) -> CleanRows | None:
    """How the rows of most of a file's first entries are read; None where that is not clean."""
    if not file.lines and file.table is None:
        return None
    found: dict[tuple[LogSource, ExportForm, str | None], int] = {}
    seen = 0
    for entry in islice(file.entries(), SAMPLE):
        seen += 1
        if (
            entry.data is None
            or len(list(documents(entry.data))) > 1
            or any(k in entry.data for k in DOCUMENTS)
        ):
            continue
        try:
            match = matcher.match(entry.data)
        except Unreadable:
            continue
        if isinstance(match, Match):
            key = next((name for name in match.form.inside if entry.data.get(name)), None)
            found[match.source, match.form, key] = found.get((match.source, match.form, key), 0) + 1
    if not found:
        return None
    (source, form, key), count = max(found.items(), key=lambda one: one[1])
    if count * 2 < seen or (key is None and file.table is not None) or not _simple(source, form):
        return None
    earlier = list(matcher.before(form))
    if any(one.below or one.names for one in earlier):
        return None
    return CleanRows(file, source, form, key, earlier)


def _simple(source: LogSource, form: ExportForm) -> bool:
    """Whether a source's record is named by its own keys, and the form has it as it is."""
    names = [*source.identity, source.time.field, *([source.kind] if source.kind else [])]
    names += [key for condition in form.recognise for key in condition]
    nested = [name for name, about in source.fields.items() if "." in name and about.enumeration]
    mapped = form.fields or form.below or form.names
    return source.time.format == ISO8601 and not mapped and not nested and not any("." in n for n in names)


def folded(keys: Sequence[str]) -> bool:
    """Whether two of the keys are one name to SQL."""
    return len({key.lower() for key in keys}) < len(keys)


def _text(value: str) -> str:
    """JSON as its text; JSON's null is none."""
    return f"nullif(CAST({value} AS VARCHAR), 'null')"


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _moment(value: str) -> str:
    """The time that JSON text says; null unless it is written as most are."""
    usual = f"(length({value}) = 21 AND {value}[15] = ':' AND {value}[18] = ':' AND left({value}, 1) = '\"')"
    said = f"TRY_CAST(rtrim(substr({value}, 2, length({value}) - 2), 'Z') AS TIMESTAMP)"
    return f"CASE WHEN {usual} OR regexp_full_match({value}, {literal(_TIME)}) THEN {said} END"


def _written(value: str) -> str:
    """A time as JSON text in UTC without an offset, with six digits of a fraction or none."""
    fraction = "CASE WHEN microsecond(moment) % 1000000 <> 0 THEN strftime(moment, '.%f') ELSE '' END"
    parts = f"strftime(moment, '%Y-%m-%dT%H:%M:%S') || {fraction}"
    return (
        f"CASE WHEN length({value}) = 21 AND {value}[12] = 'T' THEN {value} ELSE '\"' || {parts} || '\"' END"
    )


def _shallow(value: str) -> str:
    """It cannot be nested more deeply than a record may be."""
    brackets = f"length({value}) - length(replace(replace({value}, '{{', ''), '[', ''))"
    # A CASE counts the brackets of long texts alone.
    shallow = f"CASE WHEN strlen({value}) < {2 * MAX_LEVELS} THEN true ELSE {brackets} < {MAX_LEVELS} END"
    return f"coalesce({shallow}, true)"
