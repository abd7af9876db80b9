"""ATT&CK as Microsoft's services take it: tactics in their names, and no technique that they do not know.

Source of `attack_tactics.csv`: the enumeration AttackTactic of the Microsoft.SecurityInsights API. It has no
names yet for what ATT&CK 19 made of Defense Evasion (Stealth, Defense Impairment). `attack_techniques.csv`
is ATT&CK Enterprise 18.1, the version that Sentinel follows as its page on MITRE coverage says (18). A
technique without one of its tactics is refused: NoTechniquesWithoutMatchingTactics in the checks of the
Azure-Sentinel repository, which looks at the technique of a sub-technique. Whether the service takes
techniques of version 19 is unconfirmed, so none is sent.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detection_pack.model.attack import attack, parent_of, tactic_tags
from detection_pack.model.rule import Rule


@dataclass(frozen=True)
class ServiceAttack:
    """What a rule names of ATT&CK, in a service's names: every technique has one of its tactics beside it."""

    tactics: tuple[str, ...]
    techniques: tuple[str, ...]


@cache
def service_tactics() -> Mapping[str, str]:
    """The services' name of every tactic, by ATT&CK's short name; several may share one."""
    return dict(_rows("attack_tactics.csv"))


@cache
def service_techniques() -> Mapping[str, tuple[str, ...]]:
    """Every technique that the services know with its tactics in their names."""
    return {key: tuple(names.split()) for key, names in _rows("attack_techniques.csv")}


def service_attack(rule: Rule) -> ServiceAttack:
    """The tactics that the rule's tags name, then those of its techniques that none of them serves."""
    names = service_tactics()
    tactics = [names[short] for short in tactic_tags(rule) if short in names]
    techniques: list[str] = []
    for key in rule.techniques:
        sent, serves = sent_for(key), tactics_for(key)
        taken = serves if sent is None else service_techniques()[sent]
        techniques += [sent] if sent is not None else []
        tactics += serves if not set(taken) & set(tactics) else ()
    return ServiceAttack(tuple(dict.fromkeys(tactics)), tuple(dict.fromkeys(techniques)))


def sent_for(technique: str) -> str | None:
    """The technique that is sent for one: itself if the services know it, else what ATT&CK replaced by it,
    else its parent; None where nothing of that is known, and for what is no technique of ATT&CK."""
    known = service_techniques()
    if technique in known:
        return technique
    if technique not in attack().techniques:
        return None
    before = [old for old, new in attack().revoked.items() if new == technique and old in known]
    if len(before) > 1:  # several became one: what all of them were
        before = sorted({old.partition(".")[0] for old in before} & known.keys())
    if len(before) == 1:
        return before[0]
    parent = parent_of(technique)
    return sent_for(parent) if parent else None


def tactics_for(technique: str) -> tuple[str, ...]:
    """The tactics that go with a technique: of those of the one that is sent, what ATT&CK says now as well,
    or all where it says nothing of them; for one that is not sent, what ATT&CK says."""
    current = attack().techniques.get(technique)
    names = service_tactics()
    says = tuple(
        dict.fromkeys(names[short] for short in (current.tactics if current else ()) if short in names)
    )
    sent = sent_for(technique)
    if sent is None:
        return says
    listed = service_techniques()[sent]
    return tuple(name for name in listed if name in says) or listed


def _rows(name: str) -> list[tuple[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return [(row[0], row[1]) for row in list(csv.reader(file))[1:]]
