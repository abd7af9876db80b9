"""The trap: a guide on a page that nobody opens at night, and one that names a query that is not there.

Each rule's guide stands in what is imported: Sentinel's description, Splunk's next steps, Kibana's note,
Defender's recommended actions. The queries that it names are there on the same platform, under that title.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml

from conftest import DIST
from detection_pack.model.pack import Pack
from detection_pack.model.playbook import Guide, Kind, Question, Step
from detection_pack.model.rule import Rule
from detection_pack.platforms.elastic.hunts import load_hunts
from detection_pack.platforms.elastic.imports import load_rules, name_of
from detection_pack.platforms.elastic.triage import investigation_guide
from detection_pack.platforms.guide_text import plain_guide, questions_of
from detection_pack.platforms.sentinel.analytics import scheduled_rule
from detection_pack.platforms.sentinel.imports import deployed_rules
from detection_pack.platforms.splunk.app import open_app
from detection_pack.platforms.splunk.imports import saved_searches
from detection_pack.platforms.splunk.query import queries
from support.kibana_buttons import buttons, is_own, without_buttons


def alerting(pack: Pack, platform: str) -> list[Rule]:
    return [
        rule
        for rule in pack.rules
        if rule.tier in ("core", "extended") and pack.pipelines[platform].absence(rule) is None
    ]


def shown(pack: Pack, platform: str, texts: dict[str, str]) -> None:
    """Every question and every step of each rule stands in its text, in their order."""
    rules = alerting(pack, platform)
    assert {rule.name for rule in rules} == set(texts)
    for rule in rules:
        guide = rule.guide
        assert guide is not None
        said = [ask for ask, _ in questions_of(guide, platform)] + [step.title for step in guide.kind.steps]
        places = [texts[rule.name].find(one) for one in said]
        assert -1 not in places and places == sorted(places), rule.name


def test_sentinel_has_it_in_the_description_within_the_limit(pack: Pack) -> None:
    names = {rule.id: rule.name for rule in pack.rules}
    texts = {names[key]: p["description"] for key, (_, p) in deployed_rules(DIST).items()}
    shown(pack, "sentinel", texts)
    assert max(map(len, texts.values())) <= 5_000


def test_splunk_has_it_as_next_steps(pack: Pack) -> None:
    texts = {}
    for name, settings in open_app(DIST).saved_searches.items():
        if "action.notable.param.next_steps" in settings and "." not in name:
            held = json.loads(settings["action.notable.param.next_steps"])
            assert held["version"] == 1 and "[[" not in held["data"]
            assert not re.search(r"\$[^$\s]*\$", held["data"])
            texts[name] = held["data"]
    shown(pack, "splunk", texts)


def test_kibana_has_it_in_the_note_with_each_command(pack: Pack) -> None:
    texts: dict[str, str] = {}
    for imported in load_rules(DIST):
        texts[name_of(imported)] = imported["note"]
    rules = alerting(pack, "elastic")
    assert {rule.name for rule in rules} == set(texts)
    for rule in rules:
        guide = rule.guide
        assert guide is not None
        note = texts[rule.name]
        assert "### Respond" in note and "### Ask, in this order" in note
        for step in guide.kind.steps:
            if step.how != "person":
                assert step.command.split("\n")[0] in note, (rule.name, step.id)


def test_kibana_has_a_button_for_who_and_from_where(pack: Pack) -> None:
    """Each is what Kibana's plugin reads, asks for the alert's own value, and is few and short."""
    guides = {one["name"]: one["note"] for one in load_rules(DIST)}
    found = {name: buttons(note) for name, note in guides.items()}
    for name, note in guides.items():
        named = re.findall(r"^- (?:Who|From where): `", note, re.MULTILINE)
        assert len(found[name]) == len(named) and all(is_own(one, note) for one in found[name]), name
        assert len(note) - len(without_buttons(note)) < 600
    assert sum(map(len, found.values())) > 50
    alert = {"user.id": "ann }} {{x", "source.ip": "192.0.2.1"}
    asked = [one.asks(alert) for one in found[pack.rule("suspicious_ews_client").title]]
    assert asked == [[[("user.id", "ann }} {{x")]], [[("source.ip", "192.0.2.1")]]]


@pytest.mark.parametrize("field", ["a}b", "a`b", 'a"b', "a b", "a\nb", "{{a}}", ""])
def test_a_field_that_would_break_a_button_has_none(field: str, pack: Pack) -> None:
    """What is no JSON there fails the whole guide."""
    rule = pack.rule("suspicious_ews_client")
    note = investigation_guide(rule, {"UserId": field, "ClientIP": "source.ip"}, "query")
    assert [one.label for one in buttons(note)] == ["Everything from this source"]


def test_defender_has_it_as_recommended_actions(pack: Pack) -> None:
    texts = {}
    for path in DIST.glob("defender/detections/*.json"):
        template = json.loads(path.read_text(encoding="utf-8"))["detectionAction"]["alertTemplate"]
        texts[path.stem] = template["recommendedActions"]
    shown(pack, "defender", texts)


def test_the_queries_that_a_guide_names_are_on_its_platform(pack: Pack) -> None:
    there = {
        "sentinel": {_title(path) for path in DIST.glob("sentinel/hunting/*.yaml")},
        "defender": {_title(path) for path in DIST.glob("defender/hunting/*.yaml")},
        "splunk": {pack.rule(n).title for n in open_app(DIST).saved_searches if n in pack.by_name},
        "elastic": {pack.rule(name_of(hunt)).title for hunt in load_hunts(DIST)},
    }
    for platform, titles in there.items():
        named = {
            title
            for rule in alerting(pack, platform)
            if rule.guide is not None
            for _, found in questions_of(rule.guide, platform)
            for title in found
        }
        assert named and named <= titles, platform


def _title(path) -> str:  # type: ignore[no-untyped-def]
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["name"])


HOSTILE = "x\n[stanza] $UserId$ [[action|ping]] {{user}} <img src=x> !{investigate{}} `whoami` ${x} | # y"


def hostile(rule: Rule, length: int = 1) -> Rule:
    step = Step("x", "x", HOSTILE, "powershell", "```\n" + HOSTILE, HOSTILE, HOSTILE, HOSTILE, "x", "x", "x")
    kind = Kind("x", "x", (rule.name,), (step,) * length, HOSTILE, (Question(HOSTILE, ("q",)),), (HOSTILE,))
    return replace(rule, guide=Guide(kind, {rule.alert.user or "": HOSTILE}, {"splunk": {"q": HOSTILE}}))


def test_whatever_a_playbook_says_stays_text(pack: Pack) -> None:
    rule = hostile(pack.rule("suspicious_ews_client"))
    note = investigation_guide(rule, {"UserId": "user.id"}, "query")
    outside = re.sub(r"^(`{3,}).*?^\1$", "", without_buttons(note), flags=re.MULTILINE | re.DOTALL)
    assert "{{" not in outside and "<img" not in outside and "!{" not in outside and "whoami`" not in outside
    stanza = saved_searches(rule, queries(rule, pack.pipelines["splunk"]))[rule.name]
    assert "\n" not in stanza["action.notable.param.next_steps"]
    text = json.loads(stanza["action.notable.param.next_steps"])["data"]
    assert "[[" not in text and not re.search(r"\$[^$\s]+\$", text)


@pytest.mark.parametrize("steps", [1, 40, 400])
def test_a_guide_that_is_too_long_for_sentinel_is_left_out(pack: Pack, steps: int) -> None:
    rule = hostile(pack.rule("suspicious_ews_client"), steps)
    made = scheduled_rule(rule, pack.pipelines["sentinel"], pack.version)
    assert len(made.description) <= 5_000
    assert ("If nothing harmless" in made.description) == (steps < 40)


def test_a_rule_of_nobody_has_none(pack: Pack) -> None:
    rule = replace(pack.rule("suspicious_ews_client"), guide=None)
    assert plain_guide(rule, "sentinel", "x") == []
    assert "### Respond" not in investigation_guide(rule, {}, "query")
    stanza = saved_searches(rule, queries(rule, pack.pipelines["splunk"]))[rule.name]
    assert "action.notable.param.next_steps" not in stanza
