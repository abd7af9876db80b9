"""The techniques of a build's rules as a layer of the ATT&CK Navigator, in format 4.5.

The format: https://github.com/mitre-attack/attack-navigator/blob/master/layers/spec/v4.5/layerformat.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.model.attack import attack
from detection_pack.model.rule import BY_HAND
from detection_pack.platforms.platform import platform

PATH = "attack_navigator.json"
#: The newest version of the Navigator that the format's page names, and that of the format.
_NAVIGATOR, _LAYER = "5.2.0", "4.5"
#: From a technique that is only hunted for to the one with most rules.
_COLOURS = ("#e8f1fa", "#1f6fb4")


@dataclass(frozen=True)
class Listed:
    """A rule of a layer. ``techniques`` are ids, also such as ATT&CK does not know; ``platforms`` the ids of
    those that have its artefacts."""

    name: str
    title: str
    level: str
    tier: str
    techniques: Sequence[str]
    platforms: Sequence[str]


def layer(name: str, rules: Sequence[Listed]) -> dict[str, Any]:
    """The layer: the score of a technique is the number of rules that alert on it, 0 where there are only
    hunts, and its metadata names the rules. The version of ATT&CK is the one in use."""
    known = attack()
    found: dict[str, list[Listed]] = {}
    for rule in rules:
        for technique in dict.fromkeys(rule.techniques):
            if technique in known.techniques:
                found.setdefault(technique, []).append(rule)
    techniques = [_technique(key, found[key]) for key in sorted(found)]
    version = {"attack": known.version.partition(".")[0]} if known.version else {}
    return {
        "name": name,
        "versions": {**version, "navigator": _NAVIGATOR, "layer": _LAYER},
        "domain": "enterprise-attack",
        "description": f"{len(rules)} rules by technique. A score is the number of rules that alert.",
        "sorting": 3,
        "layout": {"layout": "side", "showID": True, "showName": True, "expandedSubtechniques": "annotated"},
        "techniques": techniques,
        "gradient": {
            "colors": list(_COLOURS),
            "minValue": 0,
            "maxValue": max([1, *(one["score"] for one in techniques)]),
        },
        "legendItems": [
            {"label": "hunts only", "color": _COLOURS[0]},
            {"label": "most rules that alert", "color": _COLOURS[1]},
        ],
    }


def _technique(key: str, rules: Sequence[Listed]) -> dict[str, Any]:
    ordered = sorted(rules, key=lambda rule: (rule.tier in BY_HAND, rule.name))
    alerts = [rule for rule in ordered if rule.tier not in BY_HAND]
    return {
        "techniqueID": key,
        "score": len(alerts),
        "comment": _counted(len(alerts), "rule") + f", {_counted(len(rules) - len(alerts), 'hunt')}",
        "metadata": [{"name": rule.name, "value": _about(rule)} for rule in ordered],
        "links": [{"label": attack().techniques[key].name, "url": attack().techniques[key].reference}],
    }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _about(rule: Listed) -> str:
    kind = "hunt" if rule.tier in BY_HAND else rule.level
    where = ", ".join(platform(name).title for name in rule.platforms)
    return f"{rule.title} ({kind}; {where})"


def listed(entry: Mapping[str, Any], platforms: Sequence[str]) -> Listed:
    """A rule by its entry of the manifest."""
    return Listed(
        entry["name"], entry["title"], str(entry["level"]), entry["tier"], entry["attack"], platforms
    )
