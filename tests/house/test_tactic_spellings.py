"""The trap: a tactic that is lost for how its tag is spelt.

SigmaHQ's rules wrote tactics with underscores until 2024 and write them with hyphens since; both kinds are in
use. ``attack.lateral_movement`` must reach every import file that ``attack.lateral-movement`` reaches.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from detection_pack.cli import main

RULE = """title: Probe
id: 5b0c3f0e-7a43-4a1c-9d6c-0a4f2a0f7d11
status: test
logsource: {{product: windows, category: process_creation}}
detection: {{s: {{CommandLine: whoami}}, condition: s}}
level: low
tags: [attack.{tactic}, attack.{second}, attack.t1114.002]
"""


def built(folder: Path, tactic: str, second: str) -> tuple[list[str], list[str]]:
    """The tactics that Sentinel's and Elastic's import files state for a rule with these tags."""
    (folder / "rules").mkdir(parents=True)
    text = RULE.format(tactic=tactic, second=second)
    (folder / "rules" / "probe.yml").write_text(text, encoding="utf-8")
    command = ["build", "--rules", str(folder / "rules"), "--out", str(folder / "out")]
    assert main(["--root", str(ROOT), *command]) == 0
    analytics = (folder / "out" / "sentinel" / "analytics" / "probe.yaml").read_text(encoding="utf-8")
    lines = (folder / "out" / "elastic" / "rules.ndjson").read_text(encoding="utf-8").splitlines()
    threats = [threat["tactic"]["name"] for line in lines for threat in json.loads(line).get("threat", ())]
    return sorted(yaml.safe_load(analytics)["tactics"]), sorted(set(threats))


@pytest.mark.parametrize(
    ("tags", "in_sentinel", "in_elastic"),
    [
        (("lateral_movement", "collection"), "LateralMovement", "Lateral Movement"),
        (("lateral-movement", "collection"), "LateralMovement", "Lateral Movement"),
        (("credential_access", "collection"), "CredentialAccess", "Credential Access"),
        (("command-and-control", "collection"), "CommandAndControl", "Command and Control"),
        (("command_and_control", "collection"), "CommandAndControl", "Command and Control"),
    ],
)
def test_both_spellings_reach_the_import_files(
    tags: tuple[str, str], in_sentinel: str, in_elastic: str, tmp_path: Path
) -> None:
    sentinel, elastic = built(tmp_path, *tags)
    assert sentinel == sorted([in_sentinel, "Collection"])
    assert elastic == sorted([in_elastic, "Collection"])
