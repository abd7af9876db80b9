"""The trap: a stranger's rule that is called faulty for what ATT&CK did since it was written.

And a check that asks the network what ATT&CK is: pySigma's own would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sigma.data.mitre_attack

from conftest import ROOT
from detection_pack.checks.validate import validate
from detection_pack.cli import main
from detection_pack.model.attack import using
from detection_pack.model.attack_bundle import load_attack
from detection_pack.model.findings import Finding

OLDER = ROOT / "tests" / "data" / "enterprise-attack-18.1-names.json"
RULE = """title: Probe
logsource: {{product: windows, category: process_creation}}
tags: [{tags}]
detection:
  s: {{Image|endswith: '\\a.exe'}}
  condition: s
level: medium
"""
CHECKS = ("unknown-technique", "retired-technique", "unknown-tactic", "technique-without-tactic")


def found(folder: Path, tags: str) -> list[Finding]:
    path = folder / "probe.yml"
    path.write_text(RULE.format(tags=tags), encoding="utf-8")
    return [f for f in validate(ROOT, [path], execute=False) if f.check in CHECKS]


@pytest.mark.parametrize(
    ("tags", "checks"),
    [
        ("attack.defense-impairment, attack.t1685", ""),
        ("attack.stealth, attack.t1027", ""),
        ("attack.t1685", "technique-without-tactic"),
        ("attack.stealth, attack.t1685", "technique-without-tactic"),
        ("attack.collection, attack.t9999", "unknown-technique"),
        ("attack.collection, attack.t１114.002", "unknown-technique"),
        ("attack.stealth, attack.t1562.001", "retired-technique"),
        ("attack.colection", "unknown-tactic"),
        # Said once, of the tactic; the technique has what became of it.
        ("attack.defense-evasion, attack.t1685", "unknown-tactic"),
        ("attack.defense_evasion, attack.t1027", "unknown-tactic"),
        ("attack.collection, attack.g0016, attack.s0002, cve.2024-1", ""),
    ],
)
def test_what_is_said_of_anybodys_rule_is_a_warning(tags: str, checks: str, tmp_path: Path) -> None:
    findings = found(tmp_path, tags)
    assert [f.check for f in findings] == checks.split()
    assert all((f.severity, f.line) == ("warning", 3) for f in findings)


def test_the_version_in_use_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with using(load_attack(OLDER)):
        [finding] = found(tmp_path, "attack.defense-evasion, attack.t1685")
        assert finding.check == "unknown-technique" and "ATT&CK Enterprise 18.1" in finding.what
        assert found(tmp_path, "attack.defense-evasion, attack.t1562.001") == []
        assert [f.check for f in found(tmp_path, "attack.stealth")] == ["unknown-tactic"]
    command = ["--root", str(ROOT), "validate", "--attack", str(OLDER), str(tmp_path / "probe.yml")]
    assert main(command) == 0
    assert 'the tag "attack.stealth" names no tactic of ATT&CK Enterprise 18.1' in capsys.readouterr().err


def test_pysigma_is_not_asked_what_attack_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone it downloads ATT&CK and keeps it in the user's home."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("pySigma's own data was asked for")

    monkeypatch.setattr(sigma.data.mitre_attack, "urlopen", refused)
    monkeypatch.setattr(sigma.data.mitre_attack, "_get_cache", refused)
    assert found(tmp_path, "attack.collection, attack.t1114.002") == []
    assert (
        main(["--root", str(ROOT), "build", "--rules", str(tmp_path), "--out", str(tmp_path.parent / "o")])
        == 0
    )
