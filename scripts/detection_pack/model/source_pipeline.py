"""The pySigma files of a log source, ``pipelines/<source>/{common,<platform>}.yml``, made plain.

Each is a pySigma pipeline that may say three things shorter, which are written out here from the enumerations
of source.yml:

- ``mapping: {enumeration: NAME, to: number | name | both, extra: {…}}`` of a map_string: every name and every
  number, as text, to the number, to the name, or to a list of both; ``extra`` adds spellings;
- ``pattern: {enumeration: NAME}`` of a match_string condition: the names, as one expression;
- ``same: [FIELD, …]`` of a field_name_mapping: fields that the platform calls by their own names.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from detection_pack.model import pipeline_document
from detection_pack.model.documents import ABSENT, Document, Key, value_at
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pipeline_shapes import check_shapes

COMMON = "common"
#: Of files that state none: what all platforms share comes first.
PRIORITIES = {COMMON: 10}
PRIORITY = 20
_FORMS = ("number", "name", "both")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class SourceFile:
    """One file of a log source. ``document`` is plain pySigma, with the lines of the file."""

    source: str
    path: Path
    document: Document

    @property
    def priority(self) -> int:
        return int(self.document.data.get("priority", PRIORITIES.get(self.path.stem, PRIORITY)))

    @property
    def items(self) -> list[dict[str, Any]]:
        return self.document.data.get("transformations") or []


@lru_cache(maxsize=64)
def source_file(source: LogSource, path: Path, text: str) -> SourceFile:
    """Read a file of a log source. Raises `PackError` with every fault; nothing reaches pySigma before."""
    document = pipeline_document.only(path, text)
    findings: list[Finding] = []
    plain = _plain(document, source, findings)
    # What could not be written out is no mapping of pySigma's either: it is said once.
    findings = findings or pipeline_document.faults(plain)
    findings = findings or list(_own_faults(plain, source.logsources))
    if findings:
        raise PackError(findings)
    check_shapes(plain)
    return SourceFile(source.name, path, plain)


def _plain(document: Document, source: LogSource, findings: list[Finding]) -> Document:
    """The document with everything short written out."""
    data = copy.deepcopy(document.data)
    items = data.get("transformations") if isinstance(data, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            at = ("transformations", index)
            try:
                _write_out(item, document, at, source)
            except PackError as error:
                findings += error.findings
    lines = {keys: line for keys, line in document.lines.items() if value_at(data, keys) is not ABSENT}
    return Document(document.path, data, lines)


def _write_out(item: dict[Any, Any], document: Document, at: tuple[Key, ...], source: LogSource) -> None:
    mapping = item.get("mapping")
    if item.get("type") == "map_string" and isinstance(mapping, dict) and "enumeration" in mapping:
        item["mapping"] = _mapping(document, (*at, "mapping"), mapping, source)
    if item.get("type") == "field_name_mapping" and "same" in item:
        item["mapping"] = _with_same(document, at, item)
    for place, condition in _conditions(item, "detection_item_conditions"):
        pattern = condition.get("pattern")
        if condition.get("type") == "match_string" and isinstance(pattern, dict):
            here = (*at, "detection_item_conditions", place, "pattern")
            values = _enumeration(document, here, pattern, {"enumeration"}, source)
            condition["pattern"] = rf"(?:{'|'.join(re.escape(name) for name in values.values())})\Z"


def _mapping(
    document: Document, at: tuple[Key, ...], stated: dict[Any, Any], source: LogSource
) -> dict[str, str | list[str]]:
    values = _enumeration(document, at, stated, {"enumeration", "to", "extra"}, source)
    form, extra = stated.get("to"), stated.get("extra") or {}
    if form not in _FORMS:
        todo = f"write one of {', '.join(_FORMS)}"
        raise _fault(document, (*at, "to"), f'has no form "{form}" of an enumeration', todo)
    if not isinstance(extra, dict):
        raise _fault(document, (*at, "extra"), "is not a mapping", "write spelling: value")
    written: dict[str, str | list[str]] = {}
    for number, name in values.items():
        digits = str(number)
        form_of: Mapping[str, str | list[str]] = {"number": digits, "name": name, "both": [name, digits]}
        written |= {digits: form_of[form], name: form_of[form]}
    return written | extra


def _enumeration(
    document: Document, at: tuple[Key, ...], stated: dict[Any, Any], keys: set[str], source: LogSource
) -> Mapping[int, str]:
    """The names of the enumeration that is stated, by number."""
    for key in stated:
        if key not in keys:
            raise _fault(document, (*at, key), f'uses "{key}"', f"use {', '.join(sorted(keys))}")
    name = str(stated.get("enumeration"))
    if name in source.enumerations:
        return source.enumerations[name]
    known = ", ".join(sorted(source.enumerations)) or "none"
    what = f'the enumeration "{name}" is unknown'
    raise _fault(document, (*at, "enumeration"), what, f"write it in source.yml, which has {known}")


def _with_same(document: Document, at: tuple[Key, ...], item: dict[Any, Any]) -> dict[Any, Any]:
    same, mapping = item.pop("same"), item.get("mapping", {})
    if not isinstance(same, list) or not all(isinstance(name, str) for name in same):
        raise _fault(document, (*at, "same"), "is not a list of texts", "write the fields' names")
    if not isinstance(mapping, dict):
        raise _fault(document, (*at, "mapping"), "does not map to texts", "write a name for each field")
    for index, name in enumerate(same):
        if name in mapping or name in same[:index]:
            what = f'maps the field "{name}" again'
            raise _fault(document, (*at, "same", index), what, "keep one of them")
    return mapping | {name: name for name in same}


def _own_faults(document: Document, logsources: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """What is wrong with a plain pipeline as a file of this log source."""
    if type(document.data.get("priority", PRIORITY)) is not int:
        yield _fault(document, ("priority",), "is not a whole number", "write one").findings[0]
    allowed = document.data.get("allowed_backends", [])
    if not isinstance(allowed, list) or not all(isinstance(name, str) for name in allowed):
        yield _fault(document, ("allowed_backends",), "is not a list of texts", "name backends").findings[0]
    seen: set[str] = set()
    for index, item in enumerate(document.data.get("transformations") or ()):
        at = ("transformations", index)
        name = item.get("id")
        if name is not None and not (isinstance(name, str) and _ID.fullmatch(name)):
            yield _fault(document, (*at, "id"), "is not a name", "use letters, digits and _").findings[0]
        elif name in seen:
            what = f'the id "{name}" is that of another item'
            yield _fault(document, (*at, "id"), what, "give each item an id of its own").findings[0]
        seen |= {name} if isinstance(name, str) else set()
        for place, condition in _conditions(item, "rule_conditions"):
            stated = {key: value for key, value in condition.items() if key != "type"}
            if condition.get("type") == "logsource" and not any(fits(stated, one) for one in logsources):
                here = (*at, "rule_conditions", place)
                what = "asks for a log source that this folder does not serve"
                yield _fault(document, here, what, "leave the condition out").findings[0]


def fits(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a rule's log source can have the pairs of both."""
    return all(other.get(key, value) == value for key, value in one.items())


def _conditions(item: Mapping[Any, Any], key: str) -> Iterator[tuple[Key, dict[Any, Any]]]:
    stated = item.get(key)
    named = stated.items() if isinstance(stated, dict) else enumerate(stated or ())
    if isinstance(stated, dict | list):
        yield from ((place, condition) for place, condition in named if isinstance(condition, dict))


def _fault(document: Document, keys: tuple[Key, ...], what: str, todo: str) -> PackError:
    return PackError.at(document.path, document.line(*keys), what, todo, pipeline_document.PIPELINE)
