"""The trap: a rule that is refused for its metadata.

75 of 1,183 rules of SigmaHQ named techniques that the pack's ATT&CK did not have yet, and none of them was
built. A build warns and leaves out; what is left out depends on the version in use, in every process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.build import dist as build
from detection_pack.build.outcomes import Setting
from detection_pack.cli import main
from detection_pack.model.attack import attack, packaged, using
from detection_pack.model.attack_bundle import load_attack
from detection_pack.model.pack import Pack
from detection_pack.pages import rule_pages
from support.stix import revoked_by, stix_file, technique

OLDER = ROOT / "tests" / "data" / "enterprise-attack-18.1-names.json"
RULE = """title: Probe
logsource: {{product: windows, category: process_creation}}
tags: [{tags}]
detection:
  s: {{Image|endswith: '\\a.exe'}}
  condition: s
level: medium
"""
Built = Callable[..., tuple[int, str, dict[str, Any], dict[str, Any]]]


@pytest.fixture
def built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Built:
    """The exit code of a build of one rule with these tags, what it said, Sentinel's rule and Kibana's."""

    def run(tags: str, *arguments: str) -> tuple[int, str, dict[str, Any], dict[str, Any]]:
        folder, out = tmp_path / "rules", tmp_path / "out"
        folder.mkdir(exist_ok=True)
        (folder / "probe.yml").write_text(RULE.format(tags=tags), encoding="utf-8")
        command = ["--root", str(ROOT), "build", "--rules", str(folder), "--out", str(out), *arguments]
        code = main(command)
        sentinel = yaml.safe_load((out / "sentinel" / "analytics" / "probe.yaml").read_text(encoding="utf-8"))
        kibana = json.loads((out / "elastic" / "rules.ndjson").read_text(encoding="utf-8").split("\n")[0])
        return code, capsys.readouterr().err, sentinel, kibana

    return run


def ids(kibana: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(t["tactic"]["id"], [one["id"] for one in t["technique"]]) for t in kibana["threat"]]


def test_a_technique_of_attack_19_is_built(built: Built) -> None:
    code, said, sentinel, kibana = built("attack.t1685")
    assert (code, said) == (0, "")
    assert (sentinel["tactics"], sentinel["relevantTechniques"]) == (["DefenseEvasion"], ["T1562"])
    assert ids(kibana) == [("TA0112", ["T1685"])]


def test_a_technique_without_its_tactic_gets_it_in_sentinel(built: Built) -> None:
    for tags in ("attack.stealth, attack.t1027", "attack.t1027"):
        code, said, sentinel, kibana = built(tags)
        assert (code, said) == (0, "")
        assert (sentinel["tactics"], sentinel["relevantTechniques"]) == (["DefenseEvasion"], ["T1027"])
        assert ids(kibana) == [("TA0005", ["T1027"])]


def test_an_unknown_technique_is_a_warning_and_is_left_out(built: Built) -> None:
    code, said, sentinel, kibana = built("attack.collection, attack.t9999")
    assert code == 0 and said.count("\n") == 1
    assert 'probe.yml:3: warning: the tag "attack.t9999" names no technique of ATT&CK Enterprise 19.2' in said
    assert (sentinel["tactics"], sentinel["relevantTechniques"]) == (["Collection"], [])
    assert ids(kibana) == [("TA0009", [])]


def test_a_revoked_technique_names_its_successor(built: Built) -> None:
    code, said, sentinel, kibana = built("attack.defense-evasion, attack.t1562.001")
    assert code == 0 and said.count("\n") == 1 and ":3: warning: " in said
    assert "ATT&CK Enterprise 19.2 revoked; use attack.t1685 (Disable or Modify Tools)" in said
    assert (sentinel["tactics"], sentinel["relevantTechniques"]) == (["DefenseEvasion"], ["T1562.001"])
    assert ids(kibana) == [("TA0005", [])]


def test_a_file_of_the_sites_own_takes_the_place_of_the_data(built: Built, tmp_path: Path) -> None:
    code, said, sentinel, kibana = built("attack.t1685", "--attack", str(OLDER))
    assert code == 0 and "names no technique of ATT&CK Enterprise 18.1" in said
    assert (sentinel["tactics"], sentinel["relevantTechniques"], ids(kibana)) == ([], [], [])
    more = [technique("T1999", "To Come", ("impact",)), technique("T1998", "Was", (), revoked=True)]
    own = stix_file(tmp_path / "own.json", packaged(), *more, revoked_by("T1998", "T1999"))
    code, said, sentinel, kibana = built("attack.t1998, attack.t1999", "--attack", str(own))
    assert code == 0 and "revoked; use attack.t1999 (To Come)" in said and said.count("\n") == 1
    assert (sentinel["tactics"], sentinel["relevantTechniques"]) == (["Impact"], [])
    assert ids(kibana) == [("TA0040", ["T1999"])]
    assert attack() is packaged()


@pytest.mark.parametrize("command", ["build", "validate"])
def test_a_bad_file_is_one_line_and_wrong_use(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), command, "--attack", str(bad)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"{bad}:1: is not JSON; name MITRE's enterprise-attack.json\n"


def test_every_process_knows_the_same_version(tmp_path: Path) -> None:
    for number in range(40):
        tags = f"attack.impact, attack.t{1485 + number}"
        (tmp_path / f"rule_{number:02}.yml").write_text(RULE.format(tags=tags), encoding="utf-8")
    one = build.make_folder(ROOT, tmp_path)
    with using(load_attack(OLDER)):
        assert Setting({}, "1.0.0").attack is attack()
        older = build.make_folder(ROOT, tmp_path)
        assert build.make_folder(ROOT, tmp_path, jobs=2) == older != one


def test_a_process_that_was_not_forked_is_told_the_version(tmp_path: Path) -> None:
    program = """
import multiprocessing, sys
from pathlib import Path
from detection_pack.build import dist, outcomes
from detection_pack.model.attack import using
from detection_pack.model.attack_bundle import load_attack
if __name__ == "__main__":
    outcomes.sys = type("Elsewhere", (), {"platform": "darwin"})
    multiprocessing.set_start_method("spawn")
    with using(load_attack(Path(sys.argv[1]))):
        built = dist.make_folder(Path(sys.argv[2]), Path(sys.argv[3]), jobs=2)
    print(len(built.warnings), all("Enterprise 18.1" in one.what for one in built.warnings))
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    (tmp_path / "rules").mkdir()
    for number in range(32):
        path = tmp_path / "rules" / f"rule_{number:02}.yml"
        path.write_text(RULE.format(tags="attack.t1685"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(OLDER), str(ROOT), str(tmp_path / "rules")],
        env={"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "32 True\n", done.stderr


def test_a_rule_page_names_what_is_in_use(pack: Pack) -> None:
    with using(load_attack(OLDER)):
        built = build.make(pack)
    name = pack.rules[0].name
    page = rule_pages.pages(pack, built, {})[f"docs/rules/{name}.md"].decode()
    assert "[T1114.002 Remote Email Collection](https://attack.mitre.org/techniques/T1114/002/)" in page
    gone = {key: one for key, one in packaged().techniques.items() if not key.startswith("T1114")}
    with using(type(packaged())("99", packaged().tactics, gone)):
        page = rule_pages.pages(pack, built, {})[f"docs/rules/{name}.md"].decode()
    assert "T1114.002" not in page.split("## What it finds")[0] and "| ATT&CK | none |" in page
