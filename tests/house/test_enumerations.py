"""The trap: a record type misspelt in one pipeline.

A platform then looks for a name or a number that no record has, and misses every event of that type without a
word. The names and numbers that the pipelines and the ingest models write are compared with
reference/enumerations.csv, a list of its own.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REFERENCE, ROOT
from detection_pack.model.platform_names import PLATFORMS
from support.sources import M365

#: Sigma field -> the enumeration that its values come from.
FIELDS = {
    "RecordType": "AuditLogRecordType",
    "UserType": "UserType",
    "LogonType": "LogonType",
    "InternalLogonType": "LogonType",
}


@dataclass(frozen=True)
class Enumeration:
    """One enumeration: number by every name that it has or had."""

    numbers: dict[str, int]

    @classmethod
    def read(cls, name: str) -> Enumeration:
        numbers: dict[str, int] = {}
        for row in csv.DictReader((REFERENCE / "enumerations.csv").read_text("utf-8").splitlines()):
            if row["enumeration"] == name:
                for known in filter(None, (row["name"], row["other_name"], row["value"])):
                    assert known not in numbers, f"{name} has {known} twice"
                    numbers[known] = int(row["value"])
        return cls(numbers)


REFERENCES = {name: Enumeration.read(name) for name in sorted(set(FIELDS.values()))}


def mappings(pipeline: Path) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Every ``map_string`` of a pipeline for a field with an enumeration: its id, the field, the mapping."""
    for transformation in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["transformations"]:
        if transformation["type"] == "map_string":
            for condition in transformation.get("field_name_conditions", ()):
                for field in sorted(set(condition.get("fields", ())) & set(FIELDS)):
                    stated = transformation["mapping"].items()
                    yield transformation["id"], field, {str(k): _texts(v) for k, v in stated}


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def misspelt(mapping: dict[str, list[str]], enumeration: Enumeration) -> list[str]:
    """Every pair of names or numbers that the reference does not know as one and the same."""
    return [
        f"{key}: {value}"
        for key, values in mapping.items()
        for value in values
        if enumeration.numbers.get(key) is None or enumeration.numbers.get(value) != enumeration.numbers[key]
    ]


#: The merged ones: there every enumeration is written out.
PIPELINES = sorted((ROOT / "dist" / "pipelines").glob("*.yml"))
MAPPINGS = [(path, *found) for path in PIPELINES for found in mappings(path)]


@pytest.mark.parametrize(
    ("name", "field", "mapping"),
    [m[1:] for m in MAPPINGS],
    ids=[f"{m[0].stem} {m[1]} {m[2]}" for m in MAPPINGS],
)
def test_every_name_and_number_is_that_of_the_reference(
    name: str, field: str, mapping: dict[str, list[str]]
) -> None:
    """A source that has records of a few types alone names those."""
    assert misspelt(mapping, REFERENCES[FIELDS[field]]) == []
    least = len(set(REFERENCES[FIELDS[field]].numbers.values())) / 3 if name.startswith("m365_") else 2
    assert len(mapping) >= least


def test_every_platform_maps_record_types() -> None:
    mapped = {path.stem for path, _, field, _ in MAPPINGS if field == "RecordType"}
    assert mapped >= set(PLATFORMS)


def test_a_misspelt_name_and_a_wrong_number_are_found() -> None:
    types = REFERENCES["AuditLogRecordType"]
    assert misspelt({"ExchangeItem": ["ExchangeItems"]}, types) == ["ExchangeItem: ExchangeItems"]
    assert misspelt({"ExchangeItem": ["ExchangeItem", "3"]}, types) == ["ExchangeItem: 3"]
    assert misspelt({"ExchangItem": ["2"]}, types) == ["ExchangItem: 2"]
    assert misspelt({"Viva Engage": ["Yammer"], "2": ["ExchangeItem"]}, types) == []


def test_the_log_source_has_the_references_names() -> None:
    """source.yml, which everything else is made from, and the table of the Elastic integration."""
    for enumeration, stated in M365.enumerations.items():
        if enumeration in REFERENCES:
            wrong = misspelt({str(n): [name] for n, name in stated.items()}, REFERENCES[enumeration])
            assert len(stated) > 5 and wrong == []
    assert set(M365.enumerations) >= set(REFERENCES)
    rows = M365.table("integration_record_types.csv")
    named = {row["value"]: [row["name"]] for row in rows}
    assert len(named) > 50 and misspelt(named, REFERENCES["AuditLogRecordType"]) == []


def test_names_are_names() -> None:
    for enumeration in REFERENCES.values():
        assert all(re.fullmatch(r"[A-Za-z0-9-]+(?: [A-Za-z]+)?", name) for name in enumeration.numbers)
        assert len(set(enumeration.numbers.values())) >= 7
