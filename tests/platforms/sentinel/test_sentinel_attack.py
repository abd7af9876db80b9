"""The trap: a deployment that fails for the sake of a label.

Sentinel refuses a rule with a technique that has none of its tactics beside it, and knows neither the tactics
nor all the techniques of ATT&CK 19. Every technique of the packaged version goes through here, alone, and
with every tactic that a rule may have beside it.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.model.attack import packaged, using
from detection_pack.model.attack_bundle import load_attack
from detection_pack.model.pack import Pack
from detection_pack.platforms.kusto.attack import (
    sent_for,
    service_attack,
    service_tactics,
    service_techniques,
    tactics_for,
)
from detection_pack.platforms.sentinel.analytics import analytics_yaml, scheduled_rule
from detection_pack.platforms.sentinel.arm import resource
from support.elastic_rules import rule
from support.stix import stix_file

#: AttackTactic of the API, as its SDK lists it, without those of industrial control systems.
API = {
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
}
OLDER = load_attack(ROOT / "tests" / "data" / "enterprise-attack-18.1-names.json")


BARE = rule({"UserId": "x"})


def named(*tags: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    data = {**BARE.main.data, "tags": [f"attack.{tag}" for tag in tags]}
    found = service_attack(replace(BARE, main=replace(BARE.main, data=data)))
    return found.tactics, found.techniques


def taken(tactics: tuple[str, ...], techniques: tuple[str, ...]) -> bool:
    """What the check of the Azure-Sentinel repository says: a technique is known, and one of the tactics that
    it, or what it stands below, has is there."""
    known = service_techniques()
    return set(tactics) <= API and all(
        key in known and set(known[key]) & set(tactics) and set(known[key.partition(".")[0]]) & set(tactics)
        for key in techniques
    )


def test_the_tables_are_whole() -> None:
    assert set(service_tactics().values()) == API
    assert packaged().tactics.keys() | OLDER.tactics.keys() == service_tactics().keys()
    assert service_techniques().keys() == OLDER.techniques.keys()
    for key, tactics in service_techniques().items():
        assert set(tactics) == {service_tactics()[short] for short in OLDER.techniques[key].tactics}, key


@pytest.mark.parametrize("key", sorted(packaged().techniques))
def test_every_technique_has_a_tactic_that_the_service_takes(key: str) -> None:
    tactics, techniques = named(key.lower())
    assert tactics and tactics == tuple(dict.fromkeys(tactics)) and len(techniques) <= 1
    assert taken(tactics, techniques)
    current = {service_tactics()[short] for short in packaged().techniques[key].tactics}
    assert tactics == tactics_for(key)
    # But for techniques whose tactics ATT&CK has changed since, it is what ATT&CK says today.
    assert set(tactics) & current or not set(service_techniques()[techniques[0]]) & current
    if key in service_techniques():
        assert techniques == (key,)
    for short in packaged().tactics:
        tactics, techniques = named(short, key.lower())
        assert taken(tactics, techniques) and tactics[0] == service_tactics()[short]


def test_any_company_of_tags_is_taken() -> None:
    rng = random.Random(11)
    tags = [*service_tactics(), *(key.lower() for key in {**packaged().techniques, **OLDER.techniques})]
    tags += ["t9999", "g0016", "nonsense", "defense_evasion", "t0859"]
    for _ in range(300):
        tactics, techniques = named(*rng.sample(tags, rng.randint(1, 8)))
        assert taken(tactics, techniques) and len(set(techniques)) == len(techniques)


@pytest.mark.parametrize(
    ("tags", "tactics", "techniques"),
    [
        # Case: `tactics: []` beside a technique.
        (("stealth", "t1027"), ("DefenseEvasion",), ("T1027",)),
        (("t1027",), ("DefenseEvasion",), ("T1027",)),
        # Case: a technique of ATT&CK 19 goes by what it replaced; several become what all of them were.
        (("t1685",), ("DefenseEvasion",), ("T1562",)),
        (("defense-impairment", "t1685.001"), ("DefenseEvasion",), ("T1562.002",)),
        (("t1684.001",), ("DefenseEvasion",), ("T1656",)),
        # A new sub-technique goes by its parent, which may go by what it replaced.
        (("t1027.018",), ("DefenseEvasion",), ("T1027",)),
        (("t1686.003",), ("DefenseEvasion",), ("T1562.004",)),
        # What is new altogether is left out; its tactic stays.
        (("t1682",), ("Reconnaissance",), ()),
        (("t1683.001",), ("ResourceDevelopment",), ()),
        (("t1684",), ("DefenseEvasion",), ()),
        (("t1687",), ("DefenseEvasion",), ()),
        # Revoked since: the service still knows it.
        (("defense-evasion", "t1562.001"), ("DefenseEvasion",), ("T1562.001",)),
        (("t1562.001", "t1685"), ("DefenseEvasion",), ("T1562.001", "T1562")),
        # Unknown: neither name nor tactic.
        (("t9999",), (), ()),
        (("collection", "t1114.009", "t0859"), ("Collection",), ()),
        # The tactics of a rule come first, and each technique has one of its own.
        (("execution", "t1127.001"), ("Execution", "DefenseEvasion"), ("T1127.001",)),
        (("t1548.002",), ("PrivilegeEscalation",), ("T1548.002",)),
        (("collection", "t1114.002", "t1027"), ("Collection", "DefenseEvasion"), ("T1114.002", "T1027")),
        (("lateral_movement", "t1114.002"), ("LateralMovement", "Collection"), ("T1114.002",)),
    ],
)
def test_what_is_sent(tags: tuple[str, ...], tactics: tuple[str, ...], techniques: tuple[str, ...]) -> None:
    assert named(*tags) == (tactics, techniques)


def test_the_files_say_it_apart(pack: Pack) -> None:
    """The API takes techniques and sub-techniques in two lists, the repository's YAML in one."""
    tags = ["attack.t1685.001", "attack.t1027", "attack.t1114.002", "attack.t1682"]
    made = scheduled_rule(rule({"UserId": "x"}, tags=tags), pack.pipelines["sentinel"], pack.version)
    properties = json.loads(resource(made))["properties"]
    assert properties["tactics"] == ["DefenseEvasion", "Collection", "Reconnaissance"]
    assert properties["techniques"] == ["T1562", "T1027", "T1114"]
    assert properties["subTechniques"] == ["T1562.002", "T1114.002"]
    assert "relevantTechniques:\n  - T1562.002\n  - T1027\n  - T1114.002\n" in analytics_yaml(made)


def test_a_version_of_the_sites_own_changes_what_replaced_what(tmp_path: Path) -> None:
    assert sent_for("T1685") == "T1562"
    with using(OLDER):  # which knows of no such technique
        assert sent_for("T1685") is None and named("t1685") == ((), ())
        assert named("t1562.001") == (("DefenseEvasion",), ("T1562.001",))
    with using(load_attack(stix_file(tmp_path / "own.json", packaged()))):
        assert sent_for("T1685") == "T1562"
