"""The trap: an automation rule that the service refuses, or that hangs on somebody else's incidents.

The template is held against what the service's own description of the resource allows (azure-rest-api-specs,
securityinsights, AutomationRules.json of 2024-09-01), and its conditions against the analytics rules that are
deployed beside it. It adds tasks and runs nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator

from conftest import DIST
from detection_pack.model.pack import Pack
from detection_pack.platforms.sentinel.arm import unescaped
from detection_pack.platforms.sentinel.automation import MOST_DESCRIBED, PATH, automation_template
from detection_pack.platforms.sentinel.imports import deployed_rules

CONDITION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["conditionType", "conditionProperties"],
    "properties": {
        "conditionType": {"const": "Property"},
        "conditionProperties": {
            "type": "object",
            "additionalProperties": False,
            "required": ["propertyName", "operator", "propertyValues"],
            "properties": {
                "propertyName": {
                    "enum": ["IncidentRelatedAnalyticRuleIds", "IncidentTitle", "IncidentLabel"]
                },
                "operator": {"enum": ["Equals", "Contains", "StartsWith", "EndsWith"]},
                "propertyValues": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            },
        },
    },
}
TASK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["order", "actionType", "actionConfiguration"],
    "properties": {
        "order": {"type": "integer", "minimum": 1},
        "actionType": {"const": "AddIncidentTask"},
        "actionConfiguration": {
            "type": "object",
            "additionalProperties": False,
            "required": ["title"],
            "properties": {"title": {"type": "string"}, "description": {"type": "string"}},
        },
    },
}
PROPERTIES = {
    "type": "object",
    "additionalProperties": False,
    "required": ["actions", "displayName", "order", "triggeringLogic"],
    "properties": {
        "displayName": {"type": "string", "maxLength": 500},
        "order": {"type": "integer", "minimum": 1, "maximum": 1000},
        "actions": {"type": "array", "minItems": 1, "maxItems": 20, "items": TASK},
        "triggeringLogic": {
            "type": "object",
            "additionalProperties": False,
            "required": ["isEnabled", "triggersOn", "triggersWhen"],
            "properties": {
                "isEnabled": {"const": False},
                "triggersOn": {"const": "Incidents"},
                "triggersWhen": {"const": "Created"},
                "conditions": {"type": "array", "minItems": 1, "maxItems": 50, "items": CONDITION},
            },
        },
    },
}
NAME = re.compile(r"\[concat\(parameters\('workspace'\),'/Microsoft\.SecurityInsights/([0-9a-f-]{36})'\)\]")
ID = re.compile(
    r"\[resourceId\('Microsoft\.OperationalInsights/workspaces/providers/alertRules', "
    r"parameters\('workspace'\), 'Microsoft\.SecurityInsights', '([0-9a-f-]{36})'\)\]"
)


def resources(text: str | None = None) -> list[dict[str, Any]]:
    shown = json.loads((DIST / PATH).read_text(encoding="utf-8") if text is None else text)
    assert list(shown["parameters"]) == ["workspace"]
    return list(shown["resources"])


def ids(resource: dict[str, Any]) -> list[str]:
    [condition] = resource["properties"]["triggeringLogic"]["conditions"]
    found = [ID.fullmatch(one) for one in condition["conditionProperties"]["propertyValues"]]
    return [match[1] for match in found if match is not None]


def test_the_service_would_take_it() -> None:
    names = [NAME.fullmatch(one["name"]) for one in resources()]
    assert None not in names and len({match[1] for match in names if match}) == len(names) >= 10
    for one in resources():
        assert one["type"] == "Microsoft.OperationalInsights/workspaces/providers/automationRules"
        Draft202012Validator(PROPERTIES).validate(one["properties"])
    assert len({one["properties"]["order"] for one in resources()}) == len(resources())


def test_each_analytics_rule_has_the_tasks_of_its_kind_and_no_other(pack: Pack) -> None:
    deployed = set(deployed_rules(DIST))
    by_id = {rule.id: rule for rule in pack.rules}
    seen = [identity for one in resources() for identity in ids(one)]
    assert sorted(seen) == sorted(deployed)
    for one in resources():
        titles = [a["actionConfiguration"]["title"] for a in one["properties"]["actions"]]
        for identity in ids(one):
            guide = by_id[identity].guide
            assert guide is not None
            assert titles == [f"{step.heading}: {step.title}" for step in guide.kind.steps]


def test_a_task_says_command_right_and_way_back(pack: Pack) -> None:
    steps = {f"{step.heading}: {step.title}": step for step in pack.playbook.steps}
    for one in resources():
        for action in one["properties"]["actions"]:
            said = unescaped(action["actionConfiguration"])
            step = steps[said["title"]]
            for part in (step.command, step.right, step.breaks, step.undo, step.unconfirmed):
                assert part in said["description"], step.id


def test_text_is_no_expression_and_many_steps_fit(pack: Pack) -> None:
    kind = pack.playbook.kinds[0]
    evil = "[concat(parameters('workspace'))]"
    step = replace(kind.steps[0], title=evil, heading="x", command=evil + "y" * 9_000)
    whole = replace(kind, title=evil * 40, steps=(step,) * 60)
    rule = pack.rule(kind.rules[0])
    [one] = resources(automation_template({whole: [rule.id]}, "1.0.0"))
    Draft202012Validator(PROPERTIES).validate(one["properties"])
    expressions = [
        text for text in _texts(one) if text.startswith("[") and text.endswith("]") and text[:2] != "[["
    ]
    assert sorted(expressions) == sorted([one["name"], *(t for t in _texts(one) if ID.fullmatch(t))])
    assert all(
        len(a["actionConfiguration"]["description"]) <= MOST_DESCRIBED for a in one["properties"]["actions"]
    )


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for inner in held for text in _texts(inner)]
