"""The trap: a rule that converts everywhere and no longer finds the event that it was written for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.platform_names import PLATFORMS
from support import corpus, rule_folders, rule_recordings

RECORD = {
    "UtcTime": "2026-03-10 09:15:00",
    "Computer": "ws01.contoso.example",
    "User": "CONTOSO\\alice",
    "Image": "C:\\Windows\\System32\\whoami.exe",
    "CommandLine": "whoami",
    "ParentImage": "C:\\Windows\\explorer.exe",
}
WHOAMI_ID = "11111111-1111-4111-8111-000000000001"


def replayed(rules: Path, folder: Path, *more: str) -> int:
    command = ["--root", str(ROOT), "replay", "--rules", str(rules), "--recordings", str(folder), "--quiet"]
    return main([*command, *more])


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.campaign)])
def test_every_rule_of_the_corpus_finds_its_own(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = corpus.write(tmp_path / "rules", count, 4)
    recorded = rule_recordings.write(tmp_path / "recordings", paths)
    assert len(recorded) > 0.7 * count
    code = replayed(tmp_path / "rules", tmp_path / "recordings", "--format", "json")
    said = json.loads(capsys.readouterr().out)
    missed = [one for one in said["results"] if one["outcome"] not in ("found", "not built")]
    assert missed == [] and said["failed"] == [] and code == 0
    assert len(said["results"]) == len(recorded) * len(PLATFORMS)
    assert sum(one["outcome"] == "found" for one in said["results"]) > 0.9 * len(said["results"])
    assert all(one["reason"] for one in said["results"] if one["outcome"] == "not built")
    assert said["of_no_rule"] == said["not_read"] == []
    assert len(said["without_recording"]) == count - len(recorded)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Rules that find theirs, miss it, count events, have none, or none that can be read."""
    folder = tmp_path_factory.mktemp("mixed")
    rules = {
        "whoami.yml": rule_folders.WHOAMI,
        "net.yml": rule_folders.NET,
        "bare.yml": rule_folders.rule("Bare", "bare", "bare", 3),
        "raw.yml": rule_folders.rule("Raw", "raw", "raw", 4),
        "many.yml": rule_folders.rule("Each", "whoami", "each_one", 5)
        + rule_folders.END
        + rule_folders.correlation("each_one", more="id: 11111111-1111-4111-8111-000000000009\n"),
    }
    rule_folders.write(folder / "rules", rules)
    one = rule_recordings.evtx_dump(RECORD, 1)
    three = "".join(
        rule_recordings.evtx_dump({**RECORD, "UtcTime": f"2026-03-10 09:15:0{n}"}, n) for n in range(3)
    )
    rule_folders.write(
        folder / "recordings",
        {
            # By its id, in SigmaHQ's layout; two events where as many are asked for.
            f"a/{WHOAMI_ID}.json": one + one.replace("09:15:00", "09:16:00").replace("T09:15", "T09:16"),
            "a/info.yml": f"rule_metadata: [{{id: {WHOAMI_ID}}}]\nregression_tests_info:\n"
            f"  - {{type: json, match_count: 2, path: regression_data/a/{WHOAMI_ID}.json}}\n"
            f"  - {{type: evtx, match_count: 1, path: regression_data/a/{WHOAMI_ID}.evtx}}\n"
            "  - {type: json, path: regression_data/a/gone.json}\n",
            # By the file of the rule, which looks for another program.
            "net.json": one,
            "11111111-1111-4111-8111-000000000009.ndjson": three,
            "raw/11111111-1111-4111-8111-000000000004.evtx": "ElfFile",
            "nobody\x1b[31m.json": one,
        },
    )
    return folder / "rules", folder / "recordings"


def test_a_rule_that_misses_its_own_is_a_finding(
    mixed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert replayed(*mixed, "--format", "json") == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert outcomes(found, "whoami") == {"found"} and outcomes(found, "many") == {"found"}
    assert outcomes(found, "net") == {"missed"}
    assert [one["rule"] for one in found["failed"]] == ["net"]
    assert {"bare", "raw"} <= set(found["without_recording"])
    assert len(found["of_no_rule"]) == 1
    gone, raw = said.err.splitlines()
    assert "000000000004.evtx" in raw and "is not JSON" in raw
    assert "lacks gone.json" in gone  # its .evtx is not needed beside the JSON


def outcomes(found: dict[str, Any], rule: str) -> set[str]:
    listed = [one for one in found["results"] if one["rule"] == rule]
    assert [one["platform"] for one in listed] == list(PLATFORMS)
    return {one["outcome"] for one in listed}


def test_the_table_counts_what_nobody_could_judge(
    mixed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert replayed(*mixed, "--platform", "splunk") == 1
    text = capsys.readouterr().out
    assert "0 of its 1 events, must be 1" in text and "2 of 3 recordings found" in text
    assert "1 recordings of no rule" in text and all(line.isprintable() for line in text.splitlines())


def test_a_recording_of_fewer_events_than_asked_for_is_missed(
    mixed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule_folders.write(tmp_path, {f"{WHOAMI_ID}.json": rule_recordings.evtx_dump(RECORD, 1)})
    information = mixed[1] / "a" / "info.yml"
    (tmp_path / "info.yml").write_bytes(information.read_bytes())
    assert replayed(mixed[0], tmp_path, "--platform", "splunk") == 1
    assert "1 of its 1 events, must be 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--rules", str(ROOT / "sigma")], "--recordings"),
        (["--recordings", str(ROOT / "sigma")], "--rules"),
        (["--rules", str(ROOT / "sigma"), "--recordings", str(ROOT / "README.md")], "README.md"),
        (["--rules", str(ROOT / "sigma"), "--recordings", str(ROOT / "sigma"), "x.json"], "LOG"),
    ],
)
def test_options_that_do_not_go_together(
    more: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "replay", *more])
    assert ended.value.code == 2 and named in capsys.readouterr().err
