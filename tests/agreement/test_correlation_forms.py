"""The trap: a correlation that one platform counts otherwise than another, or refuses without need.

Every type with no, one and three group fields, counts of two fields together, and aliases, each built for all
platforms: what is refused has its reason on the list below, all others are executed, agree on groups,
windows and counts, and are read by Microsoft's parser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from agreement.test_default_alerts import RULES as ALERTS
from conftest import ROOT
from detection_pack.build.dist import Built, make_folder, rule_entries
from detection_pack.model.event import Clock, Event
from judges import kql_judge, require
from support.engines import ENGINES, SOUND_ONLY
from support.sources import DEFENDER_TABLES, PROCESS, SENTINEL_TABLES

CLOCK = Clock(datetime(2026, 3, 10, 18, tzinfo=UTC))
SOURCE = {"product": "windows", "category": "process_creation"}
GROUPS = {"none": [], "one": ["Computer"], "three": ["Computer", "User", "ParentImage"]}
TYPES: dict[str, tuple[str, Any]] = {
    "events": ("event_count", {"gte": 3}),
    "values": ("value_count", {"field": "Image", "gte": 2}),
    "pairs": ("value_count", {"field": ["Image", "CommandLine"], "gte": 3}),
    "sum": ("value_sum", {"field": "ProcessId", "gte": 30}),
    "average": ("value_avg", {"field": "ProcessId", "gt": 9}),
    "percentile": ("value_percentile", {"field": "ProcessId", "gte": 5, "percentile": 50}),
    "median": ("value_median", {"field": "ProcessId", "gte": 5}),
    "near": ("temporal", None),
    "ordered": ("temporal_ordered", None),
    "extended": ("temporal", "first and not second"),
}
PARENT = {"parent": {"first": "ProcessId", "second": "ParentProcessId"}}
#: Group, aliases and what more: the first is the process that starts the second.
ALIASED: dict[str, tuple[str, list[str], dict[str, Any], Any]] = {
    "child": ("temporal", ["Computer", "parent"], PARENT, None),
    "child_alone": ("temporal", ["parent"], PARENT, None),
    "child_ordered": ("temporal_ordered", ["Computer", "User", "parent"], PARENT, None),
    "one_field": ("event_count", ["who"], {"who": {"first": "User", "second": "User"}}, {"gte": 3}),
    "counted_twice": ("event_count", ["parent"], PARENT, {"gte": 3}),
}
#: What a platform cannot say, by the rule's beginning, and why.
REFUSED: dict[str, dict[str, str]] = {
    "splunk": {
        "percentile": "depends on a setting of the Splunk server",
        "median": "depends on a setting of the Splunk server",
        "extended": "no exact form of an extended correlation condition",
        "counted_twice": "would count once for each",
    },
    "elastic": {
        "percentile": "ES|QL approximates",
        "median": "ES|QL approximates",
        "extended": "extended correlation conditions are not supported",
        "counted_twice": "would count once for each",
    },
    "sentinel": {"counted_twice": "would count once for each"},
    "defender": {"counted_twice": "would count once for each"},
}


def base(name: str, program: str) -> dict[str, Any]:
    detection: dict[str, Any] = {"s": {"Image|endswith": program}, "both": {"CommandLine|contains": "both"}}
    detection["condition"] = "1 of them"
    return {"title": name, "name": name, "logsource": SOURCE, "detection": detection, "level": "low"}


def documents(
    name: str, kind: str, group: Sequence[str], condition: Any, aliases: Any
) -> list[dict[str, Any]]:
    both = kind.startswith("temporal") or aliases
    listed = (
        [base("first", "\\first.exe"), base("second", "\\second.exe")] if both else [base("first", ".exe")]
    )
    stated: dict[str, Any] = {"type": kind, "timespan": "10m"}
    if not isinstance(condition, str):
        stated["rules"] = [one["name"] for one in listed]
    stated |= {"group-by": list(group)} if group else {}
    stated |= {"aliases": aliases} if aliases else {}
    stated |= {"condition": condition} if condition else {}
    return [*listed, {"title": name, "correlation": stated, "level": "high"}]


CASES = {
    f"{name}_{number}": (kind, group, condition, None)
    for name, (kind, condition) in TYPES.items()
    for number, group in GROUPS.items()
} | {name: (kind, group, condition, aliases) for name, (kind, group, aliases, condition) in ALIASED.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("forms")
    for name, stated in CASES.items():
        text = yaml.safe_dump_all(documents(name, *stated), sort_keys=False)
        (folder / name).mkdir()
        (folder / name / f"{name}.yml").write_text(text, encoding="utf-8")
    for name, listed in ALERTS.items():
        text = yaml.safe_dump_all(listed, sort_keys=False)
        (folder / f"alert_{name}").mkdir()
        (folder / f"alert_{name}" / f"alert_{name}.yml").write_text(text, encoding="utf-8")
    return make_folder(ROOT, folder, keep_going=True)


@pytest.fixture(scope="module")
def dist(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for name, content in built.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def started(number: int, minute: int, program: str, pid: int, parent: int, **more: str) -> Event:
    record = {
        "UtcTime": f"2026-03-10 09:{minute:02}:00",
        "Image": f"C:\\{program}.exe",
        "CommandLine": f"{program} {pid}",
        "ParentImage": "C:\\x.exe",
        "ProcessId": pid,
        "ParentProcessId": parent,
        "Computer": "WS1",
        "User": "CORP\\bob",
    }
    return Event(f"p{number}", PROCESS, record | more)


EVENTS = [
    started(0, 1, "first", 10, 1),
    started(1, 2, "second", 11, 10),
    started(2, 3, "SECOND", 12, 10, Computer="ws1"),
    # The same number on another computer, another parent, and a child before its parent.
    started(3, 4, "first", 20, 1, Computer="WS2"),
    started(4, 5, "second", 21, 22, Computer="WS2", User="CORP\\eve"),
    started(5, 6, "second", 31, 30, Computer="WS3"),
    started(6, 7, "first", 30, 1, Computer="WS3"),
    started(7, 40, "first", 40, 1, Computer="WS4", User=""),
    # Both rules find it, and with an alias in two groups.
    started(8, 58, "other", 50, 51, Computer="WS5", User="CORP\\zoe", CommandLine="both"),
]
#: Which groups alert, of those that everything else follows from.
EXPECTED: Mapping[str, set[tuple[str, ...]]] = {
    "events_none": {()},
    "events_one": {("ws1",)},
    "pairs_one": {("ws1",)},
    "near_one": {("ws1",), ("ws2",), ("ws3",), ("ws5",)},
    "ordered_one": {("ws1",), ("ws2",), ("ws5",)},
    "extended_one": {("ws4",)},
    "child": {("ws1", "10"), ("ws3", "30")},
    "child_alone": {("10",), ("30",)},
    "child_ordered": {("ws1", "bob", "10")},
    "one_field": {("bob",)},
}


def refused_by(here: str, name: str) -> str | None:
    return next((why for start, why in REFUSED[here].items() if name.startswith(start)), None)


def test_what_is_refused_has_its_reason(built: Built) -> None:
    for here in ENGINES:
        endings = {"splunk": "spl", "elastic": "esql"}
        for name in CASES:
            made = f"{here}/queries/{name}.{endings.get(here, 'kql')}" in built.files
            assert made == (refused_by(here, name) is None), (here, name)
    said = [finding for finding in built.refused if finding.path.endswith("counted_twice.yml")]
    assert [(one.line, one.todo) for one in said] == [
        (said[0].line, "give them one field, or write one rule")
    ]
    for finding in built.refused:
        name = Path(finding.path).stem
        reasons = [why for here in ENGINES if (why := refused_by(here, name))]
        assert any(why in finding.what for why in reasons), str(finding)


def alerts(dist: Path, here: str, names: Sequence[str]) -> dict[str, set[tuple[tuple[str, ...], Any, Any]]]:
    entries = [entry for entry in rule_entries(dist) if entry.name in names]
    found: dict[str, set[tuple[tuple[str, ...], Any, Any]]] = {entry.name: set() for entry in entries}
    for hit in ENGINES[here](dist, entries, EVENTS, CLOCK):
        if SOUND_ONLY not in hit.artefact:
            group = tuple(value.lower().removeprefix("corp\\") for _, value in hit.group or ())
            found[hit.rule].add((group, hit.window, hit.value))
    return found


ORDINARY = (
    *tuple(name for name in CASES if name.endswith("_one") or name in ALIASED),
    "events_none",
    "pairs_three",
)


SAMPLES = pytest.mark.parametrize(
    "names",
    [
        pytest.param(ORDINARY, id="one group"),
        pytest.param(tuple(CASES), id="all", marks=pytest.mark.campaign),
    ],
)


@SAMPLES
def test_the_platforms_agree(dist: Path, names: tuple[str, ...]) -> None:
    found = {}
    for here in ENGINES:
        own = [name for name in names if refused_by(here, name) is None]
        found[here] = alerts(dist, here, own)
    for name in names:
        told = {here: by_rule[name] for here, by_rule in found.items() if name in by_rule}
        if name == "counted_twice":
            assert not told
            continue
        first = told["sentinel"]
        assert first and all(other == first for other in told.values()), (name, told)
        if name in EXPECTED:
            assert {group for group, _, _ in first} == EXPECTED[name], name


@SAMPLES
def test_microsofts_parser_has_nothing_to_say(built: Built, names: tuple[str, ...]) -> None:
    require(kql_judge.available())
    chosen = {*names, *(f"alert_{name}" for name in ALERTS)}
    files = {p: content.decode() for p, content in built.files.items() if p.endswith((".kql", ".yaml"))}
    kql = {p: yaml.safe_load(t)["query"] if p.endswith(".yaml") else t for p, t in files.items()}
    kql = {path: text for path, text in kql.items() if Path(path).stem in chosen}
    for start, tables in (("sentinel/", SENTINEL_TABLES), ("defender/", DEFENDER_TABLES)):
        analysed = kql_judge.analyze(tables, {p: t for p, t in kql.items() if p.startswith(start)})
        assert len(analysed) >= len(chosen) - 1, start
        assert {p: list(map(str, one.diagnostics)) for p, one in analysed.items() if one.diagnostics} == {}
