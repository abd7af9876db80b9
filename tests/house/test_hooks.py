"""The trap: a hook for other people's repositories that calls what the command line does not take.

Each hook is run here as pre-commit runs it: in the repository's folder, its entry with its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.cli import main

HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
}
RULE = """title: Mail Sent
name: mail_sent
id: 0b1d5a0e-6f64-4e2d-9d9e-3ad8a1a5f0aa
status: test
description: Detects a thing that somebody has seen somewhere once.
author: Somebody
date: 2024-01-01
tags: [attack.collection, attack.t1114.002]
logsource: {product: m365, service: exchange}
detection:
  selection:
    Operation: Send
  condition: selection
falsepositives: [Unknown]
level: high
"""


def run(hook: str) -> int:
    """The exit code of a hook in the current folder."""
    program, *arguments = HOOKS[hook]["entry"].split()
    assert program == "detection-pack"  # a script of the package: pre-commit installs it
    return main([*arguments, *HOOKS[hook]["args"]])


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rules/ of somebody's repository, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "mail_sent.yml").write_text(RULE, encoding="utf-8")
    return tmp_path / "rules"


def test_the_hooks_pass_a_sound_rule_and_build_it(rules: Path) -> None:
    assert set(HOOKS) == {"detection-pack-validate", "detection-pack-build"}
    assert [run(hook) for hook in HOOKS] == [0, 0]
    built = {path.suffix for path in (rules.parent / "dist").rglob("*mail_sent*")}
    assert {".kql", ".spl"} <= built


def test_the_hooks_stop_a_fault(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "mail_sent.yml").write_text(RULE.replace("Operation:", "Operatoin:"), encoding="utf-8")
    assert [run(hook) for hook in HOOKS] == [1, 1]
    assert 'did you mean "Operation"' in capsys.readouterr().err


def test_each_hook_starts_on_any_rule_and_takes_the_folder_as_one() -> None:
    for hook in HOOKS.values():
        assert hook["language"] == "python" and hook["types"] == ["yaml"]
        assert hook["pass_filenames"] is False and "rules" in hook["args"]
