"""Scheduled analytics rules: the query as the scheduler runs it, and what the portal needs beside it.

The limits are those of the service ("Service limits for Microsoft Sentinel") and of the schema tests in the
Azure-Sentinel repository (``.script/tests/detectionTemplateSchemaValidation``).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.guide_text import plain_guide
from detection_pack.platforms.kusto import alert_texts
from detection_pack.platforms.kusto.alert_texts import with_credit, without_placeholders
from detection_pack.platforms.kusto.attack import service_attack
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.query import alert_view, conversion_of, gathered
from detection_pack.platforms.kusto.yaml_text import yaml_text
from detection_pack.platforms.prerequisites import Prerequisite, connectors_of, of_state
from detection_pack.platforms.sentinel.alerting_query import (
    ALERT_KEY,
    EVENT_COUNT,
    SHOWN_LENGTHS,
    AnalyticsBackend,
    plain_query,
    timing_of,
)

SEVERITIES = {
    "informational": "Informational",
    "low": "Low",
    "medium": "Medium",
    "high": "High",
    "critical": "High",
}
#: The most characters of a rule's description, and of an alert's.
_MOST_DESCRIBED = 5_000
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
    timing = timing_of(rule)
    rule_id = rule_uuid(rule)
    parameters: tuple[str, ...] = ()
    if rule.correlation is not None:
        converted, parameters = conversion_of(rule, pipeline, AnalyticsBackend, rule_id=rule_id)
        entities, further = entities_of(rule, converted)
        view = alert_view(rule, converted, further=[*further, ALERT_KEY])
        query = "\n".join([converted.queries[0], *view, *_shortened(rule)])
    else:
        converted = converted or conversion_of(rule, pipeline, SentinelBackend)[0]
        entities, further = entities_of(rule, converted)
        view = alert_view(rule, converted, ["TimeGenerated", "IngestedAt"], further)
        query = plain_query(rule, rule_id, converted.queries[0], view, further)
    description = with_credit(rule, str(rule.main.data.get("description") or rule.title).strip())
    needed = of_state(converted.state)
    named = service_attack(rule)
    made = ScheduledRule(
        name=rule.name,
        id=rule_id,
        title=rule.title,
        description=_with_needs(description, needed, plain_guide(rule, "sentinel", "Hunting, Queries")),
        severity=SEVERITIES.get(rule.level, "Medium"),
        connectors=required_connectors(rule, converted),
        frequency=timing.frequency,
        period=timing.period,
        tactics=named.tactics,
        techniques=named.techniques,
        query="\n".join([*timing.parameters(), *parameters, query]) + "\n",
        entities=entities,
        details=_details(rule),
        name_format=f"{without_placeholders(rule.alert.type)} by {{{{UserId}}}}" if rule.alert.user else "",
        description_format="{{DetectionDetail}}\n\n" + without_placeholders(description),
        version=version,
    )
    _check(rule, made)
    return made


def _with_needs(description: str, needed: Iterable[Prerequisite], guide: Sequence[str]) -> str:
    """A rule's description with what must be there, for those who switch it on, and what to ask and to do,
    for those who get its alert; less of it where the service would not take all."""
    needs = []
    for one in needed:
        needs.append(f"Needs {one.place}: {one.sentence()} No row of this means that it is silent:")
        needs.append(one.silent)
    told = ["\n".join(guide)] if guide else []
    forms = ([description, *told, *needs], [description, *needs], [description, *told], [description])
    texts = ("\n\n".join(parts) for parts in forms)
    return next((text for text in texts if len(text) <= _MOST_DESCRIBED), description)


def entities_of(
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
        one = f"First{shown}" if field in _listed(rule) else shown
        filled = {i: one if c == column else c for i, c in identifiers.items()}
        if rule.correlation is not None:  # only its group columns outlive the aggregation
            filled = {i: c for i, c in filled.items() if c == one}
        further += [c for c in filled.values() if c != one]
        found.append((kind, filled))
    return tuple(found), tuple(dict.fromkeys(further))


def _listed(rule: Rule) -> list[str]:
    """The fields that an alert of a correlation shows as a list of values; an entity has one."""
    return gathered(rule) if rule.correlation is not None else []


def _shortened(rule: Rule) -> list[str]:
    """A correlation's columns as custom details and entities take them."""
    made = [
        f"{column} = substring({column}, 0, {length})"
        for column, length in SHOWN_LENGTHS.items()
        if column == "DetectionDetail" or rule.alert.field_of(column)
    ]
    return ["| extend " + ",\n    ".join([*made, *first_values(rule)])]


def required_connectors(rule: Rule, converted: Converted) -> tuple[tuple[str, str], ...]:
    """The connectors of the tables that the rule says it needs, or of the one that it reads."""
    tables = rule.main.data.get("required_tables") or [converted.state.get("query_table", "")]
    return connectors_of(converted.state, set(map(str, tables)))


def first_values(rule: Rule) -> list[str]:
    """The first value of each column that lists several, as `entities_of` names it."""
    return [
        f'First{shown} = tostring(split({shown}, ", ")[0])'
        for shown in ("UserId", "ClientIP")
        if rule.alert.field_of(shown) in _listed(rule)
    ]


def _details(rule: Rule) -> dict[str, str]:
    counted = [] if rule.correlation is not None else [EVENT_COUNT]
    shown = ["DetectionType", "DetectionDetail", *filter(rule.alert.field_of, ("ClientAgent", "ExtraInfo"))]
    return {column: column for column in [ALERT_KEY, *shown, *counted]}


def rule_uuid(rule: Rule) -> str:
    """The id of the rule's analytics rule or hunting query."""
    return alert_texts.rule_uuid(rule, _NAMES)


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
            len(made.description_format) <= _MOST_DESCRIBED,
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
    return yaml_text(document)


def alert_details(rule: ScheduledRule) -> dict[str, str]:
    """What replaces an alert's name and description. A column without a value leaves the rule's own."""
    formats = {
        "alertDisplayNameFormat": rule.name_format,
        "alertDescriptionFormat": rule.description_format,
    }
    return {key: text for key, text in formats.items() if text}
