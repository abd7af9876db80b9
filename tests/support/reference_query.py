"""reference/behaviours.yml as Kusto queries: the reading of it that shares nothing with ``model``.

Kusto's own operators decide what a whole term, a file name and an hour are; names of tables and columns are
those of Microsoft Sentinel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from conftest import REFERENCE

TABLES = {"office_365": "OfficeActivity", "process_creation": "DeviceProcessEvents"}
COLUMNS = {"Image": "FileName", "CommandLine": "ProcessCommandLine"}
#: Condition -> the operator that says it of a column and a list of names.
OPERATORS = {"whole_term_in": "has_any", "file_name_of": "in~", "equal_to": "in"}


def load() -> dict[str, Any]:
    """The behaviours as YAML holds them."""
    loaded: dict[str, Any] = yaml.safe_load((REFERENCE / "behaviours.yml").read_text(encoding="utf-8"))
    return loaded


def query(rule: str, reference: Mapping[str, Any]) -> str:
    """The query of one behaviour: rows with ``_EventId``, or groups with ``Window`` and ``Counted``."""
    behaviour = dict(reference["behaviours"][rule])
    counted = behaviour.pop("counted", None)
    lines = [TABLES[behaviour.pop("log")]]
    lines += [f"where {said}" for key, value in behaviour.items() for said in _said(key, value, reference)]
    if counted is None:
        lines.append("project _EventId")
    else:
        groups = ", ".join(counted["by"])
        window = f"Window = bin(TimeGenerated, {counted['clock_window']})"
        lines.append(f"summarize Counted = dcount({counted['distinct']}) by {groups}, {window}")
        lines.append(f"where Counted >= {counted['at_least']}")
    return "\n| ".join(lines)


def _said(condition: str, value: Any, reference: Mapping[str, Any]) -> Iterator[str]:
    if condition == "record_types":
        yield f"RecordType in {_texts(value)}"
    elif condition == "not_empty":
        yield from (f"isnotempty({field})" for field in value)
    elif condition == "different":
        yield " != ".join(value)
    else:
        for field, names in value.items():
            listed = [text for name in names for text in reference["lists"][name]]
            yield f"{COLUMNS.get(field, field)} {OPERATORS[condition]} {_texts(listed)}"


def _texts(values: list[str]) -> str:
    return f"({', '.join(map(json.dumps, values))})"
