"""The trap: a table of costs that compares other queries than those that are built, or asks an empty node."""

from __future__ import annotations

from pathlib import Path

import pytest

import bench_elastic
from conftest import DIST, ROOT
from detection_pack.model.findings import Finding
from detection_pack.model.pack import load_pack
from judges import elasticsearch_judge, require
from support import rule_folders

PAIR = bench_elastic.Pair("r", ("*",), "a", "b")


@pytest.mark.parametrize(
    ("ours", "stock", "fine"),
    [(99.0, 1.0, True), (101.0, 1.0, False), (600.0, 200.0, True), (601.0, 200.0, False), (1.0, 0.0, True)],
)
def test_the_goal_is_three_times_stock_or_a_tenth_of_a_second(ours: float, stock: float, fine: bool) -> None:
    # What else the machine did, which the medians show, does not decide.
    cost = bench_elastic.Cost(PAIR, (ours, 9_999.0), (stock, 0.0))
    assert cost.fine is fine and cost.cells()[-1] == ("" if fine else "no")


def test_what_is_compared_is_what_is_built() -> None:
    found = {pair.rule: pair for pair in bench_elastic.pairs(load_pack(ROOT))}
    assert len(found) > 40
    for name, pair in found.items():
        built = (DIST / "elastic" / "queries" / f"{name}.lucene").read_text(encoding="utf-8")
        assert pair.ours == built.strip()
        assert pair.stock != pair.ours


@pytest.mark.campaign
def test_the_table_is_of_all_rules_and_of_documents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(elasticsearch_judge.available("8"))
    findings: list[Finding] = []
    few = load_pack(ROOT, rule_folders.write(tmp_path / "few", {"whoami.yml": rule_folders.WHOAMI}), findings)
    monkeypatch.setattr(bench_elastic, "load_pack", lambda *_: few)
    bench_elastic.measure(2, 1, 1, "8")
    said = capsys.readouterr().out
    assert said.count(" of 1 rules within 3 x stock or 100 ms") == 2 and said.count("\nwhoami ") == 2
