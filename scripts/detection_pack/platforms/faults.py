"""Log sources, fields and enumerated values, against what each platform's pipeline maps.

Whatever asks says the same of the same fault: `conversion` of one pipeline, `diagnosis` of all together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sigma.rule import SigmaDetectionItem, SigmaLogSource, SigmaRule
from sigma.types import SigmaNumber, SigmaString

from detection_pack.model.detections import Fault, Keys, Leaf, Value, leaves
from detection_pack.model.documents import Document
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.reading import Reading
from detection_pack.model.rule import AlertView
from detection_pack.model.source_mapping import SourceMapping

LOG_SOURCE, FIELD, VALUE = "unknown-log-source", "unknown-field", "unknown-value"
#: A rule that gets more than so many names wrong is told each, but not what it may have meant: looking for
#: the nearest of hundreds of names takes milliseconds.
_SUGGESTED = 20


@dataclass(frozen=True)
class _Known:
    """What one pipeline says of a log source: ``shown`` is its file, ``platform`` whose it is."""

    platform: str
    shown: str
    mapping: SourceMapping


class _Names:
    """The nearest of the names that there are, for so many as there is time for."""

    def __init__(self) -> None:
        self._left = _SUGGESTED

    def near(self, name: str, candidates: Iterable[str]) -> str | None:
        if self._left <= 0:
            return None
        self._left -= 1
        folded = {c.lower(): c for c in sorted(candidates)}
        near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
        return folded[near[0]] if near else None


def probe(document: Document) -> SigmaRule | None:
    """A rule of this document's log source, to ask a pipeline about; None where the log source is faulty."""
    try:
        source = SigmaLogSource.from_dict(document.data["logsource"])
        data = {"title": "Title", "logsource": {"product": "any"}}
        rule = SigmaRule.from_dict({**data, "detection": {"s": {"f": "v"}, "condition": "s"}})
        hash(source)
    except Exception:  # reported as a fault of Sigma
        return None
    rule.logsource = source
    return rule


def platform_faults(reading: Reading, pipelines: Mapping[str, Pipeline]) -> Iterator[Fault]:
    """Unknown log sources, fields and enumerated values: every one, with the pipelines that lack it."""
    names = _Names()
    for document in reading.documents:
        if "correlation" not in document.data and (rule := probe(document)) is not None:
            known = _known(rule, pipelines)
            if lacking := [one for one in known if not one.mapping.fields]:
                yield _log_source(reading, document, lacking)
            mapped = [one for one in known if one.mapping.fields]
            yield from _fields(reading, document, mapped, names)
            if not lacking:
                yield from _values(reading, document, known, names)
    yield from _shown_fields(reading, pipelines, names)


def _known(rule: SigmaRule, pipelines: Mapping[str, Pipeline]) -> list[_Known]:
    return [_Known(name, p.shown(rule), p.mapping_of(rule)) for name, p in pipelines.items()]


def _log_source(reading: Reading, document: Document, lacking: Iterable[_Known]) -> Fault:
    source = "/".join(f"{k}:{v}" for k, v in document.data["logsource"].items())
    what = f"the log source {source} is unknown to {_shown(lacking)}"
    todo = "use a log source that the pipeline maps, or map it there"
    finding = reading.at(LOG_SOURCE, document, ("logsource",), what, todo)
    return Fault(finding, document, ("logsource",), platforms=_ids(lacking))


def _fields(reading: Reading, document: Document, known: list[_Known], names: _Names) -> Iterator[Fault]:
    for leaf in leaves(document):
        if leaf.field is not None:
            for fault in _unknown(reading, document, leaf.keys, leaf.field, known, names):
                near = fault.instead
                instead = "|".join([str(near), *leaf.modifiers]) if near else None
                yield replace(fault, instead=instead)
        if "fieldref" in leaf.modifiers:
            for keys, value in leaf.values:
                if isinstance(value, str):
                    for fault in _unknown(reading, document, keys, value, known, names):
                        yield replace(fault, instead=Value(fault.instead) if fault.instead else None)


def _unknown(
    reading: Reading, document: Document, keys: Keys, field: str, known: list[_Known], names: _Names
) -> Iterator[Fault]:
    """The faults of a field that some pipeline does not map, one for all that give the same reason; in its
    stead the name that may have been meant."""
    by_reason: dict[str | None, list[_Known]] = {}
    for one in known:
        if not one.mapping.knows(field):
            by_reason.setdefault(one.mapping.absent.get(field), []).append(one)
    for reason, lacking in by_reason.items():
        near = None
        if reason is None:
            near = names.near(field, frozenset.intersection(*(one.mapping.fields for one in known)))
            todo = f'did you mean "{near}"?' if near else "map it there or use a field that is"
            what = f'field "{field}" is unknown to {_shown(lacking)}'
        else:
            said, _, todo = reason.partition("; ")
            todo = todo or "leave the condition on it out"
            what = f'field "{field}" has no equivalent in {_shown(lacking)}: {said}'
        yield Fault(reading.at(FIELD, document, keys, what, todo), document, keys, near, _ids(lacking))


