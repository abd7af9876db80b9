"""The trap: a fast build that is not the same build.

Several processes, or a folder that was built before, change how long it takes and nothing else: the bytes,
the findings and their order are those of one process that starts from nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.build import dist as build
from detection_pack.build import outcomes, state
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.pipeline import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from support import corpus
from support.checkout import snapshot

RULE = """title: Somebody Asks Who They Are
id: 3b0c1f6e-2f0a-4a7e-9d60-58d5c2b1a901
logsource: {product: windows, category: process_creation}
detection:
  selection: {CommandLine|contains: whoami}
  condition: selection
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rules, most of them fine, one with the id of another and some that are refused."""
    folder = tmp_path_factory.mktemp("rules")
    corpus.write(folder, count=60, seed=7)
    added = {
        "broken.yml": "title: [",
        "an_id.yml": RULE,
        "same_id.yml": RULE,
        "unknown_field.yml": RULE.replace("CommandLine", "ComandLine"),
    }
    for name, text in added.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(rules: Path) -> build.Built:
    return build.make_folder(ROOT, rules, keep_going=True)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the rule files that are converted from here on."""
    converted: list[str] = []

    def watched(path: Path, tier: str, named_by_stem: bool) -> Rule:
        converted.append(path.name)
        return load_rule(path, tier, named_by_stem)

    monkeypatch.setattr(outcomes, "load_rule", watched)
    return converted


def test_several_processes_make_the_same(rules: Path, whole: build.Built) -> None:
    assert build.make_folder(ROOT, rules, keep_going=True, jobs=3) == whole
    assert whole.rules > 30 and any("same_id.yml" in finding.path for finding in whole.refused)


def test_one_refusal_ends_a_build_that_does_not_keep_going(rules: Path, whole: build.Built) -> None:
    with pytest.raises(PackError) as refusal:
        build.make_folder(ROOT, rules, jobs=2)
    assert refusal.value.findings == whole.refused


def test_a_second_build_converts_nothing(
    rules: Path, whole: build.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build.write(whole, out)
    first = {path: path.stat().st_ino for path in out.rglob("*")}
    converted = watch(monkeypatch)
    again = build.make_folder(ROOT, rules, keep_going=True, before=out)
    assert again == whole
    # It has an id that is taken, so none of its files are in the folder; without the other it would be fine.
    assert converted == ["same_id.yml"]
    build.write(again, out)
    assert {path: path.stat().st_ino for path in out.rglob("*")} == first, "nothing was to be written"


def test_only_what_changed_is_converted(
    rules: Path, whole: build.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing, out = tmp_path / "rules", tmp_path / "out"
    shutil.copytree(rules, changing)
    command = ["--root", str(ROOT), "build", "--rules", str(changing), "--out", str(out), "--keep-going"]
    assert main(command) == 1
    names = [entry["name"] for entry in json.loads((out / "manifest.json").read_bytes())["rules"]]
    changed, removed = (next(changing.rglob(f"{names[n]}.yml")) for n in (3, 5))
    changed.write_text(changed.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    removed.unlink()
    converted = watch(monkeypatch)
    assert main(command) == 1
    assert sorted(converted) == sorted({changed.name, "same_id.yml"})
    monkeypatch.undo()
    assert snapshot(out)["manifest.json"] == build.make_folder(ROOT, changing, True).files["manifest.json"]
    assert not list(out.rglob(f"{names[5]}.*"))


@pytest.mark.parametrize(
    "spoiled",
    [
        "an artefact",
        "no artefact",
        "the state's key",
        "no JSON",
        "another shape",
        "a part of another shape",
        "a path out of the folder",
    ],
)
def test_what_does_not_fit_is_made_anew(
    spoiled: str, rules: Path, whole: build.Built, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build.write(whole, out)
    query = next((out / "splunk" / "queries").glob("*.spl"))
    kept = out / state.FILE
    stated = json.loads(kept.read_bytes())
    match spoiled:
        case "an artefact":
            query.write_text("search *", encoding="utf-8")
        case "no artefact":
            query.unlink()
        case "the state's key":
            kept.write_text(json.dumps(stated | {"key": "0"}), encoding="utf-8")
        case "no JSON":
            kept.write_bytes(b"\xff{")
        case "another shape":
            kept.write_text("[1]", encoding="utf-8")
        case "a part of another shape":
            for rule in stated["rules"].values():
                rule["parts"] = {"sentinel": 5}
            kept.write_text(json.dumps(stated), encoding="utf-8")
        case "a path out of the folder":
            (tmp_path / "evil.kql").write_text("evil", encoding="utf-8")
            for rule in stated["rules"].values():
                for part in rule["parts"].values():
                    part["artefacts"] = {"../evil.kql": sha256(b"evil").hexdigest()}
            kept.write_text(json.dumps(stated), encoding="utf-8")
    again = build.make_folder(ROOT, rules, keep_going=True, before=out)
    assert again == whole
    build.write(again, out)
    assert snapshot(out) == whole.files


def test_the_key_knows_the_pipelines_the_platforms_and_the_version(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    setting = outcomes.Setting({}, "1.0.0")
    keys = {state.key(tmp_path, setting)}
    assert state.key(tmp_path, outcomes.Setting({"a": None}, "1.0.0")) in keys  # type: ignore[dict-item]
    keys |= {state.key(tmp_path, outcomes.Setting({}, "1.0.1"))}
    keys |= {state.key(tmp_path, outcomes.Setting({}, "1.0.0", ("elastic",)))}
    with (tmp_path / "pipelines" / "m365" / "elastic.yml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    keys |= {state.key(tmp_path, setting)}
    assert len(keys) == 4


def test_the_state_is_one_of_the_files_and_the_same_anywhere(
    rules: Path, whole: build.Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    shutil.copytree(rules, elsewhere)
    command = ["--root", str(ROOT), "build", "--rules", str(elsewhere), "--out", str(out), "--keep-going"]
    assert main(command) == 1
    assert snapshot(out) == whole.files
    listed = json.loads(whole.files["manifest.json"])["artefacts"]
    assert {"path": state.FILE, "sha256": sha256(whole.files[state.FILE]).hexdigest()} in listed
    capsys.readouterr()
    assert main([*command, "--check"]) == 1
    assert all(str(elsewhere) in line for line in capsys.readouterr().err.splitlines())
    assert not (ROOT / "dist" / state.FILE).exists()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_platform_alone(platform: str, rules: Path, whole: build.Built, tmp_path: Path) -> None:
    built = build.make_folder(ROOT, rules, keep_going=True, platforms=[platform])
    assert built.rules >= whole.rules
    folders = {path.split("/")[0] for path in built.files if "/" in path}
    assert folders == {platform, *(["defender"] if platform == "sentinel" else [])}


def test_the_number_of_processes_is_a_small_number(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("0", "-1", "257", "x", "²"):
        with pytest.raises(SystemExit) as stopped:
            main(["--root", str(ROOT), "build", "--jobs", text])
        assert stopped.value.code == 2
    assert 1 <= outcomes.processors() <= (os.cpu_count() or 1)


def test_a_platform_is_chosen_for_rules_of_ones_own_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "build", "--platform", "elastic"])
    assert stopped.value.code == 2 and "goes with --rules" in capsys.readouterr().err
