"""The trap: a mapping that reaches the rules of another log source, or misses its own, because the condition
that an item is given here was combined wrongly with the item's own; and a field that nothing maps and nothing
refuses. Conditions are compared with pySigma's own verdict on the parts, rule by rule."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaTransformationError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.rule import SigmaRule

from detection_pack.model.documents import Document
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.merged_pipeline import merged, scopes
from detection_pack.model.record_time import RecordTime
from detection_pack.model.source_mapping import may_apply
from detection_pack.model.source_pipeline import SourceFile, fits

KEYS = ("product", "category", "service")
TAGS = ("attack.t1001", "attack.t1002")


def source(name: str, *pairs: dict[str, str]) -> LogSource:
    return LogSource(name, Path("pipelines", name), name, pairs, ("id",), RecordTime("t", "iso8601"))


def rule(logsource: dict[str, str], tags: tuple[str, ...] = (), **detection: Any) -> SigmaRule:
    stated = {"s": detection or {"f": "v"}, "condition": "s"}
    return SigmaRule.from_dict(
        {"title": "T", "logsource": logsource, "tags": list(tags), "detection": stated}
    )


def file_of(name: str, stem: str, *items: dict[str, Any], **keys: Any) -> SourceFile:
    path = Path("pipelines", name, f"{stem}.yml")
    return SourceFile(name, path, Document(path, {**keys, "transformations": list(items)}, {}))


def stated(name: str, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "set_state", "key": key, "val": name, **more}


#: Lets the rules of these tests pass the guard.
MAPS = {"id": "maps", "type": "field_name_mapping", "mapping": {"f": "f"}}

_pairs = st.dictionaries(st.sampled_from(KEYS), st.sampled_from("ab"), min_size=1)
_condition = st.one_of(
    _pairs.map(lambda pairs: {"type": "logsource", **pairs}),
    st.sampled_from(TAGS).map(lambda tag: {"type": "tag", "tag": tag}),
)
_linking = st.fixed_dictionaries(
    {}, optional={"rule_cond_op": st.sampled_from(["and", "or"]), "rule_cond_not": st.booleans()}
)
_listed = st.builds(
    lambda conditions, linking: {"rule_conditions": conditions, **linking},
    st.lists(_condition, max_size=3),
    _linking,
)
_EXPRESSIONS = (
    "source1",
    "not source1",
    "source1 and not own_1",
    "not (source1 or own_1)",
    "own_1 or source1",
)
_named = st.builds(
    lambda one, other, expression, negated: {
        "rule_conditions": {
            name: value for name, value in (("source1", one), ("own_1", other)) if name in expression
        },
        "rule_cond_expr": expression,
        "rule_cond_not": negated,
    },
    _condition,
    _condition,
    st.sampled_from(_EXPRESSIONS),
    st.booleans(),
)
_sources = st.lists(st.lists(_pairs, min_size=1, max_size=2), min_size=1, max_size=3)
_logsources = [
    dict(zip(keys, values, strict=True))
    for size in (1, 2, 3)
    for keys in itertools.combinations(KEYS, size)
    for values in itertools.product("abc", repeat=size)
]


@settings(max_examples=300, deadline=None)
@given(_sources, st.one_of(_listed, _named))
def test_an_item_applies_where_its_log_source_and_its_own_conditions_hold(
    drawn: list[list[dict[str, str]]], own: dict[str, Any]
) -> None:
    sources = {f"s{n}": source(f"s{n}", *pairs) for n, pairs in enumerate(drawn)}
    scope = scopes(sources)["s0"]
    alone = ProcessingItem.from_dict(stated("x", **own))
    limited = ProcessingItem.from_dict(scope.limited(stated("x", **own)))
    for logsource in _logsources:
        rules = [rule(logsource, tags) for tags in ((), TAGS[:1], TAGS[1:], TAGS)]
        expected = [scope.serves(logsource) and alone.match_rule_conditions(one) for one in rules]
        assert [limited.match_rule_conditions(one) for one in rules] == expected, logsource
        # The tags of a rule are no part of its log source: only where they cannot matter is it said for sure.
        assert may_apply(limited, rules[0]) or not any(expected)


@given(_sources, st.sampled_from(_logsources))
def test_the_source_that_says_most_of_a_rule_serves_it(
    drawn: list[list[dict[str, str]]], logsource: dict[str, str]
) -> None:
    sources = {f"s{n}": source(f"s{n}", *pairs) for n, pairs in enumerate(drawn)}
    serving = [name for name, scope in scopes(sources).items() if scope.serves(logsource)]
    best = source_of(sources, logsource)
    assert serving == ([best.name] if best is not None else serving)
    if best is None and serving:  # two say as much: the rule is refused
        data = merged("p", sources, {name: [file_of(name, "p", stated("x"))] for name in sources})
        with pytest.raises(SigmaTransformationError, match="state more of it"):
            ProcessingPipeline.from_dict(data).apply(rule(logsource))
        assert len(serving) > 1


def test_a_rule_of_the_more_specific_source_gets_nothing_of_the_other() -> None:
    sources = {
        "all": source("all", {"product": "p"}),
        "vault": source("vault", {"product": "p", "service": "v"}),
    }
    files = {name: [file_of(name, "x", MAPS, stated("one", key=name))] for name in sources}
    pipeline = ProcessingPipeline.from_dict(merged("x", sources, files))
    for logsource, expected in (
        ({"product": "p"}, {"all": "one"}),
        ({"product": "p", "service": "w"}, {"all": "one"}),
        ({"product": "p", "service": "v"}, {"vault": "one"}),
        ({"product": "q"}, {}),
    ):
        pipeline.apply(rule(logsource))
        assert pipeline.state == expected
    # Nor where the platform has no file of the more specific one.
    del files["vault"]
    pipeline = ProcessingPipeline.from_dict(merged("x", sources, files))
    pipeline.apply(rule({"product": "p", "service": "v"}))
    assert pipeline.state == {}


def test_files_of_a_source_apply_by_priority_and_names_are_unique() -> None:
    sources = {name: source(name, {"product": name}) for name in "ab"}
    files = {
        name: [
            file_of(name, "x", stated("one"), {**stated("two"), "id": None}),
            file_of(name, "common", stated("three")),
        ]
        for name in "ba"
    }
    data = merged("x", sources, files)
    ids = [item["id"] for item in data["transformations"]]
    assert ids == [
        *("a_unknown_field", "a_three", "a_one", "a_x_2"),
        *("b_unknown_field", "b_three", "b_one", "b_x_2"),
    ]
    assert data["priority"] == 50 and "allowed_backends" not in data
    late = file_of("a", "common", stated("three"), priority=30, allowed_backends=["t"])
    data = merged("x", sources, files | {"a": [files["a"][0], late]})
    assert [item["id"] for item in data["transformations"]][1:4] == ["a_one", "a_x_2", "a_three"]
    assert data["allowed_backends"] == ["t"]
    with pytest.raises(PackError, match="is that of an item of another file"):
        merged("x", sources, {"a": [files["a"][0], file_of("a", "common", stated("one"))]})


def test_an_item_that_asks_for_another_names_it_as_it_is_named_now() -> None:
    sources = {"a": source("a", {"product": "a"})}
    asks = {"type": "processing_item_applied", "processing_item_id": "one"}
    data = merged(
        "x", sources, {"a": [file_of("a", "x", MAPS, stated("one"), stated("two", rule_conditions=[asks]))]}
    )
    assert data["transformations"][-1]["rule_conditions"][-1]["processing_item_id"] == "a_one"
    pipeline = ProcessingPipeline.from_dict(data)
    pipeline.apply(rule({"product": "a"}))
    assert pipeline.state == {"k": "two"}
    with pytest.raises(PackError, match="does not stand before"):
        merged("x", sources, {"a": [file_of("a", "x", stated("two", rule_conditions=[asks]))]})


def converted(data: dict[str, Any], detection: str) -> str:
    from sigma.backends.splunk.splunk import SplunkBackend

    text = f"title: T\nlogsource: {{product: a}}\ndetection:\n  s:\n    {detection}\n  condition: s\n"
    [query] = SplunkBackend(ProcessingPipeline.from_dict(data)).convert(SigmaCollection.from_yaml(text))
    return str(query)


def test_the_guard_refuses_a_field_that_nothing_maps_and_nothing_else() -> None:
    sources = {"a": source("a", {"product": "a"})}
    items: list[dict[str, Any]] = [
        {"id": "fields", "type": "field_name_mapping", "mapping": {"f": "g", "Hashes": "Hashes"}},
        {"id": "more", "type": "field_name_mapping", "mapping": {"h": ["i", "j"]}},
        {"type": "hashes_fields", "valid_hash_algos": ["MD5"], "field_to_parse": ["Hashes"]},
        {"id": "late", "type": "field_name_mapping", "mapping": {"MD5": "digest"}},
        {"type": "add_condition", "conditions": {"kind": "start"}},
    ]
    data = merged("x", sources, {"a": [file_of("a", "x", *items)]})
    digest = "0123456789abcdef" * 2
    assert converted(data, "f: v") == 'kind="start" g="v"'
    assert converted(data, "h: v") == 'kind="start" i="v" OR j="v"'
    assert converted(data, f"Hashes|contains: 'MD5={digest}'") == f'kind="start" digest="{digest}"'
    assert converted(data, "'|contains': word") == 'kind="start" "*word*"'
    for unmapped in ("F: v", "MD5: v", "kind: v", "g: v"):
        with pytest.raises(SigmaTransformationError, match=r"unknown to pipelines/a/x\.yml"):
            converted(data, unmapped)


def test_a_source_without_any_mapping_refuses_every_field() -> None:
    sources = {"a": source("a", {"product": "a"})}
    data = merged("x", sources, {"a": [file_of("a", "x", stated("one"))]})
    with pytest.raises(SigmaTransformationError, match=r"unknown to pipelines/a/x\.yml"):
        converted(data, "f: v")


def test_pairs_fit_where_one_rule_can_have_both() -> None:
    assert fits({"product": "a"}, {"service": "b"}) and fits({}, {"product": "a"})
    assert not fits({"product": "a", "service": "b"}, {"product": "a", "service": "c"})
