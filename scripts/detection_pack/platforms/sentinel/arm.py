"""ARM templates: the analytics rules as the portal's Import and any ARM deployment take them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from detection_pack.model.collection import collection
from detection_pack.platforms.sentinel.analytics import ScheduledRule, alert_details

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
#: The newest version whose schema has subTechniques; the stable ones, up to 2025-09-01, lack it
#: (azure-rest-api-specs, specification/securityinsights, AlertRules.json).
API_VERSION = "2025-07-01-preview"
#: The portal imports up to 50 rules from one file.
RULES_A_FILE = 50
#: Where the templates are, relative to dist/, and the name of the one for rules on what cannot name a file.
TEMPLATES, OTHER = "sentinel/azuredeploy", "other"


def templates(resources: Sequence[tuple[str, str]], version: str) -> dict[str, str]:
    """``{path: template}`` for ``(filler, resource)`` pairs, the filler being the connector that fills the
    rule's table, or the table where no connector does: a template a filler, or one for each 50 rules.

    A rule on a table that a workspace does not have yet fails the whole deployment, so rules of one
    connector do not hang on those of another.
    """
    named = [(name if re.fullmatch(r"[\w-]+", name, re.ASCII) else OTHER, text) for name, text in resources]
    found: dict[str, str] = {}
    for filler in sorted({name for name, _ in named}):
        own = [text for name, text in named if name == filler]
        for number, start in enumerate(range(0, len(own), RULES_A_FILE), start=1):
            suffix = f"-{number}" if number > 1 else ""
            path = f"{TEMPLATES}/{filler}{suffix}.json"
            found[path] = template(own[start : start + RULES_A_FILE], version)
    return found


def template(resources: Sequence[str], version: str) -> str:
    """A template of these resources, whose one parameter is the workspace."""
    document = {
        "$schema": SCHEMA,
        "contentVersion": f"{version}.0",
        **({} if collection().own else {"metadata": {"description": escaped(collection().title)}}),
        "parameters": {
            "workspace": {
                "type": "string",
                "metadata": {"description": "The Log Analytics workspace that Microsoft Sentinel runs on"},
            }
        },
        "resources": [],
    }
    # The list is the document's last value; its members were written when their rules were converted.
    head, _, tail = json.dumps(document, indent=2).rpartition("[]")
    members = textwrap.indent(",\n".join(resources), "    ")
    return f"{head}[\n{members}\n  ]{tail}\n"


def resource(rule: ScheduledRule) -> str:
    """One analytics rule as a resource of a template, as JSON text."""
    # Both expressions are those of the portal's own Export. rule.id is a UUID: it cannot end their strings.
    namespace = (
        "resourceId('Microsoft.OperationalInsights/workspaces/providers', "
        "parameters('workspace'), 'Microsoft.SecurityInsights')"
    )
    document = {
        "id": f"[concat({namespace},'/alertRules/{rule.id}')]",
        "name": f"[concat(parameters('workspace'),'/Microsoft.SecurityInsights/{rule.id}')]",
        "type": "Microsoft.OperationalInsights/workspaces/providers/alertRules",
        "apiVersion": API_VERSION,
        "kind": "Scheduled",
        "properties": escaped(_properties(rule)),
    }
    return json.dumps(document, indent=2)


def _properties(rule: ScheduledRule) -> dict[str, Any]:
    return {
        "displayName": rule.title,
        "description": rule.description,
        "severity": rule.severity,
        # Switched on by hand, once the data is known to be there.
        "enabled": False,
        "query": rule.query,
        "queryFrequency": iso_duration(rule.frequency),
        "queryPeriod": iso_duration(rule.period),
        "triggerOperator": "GreaterThan",
        "triggerThreshold": 0,
        "suppressionDuration": "PT5H",
        "suppressionEnabled": False,
        "tactics": list(rule.tactics),
        "techniques": list(dict.fromkeys(technique.partition(".")[0] for technique in rule.techniques)),
        "subTechniques": [technique for technique in rule.techniques if "." in technique],
        "alertRuleTemplateName": None,
        "incidentConfiguration": {
            "createIncident": True,
            # One incident for one account and address, not one for each event.
            "groupingConfiguration": {
                "enabled": bool(rule.entities),
                "reopenClosedIncident": False,
                "lookbackDuration": "PT5H",
                "matchingMethod": "AllEntities",
                "groupByEntities": [],
                "groupByAlertDetails": [],
                "groupByCustomDetails": [],
            },
        },
        "eventGroupingSettings": {"aggregationKind": "AlertPerResult"},
        "alertDetailsOverride": alert_details(rule),
        "customDetails": dict(rule.details),
        "entityMappings": rule.entity_mappings() or None,
    }


def escaped(value: Any) -> Any:
    """A value in which Resource Manager finds no expression.

    A string is an expression if it starts with ``[`` and ends with ``]``; with ``[[`` it is a literal that
    starts with ``[``. A string that only starts with a bracket is a literal as it stands, and doubling that
    bracket would change it ("Syntax and expressions in ARM templates", Escape characters).
    """
    if isinstance(value, str):
        return f"[{value}" if value.startswith("[") and value.endswith("]") else value
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


def unescaped(value: Any) -> Any:
    """What Resource Manager makes of a literal. Raises ValueError for an expression."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        if not value.startswith("[["):
            raise ValueError(f"is an expression: {value}")
        return value[1:]
    if isinstance(value, dict):
        return {key: unescaped(inner) for key, inner in value.items()}
    return [unescaped(inner) for inner in value] if isinstance(value, list) else value


def iso_duration(seconds: int) -> str:
    """Seconds as ISO 8601 writes them: ``90000`` to ``P1DT1H``."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    date = f"{days}D" if days else ""
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if n)
    return f"P{date}{'T' if time or not date else ''}{time or ('' if date else '0S')}"
