"""A log source: what is known of its records, as its folder below pipelines/ says (`log_source_reader`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from detection_pack.model.documents import read_text
from detection_pack.model.export_form import ExportForm
from detection_pack.model.findings import PackError
from detection_pack.model.record_time import ISO8601, RecordTime, value_at
from detection_pack.model.traces import Traces

FOLDER, FILE = "pipelines", "source.yml"


@dataclass(frozen=True)
class SourceField:
    """A field of a source's records.

    ``type``: string, integer, number, boolean, datetime, ip, list or object. ``enumeration``: the source's
    enumeration whose numbers the record holds, if it holds one's.
    """

    name: str
    type: str = "string"
    enumeration: str | None = None
    meaning: str = ""


@dataclass(frozen=True)
class KnownValues:
    """Which values a field can have: a table with the columns ``value``, ``types`` and ``note``.

    ``types`` are the values of the field ``by`` of the records that hold it, none for a value that nothing
    writes. ``growing`` is the shape of values that are added faster than the table is.
    """

    field: str
    by: str
    table: str
    growing: str
    reference: str


@dataclass(frozen=True)
class NeverHeld:
    """What records do not hold: from a value of the field ``by`` to ``{field: why}``."""

    by: str
    fields: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class AlertDefaults:
    """The alert view of a rule that states none, by field."""

    user: str | None = None
    source: str | None = None
    agent: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class Simulation:
    """How a simulated record differs from one that was logged.

    ``mark``: the field that says so, which no rule reads. ``ids``: fields that get a new value in each
    record, "uuid" or "number" (of 53 bits).
    """

    mark: str
    ids: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LogSource:
    """One folder below pipelines/. Two are the same only if they are one object.

    ``logsources``: Sigma log sources; a rule belongs here whose own has all pairs of one of them.
    ``identity``: the fields that identify a raw record together. ``kind``: the field that tells kinds of
    records apart, if one does; ``others``: keys that say what an export's entry of another kind is.
    ``enumerations``: number to name. ``new``: what `detection-pack new` starts from, as it stands there.
    ``absent``: the platforms that have no such records, each with the reason. ``simulation``: None where
    no record can be simulated. ``traces``: what an investigator reads of a record.
    """

    name: str
    folder: Path
    title: str
    logsources: tuple[Mapping[str, str], ...]
    identity: tuple[str, ...]
    time: RecordTime
    kind: str | None = None
    others: tuple[str, ...] = ()
    fields: Mapping[str, SourceField] = field(default_factory=dict, repr=False)
    enumerations: Mapping[str, Mapping[int, str]] = field(default_factory=dict, repr=False)
    exports: tuple[ExportForm, ...] = field(default=(), repr=False)
    alert: AlertDefaults = field(default_factory=AlertDefaults, repr=False)
    known_values: KnownValues | None = field(default=None, repr=False)
    never_held: NeverHeld | None = field(default=None, repr=False)
    new: Mapping[str, Any] = field(default_factory=dict, repr=False)
    absent: Mapping[str, str] = field(default_factory=dict, repr=False)
    simulation: Simulation | None = field(default=None, repr=False)
    traces: Traces = field(default_factory=Traces, repr=False)

    def identity_of(self, record: Mapping[str, Any]) -> str | None:
        """The record's identity as text, its parts divided by slashes; None where it has no part of it."""
        parts = [str(v) for path in self.identity if (v := value_at(record, path)) not in (None, "")]
        return "/".join(parts) or None

    def kind_name(self, value: str) -> str:
        """The name of a kind of record, where the source has one for the value of its field ``kind``."""
        about = self.fields.get(self.kind or "")
        named = self.enumerations.get(about.enumeration or "", {}) if about is not None else {}
        return named.get(int(value), value) if value.isascii() and value.isdigit() else value

    def as_written(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record as the source writes it: a name or ``1.0`` in an enumerated field as its number, a
        time in ISO 8601 as UTC without an offset. A key that is empty is left out."""
        plain = {key: value for key, value in record.items() if key}
        if self.time.format == ISO8601 and (moment := self.time.of(plain)) is not None:
            plain = _with(plain, self.time.field, self.time.written(moment))
        for name, numbers in self._numbers.items():
            value = value_at(plain, name)
            if (number := _number(value, numbers)) is not None:
                plain = _with(plain, name, number)
        return plain

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file of the folder, by its header. Raises `PackError`."""
        path = self.folder / name
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))

    def sql(self, name: str) -> str | None:
        """The text of an SQL file of the folder; None where the source has none. Raises `PackError`."""
        path = self.folder / f"{name}.sql"
        return read_text(path) if path.exists() else None

    def tables(self, platform: str) -> Mapping[str, Mapping[str, str]]:
        """``{table: {column: type}}`` of a platform with a schema, from the CSV file of its name; none where
        the source has none. Raises `PackError`."""
        if (known := self._tables.get(platform)) is None:
            found: dict[str, dict[str, str]] = {}
            name = f"{platform}.csv"
            for number, row in enumerate(self.table(name) if (self.folder / name).exists() else (), start=2):
                if set(row) != {"table", "column", "type"} or not all(row.values()):
                    what, todo = (
                        "is not a column of a table",
                        "write table, column and type, as the header says",
                    )
                    raise PackError.at(self.folder / name, number, what, todo)
                found.setdefault(row["table"], {})[row["column"]] = row["type"]
            known = self._tables[platform] = found
        return known

    @cached_property
    def _tables(self) -> dict[str, Mapping[str, Mapping[str, str]]]:
        return {}

    @cached_property
    def _numbers(self) -> dict[str, dict[str, int]]:
        return {
            name: {text.lower(): number for number, text in self.enumerations[one.enumeration].items()}
            for name, one in self.fields.items()
            if one.enumeration is not None and one.type == "integer"
        }


