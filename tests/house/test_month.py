"""The trap: false positives that are named and never met, and filters that nobody has tried.

Every false positive of a rule must be an activity of reference/month, and raise an alert; every alert there
must be explained by one; and figures.yml, which the pages show, must be what scripts/bench.py month makes
today.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import yaml

import bench_month
from bench_month import SHIPPED, SITE, WITHOUT, Counted, Month, MonthError
from conftest import ROOT
from detection_pack.model.pack import Pack, load_pack


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack(ROOT)


@pytest.fixture(scope="module")
def month(pack: Pack) -> Month:
    return bench_month.load_month(pack)


@pytest.fixture(scope="module")
def stated(month: Month) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((month.folder / bench_month.FIGURES).read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def first_day(pack: Pack, month: Month) -> Counted:
    """A day of every activity that is a false positive."""
    activities = [one for one in month.activities if one.false_positives]
    return bench_month.count(pack, month, activities, (SHIPPED,), first_day=True)


def test_every_false_positive_has_an_activity(pack: Pack, month: Month) -> None:
    assert list(bench_month.faults(pack, month)) == []


def test_a_false_positive_without_an_activity_is_a_fault(pack: Pack, month: Month) -> None:
    [name, number] = min(month.claimed)
    others = tuple(one for one in month.activities if (name, number) not in one.false_positives)
    said = "\n".join(bench_month.faults(pack, dataclasses.replace(month, activities=others)))
    assert f"{name}/{number}: no activity of reference/month is this false positive" in said


def test_an_activity_of_a_false_positive_that_is_gone_is_a_fault(pack: Pack, month: Month) -> None:
    fewer = dataclasses.replace(pack, rules=pack.detections[1:])
    assert f"{pack.detections[0].name} names no false positive 1" in "\n".join(
        bench_month.faults(fewer, month)
    )


def test_every_false_positive_occurs(month: Month, first_day: Counted) -> None:
    assert list(bench_month.unheard(month, first_day)) == []


def test_every_alert_is_explained_by_a_false_positive(first_day: Counted) -> None:
    assert list(bench_month.unexplained(first_day)) == []


def test_a_false_positive_that_raises_nothing_is_noticed(month: Month, first_day: Counted) -> None:
    counted = copy.deepcopy(first_day)
    [name, number] = min(month.claimed)
    for activity in month.claimed[name, number]:
        counted.rules[name][SHIPPED].by_activity.pop(activity.id, None)
    assert f"{name}/{number}: does not occur" in "\n".join(bench_month.unheard(month, counted))


def test_no_high_rule_raises_more_than_two_a_week_after_its_filters(
    pack: Pack, stated: dict[str, Any]
) -> None:
    assert list(bench_month.noisy(pack, stated)) == []
    high = next(rule for rule in pack.detections if rule.level == "high")
    loud = copy.deepcopy(stated)
    loud["rules"][high.name]["a_week"][SITE] = 2.25
    assert len(list(bench_month.noisy(pack, loud))) == 1


def test_the_figures_are_those_of_these_rules_and_of_this_month(
    pack: Pack, month: Month, stated: dict[str, Any]
) -> None:
    """Cheap, for every run: another query or other data asks for a new count (`scripts/bench.py month`)."""
    assert stated["month"]["data"] == month.digest
    queries = {rule.name: bench_month.query_digest(pack, rule.name) for rule in pack.detections}
    assert {name: about["query"] for name, about in stated["rules"].items()} == queries
    for rule in pack.detections:
        named = [number for _, number in bench_month.named_false_positives(rule)]
        assert list(stated["rules"][rule.name]["falsepositives"]) == named


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"basis": {}}, "states no basis"),
        ({"basis": {"page": "a blog"}}, "a page is its address"),
        ({"runs": {"often": 3}}, "write one of"),
        ({"falsepositives": ["mailbox_folder_opened"]}, "is not a rule and the number"),
        ({"by": "nobody"}, 'no group "nobody"'),
    ],
)
def test_a_faulty_activity_is_refused(pack: Pack, month: Month, change: dict[str, Any], said: str) -> None:
    shapes = bench_month._Shapes(pack)
    sound: dict[str, Any] = {"id": "x", "runs": {"a_week": 1}, "by": "people", "basis": {"assumption": "one"}}
    sound |= {"records": [{"like": "mailbox_folder_opened"}]}
    bench_month._activity(sound, shapes, month.groups)
    with pytest.raises(MonthError, match=said):
        bench_month._activity({**sound, **change}, shapes, month.groups)


@pytest.mark.campaign
def test_the_figures_are_what_the_month_makes_today(pack: Pack, month: Month, stated: dict[str, Any]) -> None:
    counted = bench_month.count(pack, month, kinds=(WITHOUT, SHIPPED, SITE))
    assert bench_month.figures(pack, month, counted) == stated
    assert [*bench_month.unheard(month, counted), *bench_month.unexplained(counted)] == []
