"""Scheduled analytics rules: the query as the scheduler runs it, and what the portal needs beside it.

The limits are those of the service ("Service limits for Microsoft Sentinel") and of the schema tests in the
Azure-Sentinel repository (``.script/tests/detectionTemplateSchemaValidation``).
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.query import alert_view, conversion_of
from detection_pack.platforms.sentinel.schedule import AnalyticsBackend, schedule_of, scheduled

SEVERITIES = {
    "informational": "Informational",
    "low": "Low",
    "medium": "Medium",
    "high": "High",
    "critical": "High",
}
#: The tactics that the service knows; a tag in ATT&CK's spelling becomes the name in its.
TACTICS = frozenset(
    (
        "Reconnaissance",
        "ResourceDevelopment",
        "InitialAccess",
        "Execution",
        "Persistence",
        "PrivilegeEscalation",
        "DefenseEvasion",
        "CredentialAccess",
        "Discovery",
        "LateralMovement",
        "Collection",
        "Exfiltration",
        "CommandAndControl",
        "Impact",
    )
)
#: A placeholder of a name or description format, as the service reads it.
PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
#: Rules without an id of their own get one from their name, so that importing again updates and adds none.
_NAMES = uuid.UUID("6c9f7a51-3a0c-5d0e-9a5c-6d1b8a0f1c11")


@dataclass(frozen=True)
class ScheduledRule:
    """One analytics rule. ``frequency`` and ``period`` are in seconds; ``entities`` are ``(type, {identifier:
    result column})``; ``details`` are the custom details, ``{key: result column}``."""

    name: str
    id: str
    title: str
    description: str
    severity: str
    connectors: tuple[tuple[str, str], ...]
    frequency: int
    period: int
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    query: str
    entities: tuple[tuple[str, Mapping[str, str]], ...]
    details: Mapping[str, str]
    name_format: str
    description_format: str
    version: str

    def entity_mappings(self) -> list[dict[str, Any]]:
        return [
            {
                "entityType": kind,
                "fieldMappings": [{"identifier": i, "columnName": column} for i, column in fields.items()],
            }
            for kind, fields in self.entities
        ]


def scheduled_rule(
    rule: Rule, pipeline: Pipeline, version: str, converted: Converted | None = None
) -> ScheduledRule:
    """The analytics rule of a Sigma rule. Raises `PackError` for what the service would refuse.

    ``converted`` is the rule by `SentinelBackend`, where somebody has it already.
    """
    schedule = schedule_of(rule)
    parameters: tuple[str, ...] = ()
    if rule.correlation is not None:
        converted, parameters = conversion_of(rule, pipeline, AnalyticsBackend)
        search = converted.queries[0]
    else:
        converted = converted or conversion_of(rule, pipeline, SentinelBackend)[0]
        search = scheduled(converted.queries[0])
    entities, further = _entities(rule, converted)
    view = alert_view(rule, converted, further=further)
    description = str(rule.main.data.get("description") or rule.title).strip()
    named = rule.main.data.get("required_tables") or [converted.state.get("query_table", "")]
    made = ScheduledRule(
        name=rule.name,
        id=_uuid(rule),
        title=rule.title,
        description=description,
        severity=SEVERITIES.get(rule.level, "Medium"),
        connectors=_connectors(converted, map(str, named)),
        frequency=schedule.frequency,
        period=schedule.period,
        tactics=_tactics(rule),
        techniques=rule.techniques,
        query="\n".join([*schedule.parameters(), *parameters, search, *view]) + "\n",
        entities=entities,
        details=_details(rule),
        name_format=f"{_literal(rule.alert.type)} by {{{{UserId}}}}" if rule.alert.user else "",
        description_format="{{DetectionDetail}}\n\n" + _literal(description),
        version=version,
    )
    _check(rule, made)
    return made


def _connectors(converted: Converted, tables: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What delivers the tables, connector and data type, as the pipeline's state ``connectors`` has it."""
    known: Mapping[str, Mapping[str, str]] = converted.state.get("connectors") or {}
    return tuple((known[t]["connector"], known[t]["data_type"]) for t in tables if t in known)


def _entities(
    rule: Rule, converted: Converted
) -> tuple[tuple[tuple[str, Mapping[str, str]], ...], tuple[str, ...]]:
    """The entities that the alert view's user and source name, and the columns that they need besides.

    The pipeline's state ``entities`` says of a column which entity it names, and what fills its identifiers.
    """
    known: Mapping[str, Mapping[str, Any]] = converted.state.get("entities") or {}
    found: list[tuple[str, Mapping[str, str]]] = []
    further: list[str] = []
    for shown in ("UserId", "ClientIP"):
        field = rule.alert.field_of(shown)
        column = converted.fields[field] if field else ""
        if column not in known:
            continue
        kind, identifiers = known[column]["type"], known[column]["identifiers"]
        filled = {i: shown if c == column else c for i, c in identifiers.items()}
        if rule.correlation is not None:  # only its group columns outlive the aggregation
            filled = {i: c for i, c in filled.items() if c == shown}
        further += [c for c in filled.values() if c != shown]
        found.append((kind, filled))
    return tuple(found), tuple(dict.fromkeys(further))


def _details(rule: Rule) -> dict[str, str]:
    shown = ["DetectionType", "DetectionDetail", *filter(rule.alert.field_of, ("ClientAgent", "ExtraInfo"))]
    return {column: column for column in shown}


