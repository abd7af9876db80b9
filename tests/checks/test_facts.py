"""The trap: a rule that rests on what a vendor changed long ago, and nobody is told to read it again."""

from __future__ import annotations

from copy import deepcopy
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.checks.facts import AGE, FILE, aged, faults
from detection_pack.model.documents import load_documents
from detection_pack.model.rule import INVESTIGATION, TIERS

TODAY = date(2026, 11, 27)
FINE: dict[str, Any] = {
    "id": "a-fact",
    "kind": "operation",
    "states": "It is so",
    "source": "A page",
    "read": "2026-11-25",
    "rules": ["one"],
}


def of(folder: Path, *stated: Any, today: date = TODAY) -> list[tuple[str, str, int]]:
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        yaml.safe_dump({"facts": [deepcopy(one) for one in stated]}, sort_keys=False), encoding="utf-8"
    )
    return [(f.check, f.severity, f.line) for f in faults(folder, {"one", "two"}, today)]


def test_every_rule_rests_on_a_fact_and_none_is_old() -> None:
    # What is asked after an alert rests on no statement of a vendor's: it asks for a value.
    tiers = set(TIERS) - {INVESTIGATION}
    names = {path.stem for path in (ROOT / "sigma").rglob("*.yml") if path.parent.name in tiers}
    assert list(faults(ROOT, names, TODAY)) == []
    stated = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))["facts"]
    assert {rule for one in stated for rule in one["rules"]} == names


def test_a_pack_without_facts_has_none_at_fault(tmp_path: Path) -> None:
    assert list(faults(tmp_path, (), TODAY)) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"id": None}, 2),
        ({"id": "No Good"}, 2),
        ({"kind": "rumour"}, 3),
        ({"states": ""}, 2),
        ({"read": "yesterday"}, 6),
        ({"read": "2026-11-28"}, 6),
        ({"until": "soon"}, 9),
        ({"confirmed": "maybe"}, 9),
        ({"rules": "one"}, 7),
        ({"rules": ["one", "three"]}, 9),
        ({"seen": "2026-11-25"}, 9),
    ],
)
def test_a_fact_that_is_not_well_made(changed: dict[str, Any], line: int, tmp_path: Path) -> None:
    assert of(tmp_path, {**FINE, **changed}) == [("fact", "error", line)]


def test_one_bad_fact_does_not_hide_the_others(tmp_path: Path) -> None:
    found = of(
        tmp_path, "no fact", {**FINE, "kind": "x"}, FINE, FINE, {**FINE, "id": "b", "read": "2020-01-01"}
    )
    assert [check for check, *_ in found] == ["fact", "fact", "fact", "stale-fact"]


def test_what_is_no_list_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / FILE).write_text("facts: 5\n", encoding="utf-8")
    [one] = faults(tmp_path, (), TODAY)
    assert "is not a list of facts" in str(one)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ago=st.integers(0, 2_000), until=st.none() | st.integers(-1_000, 1_000))
def test_it_is_old_after_a_year_or_when_its_day_has_come(tmp_path: Path, ago: int, until: int | None) -> None:
    stated = {**FINE, "read": (TODAY - timedelta(days=ago)).isoformat()}
    if until is not None:
        stated["until"] = (TODAY + timedelta(days=until)).isoformat()
    old = timedelta(days=ago) > AGE or (until is not None and until <= 0)
    assert [check for check, *_ in of(tmp_path, stated)] == (["stale-fact"] if old else [])


@pytest.mark.parametrize(("read", "old"), [("2025-11-27", False), ("2025-11-26", True), ("x", False)])
def test_other_dates_of_reading_age_too(read: str, old: bool, tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(f"seen_today:\n  in: x\n  read: {read}\n", encoding="utf-8")
    [document] = load_documents(path)
    found = list(aged(document, ("seen_today", "read"), "it", TODAY))
    assert [(f.check, f.line) for f in found] == ([("stale-fact", 3)] if old else [])
