"""Sigma's own rules, as pySigma applies them, but to one key, value and name at a time.

pySigma stops at the first fault of a detection; here each item is parsed on its own, so that every fault is
found and its place is known. That takes several times as long as reading the rule, so it is done only where
pySigma refuses the whole or a quick look finds something odd.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sigma.conditions import SigmaCondition
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections, SigmaRule

from detection_pack.model.detections import Fault, Keys, Leaf, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import PackError
from detection_pack.model.reading import Reading
from detection_pack.model.refused_forms import refused_values, refused_values_of
from detection_pack.model.rule import Rule
from detection_pack.model.sigma_messages import said_of

SIGMA, INEXPRESSIBLE = "sigma", "inexpressible"
_TODO = "see the Sigma specification"
_DETECTION = {"selection": {"Field": "value"}, "condition": "selection"}
_RULE: dict[str, Any] = {"title": "Title", "logsource": {"product": "any"}, "detection": _DETECTION}
_CORRELATION: dict[str, Any] = {"type": "event_count", "rules": ["a", "b"], "timespan": "1h"}
_CORRELATION |= {"group-by": ["Field"], "condition": {"gte": 1}}
_VALUES_COUNT = {"gte": 1, "field": "Field"}
#: What a condition says besides the names of selections.
_WORDS = frozenset({"and", "or", "not", "of", "them", "all", "any", "1"})
_LOG_SOURCE = ("category", "product", "service", "definition")

_Complaint = tuple[str, str]


def sigma_faults(reading: Reading, rule: Rule, unresolved: Collection[Fault] = ()) -> list[Fault]:
    """Every fault of ``rule``, the reading's, with the place that must go before the rest can be looked at.

    ``unresolved``: what is known of the rules to which it refers. Raises `PackError` for a rule that pySigma
    refuses although no part of it is to blame.
    """
    try:
        refused = None
        plain = [one for one in rule.parsed.rules if isinstance(one, SigmaRule)]
        odd = any(True for one in plain for _ in refused_values(one))
    except PackError as error:
        refused, odd = error, True
    if not odd and not any(map(_is_odd, rule.documents)):
        return []
    found = list(_faults(reading, rule))
    if refused is not None and not found and not unresolved:
        raise refused
    return found


def _faults(reading: Reading, rule: Rule) -> Iterator[Fault]:
    for document in rule.documents:
        yield from _metadata(reading, document)
        if "correlation" in document.data:
            yield from _correlation(reading, document)
        else:
            yield from _detections(reading, document)
            yield from _conditions(reading, document)


def document_faults(reading: Reading, document: Document) -> list[Fault]:
    """The same of one document with a detection."""
    found = [*_metadata(reading, document), *_detections(reading, document)]
    return [*found, *_conditions(reading, document)]


def _is_odd(document: Document) -> bool:
    """Whether a document may have a fault that pySigma lets pass, or that it finds only when converting."""
    data = document.data
    if "correlation" in data or data.get("title") is None or not isinstance(data.get("logsource"), dict):
        return True
    if any(not isinstance(data["logsource"].get(key), str | None) for key in _LOG_SOURCE):
        return True
    detection = data["detection"]
    names = tuple(str(name) for name in detection if name != "condition")
    stated = detection.get("condition")
    for condition in stated if isinstance(stated, list) else [stated]:
        if not isinstance(condition, str) or _condition_complaint(condition, names) is not None:
            return True
        if any(True for _ in _unknown_names(condition, names)):
            return True
    return any(_is_odd_leaf(leaf) for leaf in leaves(document))


def _is_odd_leaf(leaf: Leaf) -> bool:
    if leaf.key is None and not any(value is not None for _, value in leaf.values):
        return True
    return "re" in leaf.modifiers and not all(isinstance(value, str) for _, value in leaf.values)


def _metadata(reading: Reading, document: Document) -> Iterator[Fault]:
    data = document.data
    correlated = "correlation" in data
    for key in ("title",) if correlated else ("title", "logsource"):
        if data.get(key) is None:
            yield reading.fault(SIGMA, document, (key,), f'has no "{key}"', f'add "{key}:"')
    for key, value in data.items():
        if key in ("detection", "correlation") or value is None or (correlated and key == "logsource"):
            continue
        if key == "logsource" and isinstance(value, dict) and (odd := _odd_log_source(value)):
            what = f"the {odd} of the log source is not text"
            yield reading.fault(SIGMA, document, ("logsource",), what, "write one text, or leave it out")
            continue
        listed = key == "tags" and isinstance(value, list)
        for keys, part in [((key, i), [v]) for i, v in enumerate(value)] if listed else [((key,), value)]:
            if said := _rule_complaint({**_RULE, str(key): part}):
                yield _said(reading, document, keys, f'"{key}": ', said)


def _rule_complaint(data: dict[str, Any]) -> _Complaint | None:
    return _complaint(lambda: SigmaRule.from_dict(data, collect_errors=True))


def _odd_log_source(stated: Mapping[str, Any]) -> str | None:
    return next((key for key in _LOG_SOURCE if not isinstance(stated.get(key), str | None)), None)


def _said(reading: Reading, document: Document, keys: Keys, about: str, said: _Complaint) -> Fault:
    what, todo = said
    return reading.fault(SIGMA, document, keys, f"{about}{what}", todo or _TODO)


def _complaint(make: Callable[[], Any]) -> _Complaint | None:
    """What pySigma says of something, and what to do, which may be the empty text; None if it is fine."""
    try:
        with warnings.catch_warnings():
            # As for a rule as a whole: `Rule.parsed` says why.
            warnings.simplefilter("error", FutureWarning)
            errors = getattr(make(), "errors", ())
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        return said_of(error)
    return said_of(errors[0]) if errors else None


def _detections(reading: Reading, document: Document) -> Iterator[Fault]:
    detection = document.data.get("detection")
    for name, definition in detection.items() if isinstance(detection, dict) else ():
        if name != "condition" and (definition is None or definition == {}):
            what = f'"{name}" is empty'
            yield reading.fault(SIGMA, document, ("detection", name), what, "write what to look for")
    for leaf in leaves(document):
        if leaf.key is None and leaf.values in (((leaf.keys, None),), ()):
            continue  # the empty selection above
        if leaf.key is not None and not isinstance(leaf.keys[-1], str):
            what = f"the field name {leaf.key} is a number"
            yield reading.fault(SIGMA, document, leaf.keys, what, "put it in quotes")
            continue
        if (whole := _item_complaint(leaf, [v for _, v in leaf.values])) is None:
            yield from _refused(reading, leaf)
            continue
        single = [(keys, _item_complaint(leaf, [value])) for keys, value in leaf.values]
        blamed = [(keys, said) for keys, said in single if said is not None and leaf.is_list]
        if len(blamed) == len(single) and len({said for _, said in blamed}) <= 1:
            blamed = []  # the key is to blame, not each of its values
        for keys, said in blamed or [(leaf.keys, whole)]:
            yield _said(reading, document, keys, f'"{leaf.key}": ' if leaf.key else "", said)


def _item_complaint(leaf: Leaf, values: list[Any]) -> _Complaint | None:
    if "re" in leaf.modifiers and not all(isinstance(value, str) for value in values):
        return "a regular expression is text", "put it in quotes"
    stated = values if leaf.is_list else values[0]
    return _complaint(lambda: SigmaDetectionItem.from_mapping(leaf.key, stated))


def _refused(reading: Reading, leaf: Leaf) -> Iterator[Fault]:
    """The values of an item that no log could hold."""
    for keys, value in leaf.values:
        item = SigmaDetectionItem.from_mapping(leaf.key, value)
        for what, todo in refused_values_of(item):
            shown = f'field "{leaf.field}": {what}' if leaf.field else what
            yield reading.fault(INEXPRESSIBLE, leaf.document, keys, shown, todo)


def _conditions(reading: Reading, document: Document) -> Iterator[Fault]:
    detection = document.data.get("detection")
    if not isinstance(detection, dict):
        return  # reported as a rule without a detection
    names = tuple(str(name) for name in detection if name != "condition")
    if "condition" not in detection:
        place = ("detection", "condition")
        yield reading.fault(SIGMA, document, place, "has no condition", 'add "condition:"')
        return
    if not names:
        what = "has no selection beside its condition"
        yield reading.fault(SIGMA, document, ("detection",), what, "add one")
        return
    stated = detection["condition"]
    listed = isinstance(stated, list)
    for index, condition in enumerate(stated if listed else [stated]):
        at: Keys = ("detection", "condition", index) if listed else ("detection", "condition")
        if not isinstance(condition, str):
            what = "has a condition that is not text"
            yield reading.fault(SIGMA, document, at, what, "name its selections")
            continue
        if "|" in condition:
            continue  # reported as an old form
        unknown = dict(_unknown_names(condition, names))
        for name, todo in unknown.items():
            line = reading.line_within(document, at, name)
            kind = "has no selection" if "*" in name or name == "them" else "names no selection"
            what = f'"{name}" in the condition {kind}'
            fault = reading.fault(SIGMA, document, at, what, todo)
            yield Fault(replace(fault.finding, line=line), document, at)
        if not unknown and (said := _condition_complaint(condition, names)) is not None:
            yield _said(reading, document, at, "", said)


def _unknown_names(condition: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each name and pattern of a condition that no selection has, and what to do."""
    for word in dict.fromkeys(re.findall(r"[^\s()|]+", condition)):
        if "*" in word or word == "them":
            if not _selected(word, names):
                yield word, "name selections that there are: those that begin with _ are left out"
        elif not (word in names or word.lower() in _WORDS or word.isdigit()) and re.match(r"[\w-]+$", word):
            near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
            yield word, f'did you mean "{near[0]}"?' if near else f"use {', '.join(names)}"


