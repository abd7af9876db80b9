"""The trap: a correlation that converts and counts something else. Types beyond the bulk rule are executed,
what cannot be said exactly is refused, and a threshold base query is never narrower than the rule."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.platforms.elastic.backend import ElasticQuery, queries
from detection_pack.platforms.elastic.esql_text import name
from detection_pack.platforms.elastic.store import Store
from support.elastic_rules import AUDIT, pipeline, rule_of
from support.esql.parser import parse
from support.sources import M365


def base(name: str, detection: dict[str, Any]) -> dict[str, Any]:
    stated = detection if "condition" in detection else {"selection": detection, "condition": "selection"}
    return {"title": name, "name": name, "logsource": AUDIT, "detection": stated}


def correlated(kind: str, condition: dict[str, Any] | None = None, **more: Any) -> ElasticQuery:
    """A correlation of the rules a (Operation A) and, for temporal, b (Operation B), by UserId."""
    correlation: dict[str, Any] = {"type": kind, "rules": ["a"], "group-by": ["UserId"], "timespan": "1h"}
    if condition is not None:
        correlation["condition"] = condition
    documents = [base("a", {"Operation": "A"}), base("b", {"Operation": "B"})]
    if kind.startswith("temporal"):
        correlation["rules"] = ["a", "b"]
    title = {"title": "T", "correlation": {**correlation, **more}}
    used = documents if kind.startswith("temporal") else documents[:1]
    return queries(rule_of(*used, title), pipeline())


RECORDS = [
    {
        "Operation": operation,
        "UserId": user,
        "OperationCount": count,
        "CreationTime": f"2026-01-01T12:0{n}:00",
    }
    for n, (operation, user, count) in enumerate(
        [("a", "u", 5), ("A", "U", 7), ("b", "u", 1), ("b", "v", 9), ("b", "V", 1), ("c", "w", 1)]
    )
]


@pytest.mark.parametrize(
    ("kind", "condition", "column", "expected"),
    [
        ("event_count", {"gte": 2}, "event_count", [("u", 2)]),
        ("event_count", {"gt": 2}, "event_count", []),
        ("value_count", {"field": "OperationCount", "gte": 2}, "value_count", [("u", 2)]),
        ("value_sum", {"field": "OperationCount", "gte": 12}, "value_sum", [("u", 12)]),
        ("value_avg", {"field": "OperationCount", "lt": 7}, "value_avg", [("u", 6.0)]),
        ("temporal", None, "rule_count", [("u", 2)]),
        ("temporal_ordered", None, "rule_count", [("u", 2)]),
    ],
)
def test_types(
    kind: str, condition: dict[str, Any] | None, column: str, expected: list[tuple[str, float]]
) -> None:
    query = correlated(kind, condition)
    assert query.esql is not None
    with Store([Event(str(n), M365, record) for n, record in enumerate(RECORDS)]) as store:
        assert [(row["user.id"], row[column]) for row in store.esql(query.esql)] == expected


@pytest.mark.parametrize(
    ("order", "fires"),
    [("ab", True), ("ba", False), ("bab", True), ("aa", False), ("b", False), ("=ab", True)],
)
def test_an_order_is_that_of_the_events(order: str, fires: bool) -> None:
    """Of one moment both are in order, as on the other platforms."""
    query = correlated("temporal_ordered")
    minutes = [0] * 9 if order.startswith("=") else range(9)
    records = [
        {"Operation": operation, "UserId": "u", "CreationTime": f"2026-01-01T12:0{minute}:00"}
        for operation, minute in zip(order.lstrip("="), minutes, strict=False)
    ]
    with Store([Event(str(n), M365, record) for n, record in enumerate(records)]) as store:
        assert query.esql is not None
        assert bool(store.esql(query.esql)) == fires


def _depth(node: object) -> int:
    """How deep a tree is: each operator of a row of them is one deeper than the one before."""
    if isinstance(node, tuple):
        return max(map(_depth, node), default=0)
    if not is_dataclass(node):
        return 0
    return 1 + max((_depth(getattr(node, part.name)) for part in fields(node)), default=0)


@pytest.mark.parametrize("detection", ["Operation|contains", "Operation|contains|all"])
def test_no_list_makes_a_query_that_is_too_deep(detection: str) -> None:
    """Elasticsearch refuses an expression that is more than 300 deep, brackets counted."""
    rule = base("a", {detection: [f"some{n}thing" for n in range(990)]})
    correlation = {"type": "event_count", "rules": ["a"], "group-by": ["UserId"], "timespan": "1h"}
    query = queries(
        rule_of(rule, {"title": "T", "correlation": {**correlation, "condition": {"gte": 1}}}), pipeline()
    )
    assert query.esql is not None
    commands, _ = parse(query.esql)
    assert _depth(tuple(commands)) < 150


def test_threshold_parameters() -> None:
    events = correlated("event_count", {"gt": 2}).threshold
    assert events is not None
    assert events["threshold"] == {"field": ["user.id"], "value": 3, "cardinality": []}
    assert (events["from"], events["interval"]) == ("now-4200s", "5m")  # the hour, a step, a run
    assert correlated("event_count", {"lte": 2}).threshold is None
    assert correlated("value_sum", {"field": "OperationCount", "gte": 1}).threshold is None


@pytest.mark.parametrize(
    ("kind", "condition", "more"),
    [
        ("temporal_ordered", None, {"rules": ["a", "b", "a"]}),
        ("value_sum", {"field": "UserKey", "gte": 1}, {}),
        ("event_count", {"gte": 1}, {"timespan": "1M"}),
        ("event_count", {"gte": 1}, {"group-by": ["Nobody"]}),
    ],
)
def test_refused(kind: str, condition: dict[str, Any] | None, more: dict[str, Any]) -> None:
    with pytest.raises(PackError):
        correlated(kind, condition, **more)


ATOMS = ("own", "x", "y")
CONDITIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, inner).map("({0[0]}) and ({0[1]})".format),
        st.tuples(inner, inner).map("({0[0]}) or ({0[1]})".format),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("examples", [12, pytest.param(60, marks=pytest.mark.campaign)])
def test_a_threshold_base_query_is_never_narrower(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(CONDITIONS)(_never_narrower))()


def _never_narrower(condition: str) -> None:
    """Against the ES|QL of the same rule, event by event: absent and equal and different fields."""
    detection = {
        "own": {"UserId|fieldref": "UserKey"},
        "x": {"Operation": "x"},
        "y": {"Workload": "y"},
        "condition": f"({condition}) or (x and y)",
    }
    correlation = {
        "type": "event_count",
        "rules": ["a"],
        "group-by": ["Id"],
        "timespan": "1h",
        "condition": {"gte": 1},
    }
    query = queries(rule_of(base("a", detection), {"title": "T", "correlation": correlation}), pipeline())
    values = (None, "x", "X")
    records = [
        {
            "Id": f"{n}",
            "CreationTime": "2026-01-01T12:00:00",
            "UserId": user,
            "UserKey": key,
            "Operation": o,
            "Workload": w,
        }
        for n, (user, key, o, w) in enumerate(
            (user, key, o, w) for user in values for key in values for o in ("x", "z") for w in ("y", None)
        )
    ]
    with Store([Event(record["Id"] or "", M365, record) for record in records]) as store:
        assert query.esql is not None
        exact = {row["event.id"] for row in store.esql(query.esql)}
        wanted = {str(r["Id"]) for r in records if _holds(f"({condition}) or (x and y)", r)}
        assert exact == wanted
        if query.lucene is not None:
            assert exact <= store.lucene(query.lucene)


def _holds(condition: str, record: dict[str, Any]) -> bool:
    user, key = record["UserId"], record["UserKey"]
    own = user is not None and key is not None and user.lower() == key.lower()
    facts = {"own": own, "x": record["Operation"] == "x", "y": record["Workload"] == "y"}
    return bool(eval(condition, {}, facts))


def test_seven_days_are_no_week_of_the_calendar() -> None:
    """Elasticsearch starts ``7 days`` on a Monday; the window is seven days from the epoch, as elsewhere."""
    correlation = {"type": "event_count", "rules": ["a"], "group-by": ["UserId"], "condition": {"gte": 1}}
    texts = {}
    for span in ("1d", "2d", "7d", "1h", "5m"):
        title = {"title": "T", "lookback": "30d", "correlation": {**correlation, "timespan": span}}
        title["windows"] = "clock"
        texts[span] = queries(rule_of(base("a", {"Operation": "A"}), title), pipeline()).esql or ""
    said = {span: text.split("DATE_TRUNC(")[1].split(",")[0] for span, text in texts.items()}
    assert said == {"1d": "1 day", "2d": "48 hours", "7d": "168 hours", "1h": "1 hour", "5m": "5 minutes"}


def test_a_condition_sees_letter_case_before_the_group_is_folded() -> None:
    """One spelling is asked for, the account is grouped without regard to case: both rules have matched."""
    documents = [
        base("a", {"UserId|cased": "Admin"}),
        base("b", {"Operation": "B"}),
        {
            "title": "T",
            "correlation": {
                "type": "temporal",
                "rules": ["a", "b"],
                "group-by": ["UserId"],
                "timespan": "1h",
            },
        },
    ]
    query = queries(rule_of(*documents), pipeline())
    records = [
        {"UserId": "Admin", "Operation": "A", "CreationTime": "2026-01-01T12:00:00"},
        {"UserId": "admin", "Operation": "B", "CreationTime": "2026-01-01T12:10:00"},
        {"UserId": "other", "Operation": "B", "CreationTime": "2026-01-01T12:10:00"},
    ]
    with Store([Event(str(n), M365, record) for n, record in enumerate(records)]) as store:
        assert query.esql is not None
        assert [(row["user.id"], row["rule_count"]) for row in store.esql(query.esql)] == [("admin", 2)]


@pytest.mark.parametrize("value", ["ΑΣ", "ασ", "İx"])
def test_a_value_that_lower_case_does_not_fold_is_an_expression(value: str) -> None:
    """TO_LOWER makes "ας" of "ΑΣ", which is not "ασ": every spelling is found, as it is by Lucene."""
    rules = (
        base("a", {"UserKey": value}),
        {
            "title": "T",
            "correlation": {
                "type": "event_count",
                "rules": ["a"],
                "group-by": ["Id"],
                "timespan": "1h",
                "condition": {"gte": 1},
            },
        },
    )
    query = queries(rule_of(*rules), pipeline())
    keys = ("ΑΣ", "ασ", "αΣ", "İx", "İX", "ix")
    records = [{"Id": key, "UserKey": key, "CreationTime": "2026-01-01T12:00:00"} for key in keys]
    with Store([Event(record["Id"], M365, record) for record in records]) as store:
        assert query.esql is not None and query.lucene is not None
        found = {row["event.id"] for row in store.esql(query.esql)}
        assert found == store.lucene(query.lucene)
        assert found == ({"İx", "İX"} if value == "İx" else {"ΑΣ", "ασ", "αΣ"})


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("a.By", "a.`By`"),
        ("in", "`in`"),
        ("x._", "x.`_`"),
        ("@", "`@`"),
        ("@timestamp", "@timestamp"),
        ("_id", "_id"),
        ("o365.audit.Parameters.From", "o365.audit.Parameters.From"),
        ("a b.c`d", "`a b`.`c``d`"),
    ],
)
def test_names_that_are_words_of_the_language_are_quoted(field: str, said: str) -> None:
    assert name(field) == said