def _tactics(rule: Rule) -> tuple[str, ...]:
    words = (re.split(r"[-_]", tag.removeprefix("attack.")) for tag in rule.tags if tag.startswith("attack."))
    names = ("".join(word.capitalize() for word in parts) for parts in words)
    return tuple(dict.fromkeys(name for name in names if name in TACTICS))


def _uuid(rule: Rule) -> str:
    try:
        return str(uuid.UUID(rule.id))
    except ValueError:
        return str(uuid.uuid5(_NAMES, rule.name))


def _literal(text: str) -> str:
    """Text in a format: two braces in a row would be a placeholder."""
    return re.sub(r"\{(?=\{)|\}(?=\})", lambda brace: brace[0] + " ", text)


def _check(rule: Rule, made: ScheduledRule) -> None:
    """Refuse what the portal's import would refuse, all of it at once."""
    formats = {"name": made.name_format, "description": made.description_format}
    shapes = [(kind, len(fields)) for kind, fields in made.entities]
    keys = [key for key in made.details if not re.fullmatch(r"[a-zA-Z]\w{0,19}", key)]
    checks: list[tuple[bool, tuple[str, ...], str, str]] = [
        (
            1 <= len(made.query) <= 10_000,
            ("detection",),
            f"its query has {len(made.query):,} characters, Sentinel takes 1 to 10,000",
            "split the rule",
        ),
        (
            re.search(r"\b(search|union)\s+\*", made.query) is None,
            ("detection",),
            'its query says "search *" or "union *", which Sentinel refuses',
            "change the value",
        ),
        (
            1 <= len(made.title) <= 256,
            ("title",),
            f"its title has {len(made.title)} characters, Sentinel takes 1 to 256",
            "shorten it",
        ),
        (
            len(made.description_format) <= 5_000,
            ("description",),
            f"its description has {len(made.description):,} characters, too many for Sentinel's 5,000",
            "shorten it",
        ),
        (
            len(made.name_format) <= 256,
            ("alert", "type"),
            "its alert name is too long for Sentinel's 256 characters",
            "shorten it",
        ),
        (
            all(len(set(PLACEHOLDER.findall(text))) <= 3 for text in formats.values()),
            ("alert",),
            "an alert's name and description take three columns each",
            "name fewer",
        ),
        (
            len(shapes) <= 10 and all(1 <= count <= 3 for _, count in shapes),
            ("alert",),
            "Sentinel takes 10 entities of 1 to 3 identifiers",
            "name fewer",
        ),
        (
            len(made.details) <= 20 and not keys,
            ("alert",),
            "Sentinel takes 20 custom details with names of 20 letters",
            "name fewer",
        ),
        (
            re.fullmatch(r"\d+\.\d+\.\d+", made.version) is not None,
            (),
            f'the pack\'s version "{made.version}" is not three numbers',
            "change it in pyproject.toml",
        ),
    ]
    findings = [
        Finding(str(rule.path), rule.main.line(*at), what, todo)
        for fine, at, what, todo in checks
        if not fine
    ]
    if findings:
        raise PackError(findings)


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, as in the Azure-Sentinel repository; libyaml cannot do that."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


# libyaml is part of every published wheel of PyYAML, but not of every build of it.
class _FastDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """For what has no list in it: ten times as fast."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


for _dumper in (_Dumper, _FastDumper):
    _dumper.add_representer(str, _text)


@cache
def _lists(dumped_as_json: str) -> str:
    """A mapping with lists in it as YAML. Rules share most of theirs."""
    return _dumped(json.loads(dumped_as_json), _Dumper)


def _dumped(document: Mapping[str, Any], dumper: Any) -> str:
    text = yaml.dump(dict(document), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return str(text)


def analytics_yaml(rule: ScheduledRule) -> str:
    """The rule in the Azure-Sentinel repository's format."""
    document = {
        "id": rule.id,
        "name": rule.title,
        "description": rule.description + "\n",
        "severity": rule.severity,
        "status": "Available",
        "requiredDataConnectors": [
            {"connectorId": connector, "dataTypes": [data]} for connector, data in rule.connectors
        ],
        "queryFrequency": Timespan(rule.frequency).text(),
        "queryPeriod": Timespan(rule.period).text(),
        "triggerOperator": "gt",
        "triggerThreshold": 0,
        "tactics": list(rule.tactics),
        "relevantTechniques": list(rule.techniques),
        "query": rule.query,
        "entityMappings": rule.entity_mappings(),
        "customDetails": dict(rule.details),
        "alertDetailsOverride": alert_details(rule),
        "eventGroupingSettings": {"aggregationKind": "AlertPerResult"},
        "version": rule.version,
        "kind": "Scheduled",
    }
    if not rule.entities:
        del document["entityMappings"]  # an empty list is refused
    runs = itertools.groupby(document.items(), key=lambda item: isinstance(item[1], list))
    return "".join(
        _lists(json.dumps(dict(items))) if has_lists else _dumped(dict(items), _FastDumper)
        for has_lists, items in runs
    )


def alert_details(rule: ScheduledRule) -> dict[str, str]:
    """What replaces an alert's name and description. A column without a value leaves the rule's own."""
    formats = {
        "alertDisplayNameFormat": rule.name_format,
        "alertDescriptionFormat": rule.description_format,
    }
    return {key: text for key, text in formats.items() if text}
