"""tests/events/<rule>.yml: the events that a rule must and must not match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document, load_documents
from detection_pack.model.event import Event, plain_record
from detection_pack.model.findings import REFUSED, Finding, PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import parse_time, value_at
from detection_pack.model.rule import Rule

#: The id of the findings that this module makes.
EVENTS_FILE = "events-file"
_FILE_KEYS = {"rule", "defaults", "match", "no_match"}
#: The name by which a case excepts Kibana's threshold rule.
THRESHOLD = "threshold"
_CASE_KEYS = {"title", "record", "each", "absent", "source", "hits", "except"}


@dataclass(frozen=True)
class ExpectedHit:
    """One alert that a correlation must raise: the group's values, the window's start and the count."""

    group: tuple[tuple[str, str], ...]
    window: datetime | None
    value: float


@dataclass(frozen=True)
class Case:
    """One entry of an events file: records that belong together, and whether the rule fires on them.

    ``exceptions`` holds, for a platform (or "threshold", Kibana's threshold rule) that provably cannot
    agree, whether it fires and why not as expected. ``hits`` is empty unless the entry states them.
    """

    rule: str
    title: str
    path: Path
    line: int
    matches: bool
    events: tuple[Event, ...]
    hits: tuple[ExpectedHit, ...] = ()
    source: str | None = None
    exceptions: Mapping[str, tuple[bool, str]] = field(default_factory=dict)

    def expected_of(self, platform: str) -> bool:
        """Whether the rule fires on ``platform`` (or as "threshold")."""
        return self.exceptions[platform][0] if platform in self.exceptions else self.matches

    def values_of(self, field: str) -> frozenset[str]:
        """What its records hold in a field, in lower case; of a record that lacks it the empty text and every
        text of it: the field may be a named value of a list, or another one may stand in for it."""
        found: set[str] = set()
        for event in self.events:
            held = str(value_at(event.record, field) or "").lower()
            found |= {held} if held else {"", *(text.lower() for text in _texts(event.record))}
        return frozenset(found)


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a record, whatever it stands below."""
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def log_source_of(rule: Rule, sources: Mapping[str, LogSource]) -> LogSource:
    """Whose records a rule reads. Raises `PackError` where no log source of the pack has it alone."""
    if (source := source_of(sources, rule.logsource)) is not None:
        return source
    stated = "/".join(f"{k}:{v}" for k, v in rule.logsource.items() if v)
    what = f"the log source {stated} belongs to no folder of pipelines/"
    todo = "use one that a source.yml there names, or add a folder"
    raise PackError.at(rule.path, rule.main.line("logsource"), what, todo)


def events_file(root: Path, rule: str) -> Path:
    """Where the events of a rule of the pack stand; the file need not be there."""
    return root / "tests" / "events" / f"{rule}.yml"


def load_cases(path: Path, source: LogSource, findings: list[Finding] | None = None) -> list[Case]:
    """Every case of an events file, in order. Raises `PackError` with every fault.

    With ``findings`` the faults are reported there and the cases that have none are returned.
    """
    faults: list[Finding] = []
    document = _document(path, faults)
    cases: list[Case] = []
    for list_name in ("match", "no_match"):
        if document is None:
            break
        try:
            count = len(_listed(document, list_name))
        except PackError as error:
            faults += error.findings
            continue
        for index in range(count):
            at = document.line(list_name, index)
            try:
                cases.append(_case(document, list_name, index, source))
            except PackError as error:
                faults += error.findings
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                what = f"is not a case ({error})"
                faults.append(Finding(str(path), at, what, "see tests/events/ for the form of a case"))
    faults = [replace(fault, check=EVENTS_FILE) if fault.check == REFUSED else fault for fault in faults]
    if findings is None and faults:
        raise PackError(faults)
    if findings is not None:
        findings += faults
    return cases


def _document(path: Path, faults: list[Finding]) -> Document | None:
    found: list[Finding] = []
    documents = load_documents(path, None, found)
    faults += found
    if not documents and found:
        return None
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        what, todo = "is not an events file", 'write one mapping with "match" and "no_match"'
        faults.append(Finding(str(path), 1, what, todo))
        return None
    document = documents[0]
    try:
        _only(document, (), document.data, _FILE_KEYS)
    except PackError as error:
        faults += error.findings
    if document.data.get("rule") != path.stem:
        what, todo = "names another rule than its file", f'write "rule: {path.stem}"'
        faults.append(Finding(str(path), document.line("rule"), what, todo))
    if not isinstance(document.data.get("defaults") or {}, dict):
        what, todo = '"defaults" is not a mapping', "write field: value"
        faults.append(Finding(str(path), document.line("defaults"), what, todo))
        return None
    return document


def _listed(document: Document, name: str) -> list[Any]:
    value = document.data.get(name) or []
    if not isinstance(value, list):
        raise PackError.at(
            document.path, document.line(name), f'"{name}" is not a list', "write a list of cases"
        )
    return value


def _case(document: Document, list_name: str, index: int, source: LogSource) -> Case:
    stated = document.data[list_name][index]
    at = document.line(list_name, index)
    if not isinstance(stated, dict) or not isinstance(stated.get("title"), str):
        raise PackError.at(document.path, at, "is a case without a title", 'add "title:" and "record:"')
    _only(document, (list_name, index), stated, _CASE_KEYS)
    rule = document.path.stem
    label = f"{rule}-{list_name.replace('_', '-')}-{index + 1}"
    events = tuple(
        _event(source, f"{label}{suffix}", record) for suffix, record in _records(document, list_name, index)
    )
    for event in events:
        if event.time is None:
            wanted = source.time.field
            raise PackError.at(document.path, at, f"has a record without a readable {wanted}", "add it")
    return Case(
        rule=rule,
        title=stated["title"],
        path=document.path,
        line=at,
        matches=list_name == "match",
        events=events,
        hits=tuple(_hits(document, list_name, index)),
        source=stated.get("source"),
        exceptions=_exceptions(document, list_name, index),
    )


def _event(source: LogSource, label: str, record: dict[str, Any]) -> Event:
    """A case's record, which has its label for an identity where it states none."""
    name = source.identity[0]
    if len(source.identity) == 1 and _can_have(record, name):
        record = with_part(record, name, label)
    return Event(source.identity_of(record) or label, source, record)


def _records(document: Document, list_name: str, index: int) -> Iterator[tuple[str, dict[str, Any]]]:
    stated = document.data[list_name][index]
    at = document.line(list_name, index)
    base = {**(document.data.get("defaults") or {})}
    for name in stated.get("absent") or ():
        base = _without(base, name)
    own = stated.get("record") or {}
    overrides = stated.get("each") or [{}]
    if not isinstance(own, dict) or not isinstance(overrides, list):
        raise PackError.at(document.path, at, "has a record that is not a mapping", "write field: value")
    for number, override in enumerate(overrides, start=1):
        if not isinstance(override, dict):
            raise PackError.at(document.path, at, '"each" holds no mappings', "write a list of field: value")
        record = base
        for name, value in {**own, **override}.items():
            record = with_part(record, name, value)
        record = plain_record(record)
        suffix = f"-{number}" if len(overrides) > 1 else ""
        yield suffix, record


# A name with dots is that of a part where the record has an object for it to be a part of: a case can change
# one part of a nested record and leave the others as the defaults have them.


def with_part(record: Mapping[Any, Any], name: Any, value: Any) -> dict[Any, Any]:
    """The record with another value under a name; what the record holds is not changed."""
    head, rest = _parts(record, name)
    return {**record, head: value if rest is None else with_part(record[head], rest, value)}


def _without(record: Mapping[Any, Any], name: Any) -> dict[Any, Any]:
    head, rest = _parts(record, name)
    left = {key: value for key, value in record.items() if key != head}
    return left if rest is None else {**left, head: _without(record[head], rest)}


def _can_have(record: Mapping[str, Any], name: str) -> bool:
    """Whether the record lacks a value that can be put where its name says."""
    head, rest = _parts(record, name)
    return _can_have(record[head], rest) if rest is not None else head not in record and "." not in head


def _parts(record: Mapping[Any, Any], name: Any) -> tuple[Any, str | None]:
    """A key of the record and the name below it; None where the name is itself a key, there or to be."""
    head, dot, rest = name.partition(".") if isinstance(name, str) and name not in record else (name, "", "")
    return (head, rest) if dot and isinstance(record.get(head), Mapping) else (name, None)


def _hits(document: Document, list_name: str, index: int) -> Iterator[ExpectedHit]:
    stated = document.data[list_name][index]
    for number, hit in enumerate(stated.get("hits") or ()):
        at = document.line(list_name, index, "hits", number)
        if not isinstance(hit, dict) or set(hit) != {"group", "window", "value"}:
            raise PackError.at(document.path, at, "is not a hit", 'write "group", "window" and "value"')
        group = tuple((str(k), str(v)) for k, v in hit["group"].items())
        yield ExpectedHit(group, parse_time(hit["window"]), float(hit["value"]))


def _exceptions(document: Document, list_name: str, index: int) -> dict[str, tuple[bool, str]]:
    stated = dict(document.data[list_name][index].get("except") or {})
    if not stated:
        return {}
    why = stated.pop("why", None)
    at = document.line(list_name, index, "except")
    known = {*PLATFORMS, THRESHOLD}
    if not why or not set(stated) <= known or not set(stated.values()) <= {"match", "no_match"}:
        raise PackError.at(
            document.path,
            at,
            "is not an exception with a reason",
            f'write "platform: no_match" ({", ".join(sorted(known))}) and "why:"',
        )
    return {platform: (verdict == "match", str(why)) for platform, verdict in stated.items()}


def _only(document: Document, at: tuple[str | int, ...], mapping: dict[str, Any], known: set[str]) -> None:
    todo = f"use {', '.join(sorted(known))}"
    unknown = [key for key in mapping if key not in known]
    if unknown:
        raise PackError(
            Finding(str(document.path), document.line(*at, key), f'"{key}" is unknown here', todo)
            for key in unknown
        )
