"""The trap: a log source that is data by name only, because a line of code still knows those that came first.

A copy of the pack gets one folder of a source that nobody has (`tests/data/made_up_source`: nested records,
times by a pattern, an identity of two parts, an enumeration, tables, an index and a sourcetype of its own), a
rule and its events. It is built, checked and executed on every platform by the code as it stands.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.build.dist import Built, make, write
from detection_pack.checks.validate import validate
from detection_pack.model.case import Case
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import Pack, load_pack
from detection_pack.pages import rule_pages
from detection_pack.replay.verdict import all_cases, exact, execute, judge, replay
from support.checkout import copy_of_the_pack
from support.exports import read_events

MADE_UP = ROOT / "tests" / "data" / "made_up_source"
SOURCE, RULE = "door_access", "forced_vault_door"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_the_pack(tmp_path_factory.mktemp("pack"))
    shutil.copytree(MADE_UP, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def pack_with(copy: Path) -> Pack:
    return load_pack(copy)


@pytest.fixture(scope="module")
def built(pack_with: Pack) -> Built:
    made = make(pack_with)
    write(made, pack_with.root / "dist", rule_pages.folder(pack_with, made))
    return made


def test_it_is_one_folder_a_rule_and_its_events() -> None:
    files = {path.relative_to(MADE_UP).as_posix() for path in MADE_UP.rglob("*") if path.is_file()}
    others = {path for path in files if not path.startswith(f"pipelines/{SOURCE}/")}
    assert others == {f"sigma/extended/{RULE}.yml", f"tests/events/{RULE}.yml"}
    assert not [path for path in files if path.endswith((".py", ".pyc"))]
    assert not (ROOT / "pipelines" / SOURCE).exists()


def test_it_is_executed_on_every_platform(pack_with: Pack, built: Built) -> None:
    rules = [pack_with.rule(RULE)]
    sources = pack_with.sources
    cases: dict[str, list[Case]] = all_cases(pack_with.root, rules, sources)
    dist = pack_with.root / "dist"
    verdicts = judge(dist, cases, execute(dist, cases, sources=sources.values()))
    assert [line for verdict in verdicts for line in verdict.wrong] == []
    assert {verdict.must_match for verdict in verdicts} == {12} == {verdict.must_not for verdict in verdicts}
    executed = {verdict.artefact.rpartition("#")[0] or verdict.artefact for verdict in verdicts}
    assert {
        f"sentinel/queries/{RULE}.kql",
        f"defender/queries/{RULE}.kql",
        f"splunk/queries/{RULE}.spl",
    } <= executed
    assert {f"elastic/queries/{RULE}.lucene", f"sentinel/analytics/{RULE}.yaml"} <= executed


def test_its_names_stand_in_what_is_built(built: Built) -> None:
    text = {path: content.decode("utf-8", "replace") for path, content in built.files.items()}
    assert text[f"sentinel/queries/{RULE}.kql"].count("DoorGuard_CL") == 1
    assert "DoorGuardEvents\n" in text[f"defender/queries/{RULE}.kql"]
    assert "`doorguard_events`" in text[f"splunk/queries/{RULE}.spl"]
    assert 'index=doors sourcetype="doorguard:json"' in text["splunk/macros.conf"]
    assert "logs-doorguard.access-*" in text["elastic/rules.ndjson"]
    assert "doorguard.door" in text[f"elastic/queries/{RULE}.lucene"]
    # The enumeration: a number on the one side, a name on the other.
    assert "EventKind == 1" in text[f"sentinel/queries/{RULE}.kql"]
    assert "Forced" in text[f"elastic/queries/{RULE}.lucene"]


def test_the_packs_own_rules_stay_as_they_are(built: Built) -> None:
    files = {path.relative_to(ROOT / "dist").as_posix() for path in (ROOT / "dist").rglob("*.*")}
    own = {path for path in files if path.split("/")[-2:-1] in (["queries"], ["analytics"])}
    assert own
    for path in own:
        assert built.files[path] == (ROOT / "dist" / path).read_bytes(), path


def test_nothing_is_found_against_it(copy: Path, built: Built) -> None:
    findings = validate(copy, [copy / "sigma" / "extended", copy / "pipelines" / SOURCE], execute=False)
    assert [str(finding) for finding in findings] == []


def test_an_export_of_it_is_read_and_replayed(pack_with: Pack, built: Built, tmp_path: Path) -> None:
    record = {
        "site": "east",
        "serial": 77,
        "seen": {"at": "31.12.2025 23:59:59"},
        "kind": 1,
        "door": "Vault 1",
        "actor": {"email": "Eve@corp.example"},
    }
    lines = [record, {**record, "serial": 78, "kind": 0}, record, {"other": "log"}]
    path = tmp_path / "doors.log"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    events = read_events([path], pack_with.sources)
    assert [(event.kind, event.id) for event in events] == [(SOURCE, "east/77"), (SOURCE, "east/78")]
    assert events[0].time is not None and events[0].time.isoformat() == "2025-12-31T23:59:59+00:00"
    hits = exact(replay(pack_with.root / "dist", events, rules=None, sources=pack_with.sources.values()))
    found = {hit.platform: hit.events for hit in hits if hit.rule == RULE}
    assert found == dict.fromkeys(("sentinel", "defender", "splunk", "elastic"), frozenset({"east/77"}))
    assert {hit.rule for hit in hits} == {RULE}


def test_without_the_folder_the_rule_is_refused_with_its_line(copy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(copy, tmp_path / "pack")
    shutil.rmtree(folder / "pipelines" / SOURCE)
    assert SOURCE not in load_log_sources(folder)
    lone = [folder / "sigma" / "extended" / f"{RULE}.yml"]
    findings = [f for f in validate(folder, lone, execute=False) if f.check == "unknown-log-source"]
    assert [(Path(f.path).stem, f.line) for f in findings] == [(RULE, 15)]
