"""The trap: a table of shares that counts other rules than those that are built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench_corpus
from conftest import ROOT
from detection_pack.build.dist import make_folder
from detection_pack.build.outcomes import Outcome
from detection_pack.model.log_source import source_of
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.platform_names import PLATFORMS
from support import corpus, rule_recordings


def test_the_shares_of_a_checkout_are_those_of_its_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = corpus.write(tmp_path / "rules", 12, 7)
    (tmp_path / "rules" / "broken.yml").write_text("title: [", encoding="utf-8")
    rule_recordings.write(tmp_path / "regression_data", paths[:2])
    assert bench_corpus.main(tmp_path) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    built = make_folder(ROOT, tmp_path / "rules", keep_going=True)
    listed = json.loads(built.files["manifest.json"])["rules"]
    (total,) = (line.split() for line in lines if line.startswith("all "))
    counts = {name: sum(name not in rule.get("absent", {}) for rule in listed) for name in PLATFORMS}
    assert [int(cell) for cell in total[1:] if "(" not in cell] == [13, *counts.values()]
    assert f"({counts['splunk'] / 13:.1%})" in total
    sources = [line for line in lines if line.startswith("windows/process_creation ")]
    processes = sum("process_creation" in str(path) for path in paths)
    assert [int(line.split()[1]) for line in sources] == [processes, processes]  # as a goal, and as a source
    assert any(line.startswith("none stated ") for line in lines)
    assert "2 of 2 recordings found by their rules wherever these are built" in lines


def outcome(path: str, *platforms: str) -> Outcome:
    return Outcome(path, path, parts=dict.fromkeys(platforms))  # type: ignore[arg-type]


def test_a_goal_is_met_by_every_platform_or_named() -> None:
    sources = {"a": {"product": "x", "service": "s"}, "b": {"product": "x"}, "c": {"product": "\x1b[31m"}}
    rules = [outcome("a", *PLATFORMS), outcome("b", "splunk"), outcome("c")]
    half, all_of = (dict.fromkeys(PLATFORMS, share) for share in (0.5, 1.0))
    lines, fine = bench_corpus.tables(rules, sources, [bench_corpus.Goal({"product": "x"}, half)])
    assert fine and lines[2].split()[:2] == ["x", "2"] and lines[2].endswith("met")
    lines, fine = bench_corpus.tables(rules, sources, [bench_corpus.Goal({"product": "x"}, all_of)])
    assert not fine and "sentinel below 100.0%" in lines[2] and "splunk below" not in lines[2]
    # A goal for which there is no rule says nothing; hostile names are escaped.
    lines, fine = bench_corpus.tables(rules, sources, [bench_corpus.Goal({"product": "y"}, all_of)])
    assert fine and lines[0].startswith("log source") and all(line.isprintable() for line in lines)


def test_every_goal_can_be_read() -> None:
    goals = bench_corpus.load_goals()
    assert len(goals) == 5 and all(set(goal.least) <= set(PLATFORMS) for goal in goals)
    sources = load_log_sources(ROOT)
    for goal in goals:
        source = source_of(sources, goal.logsource)
        # Where the pack knows that a platform has no such records there is nothing to aim at.
        assert source is not None and set(goal.least) == set(PLATFORMS) - set(source.absent)


def test_nothing_to_measure_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_corpus.main(tmp_path / "missing") == bench_corpus.main(tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
