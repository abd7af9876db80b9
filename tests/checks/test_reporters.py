"""The trap: a report that a reader of SARIF refuses or that reopens every alert when a line moves.

And a check that reaches for the network or the user's home.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import ROOT
from detection_pack.checks.catalogue import CheckInfo
from detection_pack.checks.reporters import Report, as_json, sarif, text
from detection_pack.checks.validate import all_checks, validate
from detection_pack.cli import main
from detection_pack.model.findings import Finding
from detection_pack.model.pack import pack_version
from detection_pack.model.pipeline import load_pipeline

SCHEMA = Path(__file__).parents[1] / "data" / "sarif-2.1.0-rtm.5.json"
RULE = """title: A Rule.
id: 0b1d5a0e-6f64-4e2d-9d9e-3ad8a1a5f0aa
status: test
description: Detects a thing that somebody has seen somewhere once.
author: Somebody
date: 2024-01-01
tags: [attack.collection, attack.t1114.002]
logsource: {product: m365, service: exchange}
detection:
  selection:
    Operatoin: Send
    UserKey: '*'
  condition: selection
falsepositives: [Unknown]
level: high
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A root with a rule in a folder whose name needs escaping in a URI."""
    folder = tmp_path / "anybody's rüles #1 100%"
    folder.mkdir()
    (folder / "a rule.yml").write_text(RULE, encoding="utf-8")
    return tmp_path


def log_of(findings: list[Finding], root: Path) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(sarif(Report(findings, root, "1.2.3", all_checks())))
    return log


def test_sarif_is_valid_and_points_at_the_file(odd: Path) -> None:
    findings = validate(ROOT, [odd], execute=False)
    log = log_of(findings, odd)
    jsonschema.validate(log, json.loads(SCHEMA.read_text(encoding="utf-8")))
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("detection-pack", "1.2.3")
    assert len(run["results"]) == len(findings) == 3
    for result, finding in zip(run["results"], findings, strict=True):
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == finding.check
        assert result["level"] == finding.severity
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {
            "uri": "anybody%27s%20r%C3%BCles%20%231%20100%25/a%20rule.yml",
            "uriBaseId": "%SRCROOT%",
        }
        assert place["region"]["startLine"] == finding.line
    marked = [r["locations"][0]["physicalLocation"]["region"] for r in run["results"]]
    assert [region.get("startColumn") for region in marked] == [None, 5, 15]
    assert [region.get("endColumn") for region in marked] == [None, 14, 16]
    assert {result["level"] for result in run["results"]} == {"error", "warning"}


def test_sarif_of_nothing_and_of_a_file_elsewhere_is_valid(
    odd: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(log_of([], odd), schema)
    elsewhere = log_of(validate(ROOT, [odd], execute=False), tmp_path_factory.mktemp("root"))
    jsonschema.validate(elsewhere, schema)
    places = [
        r["locations"][0]["physicalLocation"]["artifactLocation"] for r in elsewhere["runs"][0]["results"]
    ]
    assert all(place["uri"].startswith("file:///") and "uriBaseId" not in place for place in places)


def marks(root: Path) -> list[str]:
    log = log_of(validate(ROOT, [root], execute=False), root)
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in log["runs"][0]["results"]]


def test_fingerprints_stay_when_lines_move_and_tell_findings_apart(odd: Path) -> None:
    [path] = odd.rglob("*.yml")
    before = marks(odd)
    assert len(set(before)) == len(before)
    path.write_text(
        "# a comment\n\n" + RULE.replace("level: high", "# another\nlevel: high"), encoding="utf-8"
    )
    assert marks(odd) == before
    path.write_text(RULE.replace("Operatoin", "Operatiom"), encoding="utf-8")
    assert sum(a != b for a, b in zip(marks(odd), before, strict=True)) == 1


def test_equal_lines_have_fingerprints_of_their_own(odd: Path) -> None:
    [path] = odd.rglob("*.yml")
    path.write_text(
        RULE.replace("  condition: selection", "  b:\n    UserKey: '*'\n  condition: 1 of *"), "utf-8"
    )
    assert len(set(marks(odd))) == len(marks(odd)) == 4


def test_json_has_every_finding_and_the_counts(odd: Path) -> None:
    findings = validate(ROOT, [odd], execute=False)
    printed = json.loads(as_json(Report(findings, odd, "1", all_checks())))
    assert (printed["errors"], printed["warnings"]) == (1, 2)
    assert [one["check"] for one in printed["findings"] if one["severity"] == "error"] == ["unknown-field"]
    assert printed["findings"][0] == {
        "path": "anybody's rüles #1 100%/a rule.yml",
        "line": 1,
        "column": None,
        "endColumn": None,
        "check": "sigmahq-title-end",
        "severity": "warning",
        "what": "Rule has a title that ends with a dot(.)",
        "todo": "follow the convention, or silence sigmahq_title_end in sigma-check.yml with a reason",
    }


def test_text_is_one_line_a_finding_and_marks_warnings() -> None:
    findings = [Finding("a.yml", 3, "is\nodd", "mend it", "x"), Finding("b.yml", 1, "w", "t", "y", "warning")]
    assert (
        text(Report(findings, Path("/"), "1", {}))
        == "a.yml:3: is\\nodd; mend it [x]\nb.yml:1: warning: w; t [y]\n"
    )


def test_a_reporter_needs_no_catalogue(tmp_path: Path) -> None:
    """Reporters know nothing of checks: an id of nobody's is a rule with an id alone."""
    report = Report(
        [Finding("gone.yml", 1, "w", "t", "new-check")],
        tmp_path,
        "1",
        {"other": CheckInfo("other", "a", "b")},
    )
    log = json.loads(sarif(report))
    jsonschema.validate(log, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]] == ["other", "new-check"]


