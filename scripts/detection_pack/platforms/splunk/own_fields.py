"""The fields that KV_MODE=json shows of a record, one at a time, as SQL over its keys.

A nested object is dotted, an array is ``Name{}``. A name says nothing of where its parts end: ``a.b`` is the
key ``b`` of the object ``a``, and the key ``a.b``; every reading counts. Source: Splunk, "Knowledge Manager
Manual", "Setting KV_MODE for search-time data", and events of the Splunk Add-on for Microsoft Office 365.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from detection_pack.languages.databases import literal
from detection_pack.languages.spl.spl_sql import RAW_PART
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import Records

#: A name of more parts than this is held by no record that is read (`event.MAX_LEVELS` levels have no dots).
MOST_READINGS = 12
_BOUNDARY = re.compile(r"\.|\{\}|$")
_PLAIN = re.compile(r"[\w .:/@-]+")


class UnreadableName(ValueError):
    """A name with more readings than can be looked at."""


def own_type(name: str) -> str:
    """ "one" where a record has one value of the name at most, else "mv"."""
    return "mv" if "." in name or "{}" in name else "one"


def own_field(records: Records, source: LogSource, name: str) -> str:
    """SQL for the field of a record: text, or a list of texts where `own_type` says "mv"; null where it has
    none. Raises `UnreadableName`."""
    if name.startswith(RAW_PART):
        listed = [
            _values(records.key(source, key), rest, 0, "json_texts")
            for key, rest in _splits(name.removeprefix(RAW_PART))
        ]
        return f"nullif(list_concat({', '.join(listed)}, CAST([] AS VARCHAR[])), [])"
    if own_type(name) == "one":
        return f"own_text({records.key(source, name)})" if name else "CAST(NULL AS VARCHAR)"
    if len(_BOUNDARY.findall(name)) > MOST_READINGS:
        raise UnreadableName(f"a field name of more than {MOST_READINGS} parts")
    found = [_values(records.key(source, key), rest, 0) for key, rest in _splits(name)]
    return f"nullif(list_concat({', '.join(found)}), [])" if len(found) > 1 else f"nullif({found[0]}, [])"


def named_field(name: str) -> str:
    """SQL for the value that ``_named_values`` has for a name; null where it has none."""
    held = json.dumps(name, ensure_ascii=False) if _PLAIN.fullmatch(name) else ""
    return f"named_value(_named_values, {literal(name)}, {literal(held)})"


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every key that a name can begin with, and the rest of the name; shorter keys first, as records that are
    sorted have them."""
    for found in _BOUNDARY.finditer(name):
        yield name[: found.start()], name[found.start() :]


def _values(value: str, rest: str, depth: int, texts: str = "own_texts") -> str:
    """SQL for the list of the texts below a JSON value, as the macro ``texts`` has them; empty where there is
    none."""
    if not rest:
        return f"{texts}({value})"
    first = f"CAST({value} AS VARCHAR)[1]"
    if rest.startswith("{}"):
        member = f"m{depth}"
        inner = _values(member, rest[2:], depth + 1, texts)
        listed = f"list_transform(CAST({value} AS JSON[]), lambda {member}: {inner})"
        return f"(CASE WHEN {first} = '[' THEN flatten({listed}) ELSE CAST([] AS VARCHAR[]) END)"
    if not rest.startswith("."):
        return "CAST([] AS VARCHAR[])"
    parts = [
        _values(f"json_extract({value}, {literal(_pointer(key))})", below, depth, texts)
        for key, below in _splits(rest[1:])
    ]
    listed = f"list_concat({', '.join(parts)})" if len(parts) > 1 else parts[0]
    return f"(CASE WHEN {first} = '{{' THEN {listed} ELSE CAST([] AS VARCHAR[]) END)"


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def names_of(record: Mapping[str, Any]) -> set[str]:
    """The names of all fields that a record has, for tests and explanations: a search asks for its own."""
    found: set[str] = set()
    stack: list[tuple[str, Any]] = [(key, value) for key, value in record.items() if key]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(name + "{}", inner) for inner in value]
        elif value is not None:
            found.add(name)
    return found
