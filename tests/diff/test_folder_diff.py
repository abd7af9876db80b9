"""The trap: a report on a folder of anybody's rules that is silent about a rule that is gone or refused.

The folder is a part of somebody's repository, without a build; both sides are built by this program.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import main
from diff.test_diff import commit, git
from support.rule_folders import END, NET, WHOAMI, rule, sigma_filter, write

FAULTY = rule("Faulty", "faulty", "faulty", 3).replace("endswith", "endswiht")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder deep in a repository whose one commit has a good, a doomed and a faulty rule in it."""
    folder = write(
        tmp_path / "soc" / "detections",
        {"whoami.yml": WHOAMI, "deep/net.yml": NET, "faulty.yml": FAULTY, "note.txt": "x"},
    )
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return folder


def compared(rules: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    command = ["--root", str(ROOT), "diff", "HEAD", "--rules", str(rules), "--platform", "splunk"]
    assert main([*command, "--format", "json", "--jobs", "1"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_what_comes_goes_changes_and_is_refused(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = compared(rules, capsys)
    assert told["rules"] == told["refused"] == told["mended"] == []
    assert told["base"] == git(rules, "rev-parse", "HEAD")
    # A comment moves every line and changes nothing; a fault that was there is not new.
    for path in rules.rglob("*.yml"):
        path.write_text("# ours\n" + path.read_text("utf-8"), encoding="utf-8")
    told = compared(rules, capsys)
    assert told["rules"] == told["refused"] == told["mended"] == []
    (rules / "deep" / "net.yml").unlink()
    write(
        rules,
        {"faulty.yml": FAULTY.replace("endswiht", "endswith"), "new.yml": WHOAMI.replace("Image", "Imagge")},
    )
    write(rules, {"whoami.yml": WHOAMI.replace("level: low", "level: high")})
    told = compared(rules, capsys)
    kinds = {one["name"]: one["kind"] for one in told["rules"]}
    assert kinds == {"faulty": "added", "net": "removed", "whoami": "changed"}
    [whoami] = [one for one in told["rules"] if one["name"] == "whoami"]
    assert {"of": "level", "before": "low", "after": "high"} in whoami["about"]
    [net] = [one for one in told["rules"] if one["name"] == "net"]
    assert net["queries"][0]["after"] is None and "net" in net["queries"][0]["before"]
    assert {one["path"] for one in told["refused"]} == {str(rules / "new.yml")}
    assert {(one["path"], one["line"]) for one in told["mended"]} == {(str(rules / "faulty.yml"), 6)}


def test_a_filter_in_a_file_of_its_own_changes_its_rule(
    rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(rules, {"filter.yml": sigma_filter("[base_rule]")})
    [changed] = compared(rules, capsys)["rules"]
    assert changed["name"] == "whoami" and any("DC-" in file["after"] for file in changed["queries"])


def test_a_folder_that_the_base_lacks_or_the_head_has_emptied(
    rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(rules.parent / "other", {"pair.yml": WHOAMI + END + NET})
    told = compared(other, capsys)
    assert [one["kind"] for one in told["rules"]] == ["added"] * 2 and told["refused"] == []
    for path in rules.rglob("*.yml"):
        path.unlink()
    told = compared(rules, capsys)
    assert [one["kind"] for one in told["rules"]] == ["removed"] * 2
    assert told["refused"] == [] and {one["path"] for one in told["mended"]} == {str(rules / "faulty.yml")}
    assert main(["--root", str(ROOT), "diff", "HEAD", "--rules", str(rules)]) == 0
    shown = capsys.readouterr().out
    assert "rules 2 removed." in shown and "No longer refused" in shown


def test_a_revision_that_is_none(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "diff", "nonsense", "--rules", str(rules)]) == 2
    assert capsys.readouterr().err.startswith('error: BASE "nonsense" is no revision of ')
