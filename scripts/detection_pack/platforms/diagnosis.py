"""Everything that the platforms have against a rule, each thing once and at its place.

A platform refuses a rule at the first thing that it cannot say. Here every such thing is looked for, which
takes many conversions: only rules that are refused are worth it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detection_pack.model.detections import Fault, Keys, without
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule
from detection_pack.model.sigma_faults import INEXPRESSIBLE
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.faults import LOG_SOURCE, platform_faults
from detection_pack.platforms.platform import Platform
from detection_pack.platforms.refusals import Budget, Complaint, attempt, refused_values

#: What a detection hangs on: a rule with a fault in one of these is not looked at as one whole.
_ESSENTIAL = ("detection", "logsource", "correlation")


@dataclass(frozen=True)
class Diagnosis:
    """``faults`` are what was found, each with the platforms that it is about. ``rest`` is the rule without
    what is no Sigma and with its misspelt names put right; ``whole``: it still says what the rule says."""

    faults: tuple[Fault, ...]
    rest: Rule
    whole: bool

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(dict.fromkeys(fault.finding for fault in self.faults))

    def of(self, platform: str) -> tuple[Finding, ...]:
        """What is about this platform."""
        return tuple(dict.fromkeys(f.finding for f in self.faults if platform in f.platforms))


def diagnose(
    reading: Reading, pipelines: Mapping[str, Pipeline], platforms: Sequence[Platform], version: str = "0.0.0"
) -> Diagnosis:
    """What ``platforms`` have against the reading's rule, which there must be, besides what the reading
    found already. One without a pipeline is left out."""
    rule = reading.rule
    assert rule is not None
    asked = [platform for platform in platforms if platform.id in pipelines]
    named = list(platform_faults(reading, {one.id: pipelines[one.id] for one in asked}))
    known = [*reading.faults, *(fault for fault in named if fault.finding.check != LOG_SOURCE)]
    rest = _completed(without(rule, known))
    whole = not any(fault.keys[0] in _ESSENTIAL for fault in reading.faults)
    whole = whole and _selections(rest) == _selections(rule)
    mapped = len(known) == len(reading.faults) + len(named)
    mapped = mapped and not any(fault.keys[0] == "logsource" for fault in reading.faults)
    refused = _refusals(reading, rest, whole, pipelines, asked, version) if mapped else []
    return Diagnosis((*named, *refused), rest, whole)


def _refusals(
    reading: Reading,
    rule: Rule,
    whole: bool,
    pipelines: Mapping[str, Pipeline],
    platforms: Sequence[Platform],
    version: str,
) -> list[Fault]:
    """Every value that a platform cannot say, then whatever else keeps ``rule`` from being built."""
    asked = [
        platform
        for platform in platforms
        if not (whole and isinstance(attempt(platform, rule, pipelines, version), Part))
    ]
    budget = Budget()
    by_value: dict[int, dict[Keys, dict[Complaint, list[Platform]]]] = {}
    for number, document in enumerate(rule.documents):
        for platform in asked if "correlation" not in document.data else ():
            found = refused_values(platform, pipelines[platform.id], rule, document, budget)
            for keys, complaints in found.items():
                places = by_value.setdefault(number, {}).setdefault(keys, {})
                for complaint in complaints:
                    places.setdefault(complaint, []).append(platform)
    faults = [
        _inexpressible(reading, rule.documents[number], keys, complaint, who)
        for number, places in by_value.items()
        for keys, complaints in places.items()
        for complaint, who in complaints.items()
    ]
    left = without(rule, faults)
    # A condition that names a selection of which nothing is left would be refused for that.
    if whole and _selections(left) == _selections(rule) and all(map(_looks_for_something, left.documents)):
        said = {what for places in by_value.values() for c in places.values() for what, _ in c}
        faults += _others(left, asked, pipelines, version, said)
    return faults


def _inexpressible(
    reading: Reading, document: Document, keys: Keys, complaint: Complaint, platforms: Sequence[Platform]
) -> Fault:
    names = [platform.title.removeprefix("Microsoft ") for platform in platforms]
    said_by = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    what = f"{said_by} cannot say this: {complaint[0]}"
    finding = reading.at(INEXPRESSIBLE, document, keys, what, complaint[1])
    return Fault(finding, document, keys, platforms=frozenset(platform.id for platform in platforms))


def _others(
    rule: Rule,
    platforms: Iterable[Platform],
    pipelines: Mapping[str, Pipeline],
    version: str,
    said: set[str],
) -> list[Fault]:
    """What keeps the rule from being built although every value of it can be said."""
    by_finding: dict[Finding, set[str]] = {}
    for platform in platforms:
        made = attempt(platform, rule, pipelines, version)
        for finding in () if isinstance(made, Part) else made:
            if finding.what not in said:
                by_finding.setdefault(finding, set()).add(platform.id)
    return [Fault(f, rule.main, (), platforms=frozenset(ids)) for f, ids in by_finding.items()]


def _completed(rule: Rule) -> Rule:
    """The rule with what pySigma demands of every rule, where its own is missing or faulty."""
    documents = tuple(replace(document, data=_complete(document.data)) for document in rule.documents)
    main = next(new for new, old in zip(documents, rule.documents, strict=True) if old is rule.main)
    return replace(rule, documents=documents, main=main)


def _complete(data: dict[str, Any]) -> dict[str, Any]:
    data = {**data, "title": "Title"} if data.get("title") is None else dict(data)
    detection = data.get("detection")
    if isinstance(detection, dict) and "condition" not in detection:
        data["detection"] = {**detection, "condition": " and ".join(map(str, detection))}
    return data


def _selections(rule: Rule) -> list[list[str]]:
    return [
        list(map(str, d.data["detection"]))
        for d in rule.documents
        if isinstance(d.data.get("detection"), dict)
    ]


def _looks_for_something(document: Document) -> bool:
    """Whether any selection is left of a detection; a correlation has none."""
    detection = document.data.get("detection")
    return not isinstance(detection, dict) or any(v for k, v in detection.items() if k != "condition")
