"""What a log holds, and the quiet reasons why a rule does not fire in it: a field that the rule needs and no
record has, values that the pack does not know, a log source without records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from detection_pack.model.detections import leaves
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.rule import Rule
from detection_pack.platforms.records import ID, Records
from detection_pack.replay.answer import stamp
from detection_pack.replay.reading import Reading

#: How many unknown values of a field are named.
NAMED = 10


def what_was_read(
    reading: Reading, rules: Iterable[Rule], sources: Mapping[str, LogSource]
) -> dict[str, Any]:
    """The part ``read`` of an answer."""
    listed = list(rules)
    counts: dict[str, int] = {}
    for (name, _), number in reading.counts.items():
        counts[name] = counts.get(name, 0) + number
    needed = {found.name for rule in listed if (found := source_of(sources, rule.logsource))}
    span = reading.span
    return {
        "files": len(reading.files),
        "records": counts,
        "kinds": {f"{name}: {kind}": number for (name, kind), number in reading.counts.items()},
        "span": None if span is None else {"first": stamp(span[0]), "last": stamp(span[1])},
        "skipped": reading.skipped.count,
        "skipped_first": [
            {"path": one.path, "line": one.line, "reason": one.what} for one in reading.skipped.first
        ],
        "repeated": reading.repeated,
        "other": sum(reading.other.values()),
        "other_kinds": dict(reading.other),
        "silent": sorted(name for name in needed if not counts.get(name)),
        "absent_fields": absent_fields(reading.records, listed, sources),
        "unknown": unknown_values(reading.records),
    }


def fields_of(rule: Rule) -> list[str]:
    """The fields that a rule's detections name."""
    named = (leaf.field for document in rule.documents for leaf in leaves(document))
    return list(dict.fromkeys(name for name in named if name))


def absent_fields(
    records: Records, rules: Iterable[Rule], sources: Mapping[str, LogSource]
) -> dict[str, list[str]]:
    """By rule the fields that it needs and no record of its log source has, where there is any record."""
    found = {}
    for rule in rules:
        source = source_of(sources, rule.logsource)
        if source is None or source.name not in records.tables:
            continue
        fields = [
            name for name in fields_of(rule) if name in source.fields and _loaded(records, source, name)
        ]
        held = [f"count({_value(records, source, name)})" for name in fields]
        sql = f"SELECT {', '.join([f'count({ID})', *held])} FROM {records.tables[source.name].name}"
        [(every, *counts)] = records.cursor().execute(sql).fetchall()
        absent = [name for name, number in zip(fields, counts, strict=True) if not number]
        if every and absent:
            found[rule.name] = absent
    return found


def unknown_values(records: Records) -> dict[str, list[list[str | int]]]:
    """By field the values that the pack's tables do not know, with how often each occurs, most first: numbers
    of enumerations that have no name, and values that are not in a source's table of known ones."""
    found: dict[str, list[list[str | int]]] = {}
    for source in records.sources:
        for field, known, by, covered in _known(source):
            if not all(_loaded(records, source, name) for name in (field, by) if name):
                continue
            of = f"{_value(records, source, by)} IN (SELECT unnest(CAST(? AS VARCHAR[])))" if by else "true"
            sql = (
                f"SELECT {_value(records, source, field)} AS value, count(*)"
                f" FROM {records.tables[source.name].name} WHERE value IS NOT NULL AND {of} GROUP BY value"
            )
            counted = records.cursor().execute(sql, [covered] if by else None).fetchall()
            unknown = [(value, number) for value, number in counted if not known(value)]
            unknown.sort(key=lambda one: (-one[1], one[0]))
            if unknown:
                found[field] = [[value, number] for value, number in unknown[:NAMED]]
    return found


def _loaded(records: Records, source: LogSource, field: str) -> bool:
    """Whether the field was brought in: no chosen rule reads one that was not."""
    table = records.tables[source.name]
    return table.whole or field in table.columns or field.partition(".")[0] in table.columns


def _value(records: Records, source: LogSource, field: str) -> str:
    """SQL for a field's text: a name with dots is a key, or stands below the key before the first."""
    head, dot, rest = field.partition(".")
    whole = f"nullif({records.key(source, field)} ->> '$', '')"
    if not dot:
        return whole
    pointer = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in rest.split("."))
    below = f"json_extract({records.key(source, head)}, '{pointer.replace(chr(39), chr(39) * 2)}')"
    return f"coalesce({whole}, nullif({below} ->> '$', ''))"


def _known(source: LogSource) -> Iterator[tuple[str, Callable[[str], bool], str, list[str]]]:
    """(field, whether a value is known, and where only some records are judged: the field that tells them,
    and its values there) of a source."""
    for name, field in source.fields.items():
        if field.enumeration is not None and field.type == "integer":
            numbers = {str(number) for number in source.enumerations[field.enumeration]}
            yield name, numbers.__contains__, "", []
    about = source.known_values
    if about is not None:
        rows = source.table(about.table)
        values = {row["value"].lower() for row in rows}
        growing = re.compile(about.growing)
        names = {kind for row in rows for kind in (row["types"] or "").split()}
        stated = source.fields.get(about.by)
        enumeration = source.enumerations.get(stated.enumeration or "", {}) if stated else {}
        covered = names | {str(number) for number, name in enumeration.items() if name in names}

        def known(value: str) -> bool:
            return value.lower() in values or growing.fullmatch(value) is not None

        yield about.field, known, about.by, sorted(covered)
