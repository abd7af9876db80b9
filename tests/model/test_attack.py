"""The trap: a version of ATT&CK that the pack knows in part, or takes for another.

ATT&CK changes twice a year. Techniques come and go, tactics are split, and a rule of last year is still a
rule: what its tags say is told apart by what became of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.model.attack import (
    Attack,
    Tactic,
    Technique,
    attack,
    packaged,
    tactics_of,
    techniques_of,
    using,
)
from detection_pack.model.attack_bundle import MAX_NAME, load_attack
from detection_pack.model.findings import PackError
from support import stix
from support.elastic_rules import rule

MOBILE = stix.bundle(
    stix.tactic("TA0034", "Impact", "impact"),
    stix.technique("T1471", "Data Encrypted for Impact", ())
    | {"kill_chain_phases": [{"kill_chain_name": "mitre-mobile-attack", "phase_name": "impact"}]},
)
OLDER = ROOT / "tests" / "data" / "enterprise-attack-18.1-names.json"
SMALL = Attack("1.0", {"impact": Tactic("TA0040", "Impact", "impact")}, {"T1": Technique("T1", "One", ())})


def test_the_packaged_version_is_whole() -> None:
    """Counts of ATT&CK Enterprise 19.2 as MITRE states them."""
    known = packaged()
    below = [t for t in known.techniques.values() if t.parent]
    assert str(known) == "ATT&CK Enterprise 19.2"
    assert (len(known.tactics), len(known.techniques) - len(below), len(below)) == (15, 222, 475)
    assert all(t.parent in known.techniques for t in below)
    assert all(t.tactics and set(t.tactics) <= known.tactics.keys() for t in known.techniques.values())
    assert all(t.name.strip() == t.name != "" for t in known.techniques.values())
    assert not known.revoked.keys() & known.techniques.keys()
    assert set(known.revoked.values()) <= known.techniques.keys()
    assert {s for became in known.former_tactics.values() for s in became} <= known.tactics.keys()
    assert known.techniques["T1114.002"].reference == "https://attack.mitre.org/techniques/T1114/002/"


def test_everything_of_the_version_before_is_there_or_was_replaced() -> None:
    before, now = load_attack(OLDER), packaged()
    assert (before.version, len(before.techniques)) == ("18.1", 691)
    assert before.techniques.keys() <= now.techniques.keys() | now.revoked.keys()
    assert before.tactics.keys() <= now.tactics.keys() | now.former_tactics.keys()
    assert before.former_tactics == {} and before.tactics["defense-evasion"].id == "TA0005"


@pytest.mark.parametrize(
    ("name", "check", "what", "todo"),
    [
        ("t1685", None, "", ""),
        ("t1114.002", None, "", ""),
        ("t1114.009", "unknown-technique", "no technique of ATT&CK Enterprise 19.2", "attack.t1114.00"),
        ("T1114.002", "unknown-technique", "no technique", 'be "attack.t1114.002" (Remote Email Collection)'),
        ("t1562", "retired-technique", "19.2 revoked", "use attack.t1685 (Disable or Modify Tools)"),
        ("t1562.001", "retired-technique", "19.2 revoked", "use attack.t1685 (Disable or Modify Tools)"),
        ("t1672", "retired-technique", "19.2 revoked", "use attack.t1684.002 (Email Spoofing)"),
        ("t١١١٤", "unknown-technique", "no technique", "look it up"),
    ],
)
def test_what_is_wrong_with_a_technique(name: str, check: str | None, what: str, todo: str) -> None:
    fault = packaged().fault_of(name)
    assert (fault is None) == (check is None)
    if fault is not None:
        assert fault[0] == check and what in fault[1] and todo in fault[2] and f"attack.{name}" in fault[1]


def test_a_version_is_in_use_inside_its_block_alone() -> None:
    assert attack() is packaged()
    with using(SMALL):
        assert attack() is SMALL
        with pytest.raises(ZeroDivisionError), using(packaged()):
            raise ZeroDivisionError
        assert attack() is SMALL
    assert attack() is packaged()


def test_what_a_rule_names() -> None:
    tags = ["attack.t1027", "attack.t1562.001", "attack.t9999", "attack.defense_evasion", "cve.2024-1"]
    found = rule({"UserId": "x"}, tags=[*tags, "attack.lateral_movement", "attack.g0016", "attack.nonsense"])
    assert [t.id for t in techniques_of(found)] == ["T1027"]
    assert [t.short for t in tactics_of(found)] == ["stealth", "lateral-movement"]
    with using(load_attack(OLDER)):
        assert [t.id for t in techniques_of(found)] == ["T1027", "T1562.001"]
        assert [t.short for t in tactics_of(found)] == ["defense-evasion", "lateral-movement"]


# -- a site's own file ---------------------------------------------------------------------------------


def test_a_file_gives_what_it_was_made_of(tmp_path: Path) -> None:
    assert load_attack(stix.stix_file(tmp_path / "a.json", packaged())) == packaged()


def test_the_table_is_made_of_a_file(tmp_path: Path) -> None:
    """The next version comes by one command."""
    carried = ROOT / "scripts" / "detection_pack" / "model" / "attack.csv"
    path = stix.stix_file(tmp_path / "a.json", packaged())
    command = [sys.executable, "-m", "detection_pack.model.attack_bundle", str(path)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == carried.read_text(encoding="utf-8")


def test_what_a_file_says_of_what_is_gone(tmp_path: Path) -> None:
    more = [
        stix.technique("T2000", "Old", (), revoked=True),
        stix.technique("T2001", "Newer", (), revoked=True),
        stix.technique("T2002", "Lost", ("impact",), revoked=True),
        stix.technique("T2003", "Discouraged", ("impact",), x_mitre_deprecated=True),
        stix.technique("T2004", "Round", (), revoked=True),
        stix.technique("T2005", "And Round", (), revoked=True),
        stix.revoked_by("T2000", "T2001"),
        stix.revoked_by("T2001", "T1485"),
        stix.revoked_by("T2004", "T2005"),
        stix.revoked_by("T2005", "T2004"),
        stix.tactic("TA9001", "Gone", "gone", x_mitre_deprecated=True),
        stix.tactic("TA9002", "New", "new-tactic"),
        # An id that was given again, as T1574.001 was for a while.
        stix.technique("T1486", "Before", (), revoked=True),
    ]
    found = load_attack(stix.stix_file(tmp_path / "a.json", packaged(), *more))
    assert found.revoked == {
        **packaged().revoked,
        **{"T2000": "T1485", "T2001": "T1485", "T2002": "", "T2004": "", "T2005": ""},
    }
    assert found.deprecated == {"T2003"} and list(found.tactics)[-1] == "new-tactic"
    assert found.fault_of("t2000") == (
        "retired-technique",
        'the tag "attack.t2000" names a technique that ATT&CK Enterprise 19.2 revoked',
        "use attack.t1485 (Data Destruction)",
    )
    for name, word in (("t2002", "revoked"), ("t2003", "deprecated")):
        fault = found.fault_of(name)
        assert fault is not None and word in fault[1] and "look for what replaces it" in fault[2]


def test_a_file_can_hold_anything_beside_what_is_used(tmp_path: Path) -> None:
    odd: list[Any] = [
        None,
        "text",
        7,
        [],
        {},
        {"type": "attack-pattern"},
        {"type": "attack-pattern", "external_references": "x", "name": "x"},
        {"type": "attack-pattern", "external_references": [None, {"source_name": "mitre-attack"}]},
        stix.technique("T3000", "No Tactic", ()),
        stix.technique("T3001.001", "No Parent", ("impact",)),
        stix.technique("T3002 ", "No Id", ("impact",)),
        stix.technique("T3003", "x" * (MAX_NAME + 1), ("impact",)),
        stix.technique("T3004", "Other Matrix", ()) | {"kill_chain_phases": [{"phase_name": "impact"}, 1]},
        {**stix.technique("T3005", "", ("impact",)), "name": ["x"]},
        stix.tactic("TA3000", "Odd", "Not A Name"),
        stix.technique("T3006", "\x1b[31mRed\n", ("impact",)),
        {"type": "relationship", "relationship_type": "revoked-by", "source_ref": [], "target_ref": {}},
    ]
    found = load_attack(stix.stix_file(tmp_path / "a.json", packaged(), *odd))
    assert found.techniques.keys() - packaged().techniques.keys() == {"T3006"}
    assert found.techniques["T3006"].name == "[31mRed" and found.tactics == packaged().tactics


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not JSON"),
        (b"id,name,tactics\n", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"type": "bundle", "objects": [' + b"1" * 5_000 + b"]}", "is not JSON"),
        (b"[]", "is not a STIX bundle"),
        (b'{"type": "bundle"}', "is not a STIX bundle"),
        (b'{"type": "report", "objects": []}', "is not a STIX bundle"),
        (b'{"type": "bundle", "objects": []}', "has no tactics and techniques of ATT&CK Enterprise"),
        (json.dumps(stix.bundle(*([1] * 250_001))).encode(), "has more than 250,000 objects"),
        (json.dumps(MOBILE).encode(), "has no tactics and techniques of ATT&CK Enterprise"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_clear_line(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(PackError) as refused:
        load_attack(path)
    assert str(refused.value) == f"{path}:1: {what}; name MITRE's enterprise-attack.json"


def test_what_is_no_file_of_reasonable_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection_pack.model.attack_bundle.MAX_BYTES", 2 * 1024 * 1024)
    (tmp_path / "large.json").write_bytes(b" " * (2 * 1024 * 1024 + 1))
    for name, what in (
        ("large.json", "has more than 2 MB"),
        ("gone.json", "No such file"),
        ("", "directory"),
    ):
        with pytest.raises(PackError, match=what) as refused:
            load_attack(tmp_path / name)
        assert len(refused.value.findings) == 1
