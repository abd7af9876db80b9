"""The trap: a union that is not the sum of its rules.

The union of each platform, executed as it stands on all events of tests/events: the rows of all core rules,
each exactly once, in the seven columns, newest first. And on every platform a rule shows an analyst the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Event, Hit
from detection_pack.model.pack import Pack
from detection_pack.model.rule import AlertView
from detection_pack.platforms.kusto.query import SentinelQuery
from detection_pack.platforms.sentinel.platform import union
from detection_pack.replay.verdict import all_cases, clock_for
from support.engines import ENGINES, kql_union, spl_union

UNIONS: dict[str, Callable[..., Sequence[Mapping[str, Any]]]] = {
    "sentinel": kql_union,
    "splunk": spl_union,
}
TIME = {"sentinel": "TimeGenerated", "splunk": "_time", "elastic": "time"}


@pytest.fixture(scope="module")
def events(pack: Pack) -> list[Event]:
    cases = all_cases(ROOT, pack.rules, pack.sources)
    return [event for listed in cases.values() for case in listed for event in case.events]


def moment(value: Any) -> datetime:
    assert isinstance(value, datetime)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def shown(row: Mapping[str, Any], time: str) -> tuple[object, ...]:
    """A result row as an analyst reads it; what a set of operations looks like is each platform's own."""
    texts = [str(row[column] or "") for column in AlertView.COLUMNS]
    return (moment(row[time]), *texts)


@pytest.mark.parametrize("platform", sorted(UNIONS))
def test_union_is_the_sum_of_its_rules(platform: str, events: list[Event], pack: Pack) -> None:
    clock = clock_for(events)
    rows = UNIONS[platform](DIST, events, clock)
    time = TIME[platform]
    assert [list(row) for row in rows[:1]] == [[time, *AlertView.COLUMNS]]
    core = [entry for entry in rule_entries(DIST) if pack.rule(entry.name).tier == "core"]
    hits = ENGINES[platform](DIST, core, events, clock)
    single = Counter(shown(row, time) for hit in hits for row in hit.rows)
    assert len(rows) > 100 and Counter(shown(row, time) for row in rows) == single
    times = [moment(row[time]) for row in rows]
    assert times == sorted(times, reverse=True)


def test_analysts_see_the_same_on_every_platform(events: list[Event]) -> None:
    """All columns but ExtraInfo, whose lists each platform writes in its own way."""
    clock = clock_for(events)
    seen: dict[str, Counter[tuple[object, ...]]] = {}
    for platform in ("sentinel", "splunk"):
        hits: list[Hit] = ENGINES[platform](DIST, rule_entries(DIST), events, clock)
        rows = [row for hit in hits for row in hit.rows]
        seen[platform] = Counter(shown(row, TIME[platform])[:-1] for row in rows)
    assert seen["sentinel"] == seen["splunk"]


TABLE = "OfficeActivity"


def test_branches_have_names_of_their_own(pack: Pack) -> None:
    """A branch named as a table would read itself; a rule that says the time range keeps its words."""
    first, second, third = (
        SentinelQuery(name, "t", "i", back, (), f"{TABLE}\n| where x > ago(LookbackPeriod)\n{said}", TABLE)
        for name, back, said in (
            ("office_activity", "24h", '| where y == "ago(LookbackPeriod)"'),
            ("a_1b", "48h", ""),
            ("a1b", "24h", ""),
        )
    )
    text = union([first, second, third])
    names = re.findall(rf"^let (\w+) = {TABLE}$", text, re.MULTILINE)
    assert names == ["OfficeActivityRule", "A1b", "A1b_2"]
    assert f"union {', '.join(names)}\n" in text
    assert 'x > ago(OfficeActivityRuleLookback)\n| where y == "ago(LookbackPeriod)"' in text
