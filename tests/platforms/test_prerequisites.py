"""The trap: a query that is to show that a source is silent, and has rows whatever is there, or never any.

Every query of the pipelines' ``prerequisites`` runs here as any artefact does, on the events of some log
sources: where they are its own it must find some, elsewhere none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.languages.conf import one_line, read_conf
from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.event import Clock, Event
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.kusto.run import Workspace
from detection_pack.platforms.platform import platform
from detection_pack.platforms.prerequisites import Prerequisite, of_rule, of_state
from detection_pack.platforms.splunk import run as splunk
from detection_pack.platforms.splunk.app import read_archive

#: After the events, within a day of most.
NOW = datetime(2026, 3, 10, 23, 59, tzinfo=UTC)


@cache
def pack() -> Pack:
    return load_pack(ROOT)


@cache
def rules_of(source: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in pack().rules if log_source_of(rule, pack().sources).name == source)


@cache
def events_of(source: str) -> tuple[Event, ...]:
    """An event of each rule that a day back from `NOW` reaches."""
    found = []
    for rule in rules_of(source):
        cases = load_cases(events_file(ROOT, rule.name), pack().sources[source])
        late = NOW - timedelta(hours=23)
        of_that_day = (e for case in cases if case.matches for e in case.events if e.time and e.time > late)
        found.append(next(of_that_day))
    return tuple(found)


_KNOWN: dict[tuple[str, str], tuple[Prerequisite, ...]] = {}


def of(rule: Rule, here: str) -> tuple[Prerequisite, ...]:
    """What a rule needs; rules of one Sigma log source need the same."""
    key = (str(rule.logsource), here)
    if key not in _KNOWN:
        _KNOWN[key] = of_rule(rule, pack().pipelines[here])
    return _KNOWN[key]


@cache
def needed(source: str, here: str) -> tuple[Prerequisite, ...]:
    absent = pack().sources[source].absent
    rules = () if here in absent else rules_of(source)
    own = [one for rule in rules if here not in rule.absent for one in of(rule, here)]
    return tuple({one.place: one for one in own}.values())


EACH = [(source, here) for source in load_pack(ROOT).sources for here in PLATFORMS]
HAVE = [(source, here) for source, here in EACH if here not in load_pack(ROOT).sources[source].absent]
each = pytest.mark.parametrize(("source", "here"), HAVE)


def answers(here: str, queries: Sequence[Prerequisite], events: Sequence[Event]) -> list[bool]:
    """Whether each query has a row."""
    sources = list(pack().sources.values())
    day = (NOW - timedelta(days=1), NOW)
    if here == "elastic":
        with Store(events, sources) as store:
            return [bool(store.esql(one.silent, day)) for one in queries]
    if here == "splunk":
        searches = splunk.Workspace(events, sources)
        macros = splunk.macros_in(DIST, Clock(NOW))
        return [bool(searches.search(one.silent, macros, NOW, day)) for one in queries]
    workspace = Workspace(events, schema=here, sources=sources)
    return [bool(workspace.query(one.silent, Clock(NOW))) for one in queries]


@each
def test_every_source_says_what_it_needs(source: str, here: str) -> None:
    """A log source that is there on a platform without saying what fills it is a fault."""
    assert needed(source, here)
    for one in needed(source, here):
        assert all(text.strip() == text != "" for text in (one.source, one.setting, one.licence, one.silent))
        assert not one.setting.endswith(".")


def seen(here: str, *delivering: str) -> set[str]:
    """The sources whose queries have a row where these deliver."""
    queries = [(name, one) for name, platform_id in HAVE if platform_id == here for one in needed(name, here)]
    events = [event for name in delivering for event in events_of(name)]
    found = answers(here, [one for _, one in queries], events)
    return {name for (name, _), rows in zip(queries, found, strict=True) if rows}


@pytest.mark.parametrize("here", PLATFORMS)
@pytest.mark.parametrize("first", [True, False])
def test_sources_that_deliver_are_seen_and_silent_ones_are_not(here: str, first: bool) -> None:
    own = [name for name, platform_id in HAVE if platform_id == here]
    delivering = own[: len(own) // 2] if first else own[len(own) // 2 :]
    assert seen(here, *delivering) == set(delivering)


@pytest.mark.campaign
@each
def test_a_source_is_seen_where_it_delivers_and_nowhere_else(source: str, here: str) -> None:
    assert seen(here, source) == {source}


@pytest.mark.parametrize("here", PLATFORMS)
def test_the_page_of_each_rule_shows_all_of_it(here: str) -> None:
    shown = 0
    for rule in pack().rules:
        page = (ROOT / "docs" / "rules" / f"{rule.name}.md").read_text(encoding="utf-8")
        if here in {**pack().sources[log_source_of(rule, pack().sources).name].absent, **rule.absent}:
            continue
        for one in of(rule, here):
            assert f"```{platform(here).fence}\n{one.silent}\n```" in page
            shown += 1
    assert shown


def test_kibanas_setup_guides_have_all_of_it() -> None:
    lines = (DIST / "elastic/rules.ndjson").read_text(encoding="utf-8").splitlines()
    made = {tuple(rule["tags"]): rule for rule in map(json.loads, lines) if "rule_id" in rule}
    for rule in pack().rules:
        own = [one for tags, one in made.items() if f"Sigma rule: {rule.name}" in tags]
        alerts = rule.tier not in BY_HAND and pack().pipelines["elastic"].absence(rule) is None
        assert bool(own) == alerts
        if not alerts:
            continue
        for one in of(rule, "elastic"):
            for kibana in own:
                assert one.sentence() in kibana["setup"] and f"```esql\n{one.silent}\n```" in kibana["setup"]
                packages = [about["package"] for about in kibana["related_integrations"]]
                assert ("package" in one.more) == (one.more.get("package") in packages)


def test_sentinels_rules_have_all_of_it() -> None:
    for path in sorted((DIST / "sentinel/analytics").glob("*.yaml")):
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
        connectors = [about["connectorId"] for about in made["requiredDataConnectors"]]
        for one in of(pack().rule(path.stem), "sentinel"):
            assert one.sentence() in made["description"] and one.silent in made["description"]
            assert [one.more["connector"]] == connectors if "connector" in one.more else not connectors
    for path in (DIST / "sentinel/azuredeploy").glob("*.json"):
        for rule in json.loads(path.read_text(encoding="utf-8"))["resources"]:
            properties = rule["properties"]
            assert "No row of this means that it is silent:" in properties["description"]
            # An alert says what happened, not what the rule needs.
            assert "is silent" not in properties["alertDetailsOverride"]["alertDescriptionFormat"]


def test_the_splunk_app_has_all_of_it() -> None:
    [archive] = (DIST / "splunk").glob("*.tgz")
    files = read_archive(archive.read_bytes())
    stanzas = read_conf(files["default/savedsearches.conf"])
    for rule in pack().rules:
        if rule.name not in stanzas:
            continue
        for one in of(rule, "splunk"):
            assert one_line(one.silent) in files["README.md"]
        described = " ".join(
            s["description"] for name, s in stanzas.items() if name.split(".")[0] == rule.name
        )
        assert "Needs: " in described


def test_only_the_places_that_a_rule_reads_are_named() -> None:
    about = {"from": "x", "setting": "y", "licence": "z", "silent": "q"}
    state = {"prerequisites": {"a-*": about, "b-*": about}, "index": ["b-*", "c-*"]}
    assert [one.place for one in of_state(state)] == ["b-*"]
    assert [one.place for one in of_state({"prerequisites": {"T": about}, "query_table": "T"})] == ["T"]
    assert of_state({}) == ()
