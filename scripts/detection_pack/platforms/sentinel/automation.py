"""Automation rules: each kind of alert brings its steps into its incident, as tasks.

One rule a kind of the playbook: when an incident of one of its analytics rules is made, Microsoft Sentinel
adds a task for each step, with the command, the right it needs, what it breaks and how to undo it. Nothing is
run: a task is a line that a person ticks off. The rules come switched off.

Source: azure-rest-api-specs, securityinsights, AutomationRules.json of 2024-09-01 (conditions,
`AddIncidentTask`, 20 actions a rule, a name of 500 characters, an order of 1 to 1000). The condition compares
with the resource ids of the analytics rules, which a template makes of the ids that the pack gives them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.model.playbook import Kind, Step
from detection_pack.platforms.sentinel.arm import escaped, template

PATH = "sentinel/automation/azuredeploy.json"
API_VERSION = "2024-09-01"
#: The most actions of a rule, and characters that a task's description keeps (its limit is not documented).
MOST_TASKS, MOST_DESCRIBED = 20, 3_000
#: After whatever the site itself has, which usually starts at 1.
_ORDER = 500
_NAMES = uuid.UUID("0d5c2b9a-7a0e-5f7c-8f0b-3e6d1c2a4b55")


def automation_template(kinds: Mapping[Kind, Sequence[str]], version: str) -> str:
    """The template of these kinds, each with the ids of its analytics rules."""
    members = [
        json.dumps(_rule(kind, ids, number), indent=2)
        for number, (kind, ids) in enumerate(sorted(kinds.items(), key=lambda pair: pair[0].id))
    ]
    return template(members, version)


def _rule(kind: Kind, ids: Sequence[str], number: int) -> dict[str, Any]:
    name = uuid.uuid5(_NAMES, kind.id)
    conditions = [
        {
            "conditionType": "Property",
            "conditionProperties": {
                "propertyName": "IncidentRelatedAnalyticRuleIds",
                "operator": "Contains",
                "propertyValues": [_resource_id(one) for one in sorted(ids)],
            },
        }
    ]
    actions = [
        {
            "order": order,
            "actionType": "AddIncidentTask",
            "actionConfiguration": escaped(
                {"title": f"{s.heading}: {s.title}", "description": _described(s)}
            ),
        }
        for order, s in enumerate(kind.steps[:MOST_TASKS], start=1)
    ]
    return {
        "type": "Microsoft.OperationalInsights/workspaces/providers/automationRules",
        "apiVersion": API_VERSION,
        # A UUID cannot end the expression's string.
        "name": f"[concat(parameters('workspace'),'/Microsoft.SecurityInsights/{name}')]",
        "properties": {
            "displayName": escaped(f"Mail theft: {kind.title}")[:500],
            "order": _ORDER + number,
            "triggeringLogic": {
                "isEnabled": False,
                "triggersOn": "Incidents",
                "triggersWhen": "Created",
                "conditions": conditions,
            },
            "actions": actions,
        },
    }


def _resource_id(rule: str) -> str:
    """The id of an analytics rule of the pack (a UUID) in the workspace that the template is deployed to."""
    kind = "Microsoft.OperationalInsights/workspaces/providers/alertRules"
    workspace = "parameters('workspace'), 'Microsoft.SecurityInsights'"
    return f"[resourceId('{kind}', {workspace}, '{uuid.UUID(rule)}')]"


def _described(step: Step) -> str:
    lines = [step.command, f"Needs: {step.right}", f"Breaks: {step.breaks}", f"Undo: {step.undo}"]
    lines += [f"Keeps: {step.keeps}"] if step.keeps else []
    lines += [f"Unconfirmed: {step.unconfirmed}"] if step.unconfirmed else []
    text = "\n".join([*lines, "More: docs/playbook.md of the pack"])
    return text if len(text) <= MOST_DESCRIBED else text[: MOST_DESCRIBED - 1] + "…"
