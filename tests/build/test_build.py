"""The trap: a build that depends on where, when or how it runs, or leaves half a dist/ behind.

What is committed is what the sources give; bytes do not depend on folder, time zone, locale or hash seed; a
build that fails leaves dist/ as it was; nothing is written outside the folder that was named.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import DIST, ROOT
from detection_pack.build import dist as build
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from support.checkout import copy_of_the_sources, core_alone, snapshot

PAGES = ROOT / "docs" / "rules"
CORE = {
    "exchange_admin_cmdlet",
    "bulk_cross_mailbox_access",
    "suspicious_ews_client",
    "onprem_powershell_collection",
}


def test_committed_dist_is_what_the_sources_give(pack: Pack) -> None:
    assert build.stale(build.make(pack), DIST) == []


def test_every_rule_has_a_query_on_every_platform_and_the_manifest_lists_it(pack: Pack) -> None:
    manifest = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))
    assert {rule["name"] for rule in manifest["rules"]} >= CORE
    assert manifest["version"] == pack.version
    listed = [a for rule in manifest["rules"] for a in rule["artefacts"]] + manifest["artefacts"]
    for artefact in listed:
        assert sha256((DIST / artefact["path"]).read_bytes()).hexdigest() == artefact["sha256"]
    assert {a["path"] for a in listed} | {"manifest.json"} == set(snapshot(DIST))
    for rule in manifest["rules"]:
        built_for = set(PLATFORMS) - rule.get("absent", {}).keys()
        assert {a["path"].split("/")[0] for a in rule["artefacts"]} == built_for != set()
        if rule["tier"] == "core":
            assert (rule["attack"], rule["level"], rule["confidence"]) == (["T1114.002"], "high", "high")


def test_bytes_depend_on_the_sources_alone(tmp_path: Path) -> None:
    results = []
    for number, settings in enumerate(
        (
            {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
            {"TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4242"},
        )
    ):
        root = copy_of_the_sources(tmp_path / f"somewhere {number}")
        environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT / "scripts")}
        subprocess.run(
            [sys.executable, "-m", "detection_pack.cli", "build"], cwd=root, env=environment, check=True
        )
        results.append((snapshot(root / "dist"), snapshot(root / "docs")))
    pages = {f"rules/{k}": v for k, v in snapshot(PAGES).items()}
    guides = {name: (ROOT / "docs" / name).read_bytes() for name in ("investigation.md", "playbook.md")}
    assert results[0] == results[1] == (snapshot(DIST), pages | guides)


def test_check_names_each_stale_missing_and_foreign_file(
    tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dist"
    build.write(build.make(pack), out)
    assert main(["--root", str(ROOT), "build", "--check", "--out", str(out)]) == 0
    query = out / "sentinel" / "queries" / "exchange_admin_cmdlet.kql"
    query.write_text(query.read_text(encoding="utf-8").replace("24h", "48h"), encoding="utf-8")
    (out / "splunk" / "queries" / "suspicious_ews_client.spl").unlink()
    (out / "elastic" / "stray.txt").write_text("x", encoding="utf-8")
    assert main(["--root", str(ROOT), "build", "--check", "--out", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^.*/dist/", "", line) for line in said] == [
        "sentinel/queries/exchange_admin_cmdlet.kql:3: is stale; run detection-pack build",
        "splunk/queries/suspicious_ews_client.spl:1: is missing; run detection-pack build",
        "elastic/stray.txt:1: does not belong in dist/; run detection-pack build",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Operation|contains:", "Operatoin|contains:", 'did you mean "Operation"?'),
        ("RecordType: ExchangeAdmin", "RecordType: ExchangeAdmn", 'did you mean "ExchangeAdmin"?'),
        ("condition: selection", "condition: selektion", "selektion"),
        ("  - Get-GlobalAddressList", "\t- Get-GlobalAddressList", "YAML"),
        ("service: exchange", "service: exchange\n  product: m365", 'repeats the key "product"'),
        ("name: exchange_admin_cmdlet", "name: other_name", "is not the file's"),
        ("  type: Exchange Admin Cmdlet", "  tipe: Exchange Admin Cmdlet", '"alert:" has no "tipe"'),
    ],
)
def test_failed_build_says_where_and_leaves_dist_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    shutil.copytree(DIST, root / "dist")
    rule = root / "sigma" / "core" / "exchange_admin_cmdlet.yml"
    text = rule.read_text(encoding="utf-8")
    assert old in text
    rule.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert main(["--root", str(root), "build"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(re.match(r".*exchange_admin_cmdlet\.yml:\d+: .+; .+", line) for line in lines)
    assert said in " ".join(lines)
    assert snapshot(root / "dist") == snapshot(DIST)
    assert not list(root.glob(".dist*")) and not (root / "docs").exists()


def test_line_of_an_error_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    rule = root / "sigma" / "core" / "exchange_admin_cmdlet.yml"
    text = rule.read_text(encoding="utf-8").replace("Operation|contains:", "Operatoin|contains:")
    rule.write_text(text, encoding="utf-8")
    line = text.splitlines().index("    Operatoin|contains:") + 1
    main(["--root", str(root), "build"])
    assert f"exchange_admin_cmdlet.yml:{line}: field " in capsys.readouterr().err


def test_folder_of_anybody_is_not_replaced(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "keep.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}', encoding="utf-8")
    with pytest.raises(PackError, match="no build made"):
        build.write(build.make(pack), tmp_path)
    assert (tmp_path / "keep.txt").read_text(encoding="utf-8") == "mine"


RULE = """title: Probe
logsource: {{product: windows, category: process_creation}}
detection:
  selection:
    {field}: whoami
  condition: selection
"""


def test_folder_of_rules_with_keep_going(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules"
    (rules / "deep").mkdir(parents=True)
    (rules / "proc_good.yml").write_text(RULE.format(field="CommandLine|contains"), encoding="utf-8")
    (rules / "deep" / "1 Bad & odd.yml").write_text(RULE.format(field="NoSuchField"), encoding="utf-8")
    (rules / "broken.yml").write_text("title: [", encoding="utf-8")
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(rules), "--out", str(out)]
    assert main(command) == 1
    assert not out.exists()
    assert main([*command, "--keep-going"]) == 1
    said = capsys.readouterr().err
    assert "NoSuchField" in said and "broken.yml:1: YAML" in said
    names = {path.split("/")[-1] for path in snapshot(out)}
    assert {"proc_good.kql", "proc_good.spl", "proc_good.lucene", "manifest.json"} <= names
    assert not any("bad" in name.lower() for name in names)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["build", "--rules", "/nowhere", "--out", "x"], ["replay", "/nowhere.json"]]
)
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(["--root", str(ROOT), *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and capsys.readouterr().err


def test_pack_is_loaded_once_and_stays_as_it_was() -> None:
    first, second = build.make(load_pack(ROOT)), build.make(load_pack(ROOT))
    assert first == second
