"""A rule through a pipeline into a backend: the part of conversion that is the same on all platforms."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetection, SigmaRule
from sigma.types import SigmaExpansion, SigmaFieldReference, SigmaNumber, SigmaString

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pipeline, Rule
from detection_pack.platforms.terms import SUBSTRING


class RefusedValue(SigmaError):
    """A platform cannot express a value. ``subject`` is the field or value, to find its line."""

    def __init__(self, what: str, subject: str) -> None:
        super().__init__(what)
        self.subject = subject


@dataclass(frozen=True)
class Converted:
    """A rule after conversion.

    ``queries`` are the backend's finished texts. ``fields`` maps every canonical field of the alert view
    and of the correlation to the platform's field. ``state`` is the pipeline's state for this rule.
    """

    queries: tuple[str, ...]
    fields: Mapping[str, str]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Artefact:
    """One file of dist/. ``path`` is relative to dist/, with forward slashes."""

    path: str
    content: bytes
    rule: str | None = None


@dataclass(frozen=True)
class Part:
    """What one rule gives to dist/ on one platform.

    ``artefacts`` are files of its own. ``shared`` is what the files of all rules take of it: JSON values, so
    that a part can be kept for the next build. ``claims`` are identifiers that it alone may have there.
    """

    rule: str
    tier: str
    artefacts: tuple[Artefact, ...]
    shared: Mapping[str, Any]
    claims: tuple[str, ...] = ()


def convert(rule: Rule, pipeline: Pipeline, backend_class: type[Any], **options: Any) -> Converted:
    """Convert one rule file. Raises `PackError` with the line in the rule that is to blame.

    The fields of the alert view and of a correlation are mapped in the context of the rule that has the
    detection, because a mapping may depend on it (on Elastic the mailbox owner's field does).
    """
    collection = rule.sigma()
    plain = [r for r in collection.rules if isinstance(r, SigmaRule)]
    correlations = [r for r in collection.rules if isinstance(r, SigmaCorrelationRule)]
    check_fields(rule, pipeline, plain)
    wanted = list(rule.alert.fields)
    for correlation in correlations:
        wanted += _correlation_fields(correlation)
    wanted = list(dict.fromkeys(wanted))
    for sigma_rule in plain:
        sigma_rule.fields = list(wanted)
        for detection in sigma_rule.detection.detections.values():
            mark_substrings(detection, everything=rule.main.data.get("whole_terms") is False)
    backend = backend_class(**options)
    # No backend of the pack has a pipeline of its own, so there is nothing to add this one to.
    backend.last_processing_pipeline = pipeline.processing()
    try:
        collection.resolve_rule_references()
        queries: list[str] = []
        state: dict[str, Any] = {}
        for sigma_rule in plain:
            queries = backend.convert_rule(sigma_rule)
            state = dict(backend.last_processing_pipeline.state)
            if len(sigma_rule.fields) != len(wanted):
                raise RefusedValue("a field of the alert view has several names here", wanted[0])
        mapped = dict(zip(wanted, plain[0].fields, strict=True)) if plain else {}
        for correlation in correlations:
            _name_fields(correlation, mapped)
            queries = backend.convert_correlation_rule(correlation)
    except PackError:
        raise
    except RefusedValue as error:
        raise rule.refused(error, error.subject) from error
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        raise rule.refused(error) from error
    return Converted(tuple(queries), mapped, state)


def check_fields(rule: Rule, pipeline: Pipeline, plain: list[SigmaRule]) -> None:
    """Refuse a field that the pipeline does not map: such a query would be silently empty."""
    findings = []
    known: frozenset[str] = frozenset()
    for sigma_rule in plain:
        known = pipeline.known_fields(sigma_rule)
        if not known:
            source = "/".join(f"{k}:{v}" for k, v in rule.logsource.items())
            raise PackError.at(
                rule.path,
                rule.main.line("logsource"),
                f"the log source {source} is unknown to {_shown(pipeline)}",
                "use a log source that the pipeline maps, or map it there",
            )
        findings += _unknown_values(rule, pipeline, sigma_rule)
        used = [f for d in sigma_rule.detection.detections.values() for f in fields_of(d)]
        unknown = [f for f in dict.fromkeys(used) if f not in known]
        findings += [
            _unknown(rule, f, known if n < _ADVISED else (), pipeline) for n, f in enumerate(unknown)
        ]
    stated = list(rule.alert.fields)
    if rule.correlation is not None:
        stated += rule.correlation.group_by
        stated += [rule.correlation.value_field] if rule.correlation.value_field else []
    findings += [_unknown(rule, f, known, pipeline) for f in dict.fromkeys(stated) if f not in known]
    if findings:
        raise PackError(findings)


#: Looking for the nearest of hundreds of names takes milliseconds; nobody reads the hundredth advice.
_ADVISED = 20


def _unknown_values(rule: Rule, pipeline: Pipeline, sigma_rule: SigmaRule) -> list[Finding]:
    """Values of an enumeration that the pipeline does not list, such as a misspelt record type."""
    findings: list[Finding] = []
    for field, known in pipeline.enumerations(sigma_rule).items():
        names = sorted(known)
        for value in (v for d in sigma_rule.detection.detections.values() for v in values_of(d, field)):
            if value in known:
                continue
            advised = names if len(findings) < _ADVISED else []
            near = difflib.get_close_matches(value, advised, n=1, cutoff=0.6)
            todo = (
                f'did you mean "{near[0]}"?' if near else "use a name of the Management Activity API's schema"
            )
            what = f'"{value}" is no {field} that {_shown(pipeline)} knows'
            findings.append(Finding(str(rule.path), rule.line_of(value), what, todo))
    return findings


def values_of(detection: SigmaDetection, field: str) -> Iterator[str]:
    """Every value that a detection compares the field with, as text, patterns included."""
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            yield from values_of(item, field)
        elif item.field == field:
            yield from (str(v) for v in item.value if isinstance(v, SigmaString | SigmaNumber))


def fields_of(detection: SigmaDetection) -> Iterator[str]:
    """Every field that a detection names, compared fields included."""
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            yield from fields_of(item)
            continue
        if item.field is not None:
            yield item.field
        yield from (v.field for v in item.value if isinstance(v, SigmaFieldReference))


#: Modifiers after which a value is a piece of an encoding: it stands anywhere in a text, at no word's edge.
_ENCODINGS = ("Base64", "Wide", "UTF16", "Utf16")


def mark_substrings(detection: SigmaDetection, everything: bool) -> None:
    """Mark the values that are pieces of an encoding, or all of them: none is taken for a whole term."""
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            mark_substrings(item, everything)
        elif everything or any(
            part in modifier.__name__ for modifier in item.modifiers for part in _ENCODINGS
        ):
            for value in item.value:
                for text in value.values if isinstance(value, SigmaExpansion) else [value]:
                    setattr(text, SUBSTRING, True)


def _unknown(rule: Rule, name: str, known: Collection[str], pipeline: Pipeline) -> Finding:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    todo = f'did you mean "{near[0]}"?' if near else "map it there or use a field that is"
    what = f'field "{name}" is unknown to {_shown(pipeline)}'
    return Finding(str(rule.path), rule.line_of(name), what, todo)


def _shown(pipeline: Pipeline) -> str:
    return f"pipelines/{pipeline.path.name}"


def _correlation_fields(correlation: SigmaCorrelationRule) -> list[str]:
    aliases = {alias.alias for alias in correlation.aliases}
    named = [f for f in correlation.group_by or () if f not in aliases]
    return named + _condition_fields(correlation)


def _condition_fields(correlation: SigmaCorrelationRule) -> list[str]:
    condition = correlation.condition
    if not isinstance(condition, SigmaCorrelationCondition) or condition.fieldref is None:
        return []
    return [condition.fieldref] if isinstance(condition.fieldref, str) else list(condition.fieldref)


def _name_fields(correlation: SigmaCorrelationRule, mapped: Mapping[str, str]) -> None:
    """Give a correlation the platform's field names; a pipeline that maps them again changes nothing."""
    if correlation.group_by is not None:
        correlation.group_by = [mapped.get(f, f) for f in correlation.group_by]
    condition = correlation.condition
    if isinstance(condition, SigmaCorrelationCondition) and condition.fieldref is not None:
        named = [mapped.get(f, f) for f in _condition_fields(correlation)]
        condition.fieldref = named[0] if isinstance(condition.fieldref, str) else named
