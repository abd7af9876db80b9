"""The trap: an atomic test whose stated rules are a wish.

What each test makes in the logs stands beside it as raw records. Every set is executed, with all rules, on
every platform that has its log: the rules stated fire, and no others. And nothing that a rule reads says that
a record is simulated, or else the simulation would prove nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.case import log_source_of
from detection_pack.model.event import Event, Hit
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import TIERS
from detection_pack.platforms.platform import platform
from detection_pack.replay.log_replay import Asked, executed, opened
from detection_pack.replay.verdict import exact, selected
from detection_pack.simulate.record_sets import RecordSet, load_record_sets
from detection_pack.simulate.simulation import MARK, simulated
from support.sources import SOURCES

SETS = load_record_sets(ROOT, SOURCES)
#: Platforms by rule, as dist/ has them.
BUILT = {
    entry.name: {name for name in PLATFORMS if platform(name).own(entry)} for entry in rule_entries(DIST)
}
AT = datetime(2026, 11, 27, 0, 4, 5, tzinfo=UTC)


def expected(one: RecordSet) -> dict[str, set[str]]:
    return {name: {rule for rule in one.fires if name in BUILT[rule]} for name in PLATFORMS}


def test_a_set_is_of_one_log_source() -> None:
    assert all(len({raw.source.name for raw in one.records}) == 1 for one in SETS)


def test_every_rule_that_alerts_has_records_and_every_rule_named_exists(pack: Pack) -> None:
    named = {rule for one in SETS for rule in one.fires}
    assert named <= {rule.name for rule in pack.rules}
    assert {rule.name for rule in pack.rules if rule.tier in TIERS[:2]} - named == set()


SMALL = ["exchange_server", "graph_activity", "process_creation"]


@pytest.mark.parametrize(
    "sources", [SMALL, pytest.param(sorted(set(SOURCES) - set(SMALL)), marks=pytest.mark.campaign)]
)
def test_each_set_fires_what_it_states_and_nothing_else(
    tmp_path: Path, pack: Pack, sources: list[str]
) -> None:
    """All sets in one file, as `simulate` writes it, read by `replay`. A plain hit names its record, a
    correlation's the group, whose values no other set has: so each set fires the same alone."""
    sets = [one for one in SETS if one.records[0].source.name in sources]
    path = tmp_path / "simulated.jsonl"
    path.write_bytes(simulated(sets, AT).lines())
    # A rule of another log source is not run where there is no record of it.
    rules = [rule.name for rule in pack.rules if log_source_of(rule, SOURCES).name in sources]
    asked = Asked(DIST, PLATFORMS, rules)
    reading, _ = opened(asked, pack, [path], tmp_path, lambda *_: None)
    found = {one.title: {name: set[str]() for name in PLATFORMS} for one in sets}
    with reading:
        assert reading.skipped.count == 0 and not reading.other and not reading.repeated
        counts = dict.fromkeys(sources, 0)
        for (source, _), number in reading.counts.items():
            counts[source] += number
        assert counts == {
            name: sum(len(one.records) for one in sets if one.records[0].source.name == name)
            for name in sources
        }
        hits, refused = executed(
            DIST, selected(rule_entries(DIST), rules), PLATFORMS, reading, pack, lambda *_: None
        )
        assert not refused
        shown = exact(hits)
        ids = {event for hit in shown for event in hit.events}
        records = {id: one.record for name in sources for id, one in reading.located(name, ids).items()}
        assert records.keys() == ids
        for hit in shown:
            for one in _owners(hit, sets, records):
                found[one.title][hit.platform].add(hit.rule)
    assert found == {one.title: expected(one) for one in sets}


def _owners(hit: Hit, sets: Sequence[RecordSet], records: Mapping[str, Mapping[str, Any]]) -> list[RecordSet]:
    if hit.group is None:
        held = [set(_texts(records[event])) for event in hit.events]
        return [one for one in sets if any(_own_values(one) & texts for texts in held)]
    values = {value.lower() for _, value in hit.group} - {""}
    owners = [one for one in sets if values & _own_values(one)]
    assert len(owners) == 1, f"{hit.rule}: {hit.group} belongs to {len(owners)} sets"
    return owners


def _own_values(one: RecordSet) -> frozenset[str]:
    """The texts of a set that no other set has."""
    return _all_own_values()[one.title]