def _selected(pattern: str, names: tuple[str, ...]) -> bool:
    """Whether pySigma finds one (`ConditionSelector.resolve_referenced_detections`)."""
    found = re.compile(".*" if pattern == "them" else re.escape(pattern).replace(r"\*", ".*"))
    hidden = pattern.startswith("_")
    return any(found.fullmatch(name) and (hidden or not name.startswith("_")) for name in names)


@lru_cache(maxsize=4096)
def _condition_complaint(condition: str, names: tuple[str, ...]) -> _Complaint | None:
    dummy = SigmaDetection.from_definition({"Field": "value"})
    detections = SigmaDetections(dict.fromkeys(names or ("none",), dummy), [condition])
    return _complaint(lambda: SigmaCondition(condition, detections).parsed)


def _correlation(reading: Reading, document: Document) -> Iterator[Fault]:
    stated = document.data["correlation"]
    if not isinstance(stated, dict):
        return
    for key in ("type", "rules", "timespan"):
        if stated.get(key) is None and not (key == "rules" and isinstance(stated.get("condition"), str)):
            at: Keys = ("correlation", key)
            what = f'the correlation has no "{key}"'
            yield reading.fault(SIGMA, document, at, what, f'add "{key}:"')
    kind = stated.get("type")
    good = dict(_CORRELATION)
    if _correlation_complaint({**good, "type": kind, "condition": _VALUES_COUNT}) is None:
        good |= {"type": kind, "condition": _VALUES_COUNT if kind != "event_count" else {"gte": 1}}
    for key, value in stated.items():
        if value is None:
            continue
        tried = {**good, "condition": _VALUES_COUNT} if key == "type" else good
        if key == "condition" and isinstance(value, str):  # which names the rules itself
            tried = {name: one for name, one in good.items() if name != "rules"}
        if (said := _correlation_complaint({**tried, str(key): value})) is not None:
            yield _said(reading, document, ("correlation", key), f'"{key}": ', said)
    if "condition" not in stated and not str(kind).startswith("temporal"):
        what = "the correlation has no condition"
        yield reading.fault(SIGMA, document, ("correlation",), what, 'add "condition:"')


def _correlation_complaint(correlation: dict[str, Any]) -> _Complaint | None:
    made = {"title": "Title", "correlation": correlation}
    return _complaint(lambda: SigmaCorrelationRule.from_dict(made, collect_errors=True))
