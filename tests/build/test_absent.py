"""The trap: a platform that has no such records is given a rule all the same, or loses one without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.build.dist import make, make_folder
from detection_pack.checks.validate import validate
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.pages import rule_pages
from detection_pack.replay.verdict import all_cases, execute, judge
from support.checkout import copy_of_the_pack

MADE_UP = ROOT / "tests" / "data" / "made_up_source"
WHY = "the controllers of the doors have no connector there"
SOURCE = Path("pipelines/door_access")
RULE = Path("sigma/extended/forced_vault_door.yml")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = copy_of_the_pack(tmp_path)
    shutil.copytree(MADE_UP, folder, dirs_exist_ok=True)
    return folder


def without_defender(copy: Path) -> None:
    """The source as one that Defender has no records of."""
    for path in (copy / SOURCE).glob("defender.*"):
        path.unlink()
    with (copy / SOURCE / "source.yml").open("a", encoding="utf-8") as file:
        file.write(f"absent: {{defender: {WHY}}}\n")


def of_the_pack(copy: Path) -> tuple[Pack, dict[str, bytes]]:
    pack = load_pack(copy)
    return pack, make(pack).files


def entry(files: dict[str, bytes]) -> dict[str, object]:
    [found] = [one for one in json.loads(files["manifest.json"])["rules"] if one["name"] == RULE.stem]
    return dict(found)


def test_a_source_may_be_absent_from_a_platform(copy: Path) -> None:
    without_defender(copy)
    pack, files = of_the_pack(copy)
    assert entry(files)["absent"] == {"defender": [WHY]}
    assert f"defender/queries/{RULE.stem}.kql" not in files
    assert f"sentinel/queries/{RULE.stem}.kql" in files
    page = rule_pages.folder(pack, make(pack)).files[f"{RULE.stem}.md"].decode()
    assert WHY in page
    assert [f for f in validate(copy, [copy / RULE], execute=False) if f.severity == "error"] == []


def test_the_other_platforms_still_prove_it(copy: Path) -> None:
    without_defender(copy)
    pack, files = of_the_pack(copy)
    for path, content in files.items():
        (copy / "dist" / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / "dist" / path).write_bytes(content)
    stale = copy / "dist" / "defender" / "queries" / f"{RULE.stem}.kql"
    assert not stale.exists()
    cases = all_cases(copy, [pack.rule(RULE.stem)], pack.sources)
    verdicts = judge(copy / "dist", cases, execute(copy / "dist", cases, sources=pack.sources.values()))
    assert {v.artefact.partition("/")[0] for v in verdicts} == {"elastic", "sentinel", "splunk"}
    assert [line for v in verdicts for line in v.wrong] == []


def test_a_rule_may_be_absent_from_a_platform(copy: Path) -> None:
    with (copy / RULE).open("a", encoding="utf-8") as file:
        file.write("absent: {splunk: the field is not indexed}\n")
    _, files = of_the_pack(copy)
    assert entry(files)["absent"] == {"splunk": ["the field is not indexed"]}
    assert [path for path in files if RULE.stem in path and path.startswith("splunk/")] == []
    assert RULE.stem.encode() not in files["splunk/macros.conf"]


def test_a_rule_that_is_absent_from_sentinel_names_no_tables_of_it(copy: Path) -> None:
    text = (copy / RULE).read_text(encoding="utf-8").replace("required_tables:\n  - DoorGuard_CL\n", "")
    (copy / RULE).write_text(text, encoding="utf-8")
    said = [f.what for f in validate(copy, [copy / RULE], execute=False)]
    assert [what for what in said if "required_tables" in what] == said != []
    (copy / RULE).write_text(text + "absent: {sentinel: no connector has it}\n", encoding="utf-8")
    assert validate(copy, [copy / RULE], execute=False) == []


def test_anybodys_rule_for_such_a_source_is_refused_there_with_the_reason(copy: Path, tmp_path: Path) -> None:
    without_defender(copy)
    rules = tmp_path / "rules"
    rules.mkdir()
    shutil.copy(copy / RULE, rules)
    built = make_folder(copy, rules, keep_going=True)
    assert [WHY in finding.what for finding in built.refused] == [True]
    assert built.rules == 1
    assert not [path for path in built.files if path.startswith("defender/queries/")]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("absent: {defendr: no table}", '"defendr" is not a platform'),
        ("absent: {defender: }", "gives no reason for defender"),
        ("absent: [defender]", '"absent:" is not a mapping'),
        ("absent: {defender: a, elastic: a, sentinel: a, splunk: a}", "is for no platform"),
    ],
)
def test_what_a_rule_cannot_say_of_it(copy: Path, stated: str, said: str) -> None:
    with (copy / RULE).open("a", encoding="utf-8") as file:
        file.write(stated + "\n")
    assert [said in finding.what for finding in validate(copy, [copy / RULE], execute=False)] == [True]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("absent: {defender: no connector}", "defender.yml stands beside it"),
        ("absent: {defendr: no connector}", '"defendr" is not a platform'),
        ("absent: {defender: 3}", "is not a text"),
        ("absent: [defender]", "is not a mapping"),
    ],
)
def test_what_a_source_cannot_say_of_it(copy: Path, stated: str, said: str) -> None:
    if said == "is not a text":
        (copy / SOURCE / "defender.yml").unlink()
    with (copy / SOURCE / "source.yml").open("a", encoding="utf-8") as file:
        file.write(stated + "\n")
    with pytest.raises(PackError) as refused:
        load_pack(copy)
    assert said in str(refused.value)
