"""The trap: a union that is not the sum of its rules.

The union of each platform, executed as it stands on all events of tests/events: the rows of all core rules,
each exactly once, in the seven columns, newest first. And on every platform a rule shows an analyst the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import unescape

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.case import log_source_of
from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.model.rule import AlertView
from detection_pack.platforms.kusto.query import SentinelQuery
from detection_pack.platforms.sentinel.platform import union
from detection_pack.replay.verdict import all_cases, clock_for
from support.engines import ENGINES, kql_union, spl_union
from support.rule_sample import core_and_one_of_each_source

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


def built_for(entry: RuleEntry, platform: str) -> bool:
    return any(path.startswith(f"{platform}/") for path in entry.artefacts)


def shown(row: Mapping[str, Any], time: str) -> tuple[object, ...]:
    """A result row as an analyst reads it; what a set of operations looks like is each platform's own."""
    texts = [str(row[column] or "") for column in AlertView.COLUMNS]
    return (moment(row[time]), *texts)


def alike(text: str) -> str:
    """A text without what pipelines state of their platforms: KQL writes a list in it as JSON, SPL value
    after value; Splunk's add-on for Windows leaves the text of an event as XML has it; Sentinel's table of
    the directory has its operations without the full stop that the audit log ends some with."""
    values = re.sub(r'\["[^\]]*"\]', lambda found: " ".join(json.loads(found[0])), text)
    return unescape(values).removesuffix(".")


def listed(text: str) -> str:
    """The members of a record's list, which Splunk sets apart by a comma and KQL, as its JSON, by a blank."""
    return re.sub(r'\\(["\\])', r"\1", text.replace(", ", " "))


def unordered(text: str) -> str:
    """The values of a group, which stand in an order of each platform, an empty one among Splunk's alone."""
    return ", ".join(sorted(filter(None, text.split(", "))))


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


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_analysts_see_the_same_on_every_platform(whole: bool, pack: Pack) -> None:
    """All columns but ExtraInfo, whose lists each platform writes in its own way. Of rules that both have,
    and the records of their own log sources: another's may share a table on one platform alone."""
    both = [entry for entry in rule_entries(DIST) if all(built_for(entry, name) for name in UNIONS)]
    assert len(both) > len(rule_entries(DIST)) / 2
    if not whole:
        few = core_and_one_of_each_source(pack, {entry.name for entry in both})
        both = [entry for entry in both if entry.name in few]
    cases = all_cases(ROOT, [pack.rule(entry.name) for entry in both], pack.sources)
    events = [event for listed in cases.values() for case in listed for event in case.events]
    clock = clock_for(events)
    for source in sorted({event.kind for event in events}):
        own = [event for event in events if event.kind == source]
        here = [e for e in both if log_source_of(pack.rule(e.name), pack.sources).name == source]
        seen: dict[str, Counter[tuple[object, ...]]] = {}
        for platform, time in ((name, TIME[name]) for name in UNIONS):
            hits: list[Hit] = ENGINES[platform](DIST, here, own, clock)
            assert {hit.rule for hit in hits} == {entry.name for entry in here}
            seen[platform] = Counter()
            for hit in hits:
                of_group = unordered if pack.rule(hit.rule).correlation is not None else listed
                for when, *texts, _ in (shown(row, time) for row in hit.rows):
                    seen[platform][when, *(of_group(alike(str(text))) for text in texts)] += 1
        assert seen["sentinel"] == seen["splunk"], source


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
