"""A rule through a pipeline into a backend: the part of conversion that is the same on all platforms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.modifiers import SigmaContainsModifier
from sigma.rule import SigmaDetection, SigmaRule
from sigma.types import (
    SigmaCIDRExpression,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
)

from detection_pack.languages.regex.patterns import pattern_fault
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.list_table import NotMaintained
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.reading import Reading
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import Rule
from detection_pack.model.source_mapping import SourceMapping
from detection_pack.model.users import open_users
from detection_pack.platforms.aliases import aliases_of
from detection_pack.platforms.faults import platform_faults
from detection_pack.platforms.named_values import hidden_names
from detection_pack.platforms.split_fields import refusals
from detection_pack.platforms.terms import WHOLE_TERMS


@dataclass(frozen=True)
class Converted:
    """A rule after conversion.

    ``queries`` are the backend's finished texts. ``fields`` maps every canonical field of the alert view
    and of the correlation to the platform's field. ``state`` is the pipeline's state for this rule,
    ``tables`` the platform's tables, each from column to type, ``names`` its fields for the log source.
    """

    queries: tuple[str, ...]
    fields: Mapping[str, str]
    state: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Artefact:
    """One file of dist/. ``path`` is relative to dist/, with forward slashes."""

    path: str
    content: bytes
    rule: str | None = None


@dataclass(frozen=True)
class Part:
    """What one rule gives to dist/ on one platform.

    ``artefacts`` are files of its own. ``shared`` is what the files of all rules take of it. ``claims``
    are identifiers that it alone may have there. ``unfilled``: the keys of the alert view that stay empty,
    each with the reason.
    """

    rule: str
    tier: str
    artefacts: tuple[Artefact, ...]
    shared: Mapping[str, Any]
    claims: tuple[str, ...] = ()
    unfilled: Mapping[str, str] = field(default_factory=dict)


def convert(rule: Rule, pipeline: Pipeline, backend_class: type[Any], **options: Any) -> Converted:
    """Convert one rule file. Raises `PackError` with the line in the rule that is to blame.

    The fields of the alert view and of a correlation are mapped in the context of the rule that has the
    detection, because a mapping may depend on it (on Elastic the mailbox owner's field does).
    """
    collection = rule.sigma()
    plain = [r for r in collection.rules if isinstance(r, SigmaRule)]
    correlations = [r for r in collection.rules if isinstance(r, SigmaCorrelationRule)]
    for sigma_rule in plain:
        open_users(sigma_rule, pipeline.mapping_of(sigma_rule).domain_users)
    check_fields(rule, pipeline, plain)
    wanted = list(rule.alert.fields)
    for correlation in correlations:
        wanted += _correlation_fields(correlation)
    wanted = list(dict.fromkeys(wanted))
    aliases = aliases_of(rule, plain, correlations)
    for sigma_rule in plain:
        sigma_rule.fields = [aliases.field(name, sigma_rule) for name in wanted]
        for name, detection in sigma_rule.detection.detections.items() if rule.whole_terms else ():
            # A filter says what Sigma says, whatever the rules say that it is for.
            if name not in rule.filter_selections:
                mark_whole_terms(detection)
    backend = backend_class(**options)
    backend.lists = rule.lists
    backend.lists_asked = set()
    # No backend of the pack has a pipeline of its own, so there is nothing to add this one to.
    backend.last_processing_pipeline = pipeline.processing()
    try:
        for sigma_rule in plain:
            for detection in sigma_rule.detection.detections.values():
                check_values(detection)
        collection.resolve_rule_references()
        queries: list[str] = []
        state: dict[str, Any] = {}
        for sigma_rule in plain:
            queries = backend.convert_rule(sigma_rule)
            state = dict(backend.last_processing_pipeline.state)
            if len(sigma_rule.fields) != len(wanted):
                raise RefusedValue("a field of the alert view has several names here", wanted[0])
            aliases.note(wanted, sigma_rule)
        mapped = dict(zip(wanted, plain[0].fields, strict=True)) if plain else {}
        for correlation in correlations:
            _name_fields(correlation, mapped)
            backend.aliases = aliases.columns
            queries = backend.convert_correlation_rule(correlation)
    except PackError:
        raise
    except RefusedValue as error:
        raise _refused(rule, pipeline, plain, error) from error
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        raise rule.refused(error) from error
    for use in sorted(rule.lists.keys() - backend.lists_asked):
        raise NotMaintained(use, "its condition does not reach the query")
    names = {name for r in plain for listed in pipeline.mapping_of(r).names.values() for name in listed}
    names |= {lifted for r in plain for f in wanted if (lifted := pipeline.mapping_of(r).named(f))}
    return Converted(tuple(queries), mapped, state, pipeline.tables, frozenset(names))


def _refused(rule: Rule, pipeline: Pipeline, plain: list[SigmaRule], error: RefusedValue) -> PackError:
    """The platform's complaint about a field of its own, told of the field that the rule's author knows."""
    named = {n: name for r in plain for name, names in pipeline.mapping_of(r).names.items() for n in names}
    subject = error.subject
    canonical = named.get(subject)
    if canonical in (None, subject) or rule.place_of(subject) is not None:
        return rule.refused(error, subject)
    what = str(error).replace(f'"{subject}"', f'"{canonical}" (here {subject})', 1)
    return rule.refused(SigmaError(what), canonical)


def check_fields(rule: Rule, pipeline: Pipeline, plain: list[SigmaRule]) -> None:
    """Refuse a field that the pipeline does not map: such a query would be silently empty."""
    findings: list[Finding] = []
    named = [*rule.alert.fields, *(f for c in _correlations(rule) for f in _correlation_fields(c))]
    aliases = aliases_of(rule, plain, _correlations(rule))
    for sigma_rule in plain:
        mapping = pipeline.mapping_of(sigma_rule)
        stated = [aliases.field(name, sigma_rule) for name in named]
        used = [f for d in sigma_rule.detection.detections.values() for f in fields_of(d)]
        unknown = [f for f in (*used, *stated) if not mapping.knows(f)]
        if unknown or any(_unlisted(mapping, sigma_rule)):
            faults = platform_faults(Reading.of(rule), {pipeline.platform: pipeline})
            found = list(dict.fromkeys(fault.finding for fault in faults))
            what = f'field "{next(iter(unknown), "")}" is unknown to {pipeline.shown(sigma_rule)}'
            raise PackError(found or rule.refused(SigmaError(what), next(iter(unknown), None)).findings)
        said = [*refusals(sigma_rule, mapping), *hidden_names([*used, *stated], mapping)]
        findings += [_about_field(rule, f, what) for f, what in said]
    if findings:
        raise PackError(findings)


def _about_field(rule: Rule, field: str, what: str) -> Finding:
    path, line = rule.place_of(field) or (rule.path, rule.main.line())
    return Finding(str(path), line, *_halves(f'field "{field}": {what}'))


def _correlations(rule: Rule) -> list[SigmaCorrelationRule]:
    return [r for r in rule.parsed.rules if isinstance(r, SigmaCorrelationRule)]


def _unlisted(mapping: SourceMapping, rule: SigmaRule) -> Iterator[bool]:
    """True for each value of an enumeration that the pipeline does not list, such as a misspelt name."""
    for name, known in mapping.enumerations.items():
        for detection in rule.detection.detections.values():
            yield from (True for value in values_of(detection, name) if value not in known)


def values_of(detection: SigmaDetection, field: str) -> Iterator[str]:
    """Every value that a detection compares the field with, as text, patterns included."""
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            yield from values_of(item, field)
        elif item.field == field:
            yield from (str(v) for v in item.value if isinstance(v, SigmaString | SigmaNumber))


def check_values(detection: SigmaDetection) -> None:
    """Refuse a value that the platforms would not read alike.

    A number that a field shall equal becomes text: whoever writes 15 does not mean 015 or 15.0, which Splunk
    takes for the same. A pipeline makes numbers of what it knows to be numbers.
    """
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            check_values(item)
            continue
        item.value = [SigmaString(str(v)) if type(v) is SigmaNumber else v for v in item.value]
        for value in item.value:
            if isinstance(value, SigmaRegularExpression) and (fault := pattern_fault(value)):
                raise RefusedValue(fault, str(value.regexp))
            if isinstance(value, SigmaCIDRExpression) and "%" in value.cidr:
                # Python reads anything after a percent sign as an IPv6 zone, quotes and all.
                raise RefusedValue("a network has no zone", value.cidr)


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


def mark_whole_terms(detection: SigmaDetection) -> None:
    """Mark the values of every ``|contains`` as whole terms, but for pieces of an encoding."""
    for item in detection.detection_items:
        if isinstance(item, SigmaDetection):
            mark_whole_terms(item)
        elif SigmaContainsModifier in item.modifiers and not any(
            part in modifier.__name__ for modifier in item.modifiers for part in _ENCODINGS
        ):
            for value in item.value:
                for text in value.values if isinstance(value, SigmaExpansion) else [value]:
                    setattr(text, WHOLE_TERMS, True)


def _halves(message: str) -> tuple[str, str]:
    """What is wrong and what to do, which ``; `` divides."""
    what, _, todo = message.partition("; ")
    return what, todo or "leave the condition on it out"


def _correlation_fields(correlation: SigmaCorrelationRule) -> list[str]:
    return [*(correlation.group_by or ()), *_condition_fields(correlation)]


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
