"""The trap: an explanation that is a second opinion.

What a platform says to the items of a rule must make what it says to the whole rule, put together as the
Sigma condition says, for every event of tests/events on every platform. If the answer to an item, to a
selection or to the rule is wrong, the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sigma.conditions import (
    ConditionAND,
    ConditionIdentifier,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
    SigmaCondition,
)

from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.event import Event
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.platform import platform
from detection_pack.replay.explain_runs import Asked
from detection_pack.replay.explain_variants import RuleVariants, Variant, variants_of
from support.rule_sample import sampled

ROOT = Path(__file__).parents[2]
#: Whether a variant finds an event.
Finds = Callable[[Variant, str], bool | None]


@cache
def pack() -> Pack:
    return load_pack(ROOT)


def places() -> list[tuple[str, str]]:
    """Every rule on every platform that it is for."""
    pipelines = pack().pipelines
    return [(r.name, here) for r in pack().rules for here in PLATFORMS if pipelines[here].absence(r) is None]


def events_of(rule: Rule) -> list[Event]:
    """Every event of the rule's cases, each a window after the one before: a correlation of one event names
    its window, and the window the event."""
    window = timedelta(seconds=rule.correlation.window if rule.correlation else 3600)
    cases = load_cases(events_file(ROOT, rule.name), log_source_of(rule, pack().sources))
    events = [event for case in cases for event in case.events]
    first = min(event.time for event in events if event.time is not None).replace(minute=5)
    return [_moved(event, first + window * n) for n, event in enumerate(events)]


def _moved(event: Event, moment: Any) -> Event:
    time = event.source.time
    return replace(event, record={**event.record, time.field: time.written(moment)})


def finding(asked: Asked, events: Sequence[Event]) -> Finds:
    answers = asked.run(events)
    timed = [(event.time, event.id) for event in events if event.time]
    width = timed[1][0] - timed[0][0]

    def within(window: datetime) -> list[str]:
        return [identity for moment, identity in timed if window <= moment < window + width]

    found: dict[str, set[str]] = {}
    for name, hits in answers.hits.items():
        for hit in hits:
            found.setdefault(name, set()).update(within(hit.window) if hit.window else hit.events)

    def finds(variant: Variant, event: str) -> bool | None:
        name = variant.rule.name
        return None if name in answers.refused else event in found.get(name, ())

    return finds


def combined(one: RuleVariants, finds: Finds, event: str, detection: Mapping[str, Any]) -> bool:
    """The answers to the items, put together as Sigma says."""
    items = {item.leaf.keys: item.variant for s in one.selections for item in s.items}

    def node(value: Any, keys: tuple[Any, ...]) -> bool:
        if keys in items:
            answer = finds(items[keys], event)
            assert answer is not None
            return answer
        if isinstance(value, dict):
            return all(node(inner, (*keys, key)) for key, inner in value.items())
        return any(node(inner, (*keys, n)) for n, inner in enumerate(value))

    named = {name: node(detection[name], ("detection", name)) for name in detection if name != "condition"}
    for selection in one.selections:
        assert finds(selection.variant, event) == named[selection.name], (event, selection.name)
    return tree(SigmaCondition(one.condition, None).parse(postprocess=False), named)  # type: ignore[arg-type]


def tree(parsed: Any, named: Mapping[str, bool]) -> bool:
    match parsed:
        case ConditionIdentifier():
            return named[parsed.identifier]
        case ConditionSelector():
            pattern = "*" if parsed.pattern == "them" else parsed.pattern
            chosen = [held for name, held in named.items() if Path(name).match(pattern)]
            return all(chosen) if parsed.cond_class is ConditionAND else any(chosen)
        case ConditionNOT():
            return not tree(parsed.args[0], named)
        case ConditionAND():
            return all(tree(arg, named) for arg in parsed.args)
        case ConditionOR():
            return any(tree(arg, named) for arg in parsed.args)
    raise AssertionError(parsed)


def contradictions(
    rule: Rule, here: str, events: Sequence[Event], lie: Callable[[Finds], Finds] = lambda finds: finds
) -> Iterator[str]:
    taken_apart = variants_of(rule)
    variants = [variant.rule for one in taken_apart for variant in one.every]
    with Asked(platform(here), variants, pack().pipelines, pack().sources.values()) as asked:
        assert not asked.refused
        finds = lie(finding(asked, events))
        documents = [d for d in rule.documents if "detection" in d.data]
        for one, document in zip(taken_apart, documents, strict=True):
            for event in events:
                try:
                    agreed = combined(one, finds, event.id, document.data["detection"])
                except AssertionError as error:
                    yield f"{event.id}: {error}"
                    continue
                if agreed != finds(one.whole, event.id):
                    yield event.id


@pytest.mark.parametrize(("name", "here"), sampled(places()))
def test_the_items_make_the_rule_on_every_event(name: str, here: str) -> None:
    rule = pack().rule(name)
    assert list(contradictions(rule, here, events_of(rule))) == []


@pytest.mark.parametrize(
    ("name", "here"), sampled(place for place in places() if pack().rule(place[0]).correlation is None)
)
def test_the_whole_condition_is_the_rule(name: str, here: str) -> None:
    """What the last question finds is what the cases say that the rule finds."""
    rule = pack().rule(name)
    cases = load_cases(events_file(ROOT, rule.name), log_source_of(rule, pack().sources))
    [one] = variants_of(rule)
    events = [event for case in cases for event in case.events]
    with Asked(platform(here), [one.whole.rule], pack().pipelines, pack().sources.values()) as asked:
        answers = asked.run(events)
    found = {e.id for e in events if answers.finds(one.whole.rule, e.id)}
    assert found == {e.id for case in cases if case.expected_of(here) for e in case.events}


@pytest.mark.parametrize("name", ["bulk_cross_mailbox_access", "onprem_powershell_collection"])
def test_a_wrong_answer_to_any_question_is_noticed(name: str) -> None:
    rule = pack().rule(name)
    [one] = variants_of(rule)
    events = events_of(rule)
    for lying in one.every:

        def lie(finds: Finds, lying: str = lying.rule.name) -> Finds:
            def answer(variant: Variant, event: str) -> bool | None:
                told = finds(variant, event)
                return (not told) if variant.rule.name == lying else told

            return answer

        assert list(contradictions(rule, "sentinel", events, lie)), lying


#: Forms of a detection that the core rules do not have, each with the events of `RECORDS` that it finds.
DETECTIONS = {
    "a list of mappings": (
        "  a:\n    - Operation: Create\n      ResultStatus: Failed\n    - UserId|endswith: '@b.example'\n"
        "  condition: a\n",
        [False, True, True],
    ),
    "not, and one of them": (
        "  a1: {Operation: Create}\n  a2: {Operation: Send}\n  b: {UserId|startswith: x}\n"
        "  condition: 1 of a* and not b\n",
        [True, False, False],
    ),
    "null": (
        "  a: {ResultStatus: null}\n  b: {Operation: Create}\n  condition: b and not a\n",
        [True, False, True],
    ),
    "all": ("  a: {UserId|contains|all: ['a@', example]}\n  condition: a\n", [True, True, False]),
    "cidr": ("  a: {ClientIP|cidr: 198.51.100.0/24}\n  condition: not a\n", [False, False, True]),
    "re": ("  a: {UserId|re: '^[a-w]@'}\n  condition: a\n", [True, True, False]),
    "all of them": (
        "  a: {Operation: Create}\n  b: {RecordType: [ExchangeItem, ExchangeItemGroup]}\n"
        "  condition: all of them\n",
        [True, False, True],
    ),
}
RECORDS: list[dict[str, Any]] = [
    {"Operation": "Create", "UserId": "a@a.example", "ResultStatus": "ok", "ClientIP": "198.51.100.7"},
    {"Operation": "Update", "UserId": "a@b.example", "ResultStatus": "", "ClientIP": "198.51.100.8"},
    {"Operation": "Create", "UserId": "x@c.example", "ResultStatus": "Failed", "ClientIP": "203.0.113.9"},
]
HEAD = (
    "title: t\nid: 11111111-1111-4111-8111-111111111111\nname: odd_rule\nstatus: test\n"
    "logsource: {product: m365, service: exchange}\nlevel: low\ndetection:\n"
)


@pytest.mark.parametrize("here", PLATFORMS)
@pytest.mark.parametrize(("text", "expected"), DETECTIONS.values(), ids=DETECTIONS.keys())
def test_other_forms_of_a_detection(tmp_path: Path, text: str, expected: list[bool], here: str) -> None:
    path = tmp_path / "odd_rule.yml"
    path.write_text(HEAD + text, encoding="utf-8")
    rule = load_rule(path, "other")
    base = {"RecordType": 2, "Workload": "Exchange", "MailboxOwnerUPN": "o@a.example"}
    source = log_source_of(rule, pack().sources)
    events = [
        Event(f"e{n}", source, {**base, **record, "CreationTime": f"2026-03-10T09:0{n}:00", "Id": f"e{n}"})
        for n, record in enumerate(RECORDS)
    ]
    [one] = variants_of(rule)
    assert list(contradictions(rule, here, events)) == []
    with Asked(platform(here), [one.whole.rule], pack().pipelines, pack().sources.values()) as asked:
        answers = asked.run(events)
        assert [answers.finds(one.whole.rule, event.id) for event in events] == expected
