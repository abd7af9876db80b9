"""Sigma's own rules, as pySigma applies them, but to one key, value and name at a time.

pySigma stops at the first fault of a detection; here each item is parsed on its own, so that every fault is
found and its place is known.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from sigma.conditions import SigmaCondition
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections, SigmaRule

from detection_pack.checks.catalogue import Keys, found
from detection_pack.checks.subject import Leaf, Subject, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding

_TODO = "see the Sigma specification"
_DETECTION = {"selection": {"Field": "value"}, "condition": "selection"}
_RULE: dict[str, Any] = {"title": "Title", "logsource": {"product": "any"}, "detection": _DETECTION}
_CORRELATION: dict[str, Any] = {"type": "event_count", "rules": ["a", "b"], "timespan": "1h"}
_CORRELATION |= {"group-by": ["Field"], "condition": {"gte": 1}}
_VALUES_COUNT = {"gte": 1, "field": "Field"}
#: What a condition says besides the names of selections.
_WORDS = frozenset({"and", "or", "not", "of", "them", "all", "any", "1"})


def sigma_faults(subject: Subject) -> Iterator[tuple[Finding, Document, Keys]]:
    """Every fault with the place that must go before the rest can be looked at."""
    for document in subject.rule.documents:
        yield from _metadata(subject, document)
        if "correlation" in document.data:
            yield from _correlation(subject, document)
        else:
            yield from _detections(subject, document)
            yield from _conditions(subject, document)


def _metadata(subject: Subject, document: Document) -> Iterator[tuple[Finding, Document, Keys]]:
    data = document.data
    needed = ("title",) if "correlation" in data else ("title", "logsource")
    for key in needed:
        if data.get(key) is None:
            yield subject.at("sigma", document, (key,), f'has no "{key}"', f'add "{key}:"'), document, (key,)
    for key, value in data.items():
        if key in ("detection", "correlation") or value is None:
            continue
        listed = key == "tags" and isinstance(value, list)
        for keys, part in [((key, i), [v]) for i, v in enumerate(value)] if listed else [((key,), value)]:
            if (what := _complaint({**_RULE, str(key): part})) is not None:
                yield subject.at("sigma", document, keys, f'"{key}": {what}', _TODO), document, keys


def _complaint(data: dict[str, Any]) -> str | None:
    try:
        found = SigmaRule.from_dict(data, collect_errors=True).errors
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        return _first_line(error)
    return _first_line(found[0]) if found else None


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def _detections(subject: Subject, document: Document) -> Iterator[tuple[Finding, Document, Keys]]:
    detection = document.data.get("detection")
    for name, definition in detection.items() if isinstance(detection, dict) else ():
        if name != "condition" and (definition is None or definition in ({}, [])):
            at = ("detection", name)
            yield (
                subject.at("sigma", document, at, f'"{name}" is empty', "write what to look for"),
                document,
                at,
            )
    for leaf in leaves(document):
        if leaf.key is None and leaf.values in (((leaf.keys, None),), ()):
            continue  # the empty selection above
        if (what := _item_complaint(leaf, [v for _, v in leaf.values])) is None:
            continue
        single = [(keys, _item_complaint(leaf, [value])) for keys, value in leaf.values]
        blamed = [(keys, said) for keys, said in single if said is not None and leaf.is_list]
        if len(blamed) == len(single) and len({said for _, said in blamed}) <= 1:
            blamed = []  # the key is to blame, not each of its values
        for keys, said in blamed or [(leaf.keys, what)]:
            shown = f'"{leaf.key}": {said}' if leaf.key else said
            yield subject.at("sigma", document, keys, str(shown), _TODO), document, keys


def _item_complaint(leaf: Leaf, values: list[Any]) -> str | None:
    if "re" in leaf.modifiers and not all(isinstance(value, str) for value in values):
        return "a regular expression is text"
    try:
        SigmaDetectionItem.from_mapping(leaf.key, values if leaf.is_list else values[0])
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        return _first_line(error)
    return None


def _conditions(subject: Subject, document: Document) -> Iterator[tuple[Finding, Document, Keys]]:
    detection = document.data.get("detection")
    if not isinstance(detection, dict):
        return  # reported as a rule without a detection
    names = [str(name) for name in detection if name != "condition"]
    if "condition" not in detection:
        at: Keys = ("detection", "condition")
        yield subject.at("sigma", document, at, "has no condition", 'add "condition:"'), document, at
        return
    if not names:
        what = "has no selection beside its condition"
        yield subject.at("sigma", document, ("detection",), what, "add one"), document, ("detection",)
        return
    stated = detection["condition"]
    listed = isinstance(stated, list)
    for index, condition in enumerate(stated if listed else [stated]):
        at = ("detection", "condition", index) if listed else ("detection", "condition")
        if not isinstance(condition, str):
            what = f'"{condition}" is not a condition'
            yield subject.at("sigma", document, at, what, "write text such as selection"), document, at
            continue
        unknown = list(dict.fromkeys(_unknown_names(condition, names)))
        for name in unknown:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            todo = f'did you mean "{near[0]}"?' if near else f"use {', '.join(names)}"
            line = subject.line_within(document, at, name)
            what = f'the condition names "{name}", which is no selection'
            yield found("sigma", subject.path, line, what, todo), document, at
        if not unknown and (said := _condition_complaint(condition, names)) is not None:
            yield subject.at("sigma", document, at, f"the condition: {said}", _TODO), document, at


def _unknown_names(condition: str, names: list[str]) -> Iterator[str]:
    for word in re.findall(r"[^\s()|]+", condition):
        pattern = "*" in word
        known = any(fnmatchcase(name, word) for name in names) if pattern else word in names
        if not known and word.lower() not in _WORDS and not word.isdigit() and re.match(r"[\w*-]+$", word):
            yield word


def _condition_complaint(condition: str, names: list[str]) -> str | None:
    dummy = SigmaDetection.from_definition({"Field": "value"})
    try:
        SigmaCondition(condition, SigmaDetections(dict.fromkeys(names, dummy), [condition])).parsed  # noqa: B018
    except Exception as error:  # pyparsing's and pySigma's
        return _first_line(error)
    return None


def _correlation(subject: Subject, document: Document) -> Iterator[tuple[Finding, Document, Keys]]:
    stated = document.data["correlation"]
    if not isinstance(stated, dict):
        return
    for key in ("type", "rules", "timespan"):
        if stated.get(key) is None and not (key == "rules" and isinstance(stated.get("condition"), str)):
            at: Keys = ("correlation", key)
            yield (
                subject.at("sigma", document, at, f'the correlation has no "{key}"', f'add "{key}:"'),
                document,
                at,
            )
    kind = stated.get("type")
    good = dict(_CORRELATION)
    if _correlation_complaint({**good, "type": kind, "condition": _VALUES_COUNT}) is None:
        good |= {"type": kind, "condition": _VALUES_COUNT if kind != "event_count" else {"gte": 1}}
    for key, value in stated.items():
        if value is None:
            continue
        tried = {**good, "condition": _VALUES_COUNT} if key == "type" else good
        if (said := _correlation_complaint({**tried, str(key): value})) is not None:
            at = ("correlation", key)
            yield subject.at("sigma", document, at, f'"{key}": {said}', _TODO), document, at
    if "condition" not in stated and not str(kind).startswith("temporal"):
        what = "the correlation has no condition"
        yield (
            subject.at("sigma", document, ("correlation",), what, 'add "condition:"'),
            document,
            ("correlation",),
        )
    known = [str(d.data[key]) for d in subject.rule.documents for key in ("name", "id") if d.data.get(key)]
    rules = stated.get("rules")
    listed = isinstance(rules, list)
    for index, name in enumerate(rules if isinstance(rules, list) else [rules] if rules else []):
        if str(name) not in known:
            at = ("correlation", "rules", index) if listed else ("correlation", "rules")
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
            todo = f'did you mean "{near[0]}"?' if near else "put that rule into the same file"
            what = f'correlates "{name}", which this file does not hold'
            yield subject.at("sigma", document, at, what, todo), document, at


def _correlation_complaint(correlation: dict[str, Any]) -> str | None:
    try:
        errors = SigmaCorrelationRule.from_dict(
            {"title": "Title", "correlation": correlation}, collect_errors=True
        ).errors
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        return _first_line(error)
    return _first_line(errors[0]) if errors else None