@cache
def _all_own_values() -> dict[str, frozenset[str]]:
    held = {one.title: {text for raw in one.records for text in _texts(raw.record)} for one in SETS}
    seen = Counter(text for texts in held.values() for text in texts)
    return {title: frozenset(text for text in texts if seen[text] == 1) for title, texts in held.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value.lower()


# ---- the mark ---------------------------------------------------------------------------------------------


def read_fields(value: Any) -> Iterator[str]:
    """Every text of a rule or filter that can name a field: keys without modifiers, values, placeholders."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key).partition("|")[0]
            yield from read_fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from read_fields(inner)
    elif isinstance(value, str):
        yield value
        yield from (part.partition("}")[0] for part in value.split("{")[1:])


@cache
def fields_read() -> dict[str, set[str]]:
    """What each rule and filter of the pack reads, by file."""
    parts = ("detection", "correlation", "alert", "fields", "filter")
    return {
        path.name: {
            text
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
            for text in read_fields([document.get(part) for part in parts])
        }
        for path in sorted((ROOT / "sigma").rglob("*.yml"))
    }


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_no_rule_filter_or_alert_reads_the_mark(source: LogSource) -> None:
    assert source.simulation is not None
    mark = source.simulation.mark
    alert = source.alert
    assert mark not in (alert.user, alert.source, alert.agent, alert.extra)
    assert mark not in (*source.identity, source.time.field, source.kind)
    assert len(fields_read()) > 40
    assert [name for name, read in fields_read().items() if mark in read] == []


def test_a_rule_that_reads_a_mark_is_noticed() -> None:
    rule = {"selection": {"A|contains": ["x"]}, "alert": {"detail": "{B} and {C}", "user": "D"}}
    assert {"A", "B", "C", "D"} <= set(read_fields(rule))


#: Log sources whose mark no platform keeps; their records are found by the computer.
UNKEPT = {"powershell_script": "simulated01.contoso.example"}


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_a_platform_that_takes_the_record_keeps_the_mark(source: LogSource) -> None:
    sets = [one for one in SETS if one.records[0].source is source]
    records = simulated(sets, AT).records
    events = [Event(str(number), source, record) for number, record in enumerate(records)]
    looked_for = UNKEPT.get(source.name, MARK)
    for name in PLATFORMS:
        stored = [one for one in platform(name).stored(events) if one.refused is None]
        assert bool(stored) == (name not in source.absent)
        found = {one.event for one in stored if looked_for in str(one.fields)}
        assert found == {one.event for one in stored}, name
        assert source.name not in UNKEPT or not any(MARK in str(one.fields) for one in stored)


# ---- faults -----------------------------------------------------------------------------------------------

GOOD = """shapes:
  a: {source: m365, record: {CreationTime: "2026-03-10T09:10:00"}}
sets:
  - {title: t, test: x, fires: [r], records: [{shape: a, record: {Operation: y}}]}
"""
FAULTS = {
    "an unknown source": ("source: m365", "source: nothing", "names no log source"),
    "an unknown shape": ("shape: a", "shape: b", "is not a shape"),
    "no rule": ("fires: [r]", "fires: []", "names no rule"),
    "no test and no reason": ("test: x, ", "", "neither an atomic test"),
    "no time": ("CreationTime", "Other", "without a readable CreationTime"),
    "an unknown key": ("title: t", "titel: t", '"titel" is unknown'),
    "no records": ("records: [{shape: a, record: {Operation: y}}]", "records: []", "has no records"),
    "no list": ("fires: [r]", "fires: r", "is not a list"),
    "no mapping": ("record: {Operation: y}", "record: [y]", "is not a mapping"),
    "another document": ("shapes:", "---\na: b\n---\nshapes:", "is not one mapping"),
}


def _load(folder: Path, text: str) -> list[RecordSet]:
    path = folder / "tests" / "atomics" / "T0" / "records.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return load_record_sets(folder, SOURCES)


@pytest.mark.parametrize(("old", "new", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(PackError) as refused:
        _load(tmp_path, GOOD.replace(old, new))
    assert any(said in finding.what for finding in refused.value.findings)
    assert all(finding.line >= 1 and "records.yml" in finding.path for finding in refused.value.findings)


def test_the_same_file_without_a_fault_is_read(tmp_path: Path) -> None:
    [one] = _load(tmp_path, GOOD)
    assert one.records[0].record == {"CreationTime": "2026-03-10T09:10:00", "Operation": "y"}


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="holds no records"):
        load_record_sets(tmp_path, SOURCES)


def test_the_page_names_the_mark_of_each_log() -> None:
    page = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    named = {row.split("`")[1] for row in rows}
    assert named == {source.simulation.mark for source in SOURCES.values() if source.simulation}