@pytest.mark.parametrize(
    ("change", "arguments", "code"),
    [
        ("", ["--strict"], 1),
        ("", [], 1),
        ("warning", [], 0),
        ("warning", ["--strict"], 1),
        ("fine", ["--strict"], 0),
    ],
)
def test_exit_codes(
    change: str, arguments: list[str], code: int, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = odd.rglob("*.yml")
    fine = RULE.replace("    Operatoin: Send\n    UserKey: '*'\n", "    Operation: Send\n")
    contents = {"": RULE, "warning": fine, "fine": fine.replace("A Rule.", "A Rule")}
    path.write_text(contents[change], encoding="utf-8")
    assert main(["--root", str(ROOT), "validate", "--no-replay", str(path), *arguments]) == code
    said = capsys.readouterr()
    assert (said.out == "valid\n") == (change == "fine") and bool(said.err) == (change != "fine")


def test_a_path_that_is_not_there_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "validate", "/nowhere.yml"])
    assert stopped.value.code == 2 and "does not exist" in capsys.readouterr().err


GUARDED = """
import socket, subprocess, sys
def refused(*arguments, **options): raise AssertionError("the network or a program was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
subprocess.Popen.__init__ = refused
from detection_pack.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("seed", ["1", "77"])
def test_nothing_touches_the_network_the_home_or_what_is_checked(
    seed: str, odd: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    before = sorted(path for path in odd.rglob("*") if path.is_file())
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    environment |= {"PYTHONPATH": str(ROOT / "scripts"), "PYTHONHASHSEED": seed}
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    command = [
        sys.executable,
        "-c",
        GUARDED,
        "--root",
        str(ROOT),
        "validate",
        "--no-replay",
        "--format",
        "json",
    ]
    done = subprocess.run([*command, str(odd)], env=environment, capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr == b"", done.stderr.decode()
    assert done.stdout.decode() == as_json(
        Report(validate(ROOT, [odd], False), ROOT, pack_version(ROOT), all_checks())
    )
    assert list((tmp_path / "home").rglob("*")) == list((tmp_path / "tmp").rglob("*")) == []
    assert sorted(path for path in odd.rglob("*") if path.is_file()) == before


def test_loading_a_hostile_pipeline_reaches_for_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = tmp_path / "splunk.yml"
    path.write_text(
        "name: x\nallow_external_sources: true\ntransformations:\n"
        f"  - {{type: command_placeholders, command: [touch, {made}], allow_external_sources: true}}\n"
        f"  - {{type: nest, items: [{{type: file_placeholders, path: {path}}}]}}\n",
        encoding="utf-8",
    )
    code = "import pathlib, sys; from detection_pack.model.pipeline import load_pipeline; "
    code += "load_pipeline('splunk', pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode()
    assert [f"splunk.yml:{n}: uses" in said for n in (2, 4, 5)] == [True] * 3 and not made.exists()
    with pytest.raises(Exception, match="command_placeholders"):
        load_pipeline("splunk", path)


def test_every_check_says_what_it_is() -> None:
    for check, info in all_checks().items():
        assert check == info.id and check == check.lower() and "_" not in check
        assert info.about and "\n" not in info.about and len(info.about) < 200 and len(info.help) > 30
        assert info.severity in ("error", "warning")


def test_the_page_of_checks_is_what_the_catalogue_gives() -> None:
    """docs/checks.md is written by `python -m detection_pack.checks.page > docs/checks.md`."""
    from detection_pack.checks.page import page

    assert (ROOT / "docs" / "checks.md").read_text(encoding="utf-8") == page()
