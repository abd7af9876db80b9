"""Log sources, fields and enumerated values, against what each platform's pipeline maps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sigma.rule import SigmaDetectionItem, SigmaLogSource, SigmaRule
from sigma.types import SigmaNumber, SigmaString

from detection_pack.checks.catalogue import Keys
from detection_pack.checks.subject import Subject, Value, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.rule import AlertView


@dataclass(frozen=True)
class Misnamed:
    """A finding with the place that it is about, and what stands there in its stead for further checks:
    another key, another `Value`, or None to leave it out."""

    finding: Finding
    document: Document
    keys: Keys
    instead: str | Value | None = None


def probe(document: Document) -> SigmaRule | None:
    """A rule of this document's log source, to ask a pipeline about; None where the log source is faulty."""
    try:
        source = SigmaLogSource.from_dict(document.data["logsource"])
        data = {"title": "Title", "logsource": {"product": "any"}}
        rule = SigmaRule.from_dict({**data, "detection": {"s": {"f": "v"}, "condition": "s"}})
    except Exception:  # reported as a fault of Sigma
        return None
    rule.logsource = source
    return rule


def misnamed(subject: Subject) -> Iterator[Misnamed]:
    """Unknown log sources, fields and enumerated values: every one, with the pipelines that lack it."""
    for document in subject.rule.documents:
        if "correlation" not in document.data and (rule := probe(document)) is not None:
            known = {p.shown(rule): p.known_fields(rule) for p in subject.pipelines.values()}
            lacking = [name for name, fields in known.items() if not fields]
            if lacking:
                yield Misnamed(_log_source(subject, document, lacking), document, ("logsource",))
            known = {name: fields for name, fields in known.items() if fields}
            yield from _fields(subject, document, known)
            if not lacking:
                yield from _values(subject, document, rule)
    yield from _shown_fields(subject)


def _log_source(subject: Subject, document: Document, lacking: Iterable[str]) -> Finding:
    source = "/".join(f"{k}:{v}" for k, v in document.data["logsource"].items())
    what = f"the log source {source} is unknown to {_shown(lacking)}"
    todo = "use a log source that the pipeline maps, or map it there"
    return subject.at("unknown-log-source", document, ("logsource",), what, todo)


def _fields(subject: Subject, document: Document, known: dict[str, frozenset[str]]) -> Iterator[Misnamed]:
    for leaf in leaves(document):
        if leaf.field is not None and (fault := _unknown(subject, document, leaf.keys, leaf.field, known)):
            finding, near = fault
            instead = "|".join([near, *leaf.modifiers]) if near else None
            yield Misnamed(finding, document, leaf.keys, instead)
        if "fieldref" in leaf.modifiers:
            for keys, value in leaf.values:
                if isinstance(value, str) and (fault := _unknown(subject, document, keys, value, known)):
                    finding, near = fault
                    yield Misnamed(finding, document, keys, Value(near) if near else None)


def _unknown(
    subject: Subject, document: Document, keys: Keys, field: str, known: dict[str, frozenset[str]]
) -> tuple[Finding, str | None] | None:
    lacking = [name for name, fields in known.items() if field not in fields]
    if not lacking:
        return None
    candidates = sorted(frozenset.intersection(*known.values()))
    near = _near(field, candidates)
    todo = f'did you mean "{near}"?' if near else "map it there or use a field that is"
    what = f'field "{field}" is unknown to {_shown(lacking)}'
    return subject.at("unknown-field", document, keys, what, todo), near


def _near(name: str, candidates: list[str]) -> str | None:
    folded = {c.lower(): c for c in candidates}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def _values(subject: Subject, document: Document, rule: SigmaRule) -> Iterator[Misnamed]:
    enumerations = {p.shown(rule): p.enumerations(rule) for p in subject.pipelines.values()}
    for leaf in leaves(document):
        field = leaf.field or ""
        known = {name: found[field] for name, found in enumerations.items() if field in found}
        if not known:
            continue
        for keys, value in leaf.values:
            said = _said(leaf.key, value)
            lacking = [name for name, values in known.items() for text in said if text not in values]
            if not lacking:
                continue
            candidates = sorted(frozenset.intersection(*known.values()))
            near = _near(str(value), [c for c in candidates if not c.isdigit()])
            todo = f'did you mean "{near}"?' if near else "use a name or number that the pipelines map"
            shown = said[0] if len(said) == 1 else str(value)
            what = f'"{shown}" is no {leaf.field} of {_shown(lacking)}'
            closest = near or difflib.get_close_matches(str(value), candidates, n=1, cutoff=0.0)[0]
            yield Misnamed(
                subject.at("unknown-value", document, keys, what, todo), document, keys, Value(closest)
            )


def _said(key: str | None, value: Any) -> list[str]:
    """What a value is after its modifiers, as the pipelines' tables would have it."""
    try:
        item = SigmaDetectionItem.from_mapping(key, value)
    except Exception:  # reported as a fault of Sigma
        return []
    return [str(v) for v in item.value if isinstance(v, SigmaString | SigmaNumber)]


def _shown_fields(subject: Subject) -> Iterator[Misnamed]:
    """The fields of the alert view and of a correlation, for the log source of the detection."""
    plain = [d for d in subject.rule.documents if "correlation" not in d.data]
    rule = probe(plain[0]) if plain else None
    if rule is None:
        return
    known = {p.shown(rule): p.known_fields(rule) for p in subject.pipelines.values()}
    known = {name: fields for name, fields in known.items() if fields}
    main = subject.rule.main
    for keys, field in [*_alert_fields(main), *_correlation_fields(main)] if known else ():
        if fault := _unknown(subject, main, keys, field, known):
            finding, near = fault
            line = subject.line_within(main, keys, field)
            at = Finding(finding.path, line, finding.what, finding.todo, finding.check, finding.severity)
            mended = near is not None and keys[-1] != "detail"
            # An alert view that lacks a part is none.
            place = keys if mended or keys[0] != "alert" else ("alert",)
            yield Misnamed(at, main, place, Value(near) if mended else None)


def _alert_fields(main: Document) -> Iterator[tuple[Keys, str]]:
    alert = main.data.get("alert")
    if not isinstance(alert, dict):
        return
    for key in ("user", "source", "agent", "extra"):
        if isinstance(alert.get(key), str):
            yield ("alert", key), alert[key]
    if isinstance(alert.get("detail"), str):
        view = AlertView(type="", detail=alert["detail"])
        yield from ((("alert", "detail"), field) for field in view.fields)


def _correlation_fields(main: Document) -> Iterator[tuple[Keys, str]]:
    stated = main.data.get("correlation")
    if not isinstance(stated, dict):
        return
    aliases = stated.get("aliases") if isinstance(stated.get("aliases"), dict) else {}
    groups = stated.get("group-by")
    listed = isinstance(groups, list)
    for index, field in enumerate(groups if isinstance(groups, list) else [groups] if groups else []):
        if isinstance(field, str) and field not in (aliases or {}):
            yield (("correlation", "group-by", index) if listed else ("correlation", "group-by")), field
    condition = stated.get("condition")
    if isinstance(condition, dict) and isinstance(condition.get("field"), str):
        yield ("correlation", "condition", "field"), condition["field"]


def _shown(names: Iterable[str]) -> str:
    listed = sorted(set(names))
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
