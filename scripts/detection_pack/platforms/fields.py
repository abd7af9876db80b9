"""The fields that a rule reads, and each platform's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.users import open_users
from detection_pack.platforms.conversion import fields_of


@dataclass(frozen=True)
class PlatformField:
    """``name`` is the platform's. ``file_name`` is the field that it reads in its place where a value of the
    rule is the end of a path; only a field that holds a path has one."""

    name: str
    file_name: str | None = None


def detection_fields(rule: Rule) -> tuple[str, ...]:
    """The canonical fields of the rule's detections, in order; those that a correlation groups and counts by
    follow."""
    read = [
        field
        for plain in _plain(rule)
        for detection in plain.detection.detections.values()
        for field in fields_of(detection)
    ]
    if (correlation := rule.correlation) is not None:
        read += [*correlation.group_by, *([correlation.value_field] if correlation.value_field else [])]
    return tuple(dict.fromkeys(read))


def platform_fields(
    rule: Rule, pipeline: Pipeline, fields: tuple[str, ...]
) -> Mapping[str, tuple[PlatformField, ...]]:
    """Each canonical field under the pipeline's names for it, in the context of the rule that has the
    detection (a mapping may depend on it)."""
    named = {}
    for field in fields:
        # Applying a pipeline changes the rule and the pipeline's state: both are fresh each time.
        plain, processing = _plain(rule)[0], pipeline.processing()
        parts = pipeline.mapping_of(plain).domain_users
        open_users(plain, parts)
        read = {name for detection in plain.detection.detections.values() for name in fields_of(detection)}
        opened = field in parts and parts[field] in read
        plain.fields = [parts[field] if opened else field]
        processing.apply(plain)
        files: Mapping[str, str] = processing.state.get("file_name_fields") or {}
        named[field] = tuple(PlatformField(name, files.get(name)) for name in plain.fields)
    return named


@dataclass(frozen=True)
class ComparedField:
    """A field that a platform's query reads for a condition. ``expression``: what it computes it with before
    it compares, in the platform's language; None where it compares the field as it is stored."""

    name: str
    expression: str | None = None


def compared_fields(rule: Rule, pipeline: Pipeline, detection: str) -> tuple[ComparedField, ...]:
    """What the platform's query reads for one detection of a rule, in the context of the whole rule.

    Raises `PackError` where the pipeline refuses the rule.
    """
    [plain] = _plain(rule)
    open_users(plain, pipeline.mapping_of(plain).domain_users)
    processing = pipeline.processing()
    try:
        processing.apply(plain)
    except SigmaError as error:
        raise rule.refused(error) from error
    files: Mapping[str, str] = processing.state.get("file_name_fields") or {}
    derived: Mapping[str, str] = processing.state.get("derived_fields") or {}
    found = []
    for name in dict.fromkeys(fields_of(plain.detection.detections[detection])):
        found += [name] if name not in files else [name, files[name]]
    return tuple(ComparedField(name, derived.get(name)) for name in dict.fromkeys(found))


def _plain(rule: Rule) -> list[SigmaRule]:
    return [r for r in rule.sigma().rules if isinstance(r, SigmaRule)]
