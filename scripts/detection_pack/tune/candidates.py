"""What could leave some records out and no other: rows of a list, or a filter on what the alert shows.

A candidate is a set of fields; its rows are the values that the false records have in them. It tells them
apart where no true record has the values of a row. The fewest rows come first, those of a list of the pack
before others, and of these the ones that ask for the most: so the least is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document
from detection_pack.model.filters import Filter
from detection_pack.model.list_table import ADDRESS
from detection_pack.model.rule import Rule
from detection_pack.model.site_lists import ListFilter, literal
from detection_pack.replay.explain_ingest import is_address

#: Fields that a proposed filter asks for at most, and rows that are a list and not a copy of the log.
MOST_FIELDS, MOST_ROWS = 3, 20
#: What an element of a list of names and values calls the name.
_NAMES = ("Name", "name")

#: The values of a record in the fields of a candidate, in their order.
Values = tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """``fields`` and the ``rows`` of their values; ``within``: the filter of a list that has just these."""

    fields: tuple[str, ...]
    rows: tuple[Values, ...]
    within: ListFilter | None = None

    def site(self) -> dict[str, Any]:
        """The rows as a site's file states them. Only for a filter of a list."""
        assert self.within is not None
        names = [self.within.parameters[key] for key in self.fields]
        return {self.within.list: [dict(zip(names, row, strict=True)) for row in self.rows]}

    def filter(self, document: Document) -> dict[str, Any]:
        """The rows as a Sigma filter for the rule of this document."""
        rows = [
            {field: literal(value) for field, value in zip(self.fields, row, strict=True)}
            for row in self.rows
        ]
        return {
            "title": f"Known Use of {document.data.get('title', 'the Rule')}",
            "logsource": dict(document.data["logsource"]),
            "filter": {"rules": [str(document.data["name"])], "row": rows, "condition": "not row"},
        }

    def as_filter(self, document: Document) -> Filter:
        return Filter(Document(Path("proposed filter"), self.filter(document), {}), "")


def value_of(record: Mapping[str, Any], name: str) -> str | None:
    """A field of a record as text: a key, a path of keys, or a name in a list of names and values, wherever
    that stands. None where the record has no such text."""
    head, dot, rest = name.partition(".")
    found: Any = record.get(name)
    if found is None and dot and isinstance(inner := record.get(head), Mapping):
        found = value_of(inner, rest)
    elif found is None and dot and isinstance(inner, list):
        found = _named(inner, rest)
    if found is None and not dot:
        found = next(filter(None, (_named(listed, name) for listed in _lists(record))), None)
    if isinstance(found, bool):
        return str(found).lower()
    return str(found) if isinstance(found, str | int | float) and str(found).strip() else None


def _lists(value: Any) -> Iterator[list[Any]]:
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        if isinstance(inner, list):
            yield inner
        yield from _lists(inner)


def _named(listed: Sequence[Any], name: str) -> str | None:
    for one in listed:
        if isinstance(one, Mapping) and any(one.get(key) == name for key in _NAMES):
            values = [value for key, value in one.items() if key not in _NAMES and isinstance(value, str)]
            return values[0] if values else None
    return None


def candidates(
    rule: Rule,
    document: Document,
    lists: Mapping[str, Sequence[ListFilter]],
    false: Sequence[Mapping[str, Any]],
    true: Sequence[Mapping[str, Any]],
) -> list[Candidate]:
    """What tells the false records from the true ones, the smallest exclusion first. ``document`` is the rule
    whose records they are."""
    found = [
        candidate
        for filters in lists.values()
        for one in filters
        if document.data.get("name") in one.rules and not one.contained
        if (candidate := _candidate(tuple(sorted(one.parameters)), false, true, one)) is not None
    ]
    shown = list(dict.fromkeys(filter(None, map(rule.alert.field_of, rule.alert.COLUMNS))))
    more = [field for field in rule.correlation.group_by if field not in shown] if rule.correlation else []
    for size in range(1, MOST_FIELDS + 1):
        for fields in itertools.combinations([*more, *shown], size):
            if (candidate := _candidate(fields, false, true, None)) is not None:
                found.append(candidate)
    return sorted(found, key=lambda one: (len(one.rows), one.within is None, -len(one.fields), one.fields))


def _candidate(
    fields: tuple[str, ...],
    false: Sequence[Mapping[str, Any]],
    true: Sequence[Mapping[str, Any]],
    one: ListFilter | None,
) -> Candidate | None:
    if not fields or (one is not None and not _has_fixed(one, false)):
        return None
    rows: dict[Values, Values] = {}
    for record in false:
        values = [value_of(record, field) for field in fields]
        if None in values:
            return None
        row = tuple(map(str, values))
        if one is not None and any(
            name == ADDRESS and not is_address(value)
            for name, value in zip((one.parameters[field] for field in fields), row, strict=True)
        ):
            return None
        rows.setdefault(tuple(map(str.lower, row)), row)
    if len(rows) > MOST_ROWS:
        return None
    for record in true:
        values = [value_of(record, field) for field in fields]
        if None not in values and tuple(str(value).lower() for value in values) in rows:
            return None
    return Candidate(fields, tuple(rows.values()), one)


def _has_fixed(one: ListFilter, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the records have what every row of the filter has besides its parameters."""
    return all(_has(record, key, value) for record in records for key, value in one.fixed.items())


def _has(record: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a record has this value, or one of these; not of what asks otherwise than for a whole one."""
    name, bar, modifiers = key.partition("|")
    found = value_of(record, name)
    if bar:
        return modifiers == "exists" and (found is not None) is value
    values = value if isinstance(value, list) else [value]
    return (found or "").lower() in {"" if one is None else str(one).lower() for one in values}
