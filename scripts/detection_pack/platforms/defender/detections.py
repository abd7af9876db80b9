"""Custom detections in the form that Microsoft Graph takes, switched off: one rule a request.

Source: Microsoft Graph, "Create detectionRule" (beta, 2026-05): ``id`` given by the client, ``status``,
``schedule.frequency``, ``detectionAction.alertTemplate`` with ``entityMappings`` and ``tactics``. What the
service refuses besides: an id that does not begin with a letter, a second tactic, a rule that maps no
account, host, mailbox or address, an account with two identifiers in one mapping.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.defender.backend import BURST_START, DEFENDER, TIME, detection_query
from detection_pack.platforms.guide_text import plain_guide
from detection_pack.platforms.kusto.alert_texts import rule_uuid, with_credit, without_placeholders
from detection_pack.platforms.kusto.attack import service_attack, service_techniques

#: How often a detection runs and how far it then looks back, in seconds ("Create custom detection rules").
LOOKBACKS = {3600: 4 * 3600, 3 * 3600: 12 * 3600, 12 * 3600: 48 * 3600, 24 * 3600: 30 * 86400}
_SEVERITIES = {"informational": "informational", "low": "low", "high": "high", "critical": "high"}
_NAMES = uuid.UUID("0b0f7f0e-52c1-5a5e-8a53-4f1d6f2f9b11")


def frequency_of(rule: Rule) -> int:
    """Seconds between runs: every hour, but for a correlation whose windows need a longer look-back. An hour
    is left for records that come late."""
    needed = 0
    if rule.correlation is not None:
        windows = rule.correlation.overlapping
        needed = rule.correlation.window if windows is None else windows.width + windows.step
    enough = (often for often, back in LOOKBACKS.items() if back >= needed + often + 3600)
    return next(enough, max(LOOKBACKS))


def detection_of(rule: Rule, converted: Converted, parameters: Sequence[str]) -> dict[str, Any] | None:
    """The body of the request; None where the pipeline names no entity, which the service refuses."""
    named: Mapping[str, Mapping[str, str]] = converted.state.get("named_entities") or {}
    entities: dict[str, list[dict[str, str]]] = {}
    for column, says in named.items():
        for kind, key in says.items():
            entities.setdefault(kind, []).append({key: column})
    if not entities:
        return None
    often = frequency_of(rule)
    told = plain_guide(rule, DEFENDER, "dist/defender/hunting")
    title = without_placeholders(rule.title)
    stated = str(rule.main.data.get("description") or rule.title).strip()
    description = without_placeholders(with_credit(rule, stated))
    return {
        "id": f"r-{rule_uuid(rule, _NAMES)}",
        "displayName": title,
        "description": description,
        "status": "disabled",
        "queryCondition": {"queryText": detection_query(rule, converted, parameters, LOOKBACKS[often])},
        "schedule": {"frequency": f"PT{often // 3600}H"},
        "detectionAction": {
            "alertTemplate": {
                "title": title,
                "description": description,
                "severity": _SEVERITIES.get(rule.level, "medium"),
                **({"recommendedActions": "\n".join(map(without_placeholders, told))} if told else {}),
                "entityMappings": entities,
                "customDetails": _details(rule, converted),
                "tactics": _tactics(rule),
            },
        },
    }


def text(detection: Mapping[str, Any]) -> str:
    return json.dumps(detection, indent=2, ensure_ascii=False) + "\n"


def _details(rule: Rule, converted: Converted) -> dict[str, str]:
    """What tells alerts apart: the service makes one alert of what has the same entities and custom details.

    So a plain rule shows which event it is, and a correlation where the burst begins: never a count, which
    grows with the burst.
    """
    if rule.correlation is not None:
        return {"DetectionType": "DetectionType", BURST_START: BURST_START}
    evidence = [c for c in converted.state.get("evidence_fields") or () if c not in _named(converted)]
    return {column: column for column in ("DetectionType", "DetectionDetail", TIME, *evidence)}


def _named(converted: Converted) -> Mapping[str, Any]:
    return converted.state.get("named_entities") or {}


def _tactics(rule: Rule) -> list[dict[str, Any]]:
    """The first tactic that has a technique of the rule, with those; the service takes one."""
    found = service_attack(rule)
    known = service_techniques()
    for tactic in found.tactics:
        if own := [t for t in found.techniques if tactic in known.get(t, ())]:
            return [{"tactic": tactic, "techniques": [{"technique": t} for t in own]}]
    return [{"tactic": tactic, "techniques": []} for tactic in found.tactics[:1]]