def _number(text: object, numbers: Mapping[str, int]) -> int | None:
    """The number of a name or of digits, or of a fraction that is whole: data frames write ``1.0`` for 1 as
    soon as one record has no number. None for anything else."""
    if isinstance(text, float) and text.is_integer():
        return int(text)
    if not isinstance(text, str):
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return numbers.get(text.lower())


def _with(record: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The record with another value at a path that it has; the objects on the way are new."""
    if path in record:
        return {**record, path: value}
    head, _, rest = path.partition(".")
    return {**record, head: _with(record[head], rest, value)}


def tables_of(sources: Iterable[LogSource], platform: str) -> dict[str, dict[str, str]]:
    """``{table: {column: type}}`` of a platform, of all sources. Raises `PackError` for a column of two
    types."""
    found: dict[str, dict[str, str]] = {}
    for source in sources:
        for table, columns in source.tables(platform).items():
            known = found.setdefault(table, {})
            for name, kind in columns.items():
                if (other := known.setdefault(name, kind)) != kind:
                    path, what = (
                        source.folder / f"{platform}.csv",
                        f'"{name}" of "{table}" is {other} elsewhere',
                    )
                    raise PackError.at(path, 1, what, "give a column of a table one type")
    return found


def source_of(
    sources: Mapping[str, LogSource] | Iterable[LogSource], logsource: Mapping[str, str]
) -> LogSource | None:
    """The source that serves a rule's log source: the one all of whose pairs the rule's has, and of several
    the one with most pairs. None where there is none, and where two have as many."""
    listed = sources.values() if isinstance(sources, Mapping) else sources
    stated = {k: v for k, v in logsource.items() if v is not None}
    fitting: Sequence[tuple[int, LogSource]] = [
        (max(len(pairs) for pairs in fits), source)
        for source in listed
        if (fits := [pairs for pairs in source.logsources if pairs.items() <= stated.items()])
    ]
    most = max((size for size, _ in fitting), default=0)
    best = [source for size, source in fitting if size == most]
    return best[0] if len(best) == 1 else None