def _values(reading: Reading, document: Document, known: list[_Known], names: _Names) -> Iterator[Fault]:
    for leaf in leaves(document):
        listing = [one for one in known if leaf.field in one.mapping.enumerations]
        for keys, value in leaf.values if listing else ():
            said = _said(leaf, value)
            if fault := _unknown_value(reading, leaf, keys, value, said, listing, names):
                yield fault


def _unknown_value(
    reading: Reading,
    leaf: Leaf,
    keys: Keys,
    value: Any,
    said: list[str],
    listing: list[_Known],
    names: _Names,
) -> Fault | None:
    field = str(leaf.field)
    lacking = [one for one in listing if not set(said) <= one.mapping.enumerations[field]]
    if not lacking:
        return None
    candidates = sorted(frozenset.intersection(*(one.mapping.enumerations[field] for one in listing)))
    near = names.near(str(value), [c for c in candidates if not c.isdigit()])
    todo = f'did you mean "{near}"?' if near else "use a name or number that the pipelines map"
    shown = said[0] if len(said) == 1 else str(value)
    what = f'"{shown}" is no {field} of {_shown(lacking)}'
    instead = Value(near or candidates[0]) if candidates else None
    finding = reading.at(VALUE, leaf.document, keys, what, todo)
    return Fault(finding, leaf.document, keys, instead, _ids(lacking))


def _said(leaf: Leaf, value: Any) -> list[str]:
    """What a value is after its modifiers, as the pipelines' tables would have it."""
    try:
        item = SigmaDetectionItem.from_mapping(leaf.key, value)
    except Exception:  # reported as a fault of Sigma
        return []
    return [str(v) for v in item.value if isinstance(v, SigmaString | SigmaNumber)]


def _shown_fields(reading: Reading, pipelines: Mapping[str, Pipeline], names: _Names) -> Iterator[Fault]:
    """The fields of the alert view and of a correlation, for the log source of the detection."""
    plain = [d for d in reading.documents if "correlation" not in d.data]
    rule = probe(plain[0]) if plain else None
    if rule is None or reading.rule is None:
        return
    known = [one for one in _known(rule, pipelines) if one.mapping.fields]
    main = reading.rule.main
    for keys, field in [*_alert_fields(main), *_correlation_fields(main)] if known else ():
        for fault in _unknown(reading, main, keys, field, known, names):
            line = reading.line_within(main, keys, field)
            mended = fault.instead is not None and keys[-1] != "detail"
            # An alert view that lacks a part is none.
            place = keys if mended or keys[0] != "alert" else ("alert",)
            instead = Value(fault.instead) if mended else None
            yield replace(fault, finding=replace(fault.finding, line=line), keys=place, instead=instead)


def _alert_fields(main: Document) -> Iterator[tuple[Keys, str]]:
    alert = main.data.get("alert")
    if not isinstance(alert, dict):
        return
    for key in AlertView.FIELDS.values():
        if isinstance(alert.get(key), str) and alert[key]:
            yield ("alert", key), alert[key]
    if isinstance(alert.get("detail"), str):
        view = AlertView(type="", detail=alert["detail"])
        yield from ((("alert", "detail"), field) for field in view.fields)


def _correlation_fields(main: Document) -> Iterator[tuple[Keys, str]]:
    stated = main.data.get("correlation")
    if not isinstance(stated, dict):
        return
    aliases = stated.get("aliases") if isinstance(stated.get("aliases"), dict) else {}
    condition = stated.get("condition")
    counted = condition.get("field") if isinstance(condition, dict) else None
    listed = [
        *_texts(("correlation", "group-by"), stated.get("group-by")),
        *_texts(("correlation", "condition", "field"), counted),
    ]
    yield from ((keys, field) for keys, field in listed if field not in (aliases or {}))


def _texts(keys: Keys, stated: Any) -> Iterator[tuple[Keys, str]]:
    """A text, or each text of a list, by its place."""
    listed: list[tuple[Keys, Any]] = [(keys, stated)]
    if isinstance(stated, list):
        listed = [((*keys, n), one) for n, one in enumerate(stated)]
    return ((place, text) for place, text in listed if isinstance(text, str) and text)


def _ids(known: Iterable[_Known]) -> frozenset[str]:
    return frozenset(one.platform for one in known)


def _shown(known: Iterable[_Known]) -> str:
    listed = sorted({one.shown for one in known})
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
