"""Everything that the platforms have against a rule, each thing once and at its place.

A platform refuses a rule at the first thing that it cannot say. Here every such thing is looked for, which
takes many conversions: only rules that are refused are worth it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detection_pack.model.detections import Fault, Keys, without
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.reading import Reading
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.sigma_faults import INEXPRESSIBLE
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.faults import LOG_SOURCE, platform_faults
from detection_pack.platforms.platform import Platform, platform
from detection_pack.platforms.refusals import Budget, Complaint, attempt, refused_values

#: The check of what an alert does not show.
EMPTY_COLUMN = "empty-column"
#: What a detection hangs on: a rule with a fault in one of these is not looked at as one whole.
_ESSENTIAL = ("detection", "logsource", "correlation")


@dataclass(frozen=True)
class Diagnosis:
    """``faults`` are what was found, each with the platforms that it is about. ``rest`` is the rule without
    what is no Sigma and with its misspelt names put right; ``whole``: it still says what the rule says.
    ``unfilled``: warnings of columns that an alert leaves empty."""

    faults: tuple[Fault, ...]
    rest: Rule
    whole: bool
    unfilled: tuple[Finding, ...] = ()

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
    found already. One without a pipeline is left out, and one that the rule is not for."""
    rule = reading.rule
    assert rule is not None
    asked = [one for one in platforms if one.id in pipelines and pipelines[one.id].absence(rule) is None]
    named = list(platform_faults(reading, {one.id: pipelines[one.id] for one in asked}))
    mapped = not any(fault.keys[0] == "logsource" for fault in reading.faults)
    # What one platform has no name for another may refuse: each is asked about what it can name.
    groups: dict[tuple[int, ...], list[Platform]] = {}
    for here in asked if mapped else ():
        own = [number for number, fault in enumerate(named) if here.id in fault.platforms]
        if not any(named[number].finding.check == LOG_SOURCE for number in own):
            groups.setdefault(tuple(own), []).append(here)
    examination = _Examination(reading, pipelines, version)
    refused = [
        fault
        for own, group in groups.items()
        for fault in examination.refusals(*_rest(reading, rule, [named[n] for n in own]), group)
    ]
    misspelt = [fault for fault in named if fault.finding.check != LOG_SOURCE]
    faults = (*_without_data(rule, pipelines, platforms), *named, *refused)
    return Diagnosis(faults, *_rest(reading, rule, misspelt), tuple(unfilled(rule, examination.parts)))


def unfilled(rule: Rule, parts: Mapping[str, Part]) -> Iterator[Finding]:
    """The columns of an alert that stay empty on a platform, of a rule that states no alert view."""
    for one, part in parts.items():
        for key, why in part.unfilled.items():
            what = f'alerts of {platform(one).title} leave "{key}" empty: {why}'
            todo = f'state "alert: {{{key}: FIELD}}" in the rule'
            yield Finding(str(rule.path), rule.main.line(), what, todo, EMPTY_COLUMN, "warning")


def _without_data(
    rule: Rule, pipelines: Mapping[str, Pipeline], platforms: Sequence[Platform]
) -> Iterator[Fault]:
    """The platforms that have no data for somebody's rule. A rule of the pack states them."""
    for one in platforms if rule.tier not in TIERS else ():
        why = pipelines[one.id].absence(rule) if one.id in pipelines else None
        if why is not None:
            yield Fault(no_data(rule, one, why), rule.main, (), platforms=frozenset({one.id}))


def no_data(rule: Rule, platform: Platform, why: str) -> Finding:
    """What is said of somebody's rule that a platform has no data for."""
    document = next((d for d in rule.documents if "logsource" in d.data), rule.main)
    what = f"{platform.title} is not given this rule: {why}"
    return Finding(str(document.path), document.line("logsource"), what, "leave it out there")


def _rest(reading: Reading, rule: Rule, named: Sequence[Fault]) -> tuple[Rule, bool]:
    """The rule without the reading's faults and these, and whether it still says what the rule says."""
    rest = _completed(without(rule, [*reading.faults, *named]))
    whole = not any(fault.keys[0] in _ESSENTIAL for fault in reading.faults)
    return rest, whole and _selections(rest) == _selections(rule)


@dataclass(frozen=True)
class _Examination:
    """Platforms asked about parts of one rule, each as long as its budget lasts."""

    reading: Reading
    pipelines: Mapping[str, Pipeline]
    version: str
    budgets: Mapping[str, Budget] = field(default_factory=lambda: defaultdict(Budget))
    parts: dict[str, Part] = field(default_factory=dict)

    def refusals(self, rule: Rule, whole: bool, platforms: Sequence[Platform]) -> list[Fault]:
        """Every value that a platform cannot say, then whatever else keeps ``rule`` from being built."""
        made = {one.id: self._made(one, rule) for one in platforms} if whole else {}
        self.parts.update({name: part for name, part in made.items() if isinstance(part, Part)})
        asked = [one for one in platforms if one.id not in self.parts]
        faults: list[Fault] = []
        said: set[str] = set()
        for document in rule.documents:
            by_value: dict[Keys, dict[Complaint, list[Platform]]] = {}
            for here in asked if "correlation" not in document.data else ():
                pipeline = self.pipelines[here.id]
                found = refused_values(here, pipeline, rule, document, self.budgets[here.id])
                for keys, complaints in found.items():
                    for complaint in complaints:
                        by_value.setdefault(keys, {}).setdefault(complaint, []).append(here)
                        said.add(complaint[0])
            faults += [
                _inexpressible(self.reading, document, keys, complaint, who)
                for keys, complaints in by_value.items()
                for complaint, who in complaints.items()
            ]
        left = without(rule, faults)
        # A condition that names a selection of which nothing is left would be refused for that.
        if whole and _selections(left) == _selections(rule):
            faults += self._others(left, asked, said)
        return faults

    def _others(self, rule: Rule, platforms: Iterable[Platform], said: set[str]) -> list[Fault]:
        """What keeps the rule from being built although every value of it can be said."""
        by_finding: dict[Finding, set[str]] = {}
        for here in platforms:
            made = self._made(here, rule)
            for finding in () if isinstance(made, Part) else made:
                if finding.what not in said:
                    by_finding.setdefault(finding, set()).add(here.id)
        return [Fault(f, rule.main, (), platforms=frozenset(ids)) for f, ids in by_finding.items()]

    def _made(self, platform: Platform, rule: Rule) -> Part | tuple[Finding, ...]:
        return attempt(platform, rule, self.pipelines, self.version)


def _inexpressible(
    reading: Reading, document: Document, keys: Keys, complaint: Complaint, platforms: Sequence[Platform]
) -> Fault:
    names = [platform.title.removeprefix("Microsoft ") for platform in platforms]
    said_by = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    what = f"{said_by} cannot say this: {complaint[0]}"
    finding = reading.at(INEXPRESSIBLE, document, keys, what, complaint[1])
    return Fault(finding, document, keys, platforms=frozenset(platform.id for platform in platforms))


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
